"""``effnas export``: a trained network in other runtimes' formats, each with its proof."""

"""``effnas evaluate``: what a trained network is worth on labelled images."""

"""``effnas latency``: how fast the networks of a space are, learned from some that were measured."""

"""``effnas compress``: fewer channels for a trained network, within a budget."""

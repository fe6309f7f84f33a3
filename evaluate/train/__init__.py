"""``effnas train`` and the training engine below it."""

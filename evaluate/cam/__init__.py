"""``effnas cam``: where networks look."""

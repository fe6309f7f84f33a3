"""``effnas rank``: how far shortcuts may be trusted."""

"""``effnas scale``: a baseline at any size."""

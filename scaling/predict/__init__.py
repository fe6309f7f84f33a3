"""``effnas predict``: how accurate the larger members of a family will be."""

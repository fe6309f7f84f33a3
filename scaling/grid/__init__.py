"""``effnas grid-alpha-beta-gamma``: the compound coefficients of a baseline."""

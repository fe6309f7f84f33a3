"""``effnas compare``: accuracy against cost, beside other networks."""

"""``effnas reproduce``: the paper's tables of scaled networks, computed."""

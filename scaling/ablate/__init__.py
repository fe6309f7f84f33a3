"""``effnas ablate``: rules of scaling at equal cost."""

"""``effnas profile``: what networks cost, by our count and by fvcore's, and how fast they are here."""

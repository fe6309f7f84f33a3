"""The samplers of a search, one a file, and what they share."""

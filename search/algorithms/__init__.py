"""The samplers of a search, one per file, and what they share."""

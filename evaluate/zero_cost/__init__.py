"""Scores of untrained networks, and the plain counts that they must beat."""

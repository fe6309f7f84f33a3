"""Weights from files, foreign formats included, and what they ask of a network."""

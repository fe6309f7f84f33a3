"""effnas: search a baseline, grid-search the compound coefficients, scale to a family."""

__version__ = "0.1.0"

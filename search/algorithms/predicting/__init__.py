"""The parts of :mod:`effnas.search.algorithms.predictor`: the model, the members of a space, which of them is next."""

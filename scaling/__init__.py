"""How a network grows."""

from .coefficients import Coefficients as Coefficients

"""What a network is.  No training, no searching."""

from .architecture import Architecture as Architecture
from .architecture import Stage as Stage
from .cost import Cost as Cost
from .errors import UserError as UserError
from .space import SearchSpace as SearchSpace

"""What a network is.  No training, no searching."""

from .architecture import Architecture as Architecture
from .errors import UserError as UserError
from .formulas import Cost as Cost
from .network_spec import NetworkSpec as NetworkSpec
from .space import SearchSpace as SearchSpace
from .stage import Stage as Stage

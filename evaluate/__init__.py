"""What a network is worth."""

from .evaluation import Evaluation as Evaluation
from .evaluation import EvaluationError as EvaluationError
from .evaluation import Evaluator as Evaluator
from .evaluation import Stopped as Stopped

"""The fence around Microsoft's NNI: what the adapters use of it, loaded once, private names included.

NNI 3.0 is its last release; where another moves one of these names, ``tests/search/algorithms/test_nni.py`` says so.
"""

from __future__ import annotations

import functools
import logging
import warnings
from types import SimpleNamespace
from typing import Any

from ...space.errors import UserError

#: Releases of NNI that all of this was tested with.
TESTED_VERSIONS = ("3.0",)


@functools.cache
def load_nni() -> SimpleNamespace:
    """What is used of NNI, imported once: it takes a second, and changes loggers and warnings on its way.

    Raises:
        UserError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            import nni

            nni.silence_stdout()
            logging.getLogger("nni").setLevel(logging.ERROR)
            nni.set_default_framework("none")  # else it asks for pytorch-lightning, which only its networks need
            from nni.algorithms.hpo.evolution_tuner import EvolutionTuner, Individual
            from nni.algorithms.hpo.tpe_tuner import TpeTuner
            from nni.common.hpo_utils import format_parameters
            from nni.mutable import Categorical, MutableDict
            from nni.nas.strategy import evolution, utils
    except ImportError as error:
        raise UserError(f"NNI's algorithms need the package nni: pip install 'effnas[nni]' ({error})") from error
    return SimpleNamespace(
        NoMoreTrialError=nni.NoMoreTrialError,
        EvolutionTuner=EvolutionTuner,
        Individual=Individual,
        TpeTuner=TpeTuner,
        format_parameters=format_parameters,
        Categorical=Categorical,
        MutableDict=MutableDict,
        evolution=evolution,
        retry=utils.RetrySamplingHelper().retry,
    )


def add_random_individual(tuner: Any) -> None:
    """Give an ``EvolutionTuner``, in front of its population, one more random member that was not evaluated."""
    tuner._random_generate_individual()

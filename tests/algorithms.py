"""The algorithms that ``conf/algorithm`` names, for the tests that every one of them must pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hydra
from omegaconf import OmegaConf
from optuna.samplers import BaseSampler

CONF = Path(__file__).resolve().parents[1] / "conf"
ALGORITHMS = sorted(file.stem for file in (CONF / "algorithm").glob("*.yaml"))
#: Algorithms whose trials take a tenth of a second and more.
SLOW = ("gp",)


def factory(algorithm: str) -> Callable[..., BaseSampler]:
    config = OmegaConf.load(CONF / "algorithm" / f"{algorithm}.yaml")
    return hydra.utils.instantiate(config, _partial_=True)

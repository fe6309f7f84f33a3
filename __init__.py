"""effnas: search a baseline, grid-search the compound coefficients, scale to a family."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .evaluate.cam.job import run_cam as run_cam
    from .evaluate.compare.job import run_compare as run_compare
    from .evaluate.compress.job import run_compress as run_compress
    from .evaluate.export.job import run_export as run_export
    from .evaluate.export.pretrained_folder import load_pretrained as load_pretrained
    from .evaluate.latency.job import run_latency as run_latency
    from .evaluate.latency.loading import load_latency as load_latency
    from .evaluate.measure.job import run_evaluate as run_evaluate
    from .evaluate.profile.job import run_profile as run_profile
    from .evaluate.train.job import run_train as run_train
    from .evaluate.transfer.job import run_transfer as run_transfer
    from .report.job import run_report as run_report
    from .scaling.ablate.job import run_ablation as run_ablation
    from .scaling.coefficients import Coefficients as Coefficients
    from .scaling.coefficients import load_coefficients as load_coefficients
    from .scaling.compound import scale as scale
    from .scaling.grid.job import run_grid_search as run_grid_search
    from .scaling.predict.job import run_predict as run_predict
    from .scaling.reproduce.job import run_reproduce as run_reproduce
    from .scaling.scale.job import run_scale as run_scale
    from .scaling.solve import solve_phi as solve_phi
    from .search.job import run_search as run_search
    from .search.rank.job import run_rank as run_rank
    from .space.architecture import Architecture as Architecture
    from .space.built import BuiltNetwork as BuiltNetwork
    from .space.cost import cost as cost
    from .space.errors import UserError as UserError
    from .space.network import build as build
    from .space.space import SearchSpace as SearchSpace
    from .space.space import load_space as load_space
    from .space.stage import Stage as Stage
    from .space.timm.strings import architecture_from_timm as architecture_from_timm
    from .space.timm.strings import architecture_to_timm as architecture_to_timm
    from .space.zoo import ZOO as ZOO
    from .space.zoo import load_architecture as load_architecture

#: Loaded when first used: ``effnas scale`` and ``effnas --help`` start without torch.
_WHERE = {
    "Architecture": "space.architecture",
    "BuiltNetwork": "space.built",
    "Coefficients": "scaling.coefficients",
    "SearchSpace": "space.space",
    "Stage": "space.stage",
    "UserError": "space.errors",
    "ZOO": "space.zoo",
    "architecture_from_timm": "space.timm.strings",
    "architecture_to_timm": "space.timm.strings",
    "build": "space.network",
    "cost": "space.cost",
    "load_architecture": "space.zoo",
    "load_coefficients": "scaling.coefficients",
    "load_latency": "evaluate.latency.loading",
    "load_pretrained": "evaluate.export.pretrained_folder",
    "load_space": "space.space",
    "run_ablation": "scaling.ablate.job",
    "run_cam": "evaluate.cam.job",
    "run_compare": "evaluate.compare.job",
    "run_compress": "evaluate.compress.job",
    "run_evaluate": "evaluate.measure.job",
    "run_export": "evaluate.export.job",
    "run_latency": "evaluate.latency.job",
    "run_grid_search": "scaling.grid.job",
    "run_predict": "scaling.predict.job",
    "run_profile": "evaluate.profile.job",
    "run_rank": "search.rank.job",
    "run_report": "report.job",
    "run_reproduce": "scaling.reproduce.job",
    "run_scale": "scaling.scale.job",
    "run_search": "search.job",
    "run_train": "evaluate.train.job",
    "run_transfer": "evaluate.transfer.job",
    "scale": "scaling.compound",
    "solve_phi": "scaling.solve",
}

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'effnas' has no attribute {name!r}")
    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

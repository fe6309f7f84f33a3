"""Where classes are now that earlier versions called by other names."""

from __future__ import annotations

#: Modules whose classes a configuration of the user's may name, and where they are now.
_MOVED = {
    "effnas.evaluate.recipe": "effnas.evaluate.train.recipe",
    **{
        f"effnas.search.{name}": f"effnas.search.algorithms.{name}"
        for name in ("evolution", "infeasible", "local", "nni", "ordinal", "predictor", "reinforce")
    },
    **{
        f"effnas.space.{name}": f"effnas.space.builders.{name}"
        for name in ("convnet", "googlenet", "mobilenet_v3", "resnet", "shufflenet_v2", "squeezenet")
    },
}


def find_moved(target: str) -> str | None:
    """Where what an earlier version called ``target`` is now; None where nothing is known of it."""
    module, _, name = target.rpartition(".")
    return f"{_MOVED[module]}.{name}" if module in _MOVED else None

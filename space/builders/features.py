"""Feature maps of several sizes from one network, for detection and segmentation, as timm's ``features_only``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..network_spec import NetworkSpec
from .module import make_on_meta

#: Side of the image by which strides are measured; what is lost at the edges is little beside it.
_SIDE = 1024


@dataclass(frozen=True)
class FeatureInfo:
    """What :class:`FeatureNetwork` returns, one entry for each map; named as timm names it.

    Args:
        channels: of the maps.
        reduction: side of the image over side of the map.
        module_name: of the part that makes it.
        out_indices: places among all that the network could return, from fine to coarse.
    """

    channels: tuple[int, ...]
    reduction: tuple[int, ...]
    module_name: tuple[str, ...]
    out_indices: tuple[int, ...]


class FeatureNetwork(nn.Module):
    """Stem and stages of a network; what comes after the last map that is asked for is not there.

    Attributes:
        feature_info: of the maps, in the order of ``forward``.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], feature_info: FeatureInfo) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.feature_info = feature_info

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, in_channels, h, w) to maps (n, channels, ⌈h/reduction⌉, ⌈w/reduction⌉), from fine to coarse."""
        x = self.stem(x)
        found = [x] if "stem" in self.feature_info.module_name else []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if f"stages.{i}" in self.feature_info.module_name:
                # the next stage may work in place
                found.append(x.clone() if i + 1 < len(self.stages) else x)
        return found


def build_features(
    network: NetworkSpec, module: nn.Module | None = None, *, out_indices: Sequence[int] | None = None
) -> FeatureNetwork:
    """What :func:`effnas.build` returns with ``features_only=True``: the last map of each size that a network makes.

    For EfficientNet-B0 those are at strides 2, 4, 8, 16 and 32.

    Args:
        network: an Architecture, or a builder's network whose module has the parts ``stem`` and ``stages``.
        module: of it, with weights (:meth:`~effnas.evaluate.pretrained.Pretrained.load`), whose parts are used; None:
            a fresh one.
        out_indices: which of the maps, from fine (0) to coarse; negative ones from the end; None: all.

    Raises:
        UserError: the network has no such parts, or there is no such map.
    """
    parts = make_on_meta(network.module)
    stages = getattr(parts, "stages", None)
    if not isinstance(getattr(parts, "stem", None), nn.Module) or not isinstance(stages, nn.Sequential):
        raise UserError(f"{network.maker} has no parts stem and stages (an nn.Sequential): its maps are unknown")
    every = _measure(parts.eval(), network.in_channels)
    count = len(every)
    asked = range(count) if out_indices is None else out_indices
    for index in asked:
        if isinstance(index, bool) or not isinstance(index, int) or not -count <= index < count:
            raise UserError(f"out_indices: {index!r} is none of the {count} maps of {network.name or 'the network'}")
    chosen = sorted({index % count for index in asked})
    if not chosen:
        raise UserError("out_indices: no map is asked for")
    names, channels, reductions = zip(*(every[index] for index in chosen), strict=True)
    own = module if module is not None else network.module()
    last = 0 if names[-1] == "stem" else int(names[-1].rpartition(".")[2]) + 1
    info = FeatureInfo(channels, reductions, names, tuple(chosen))
    return FeatureNetwork(own.get_submodule("stem"), list(own.get_submodule("stages").children())[:last], info)


def _measure(module: nn.Module, in_channels: int) -> list[tuple[str, int, int]]:
    """Name, channels and reduction of the last part of each size."""
    found: dict[int, tuple[str, int, int]] = {}
    with torch.no_grad():
        x = torch.empty(1, in_channels, _SIDE, _SIDE, device="meta")
        stages = enumerate(module.get_submodule("stages").children())
        for name, part in (("stem", module.get_submodule("stem")), *((f"stages.{i}", stage) for i, stage in stages)):
            x = part(x)
            reduction = round(_SIDE / x.shape[-1])
            found[reduction] = name, x.shape[1], reduction
    return list(found.values())

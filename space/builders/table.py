"""The published networks that our builders make."""

from __future__ import annotations

from typing import Any, NamedTuple


class Built(NamedTuple):
    """A network that a builder of ours makes: ``function`` of ``effnas.space.builders.<module>``, with ``options``."""

    module: str
    function: str
    options: dict[str, Any]
    resolution: int = 224
    num_classes: int = 1000


BUILT: dict[str, Built] = {
    "resnet18": Built("resnet", "resnet", {"blocks": (2, 2, 2, 2), "bottleneck": False}),
    "resnet34": Built("resnet", "resnet", {"blocks": (3, 4, 6, 3), "bottleneck": False}),
    "resnet50": Built("resnet", "resnet", {}),
    "resnet101": Built("resnet", "resnet", {"blocks": (3, 4, 23, 3)}),
    "resnet152": Built("resnet", "resnet", {"blocks": (3, 8, 36, 3)}),
    "wide_resnet50_2": Built("resnet", "resnet", {"base_width": 128}),
    "wide_resnet101_2": Built("resnet", "resnet", {"blocks": (3, 4, 23, 3), "base_width": 128}),
    "wrn_28_10": Built("resnet", "wide_resnet", {}, 32, 10),
    "se_resnet50": Built("resnet", "resnet", {"se_ratio": 1 / 16}),
    "squeezenet1_0": Built("squeezenet", "squeezenet", {"version": "1.0"}),
    "squeezenet1_1": Built("squeezenet", "squeezenet", {"version": "1.1"}),
    "googlenet": Built("googlenet", "googlenet", {}),
    "mobilenet_v3_large": Built("mobilenet_v3", "mobilenet_v3", {"size": "large"}),
    "mobilenet_v3_small": Built("mobilenet_v3", "mobilenet_v3", {"size": "small"}),
    "shufflenet_v2_x0_5": Built("shufflenet_v2", "shufflenet_v2", {"stages_out_channels": (24, 48, 96, 192, 1024)}),
    "shufflenet_v2_x1_0": Built("shufflenet_v2", "shufflenet_v2", {}),
    "shufflenet_v2_x1_5": Built("shufflenet_v2", "shufflenet_v2", {"stages_out_channels": (24, 176, 352, 704, 1024)}),
    "shufflenet_v2_x2_0": Built("shufflenet_v2", "shufflenet_v2", {"stages_out_channels": (24, 244, 488, 976, 2048)}),
}

"""Tables 2, 3 and 7 of the EfficientNet paper as printed, for :mod:`~effnas.scaling.reproduce.job`.

Source: Tan & Le 2019, arXiv 1905.11946 version 5; the paper's "FLOPS" are multiply-adds (B stands for 10^9).
"""

from __future__ import annotations

from typing import NamedTuple


class PaperRow(NamedTuple):
    """One row: numbers are strings, so that the digits they were rounded to are known.

    ``depth``, ``width`` and ``resolution`` multiply the network's. ``origin`` says where they are from: "printed" in
    the table, "code" (the authors'; the network's name already stands for them) or "fitted" by us (see ``remark``).
    """

    name: str
    network: str
    macs: str
    params: str = ""
    depth: str = "1"
    width: str = "1"
    resolution: str = "1"
    origin: str = "printed"
    remark: str = ""


_COMPOUND = {"depth": "1.4", "width": "1.2", "resolution": "1.3"}
_EXCHANGED = (
    "no d that rounds to 4 gives 16.2B, but d=4 gives 14.6B (14.7B is printed for w=2) and w=2 gives 16.1B (16.2B is "
    "printed for d=4): the two rows look exchanged in the paper"
)


def _fitted(found: str) -> str:
    """The search is benchmarks/compound_fits.py."""
    return (
        "coefficients not printed; shown are those nearest to the other compound rows' 1.4, 1.2, 1.3 that give the "
        f"printed MACs, to two decimals. Others do, too: of the 3,375 triples of 1.1, 1.2, .. 2.5, {found}"
    )


TABLES: dict[str, tuple[PaperRow, ...]] = {
    "table2": tuple(
        PaperRow(f"EfficientNet-{b.upper()}", f"efficientnet_{b}", macs, params, origin="code")
        for b, params, macs in (
            ("b0", "5.3M", "0.39B"),
            ("b1", "7.8M", "0.70B"),
            ("b2", "9.2M", "1.0B"),
            ("b3", "12M", "1.8B"),
            ("b4", "19M", "4.2B"),
            ("b5", "30M", "9.9B"),
            ("b6", "43M", "19B"),
            ("b7", "66M", "37B"),
        )
    ),
    "table3": (
        PaperRow("MobileNetV1", "mobilenet_v1", "0.6B"),
        PaperRow("MobileNetV1 by width", "mobilenet_v1", "2.2B", width="2"),
        PaperRow("MobileNetV1 by resolution", "mobilenet_v1", "2.2B", resolution="2"),
        PaperRow("MobileNetV1 compound", "mobilenet_v1", "2.3B", **_COMPOUND),
        PaperRow("MobileNetV2", "mobilenet_v2", "0.3B"),
        PaperRow("MobileNetV2 by depth", "mobilenet_v2", "1.2B", depth="4"),
        PaperRow("MobileNetV2 by width", "mobilenet_v2", "1.1B", width="2"),
        PaperRow("MobileNetV2 by resolution", "mobilenet_v2", "1.2B", resolution="2"),
        PaperRow("MobileNetV2 compound", "mobilenet_v2", "1.3B", "", "1.4", "1.2", "1.28", "fitted", _fitted("26")),
        PaperRow("ResNet-50", "resnet50", "4.1B"),
        PaperRow("ResNet-50 by depth", "resnet50", "16.2B", depth="4", remark=_EXCHANGED),
        PaperRow("ResNet-50 by width", "resnet50", "14.7B", width="2", remark=_EXCHANGED),
        PaperRow("ResNet-50 by resolution", "resnet50", "16.4B", resolution="2"),
        PaperRow(
            "ResNet-50 compound",
            "resnet50",
            "16.7B",
            "",
            "1.4",
            "1.22",
            "1.3",
            "fitted",
            _fitted("one: 1.1, 1.5, 1.2"),
        ),
    ),
    "table7": (
        PaperRow("EfficientNet-B0", "efficientnet_b0", "0.4B"),
        PaperRow("B0 by depth", "efficientnet_b0", "1.8B", depth="4"),
        PaperRow("B0 by width", "efficientnet_b0", "1.8B", width="2"),
        PaperRow("B0 by resolution", "efficientnet_b0", "1.9B", resolution="2"),
        PaperRow("B0 compound", "efficientnet_b0", "1.8B", **_COMPOUND),
    ),
}

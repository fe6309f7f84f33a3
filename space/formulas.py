"""What a network costs: the formulas, exact integers, from the description alone and without torch.

Conventions (EfficientNet's "FLOPs" are these MACs):

- **MACs**: one multiply-accumulate of a convolution or linear layer counts one; biases, BatchNorm, activations,
  pooling and the SE product count nothing. Equals fvcore's ``conv + linear``.
- **activations**: elements in the outputs of convolution and linear layers for one image, SE's included (pycls).
- **peak_memory**: bytes of the float32 feature maps alive at once, at worst, in inference of one image: BatchNorm
  folded, activations and the residual sum in place, a block's input kept while its shortcut needs it. No weights.

They are written once and hold for Python integers (:func:`compute_cost`) and NumPy arrays
(:func:`~effnas.space.cost.cost_batch`) alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any, NamedTuple

from .stage import BLOCKS, EXPANDING, SKIPS, Stage
from .tables import text_table

CONV, MBCONV, FUSED = (BLOCKS.index(name) for name in ("conv", "mbconv", "fused_mbconv"))
IDENTITY, POOL = (SKIPS.index(name) for name in ("identity", "pool"))
BYTES = 4  # float32


class StageCost(NamedTuple):
    """One row of :attr:`Cost.stages`; ``resolution`` is the side of the stage's output in pixels."""

    name: str
    channels: int
    resolution: int
    params: int
    macs: int
    activations: int
    peak_memory: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Totals of a network and its rows from stem to head.  Units: see the module; ``peak_memory`` is in bytes.

    ``latency``, in seconds, is there where a model of it has said so; no formula knows it.
    """

    params: int
    macs: int
    activations: int
    peak_memory: int
    stages: tuple[StageCost, ...] = ()
    latency: float | None = None


def compute_cost(
    stages: Sequence[Stage],
    *,
    stem: int,
    stem_stride: int,
    head: int,
    resolution: int,
    in_channels: int,
    num_classes: int,
) -> Cost:
    """The cost of the network with these fields of an :class:`~effnas.space.architecture.Architecture`."""
    codes = [encode_stage(stage) for stage in stages]
    rows = list(walk_costs(codes, stem, stem_stride, head, resolution, in_channels, num_classes))
    names = ("stem", *(_label_stage(s.block, s.expand_ratio, s.se_ratio, s.skip) for s in stages), "head")
    _, _, params, macs, activations, peaks = zip(*rows, strict=True)
    table = tuple(StageCost(name, *row) for name, row in zip(names, rows, strict=True))
    return Cost(sum(params), sum(macs), sum(activations), max(peaks), table)


def format_cost(cost: Cost, stages: Sequence[Stage], stem_stride: int) -> str:
    """A row for the stem, each of the stages and the head, and the total, as an aligned text table."""
    header = ["stage", "blocks", "kernel", "stride", "out", "params", "MACs", "activations", "peak KiB"]
    shapes = [("1", "3", f"{stem_stride}"), *((f"{s.repeats}", f"{s.kernel_size}", f"{s.stride}") for s in stages)]
    rows = []
    for row, shape in zip(cost.stages, [*shapes, ("", "", "")], strict=True):
        counts = (row.params, row.macs, row.activations, row.peak_memory // 1024)
        rows.append([row.name, *shape, f"{row.channels}×{row.resolution}²", *(f"{n:,}" for n in counts)])
    total = (cost.params, cost.macs, cost.activations, cost.peak_memory // 1024)
    rows.append(["total", str(sum(s.repeats for s in stages)), "", "", "", *(f"{n:,}" for n in total)])
    first, line, *body = text_table(header, rows).split("\n")
    return "\n".join([first, line, *body[:-1], line, body[-1]])


def encode_stage(stage: Stage) -> tuple[Any, ...]:
    """A stage as :func:`walk_costs` takes it: ``block`` and ``skip`` as their places in ``BLOCKS`` and ``SKIPS``."""
    return (
        BLOCKS.index(stage.block),
        stage.channels,
        stage.repeats,
        stage.kernel_size,
        stage.stride,
        stage.expand_ratio,
        stage.se_ratio,
        SKIPS.index(stage.skip),
    )


@cache
def _label_stage(block: str, expand_ratio: int, se_ratio: float, skip: str) -> str:
    text = block + (f" e{expand_ratio}" if block in EXPANDING else "")
    text += f" se{se_ratio:g}" if se_ratio else ""
    return text if skip == "identity" else f"{text} skip={skip}"


def _floor(x: Any) -> Any:
    """⌊x⌋ as an integer, of a number or an array."""
    return int(x) if isinstance(x, int | float) else x.astype("int64")


def _max(*values: Any) -> Any:
    """The largest of some integers or, element by element, of some arrays."""
    if type(values[0]) is int:
        return max(values)
    import numpy as np

    return reduce(np.maximum, values)


def walk_costs(
    stages: Sequence[tuple[Any, ...]],
    stem: Any,
    stem_stride: Any,
    head: Any,
    resolution: Any,
    in_channels: Any,
    num_classes: Any,
) -> Iterator[tuple[Any, Any, Any, Any, Any, Any]]:
    """``(channels, side, params, macs, activations, peak bytes)`` of stem, stages and head.

    A k×k convolution with padding k//2 turns side h into ⌈h/stride⌉, odd sides included.
    """
    side = (resolution + stem_stride - 1) // stem_stride
    area = side * side
    out = stem * area
    peak = (in_channels * resolution * resolution + out) * BYTES
    yield stem, side, stem * (9 * in_channels + 2), 9 * in_channels * out, out, peak

    channels = stem
    for block, width, repeats, kernel, stride, expand, se_ratio, skip in stages:
        after = (side + stride - 1) // stride
        first = _compute_block(block, channels, width, kernel, stride, expand, se_ratio, skip, side, after)
        if isinstance(repeats, int):
            once, more = 1, repeats - 1
        else:  # repeats 0: a stage that this network of the batch does not have
            once, more = repeats > 0, _max(repeats - 1, 0)
        if isinstance(more, int) and not more:
            yield width, after, *first
        else:
            rest = _compute_block(block, width, width, kernel, 1, expand, se_ratio, skip, after, after)
            peak = _max(first[3] * once, rest[3] * (more > 0))
            yield width, after, *(once * f + more * r for f, r in zip(first[:3], rest[:3], strict=True)), peak
        channels, side = width, after

    area = side * side
    features = head + channels * (head == 0)
    params = channels * head + 2 * head + (features + 1) * num_classes
    macs = channels * head * area + features * num_classes
    peak = _max((channels + head) * area, features * area + features, features + num_classes) * BYTES
    yield features, side, params, macs, head * area + num_classes, peak


def _compute_block(
    block: Any,
    channels: Any,
    width: Any,
    kernel: Any,
    stride: Any,
    expand: Any,
    se_ratio: Any,
    skip: Any,
    side: Any,
    after: Any,
) -> tuple[Any, Any, Any, Any]:
    """``(params, macs, activations, peak bytes)`` of one block, ``channels`` × ``side``² to ``width`` × ``after``²."""
    area, area2 = side * side, after * after
    is_conv, is_mb, is_fused, has_se = block == CONV, block == MBCONV, block == FUSED, se_ratio > 0
    projects = 1 - is_conv
    middle = channels * (1 + (is_mb | is_fused) * (expand - 1))  # channels before the projection; the input's for conv
    spread = middle * (is_mb & (expand > 1))  # output channels of the three convolutions: 1×1 expansion,
    inner = width * is_conv + middle * projects  # k×k (dense or depthwise), weighed by SE,
    last = width * projects  # and 1×1 projection
    wide, out = spread * area, inner * area2

    weights = kernel * kernel * inner * (1 + (is_conv | is_fused) * (channels - 1)) + middle * last
    params = spread * (channels + 2) + weights + 2 * (inner + last)  # 2: BatchNorm's scale and shift
    macs = wide * channels + weights * area2
    activations = wide + out + last * area2

    reduced = _max(_floor(channels * se_ratio), 1) * has_se
    weighed = inner * has_se
    gate = weighed + reduced
    params = params + 2 * weighed * reduced + gate
    macs = macs + 2 * weighed * reduced
    activations = activations + gate

    x = channels * area
    pools = skip == POOL
    held = x * (pools | ((skip == IDENTITY) & (stride == 1) & (channels == width)))  # kept for the shortcut
    peak = _max(
        x + wide,  # expansion
        out + x,  # k×k of the block's input, or else
        out + wide + held,  # of the expanded one
        out + gate + held,  # SE
        ((middle + width) * area2 + held) * projects,  # projection
        (x + (width + channels) * area2) * pools,
    )
    return params, macs, activations, peak * BYTES

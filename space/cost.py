"""What a network costs: exact integers, from the description alone, in microseconds and without torch.

Conventions (DESIGN: EfficientNet's "FLOPs" are these MACs):

- **MACs**: one multiply-accumulate of a convolution or linear layer counts one; biases, BatchNorm, activations,
  pooling and the SE product count nothing. Equals fvcore's ``conv + linear``.
- **activations**: elements in the outputs of convolution and linear layers for one image, SE's included (pycls).
- **peak_memory**: bytes of the float32 feature maps alive at once, at worst, in inference of one image: BatchNorm
  folded, activations and the residual sum in place, a block's input kept while its shortcut needs it. No weights.

The formulas are written once and hold for Python integers and NumPy arrays alike: :func:`cost` uses the former,
:func:`cost_batch` the latter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

from .architecture import BLOCKS, SKIPS, Architecture
from .built import AnyArchitecture, BuiltNetwork

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONV, MBCONV = (BLOCKS.index(name) for name in ("conv", "mbconv"))
IDENTITY, POOL = (SKIPS.index(name) for name in ("identity", "pool"))
BYTES = 4  # float32
#: Rows worked on at a time by cost_batch: the temporaries stay in the cache.
CHUNK = 8192


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
    """Totals of a network and its rows from stem to head.  Units: see the module; ``peak_memory`` is in bytes."""

    params: int
    macs: int
    activations: int
    peak_memory: int
    stages: tuple[StageCost, ...] = ()

    def table(self, architecture: Architecture) -> str:
        """The network and its cost as an aligned text table."""
        a = architecture
        rows = [["stage", "kernel", "stride", "out", "params", "MACs", "activations", "peak KiB"]]
        rows[0].insert(1, "blocks")
        for i, row in enumerate(self.stages):
            blocks, kernel, stride = "", "", ""
            if 0 < i <= len(a.stages):
                s = a.stages[i - 1]
                blocks, kernel, stride = str(s.repeats), f"{s.kernel_size}", f"{s.stride}"
            elif i == 0:
                blocks, kernel, stride = "1", "3", f"{a.stem_stride}"
            cells = [row.name, blocks, kernel, stride, f"{row.channels}×{row.resolution}²"]
            cells += [f"{n:,}" for n in (row.params, row.macs, row.activations, row.peak_memory // 1024)]
            rows.append(cells)
        total = (self.params, self.macs, self.activations, self.peak_memory // 1024)
        rows.append(["total", str(a.blocks), "", "", "", *(f"{n:,}" for n in total)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        title = f"{a.name or 'architecture'} {a.digest}: {a.resolution}² × {a.in_channels} → {a.num_classes} classes, "
        title += f"{a.activation}, dropout {a.dropout:g}, drop path {a.drop_path:g}, BN eps {a.bn_eps:g}"
        return "\n".join([title, lines[0].rstrip(), "-" * len(lines[0]), *lines[1:-1], "-" * len(lines[0]), lines[-1]])


@dataclass(frozen=True)
class ArchitectureBatch:
    """Columns of n networks of at most S stages, as integer (``se_ratio``: float) arrays.

    ``block`` and ``skip`` hold indices into ``BLOCKS`` and ``SKIPS``; the stage fields have shape (n, S), the others
    (n,) or are one number for all. A network of fewer stages has ``repeats`` 0, stride 1, the last width in the rest.
    """

    block: NDArray[np.int64]
    channels: NDArray[np.int64]
    repeats: NDArray[np.int64]
    kernel_size: NDArray[np.int64]
    stride: NDArray[np.int64]
    expand_ratio: NDArray[np.int64]
    se_ratio: NDArray[np.float64]
    skip: NDArray[np.int64]
    stem: Any
    stem_stride: Any
    head: Any
    resolution: Any
    in_channels: Any
    num_classes: Any

    STAGE_FIELDS = ("block", "channels", "repeats", "kernel_size", "stride", "expand_ratio", "se_ratio", "skip")
    GLOBAL_FIELDS = ("stem", "stem_stride", "head", "resolution", "in_channels", "num_classes")

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> ArchitectureBatch:
        """Pack architectures, of any numbers of stages, into columns."""
        import numpy as np

        depth = max((len(a.stages) for a in architectures), default=1)
        columns: dict[str, list[list[float]]] = {name: [] for name in cls.STAGE_FIELDS}
        for a in architectures:
            rows = [_codes(stage) for stage in a.stages]
            last = a.stages[-1].channels
            rows += [(MBCONV, last, 0, 1, 1, 1, 0.0, 0)] * (depth - len(rows))
            for name, column in zip(cls.STAGE_FIELDS, zip(*rows, strict=True), strict=True):
                columns[name].append(list(column))
        arrays: dict[str, Any] = {
            name: np.array(rows, np.float64 if name == "se_ratio" else np.int64).reshape(-1, depth)
            for name, rows in columns.items()
        }
        for name in cls.GLOBAL_FIELDS:
            arrays[name] = np.array([getattr(a, name) for a in architectures], np.int64)
        return cls(**arrays)


@dataclass(frozen=True)
class CostBatch:
    """Costs of n networks: four int64 arrays of shape (n,), in the units of :class:`Cost`."""

    params: NDArray[np.int64]
    macs: NDArray[np.int64]
    activations: NDArray[np.int64]
    peak_memory: NDArray[np.int64]


def cost(architecture: AnyArchitecture) -> Cost:
    """Parameters, MACs, activations and peak memory of one network, per stage and in total: exact integers.

    Equals ``sum(p.numel())`` and fvcore's ``conv + linear`` of the built module, odd resolutions included. A builder's
    network is built and measured (:func:`~effnas.space.builders.module.measured`), which needs torch; it has no stages.
    """
    if isinstance(architecture, BuiltNetwork):
        from .builders.module import measured

        return measured(architecture).cost
    a = architecture
    rows = list(
        _walk([_codes(s) for s in a.stages], a.stem, a.stem_stride, a.head, a.resolution, a.in_channels, a.num_classes)
    )
    names = ("stem", *(_label(s.block, s.expand_ratio, s.se_ratio, s.skip) for s in a.stages), "head")
    stages = tuple(StageCost(name, *row) for name, row in zip(names, rows, strict=True))
    _, _, params, macs, activations, peaks = zip(*rows, strict=True)
    return Cost(sum(params), sum(macs), sum(activations), max(peaks), stages)


def cost_batch(batch: ArchitectureBatch) -> CostBatch:
    """The same formulas over columns: arrays in, arrays out; about a million networks in seconds."""
    import numpy as np

    n, depth = batch.block.shape
    totals = np.zeros((4, n), np.int64)
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        stages = [tuple(getattr(batch, f)[rows, i] for f in batch.STAGE_FIELDS) for i in range(depth)]
        scalars = [
            value[rows] if isinstance(value := getattr(batch, f), np.ndarray) and value.ndim else value
            for f in batch.GLOBAL_FIELDS
        ]
        for _, _, params, macs, activations, peak in _walk(stages, *scalars):
            totals[0, rows] += params
            totals[1, rows] += macs
            totals[2, rows] += activations
            totals[3, rows] = np.maximum(totals[3, rows], peak)
    return CostBatch(*totals)


def _codes(stage: Any) -> tuple[Any, ...]:
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
def _label(block: str, expand_ratio: int, se_ratio: float, skip: str) -> str:
    text = block + (f" e{expand_ratio}" if block == "mbconv" else "")
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


def _walk(
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
        first = _block(block, channels, width, kernel, stride, expand, se_ratio, skip, side, after)
        if isinstance(repeats, int):
            once, more = 1, repeats - 1
        else:  # repeats 0: a stage that this network of the batch does not have
            once, more = repeats > 0, _max(repeats - 1, 0)
        if isinstance(more, int) and not more:
            yield width, after, *first
        else:
            rest = _block(block, width, width, kernel, 1, expand, se_ratio, skip, after, after)
            peak = _max(first[3] * once, rest[3] * (more > 0))
            yield width, after, *(once * f + more * r for f, r in zip(first[:3], rest[:3], strict=True)), peak
        channels, side = width, after

    area = side * side
    features = head + channels * (head == 0)
    params = channels * head + 2 * head + (features + 1) * num_classes
    macs = channels * head * area + features * num_classes
    peak = _max((channels + head) * area, features * area + features, features + num_classes) * BYTES
    yield features, side, params, macs, head * area + num_classes, peak


def _block(
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
    is_conv, is_mb, has_se = block == CONV, block == MBCONV, se_ratio > 0
    separable = 1 - is_conv
    middle = channels * (1 + is_mb * (expand - 1))  # channels of the depthwise convolution; the input's for conv
    spread = middle * (is_mb & (expand > 1))  # output channels of the three convolutions: 1×1 expansion,
    inner = width * is_conv + middle * separable  # k×k (dense or depthwise), weighed by SE,
    last = width * separable  # and 1×1 projection
    wide, out = spread * area, inner * area2

    weights = kernel * kernel * (middle * separable + channels * width * is_conv) + middle * last
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
        ((middle + width) * area2 + held) * separable,  # projection
        (x + (width + channels) * area2) * pools,
    )
    return params, macs, activations, peak * BYTES

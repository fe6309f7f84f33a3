"""The cost model against modules that run: parameters, MACs, activations, peak memory, for every shipped space."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effnas.space.architecture import Architecture
from effnas.space.blocks import Block, SqueezeExcite
from effnas.space.cost import ArchitectureBatch, cost, cost_batch
from effnas.space.formulas import Cost
from effnas.space.network import build
from effnas.space.space import SHIPPED, load_space
from effnas.space.stage import EXPANDING, Stage
from effnas.space.zoo import ARCHITECTURES, zoo

SPACES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
#: (resolution, classes), taken in turn: sides that halve evenly, that do not, and that vanish
FORMS = ((32, 10), (33, 1), (47, 7), (64, 1000), (17, 3), (1, 2))
#: by fvcore at their own resolution in a second or two; the others take up to 15 s and are `slow`
QUICK = (
    *("efficientnet_b0", "efficientnet_lite0", "efficientnet_v2_b0", "efficientnet_es"),
    *("mnasnet_a1", "mnasnet_b1", "mobilenet_v1", "mobilenet_v2"),
)
#: too much arithmetic to run on a CPU in a test; counted on the meta device only
HUGE = ("efficientnet_b7", "efficientnet_b8", "efficientnet_l2", "efficientnet_v2_l", "efficientnet_v2_xl")


def members(space: str, n: int, seed: int) -> Iterator[Architecture]:
    """Random networks of a space, each at the next of FORMS."""
    found, rng = load_space(space), np.random.default_rng(seed)
    for i in range(n):
        resolution, classes = FORMS[i % len(FORMS)]
        yield found.build(found.sample(rng)).with_(resolution=resolution, num_classes=classes)


def random_network(rng: np.random.Generator) -> Architecture:
    """A small network of any blocks, widths, kernels, strides, SE and skips, at any side and with or without a head."""

    def pick(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    def stage() -> Stage:
        block = pick("conv", "ds", "mbconv", "fused_mbconv")
        return Stage(
            block,
            channels=pick(1, 3, 8, 13),
            repeats=pick(1, 2, 3),
            kernel_size=pick(1, 3, 5, 7),
            stride=pick(1, 1, 2, 3),
            expand_ratio=pick(1, 2, 6) if block in EXPANDING else 1,
            se_ratio=pick(0.0, 0.01, 0.25, 0.3, 1.0),
            skip=pick("none", "identity", "pool"),
        )

    return Architecture(
        tuple(stage() for _ in range(pick(1, 2, 4))),
        stem=pick(1, 4, 8),
        stem_stride=pick(1, 2, 3),
        head=pick(0, 5, 40),
        resolution=int(rng.integers(1, 40)),
        in_channels=pick(1, 3),
        num_classes=pick(1, 9),
    )


# -- three other ways to count --------------------------------------------------------------------------


def by_hooks(a: Architecture) -> Cost:
    """What passes through the convolutions and linear layers of the module, run without data on the meta device.

    Memory: each layer's input and output, SE's map beside its vectors, a block's input while its shortcut waits.
    """
    with torch.device("meta"):
        module = build(a).eval()
        image = torch.empty(1, a.in_channels, a.resolution, a.resolution)
    total: Counter[str] = Counter(params=sum(p.numel() for p in module.parameters()))
    held: list[Tensor] = []  # the block's input, if its shortcut needs it
    maps: list[Tensor] = []  # what SE will weigh

    def live(*tensors: Tensor) -> None:
        alive = {id(t): t.numel() for t in (*tensors, *held, *maps)}
        total["peak"] = max(total["peak"], 4 * sum(alive.values()))

    def layer(m: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(m, nn.Conv2d | nn.Linear):
            total["macs"] += out.numel() * m.weight[0].numel()
            total["activations"] += out.numel()
        live(args[0], out)

    def leave_block(m: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
        if m.shortcut == "pool":  # the pooled input has the input's channels and the output's side
            live(out, out.new_empty(1, args[0].shape[1], *out.shape[2:]))
        held.clear()

    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.Linear | nn.AdaptiveAvgPool2d):
            m.register_forward_hook(layer)
        elif isinstance(m, Block) and m.shortcut != "none":
            m.register_forward_pre_hook(lambda _, args: held.append(args[0]))
            m.register_forward_hook(leave_block)
        elif isinstance(m, SqueezeExcite):
            m.register_forward_pre_hook(lambda _, args: maps.append(args[0]))
            m.register_forward_hook(lambda *_: maps.clear())
    with torch.no_grad():
        module(image)
    return Cost(total["params"], total["macs"], total["activations"], total["peak"])


def by_fvcore(a: Architecture) -> tuple[int, int, int]:
    """Parameters, and fvcore's conv + linear of FLOPs and of activations, at the architecture's resolution."""
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

    module, image = _module_and_image(a)
    counts = []
    for analysis in (FlopCountAnalysis, ActivationCountAnalysis):
        found = analysis(module, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts.append(int(found.by_operator()["conv"] + found.by_operator()["linear"]))
    return sum(p.numel() for p in module.parameters()), counts[0], counts[1]


def by_fvcore_at_once(a: Architecture) -> tuple[int, int, int]:
    """The same from one trace instead of two, which takes nearly all of the time."""
    from fvcore.nn.jit_analysis import JitModelAnalysis
    from fvcore.nn.jit_handles import conv_flop_jit, generic_activation_jit, linear_flop_jit

    def both(flops: Any) -> Any:
        activations = generic_activation_jit()
        return lambda i, o: Counter(macs=sum(flops(i, o).values()), activations=activations(i, o))

    def linear(i: Any, o: Any) -> Counter[str]:
        return Counter(linear=linear_flop_jit(i, o))

    module, image = _module_and_image(a)
    found = JitModelAnalysis(module, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counts = found.set_op_handle("aten::_convolution", both(conv_flop_jit), "aten::linear", both(linear)).by_operator()
    return sum(p.numel() for p in module.parameters()), int(counts["macs"]), int(counts["activations"])


def _module_and_image(a: Architecture) -> tuple[nn.Module, Tensor]:
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    return build(a).eval(), torch.zeros(1, a.in_channels, a.resolution, a.resolution)


def by_thop(a: Architecture) -> int:
    """MACs as thop counts them: MACs, 4 for each element a BatchNorm puts out, and additions of average pooling.

    Worked out from the description, as Accel-NASBench's ``macs`` column was from modules.
    """
    side = -(-a.resolution // a.stem_stride)
    total = 9 * a.in_channels * a.stem * side**2 + 4 * a.stem * side**2
    for _, stage, channels, stride in a.iter_blocks():
        after = -(-side // stride)
        middle = channels * stage.expand_ratio
        if stage.expand_ratio > 1:
            total += (channels + 4) * middle * side**2
        total += (stage.kernel_size**2 + 4) * middle * after**2
        if stage.se_ratio:
            total += 2 * middle * max(1, int(channels * stage.se_ratio)) + middle * (after**2 + 1)
        total += (middle + 4) * stage.channels * after**2
        side = after
    total += (a.stages[-1].channels + 4) * a.head * side**2 + a.head * (side**2 + 1)
    return total + a.head * a.num_classes


def summed(c: Cost) -> tuple[int, int, int, int]:
    return c.params, c.macs, c.activations, c.peak_memory


# -- the zoo --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_zoo_counted_on_the_meta_device(name):
    assert summed(cost(zoo(name))) == summed(by_hooks(zoo(name)))


SLOW_ZOO = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ARCHITECTURES if name not in HUGE
]


@pytest.mark.parametrize("name", SLOW_ZOO)
def test_the_zoo_counted_by_fvcore(name):
    found = cost(zoo(name))
    assert (found.params, found.macs, found.activations) == by_fvcore(zoo(name))


# -- every shipped space --------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
def test_a_dozen_members_counted_by_fvcore(space):
    for network in members(space, 12, seed=0):
        found = cost(network)
        assert (found.params, found.macs, found.activations) == by_fvcore_at_once(network), network.to_yaml()


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_300_members_counted_by_fvcore(space):
    for network in members(space, 300, seed=1):
        found = cost(network)
        assert (found.params, found.macs, found.activations) == by_fvcore_at_once(network), network.to_yaml()


@pytest.mark.parametrize("space", SPACES)
def test_members_at_their_own_resolution_counted_on_the_meta_device(space):
    found, rng = load_space(space), np.random.default_rng(2)
    for _ in range(12):
        network = found.build(found.sample(rng))
        assert summed(cost(network)) == summed(by_hooks(network)), network.to_yaml()


@pytest.mark.parametrize("space", SPACES)
def test_a_batch_costs_what_its_members_cost(space):
    found, rng = load_space(space), np.random.default_rng(3)
    rows = found.sample_indices(300, rng)
    together = cost_batch(found.batch(rows))
    each = [cost(found.build(found.decisions(row))) for row in rows]
    for column in ("params", "macs", "activations", "peak_memory"):
        values = getattr(together, column)
        assert values.dtype == np.int64
        assert values.tolist() == [getattr(c, column) for c in each]


# -- any network ----------------------------------------------------------------------------------------


def test_any_network_counted_on_the_meta_device():
    rng = np.random.default_rng(4)
    for _ in range(60):
        network = random_network(rng)
        assert summed(cost(network)) == summed(by_hooks(network)), network.to_yaml()


def test_a_batch_of_networks_of_different_depths():
    rng = np.random.default_rng(5)
    mixed = [*map(zoo, ARCHITECTURES), *(random_network(rng) for _ in range(200))]
    together = cost_batch(ArchitectureBatch.of(mixed))
    for i, network in enumerate(mixed):
        found = (together.params[i], together.macs[i], together.activations[i], together.peak_memory[i])
        assert found == summed(cost(network)), network.to_yaml()


def test_a_batch_longer_than_its_chunks():
    from effnas.space.cost import CHUNK

    found = load_space("tiny")
    rows = found.sample_indices(2 * CHUNK + 5, np.random.default_rng(6))
    whole = cost_batch(found.batch(rows))
    for i in (0, CHUNK - 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 4):
        assert whole.macs[i] == cost(found.build(found.decisions(rows[i]))).macs


def test_an_empty_batch():
    space = load_space("tiny")
    assert cost_batch(space.batch(space.indices([]))).macs.tolist() == []
    assert cost_batch(ArchitectureBatch.of([])).params.tolist() == []


def test_a_network_by_hand():
    """One convolution, SE, pool shortcut, at side 5: every number worked out on paper."""
    network = Architecture(
        (Stage("conv", 6, stride=2, se_ratio=0.5, skip="pool"),),
        stem=4, stem_stride=1, head=0, resolution=5, in_channels=1, num_classes=2,
    )  # fmt: skip
    found = cost(network)
    stem, stage, head = found.stages
    # stem: 9·4 weights, 4·2 BatchNorm; 25 positions
    assert stem == ("stem", 4, 5, 44, 900, 100, 4 * (25 + 100))
    # 9·4·6 weights, 6·2 BatchNorm, SE 4·0.5 = 2: 6·2 + 2, 2·6 + 6; 9 positions.  In the end 100 of the input,
    # 36 of its pooled form and 54 of the branch are alive
    assert stage == ("conv se0.5 skip=pool", 6, 3, 216 + 12 + 32, 216 * 9 + 24, 54 + 8, 4 * (100 + 36 + 54))
    assert head == ("head", 6, 3, 14, 12, 2, 4 * (54 + 6))
    assert summed(found) == (318, 2880, 164, 4 * 190)


def test_a_fused_block_by_hand():
    """One Fused-MBConv, SE, at side 5 and stride 2: 3×3 from 4 to 4·3 channels, 1×1 to 6."""
    network = Architecture(
        (Stage("fused_mbconv", 6, stride=2, expand_ratio=3, se_ratio=0.5),),
        stem=4, stem_stride=1, head=0, resolution=5, in_channels=1, num_classes=2,
    )  # fmt: skip
    stage = cost(network).stages[1]
    # 9·4·12 and 12·6 weights, 12·2 and 6·2 BatchNorm, SE to 4·0.5 = 2: 12·2 + 2, 2·12 + 12; 9 positions. In the
    # first convolution 100 of the input and 108 of the output are alive
    counts = (432 + 72 + 36 + 62, (432 + 72) * 9 + 48, 108 + 14 + 54, 4 * (100 + 108))
    assert stage == ("fused_mbconv e3 se0.5", 6, 3, *counts)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v1", "efficientnet_l2", "efficientnet_v2_s"])
def test_the_rows_add_up(name):
    found = cost(zoo(name))
    for column in ("params", "macs", "activations"):
        assert sum(getattr(row, column) for row in found.stages) == getattr(found, column)
    assert max(row.peak_memory for row in found.stages) == found.peak_memory
    assert [row.name for row in found.stages][:: len(found.stages) - 1] == ["stem", "head"]
    assert all(type(value) is int for value in summed(found))


def test_activations_and_regularisation_cost_nothing():
    base = zoo("efficientnet_b0")
    other = base.with_(activation="relu", dropout=0.0, drop_path=0.0, bn_eps=1e-5, bn_momentum=0.1)
    assert cost(other) == cost(base)


def test_the_cost_needs_no_torch():
    script = (
        "import sys; from effnas import cost, load_architecture, load_space; from effnas.space.cost import cost_batch;"
        "import numpy; s = load_space('tiny'); r = numpy.random.default_rng(0);"
        "cost_batch(s.batch(s.sample_indices(5, r))); s.build(s.sample(r));"
        "print(cost(load_architecture('efficientnet_b0')).macs, str(load_architecture('efficientnet_b0'))[:15],"
        "[m for m in ('torch', 'optuna', 'hydra', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "385814752 efficientnet_b0 []\n"


# -- Accel-NASBench -------------------------------------------------------------------------------------


def test_accel_nasbench_exactly(shared_data):
    """Every network of the data set: its decisions build, its ``params`` and ``macs`` (millions, 6 digits) are ours."""
    space = load_space("accel_nasbench")
    archive = shared_data / "accel_nasbench" / "anb_dataset_jsons.tar.gz"
    rows = []
    with tarfile.open(archive) as files:
        for file in files:
            if file.name.endswith(".json"):
                content = files.extractfile(file)
                assert content is not None
                rows.append(json.load(content))
    assert len(rows) == 4110
    digests: dict[str, tuple[Any, ...]] = {}
    for row in rows:
        network = space.build(row["architecture"])
        digests[network.digest] = tuple(row["architecture"].values())
        assert cost(network).params == round(row["model_info"]["params"] * 1e6)
        assert by_thop(network) == round(row["model_info"]["macs"] * 1e6)
    assert len(digests) == len({tuple(row["architecture"].values()) for row in rows})
    batch = cost_batch(space.batch(space.indices([row["architecture"] for row in rows])))
    assert batch.params.tolist() == [round(row["model_info"]["params"] * 1e6) for row in rows]


def test_thops_count_is_ours_and_a_known_surplus():
    """On B0: 4 for each of the BatchNorm elements, and the pools' additions; nothing else differs."""
    b0 = zoo("efficientnet_b0")
    module = build(b0).eval()
    surplus: list[int] = []
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.register_forward_hook(lambda _, args, out: surplus.append(4 * out.numel()))
        elif isinstance(m, SqueezeExcite | nn.AdaptiveAvgPool2d):
            m.register_forward_hook(lambda _, args, out: surplus.append(args[0][0].numel() + args[0].shape[1]))
    with torch.no_grad():
        module(torch.zeros(1, 3, 224, 224))
    assert by_thop(b0) == cost(b0).macs + sum(surplus)

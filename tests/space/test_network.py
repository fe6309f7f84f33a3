"""The modules: shapes, deployment forms, initial values, stochastic depth."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from effnas.space.architecture import Architecture
from effnas.space.blocks import Block, ConvNormAct, DropPath, SqueezeExcite
from effnas.space.cost import cost
from effnas.space.network import build
from effnas.space.space import SHIPPED, load_space
from effnas.space.stage import ACTIVATIONS, Stage
from effnas.space.zoo import zoo

SPACES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))

#: every kind of block, shortcut and stride, with and without SE and head
MIXED = Architecture(
    (
        Stage("conv", 8, 2, stride=2, se_ratio=0.25, skip="pool"),
        Stage("ds", 12, 2, 5, se_ratio=0.5),
        Stage("mbconv", 6, 3, 3, 2, 4, 0.25, "pool"),
        Stage("mbconv", 10, 1, 7, 3, 1, skip="none"),
        Stage("fused_mbconv", 10, 2, 5, 1, 2, 0.5),
        Stage("fused_mbconv", 12, 1, 3, 1, 1),
        Stage("conv", 10, 1, 1),
    ),
    stem=4,
    head=20,
    resolution=37,
    in_channels=2,
    num_classes=5,
)


#: the same with TensorFlow's padding; kernels of 3, 5 and 7, strides of 1, 2 and 3, odd and even sides
PORTED = MIXED.with_(padding="same")


def seeded(architecture: Architecture, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build(architecture)


def images(architecture: Architecture, n: int = 2, side: int | None = None) -> torch.Tensor:
    side = side or architecture.resolution
    return torch.randn(n, architecture.in_channels, side, side, generator=torch.Generator().manual_seed(1))


def alive(model: nn.Module) -> nn.Module:
    """BatchNorm statistics and biases that are not the neutral ones, so that a layer left out is seen."""
    generator = torch.Generator().manual_seed(2)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1, generator=generator)
            m.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(m.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(m.bias, 0, 0.1, generator=generator)
    return model


# -- shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 7, 32, 37])
def test_shapes_at_any_side(side):
    model = seeded(MIXED).eval()
    x = images(MIXED, 3, side)
    with torch.no_grad():
        features = model.forward_features(x)
        after = side
        for stride in (2, 2, 2, 3):
            after = math.ceil(after / stride)
        assert features.shape == (3, 20, after, after)
        assert model.forward_head(features).shape == (3, 5)
        assert torch.equal(model.forward_head(features), model(x))
        pooled = model.forward_head(features, pre_logits=True)
    assert torch.allclose(pooled, features.mean((2, 3)), atol=1e-6)
    assert model.num_features == 20


def test_images_need_not_be_square():
    model = seeded(MIXED).eval()
    with torch.no_grad():
        assert model.forward_features(torch.randn(1, 2, 50, 26)).shape == (1, 20, 3, 2)


def test_without_a_head_the_features_are_the_last_stage():
    network = MIXED.with_(head=0)
    model = seeded(network).eval()
    with torch.no_grad():
        assert model.forward_features(images(network)).shape == (2, 10, 2, 2)
    assert model.num_features == 10
    assert isinstance(model.head, nn.Identity)


@pytest.mark.parametrize("space", SPACES)
def test_members_of_every_space_train_one_step(space):
    import numpy as np

    members = load_space(space)
    network = members.build(members.sample(np.random.default_rng(0))).with_(resolution=33)
    model = seeded(network).train()
    loss = nn.functional.cross_entropy(model(images(network)), torch.tensor([0, 1]))
    loss.backward()
    assert torch.isfinite(loss)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())
    assert gradients["stem.conv.weight"].abs().sum() > 0


@pytest.mark.parametrize("classes", [1, 7, 0])
def test_reset_classifier(classes):
    model = seeded(MIXED).double().eval()
    features = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("classifier")}
    model.reset_classifier(classes)
    x = images(MIXED).double()
    with torch.no_grad():
        out = model(x)
        assert out.shape == (2, classes or 20)
        assert out.dtype == torch.float64
        if not classes:
            assert torch.equal(out, model.forward_head(model.forward_features(x), pre_logits=True))
    for key, value in features.items():
        assert torch.equal(model.state_dict()[key], value)
    if classes:
        assert model.classifier.weight.abs().max() <= classes**-0.5
        assert (model.classifier.bias == 0).all()


# -- forms of deployment --------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [MIXED, PORTED], ids=["symmetric", "same"])
def test_channels_last_gives_the_same(network):
    model = alive(seeded(network)).eval()
    x = images(network, side=38)
    with torch.no_grad():
        plain = model(x)
        model = model.to(memory_format=torch.channels_last)
        features = model.forward_features(x.to(memory_format=torch.channels_last))
        assert features.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(model(x.to(memory_format=torch.channels_last)), plain, atol=1e-5)
    assert plain.abs().max() > 0.01


@pytest.mark.parametrize(
    "network", [MIXED, PORTED, zoo("mobilenet_v1").with_(resolution=33)], ids=["mixed", "same", "mobilenet_v1"]
)
def test_scripted_gives_the_same(network):
    model = alive(seeded(network)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(model)
    with torch.no_grad():
        for side in (network.resolution, network.resolution + 7):
            x = images(network, side=side)
            assert torch.allclose(scripted(x), model(x), atol=1e-6)


@pytest.mark.parametrize("network", [MIXED, MIXED.with_(activation="gelu"), PORTED.with_(resolution=38)])
def test_exported_gives_the_same(network):
    model = alive(seeded(network)).eval()
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(model, (images(network),), dynamic_shapes={"x": {0: batch}}).module()
    with torch.no_grad():
        x = images(network, 5)
        assert torch.allclose(exported(x), model(x), atol=1e-6)


def test_state_dict_round_trip():
    model, other = alive(seeded(MIXED)).eval(), seeded(MIXED, seed=9).eval()
    x = images(MIXED)
    with torch.no_grad():
        assert not torch.allclose(model(x), other(x))
        other.load_state_dict(model.state_dict())
        assert torch.equal(model(x), other(x))


def test_names_of_the_parameters_stay():
    """Checkpoints are written with these."""
    keys = list(seeded(zoo("efficientnet_b0")).state_dict())
    first = [f"stem.{k}" for k in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")]
    assert keys[:5] == first
    assert "stages.1.0.expand.conv.weight" in keys
    assert "stages.1.0.depthwise.bn.weight" in keys
    assert "stages.6.0.se.reduce.bias" in keys
    assert "stages.6.0.project.conv.weight" in keys
    assert keys[-2:] == ["classifier.weight", "classifier.bias"]


# -- what is inside -------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation):
    """The module's activation is ``torch.nn.functional``'s of that name; MBConv's projection has none."""
    network = Architecture((Stage("mbconv", 4, expand_ratio=2),), 4, activation=activation, resolution=8, head=4)
    model = alive(seeded(network)).eval()
    function = getattr(nn.functional, activation)
    x = images(network)
    with torch.no_grad():
        stem = model.stem.bn(model.stem.conv(x))
        assert torch.allclose(model.stem(x), function(stem), atol=1e-6)
        project = model.stages[0][0].project
        assert list(dict(project.named_children())) == ["conv", "bn"]
        assert torch.isfinite(model(x)).all()


@pytest.mark.parametrize(
    ("ratio", "reduced"), [(0.25, [8, 2, 1]), (0.3, [9, 2, 1]), (1.0, [32, 8, 5]), (0.001, [1, 1, 1])]
)
def test_se_width_follows_the_blocks_input(ratio, reduced):
    network = Architecture((Stage("mbconv", 8, 2, expand_ratio=6, se_ratio=ratio), Stage("conv", 5, 2, se_ratio=ratio)))
    found = [m.reduce.out_channels for m in build(network).modules() if isinstance(m, SqueezeExcite)]
    # inputs are 32, 8, 8, 5
    assert found == [reduced[0], reduced[1], reduced[1], reduced[2]]


def test_se_by_hand():
    se = SqueezeExcite(3, 2, "relu")
    nn.init.normal_(se.reduce.weight)
    nn.init.normal_(se.expand.weight)
    x = torch.randn(2, 3, 4, 5)
    hidden = (x.mean((2, 3)) @ se.reduce.weight[:, :, 0, 0].T + se.reduce.bias).clamp(min=0)
    gate = torch.sigmoid(hidden @ se.expand.weight[:, :, 0, 0].T + se.expand.bias)
    assert torch.allclose(se(x), x * gate[:, :, None, None], atol=1e-6)


def test_shortcuts():
    """A stage's first block has the stride and changes the width; where that forbids a sum, there is none."""

    def shortcuts(skip: str) -> list[str]:
        network = Architecture((Stage("ds", 8, 3, stride=2, skip=skip), Stage("ds", 8, 2, skip=skip)), stem=8)
        return [m.shortcut for m in build(network).modules() if isinstance(m, Block)]

    assert shortcuts("identity") == ["none", "identity", "identity", "identity", "identity"]
    assert shortcuts("none") == ["none"] * 5
    assert shortcuts("pool") == ["pool"] * 5


def test_identity_shortcut_adds_the_input():
    block = build(Architecture((Stage("mbconv", 8),), stem=8)).stages[0][0].eval()
    nn.init.zeros_(block.project.bn.weight)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("channels", "stride"), [(3, 1), (8, 1), (12, 1), (3, 2), (12, 2), (12, 3)])
def test_pool_shortcut_cuts_and_pads_channels(channels, stride):
    block = build(Architecture((Stage("ds", channels, stride=stride, skip="pool"),), stem=8)).stages[0][0].eval()
    nn.init.zeros_(block.project.bn.weight)
    nn.init.zeros_(block.project.bn.bias)
    x = torch.randn(2, 8, 7, 7)
    y = block(x)
    side = math.ceil(7 / stride)
    assert y.shape == (2, channels, side, side)
    for i in range(side):  # the mean of the 3×3 window, of those positions that exist
        for j in range(side):
            row, column = i * stride, j * stride
            window = x[:, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].mean((2, 3))
            kept = min(8, channels)
            assert torch.allclose(y[:, :kept, i, j], window[:, :kept], atol=1e-6)
    assert (y[:, 8:] == 0).all()


def test_batch_norm_settings():
    model = build(MIXED.with_(bn_eps=1e-5, bn_momentum=0.25))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert (
        len(norms)
        == 2 + 2 + 2 * 2 + 3 * 3 + 2 + 2 * 3 + 1
        == len([m for m in model.modules() if isinstance(m, ConvNormAct)])
    )
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.25)}


# -- TensorFlow's padding -------------------------------------------------------------------------------


def same_by_hand(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """One channel, output by output; the first window begins before the image by half of what is missing, rounded down
    (tensorflow.org, tf.nn, "Notes on padding")."""
    k, sides = weight.shape[-1], x.shape
    outputs = [-(-side // stride) for side in sides]
    before = [max((n - 1) * stride + k - side, 0) // 2 for n, side in zip(outputs, sides, strict=True)]
    y = torch.zeros(*outputs, dtype=x.dtype)
    for row in range(outputs[0]):
        for column in range(outputs[1]):
            for i in range(k):
                for j in range(k):
                    r, c = row * stride - before[0] + i, column * stride - before[1] + j
                    if 0 <= r < sides[0] and 0 <= c < sides[1]:
                        y[row, column] += weight[i, j] * x[r, c]
    return y


@pytest.mark.parametrize("sides", [(8, 8), (7, 7), (8, 7), (9, 6), (1, 2)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (5, 3), (3, 4), (1, 2), (7, 2)])
def test_same_padding_by_hand(kernel, stride, sides):
    layer = ConvNormAct(1, 1, kernel, stride, activation="", padding="same", bn_eps=1e-3, bn_momentum=0.1).double()
    x = torch.randn(1, 1, *sides, dtype=torch.float64)
    found = layer.conv(x)[0, 0]
    assert torch.allclose(found, same_by_hand(x[0, 0], layer.conv.weight[0, 0], stride), atol=1e-12)


@pytest.mark.parametrize("side", [1, 2, 7, 32, 33, 37])
def test_padding_changes_no_shape_and_no_name(side):
    symmetric, same = seeded(MIXED).eval(), seeded(PORTED).eval()
    same.load_state_dict(symmetric.state_dict())
    x = images(MIXED, side=side)
    with torch.no_grad():
        assert same.forward_features(x).shape == symmetric.forward_features(x).shape


def test_padding_matters_where_a_stride_meets_an_even_side():
    """On odd sides a stride of 2 needs as much on both ends."""
    network = Architecture((Stage("mbconv", 8, stride=2, kernel_size=5), Stage("ds", 8)), stem=8, resolution=33)
    symmetric, same = seeded(network).eval(), seeded(network.with_(padding="same")).eval()
    same.load_state_dict(symmetric.state_dict())
    with torch.no_grad():
        for side, equal in ((33, True), (32, False), (34, False)):
            x = images(network, side=side)
            a, b = symmetric.forward_features(x), same.forward_features(x)
            assert torch.allclose(a, b, atol=1e-6) == equal


def test_same_padding_pads_apart_only_where_the_ends_differ(monkeypatch):
    padded = []
    original = nn.functional.pad
    monkeypatch.setattr(nn.functional, "pad", lambda x, pads: padded.append(pads) or original(x, pads))
    conv = ConvNormAct(1, 1, 3, 2, activation="", padding="same", bn_eps=1e-3, bn_momentum=0.1).conv
    for sides in ((7, 7), (7, 8), (8, 8)):
        conv(torch.zeros(1, 1, *sides))
    assert padded == [(0, 2, 1, 1), (0, 2, 0, 2)]
    one = ConvNormAct(1, 1, 3, 1, activation="", padding="same", bn_eps=1e-3, bn_momentum=0.1).conv
    assert type(one) is nn.Conv2d


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("means", ["export", "trace", "script", "fx"])
def test_same_padding_serves_every_size_from_one_graph(means):
    """Padding that was decided at one size would be silently wrong at another."""
    stages = (Stage("mbconv", 8, 2, 3, 2, 2, 0.25), Stage("mbconv", 8, 1, 5, 2), Stage("conv", 8, 1, 1, 2))
    model = alive(seeded(Architecture(stages, stem=4, head=8, padding="same", in_channels=1, num_classes=3))).eval()
    x = torch.randn(2, 1, 64, 64)
    if means == "export":
        n, h, w = torch.export.Dim("n", min=1), torch.export.Dim("h", min=33), torch.export.Dim("w", min=33)
        graph = torch.export.export(model, (x,), dynamic_shapes=({0: n, 2: h, 3: w},)).module()
    elif means == "trace":
        graph = torch.jit.trace(model, x)
    else:
        graph = torch.jit.script(model) if means == "script" else torch.fx.symbolic_trace(model)
    with torch.no_grad():
        for side in ((64, 64), (65, 97), (98, 67), (33, 130)):
            other = torch.randn(3, 1, *side)
            assert torch.allclose(graph(other), model(other), atol=1e-6)


def test_same_padding_is_counted_by_fvcore():
    from fvcore.nn import FlopCountAnalysis

    found = FlopCountAnalysis(seeded(PORTED).eval(), images(PORTED, 1)).unsupported_ops_warnings(False)
    counts = found.uncalled_modules_warnings(False).by_operator()
    assert counts["conv"] + counts["linear"] == cost(PORTED).macs == cost(MIXED).macs


def test_same_padding_compiles_without_a_break():
    network = Architecture((Stage("mbconv", 8, stride=2, kernel_size=5),), stem=4, head=0, padding="same")
    model = alive(seeded(network)).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        for side in (37, 64, 50):
            x = images(network, side=side)
            assert torch.allclose(compiled(x), model(x), atol=1e-6)


def test_same_padding_on_the_meta_device():
    with torch.device("meta"):
        model = build(PORTED)
        assert model.eval()(torch.empty(3, 2, 50, 26)).shape == (3, 5)


# -- initial values -------------------------------------------------------------------------------------


def test_initial_values():
    """Tan & Le's code: normal of variance 2 / (k·k·outputs) — k·k for depthwise — and uniform ±1/√classes."""
    model = seeded(zoo("efficientnet_b0"))
    checked = 0
    for name, m in model.named_modules():
        if isinstance(m, nn.Conv2d):
            k = m.kernel_size[0]
            std = math.sqrt(2 / (k * k if m.groups > 1 else k * k * m.out_channels))
            n = m.weight.numel()
            if n > 500:
                assert m.weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * n)), name
                assert abs(m.weight.mean().item()) < 5 * std / math.sqrt(n), name
                assert m.weight.abs().max() > 2.2 * std, name  # normal, not uniform (1.7) or cut at 2
                checked += 1
            assert m.bias is None or (m.bias == 0).all()
        elif isinstance(m, nn.BatchNorm2d):
            assert (m.weight == 1).all()
            assert (m.bias == 0).all()
    assert checked > 60
    weight = model.classifier.weight
    assert weight.shape == (1000, 1280)
    bound = 1 / math.sqrt(1000)
    assert bound * 0.999 < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert (model.classifier.bias == 0).all()


def test_the_seed_decides():
    first, again, other = (seeded(MIXED, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])
    model = seeded(MIXED.with_(drop_path=0.5))
    outputs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        outputs.append(model.train()(images(MIXED, 8)).detach())
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-3)


# -- stochastic depth -----------------------------------------------------------------------------------


def test_drop_path_rates():
    """Block i of N, counted from 0, drops its branch at drop_path · i / N; one without a shortcut cannot."""
    model = build(zoo("efficientnet_b0"))
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    assert len(blocks) == 16
    for i, block in enumerate(blocks):
        rates = [m.rate for m in block.modules() if isinstance(m, DropPath)]
        assert rates == ([pytest.approx(0.2 * i / 16)] if block.shortcut == "identity" and i else [])
    assert sum(isinstance(m, DropPath) for m in model.modules()) == 9
    assert not any(isinstance(m, DropPath) for m in build(zoo("efficientnet_b0").with_(drop_path=0.0)).modules())


def test_drop_path_drops_whole_samples_and_keeps_the_expectation():
    layer = DropPath(0.3)
    x = torch.rand(20_000, 2, 2, 2) + 0.5
    torch.manual_seed(0)
    y = layer.train()(x)
    kept = (y != 0).flatten(1)
    assert (kept.all(1) | ~kept.any(1)).all()
    share = kept.all(1).float().mean().item()
    assert share == pytest.approx(0.7, abs=5 * math.sqrt(0.3 * 0.7 / 20_000))
    assert torch.allclose(y[kept.all(1)], x[kept.all(1)] / 0.7)
    assert y.mean().item() == pytest.approx(x.mean().item(), rel=0.03)
    assert layer.eval()(x) is x


def test_nothing_random_in_evaluation():
    network = MIXED.with_(drop_path=0.9, dropout=0.9)
    model = alive(seeded(network)).eval()
    x = images(network)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        plain = build(network.with_(drop_path=0.0, dropout=0.0)).eval()
        plain.load_state_dict(model.state_dict())
        assert torch.equal(model(x), plain(x))
        model.train()
        torch.manual_seed(0)
        assert not torch.allclose(model(x), model(x))


def test_a_dropped_branch_leaves_the_input():
    network = Architecture((Stage("mbconv", 8, 2),), stem=8, drop_path=0.99)
    block = build(network).stages[0][1].train()
    assert block.drop_path.rate == pytest.approx(0.495)
    x = torch.randn(64, 8, 5, 5)
    torch.manual_seed(0)
    same = (block(x) == x).flatten(1).all(1)
    assert 15 < same.sum() < 49


def test_dropout_rate():
    assert build(MIXED.with_(dropout=0.35)).dropout.p == 0.35


def test_the_input_is_not_changed():
    """Activations work in place on what the network made, never on what it was given."""
    x = images(MIXED)
    before = x.clone()
    for form in (seeded(MIXED).eval(), seeded(MIXED).train()):
        form(x)
        assert torch.equal(x, before)
        features = form.forward_features(x).detach()
        kept = features.clone()
        form.forward_head(features)
        assert torch.equal(features, kept)

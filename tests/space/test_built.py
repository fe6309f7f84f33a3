"""Networks of a user's own builder: what they are, what they cost, and what is said of wrong ones."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import own_networks
import pytest
import torch
import yaml
from own_networks import Attention, Builder, plain
from torch import nn

from effnas import UserError, build, cost, load_architecture, scale
from effnas.cli import main
from effnas.evaluate.machine.profile import profile
from effnas.scaling.coefficients import Coefficients
from effnas.space.builders.module import check_builder
from effnas.space.built import BuiltNetwork
from effnas.space.weights.contents import Weights
from effnas.space.weights.weights import load_into

SMALL = {"resolution": 16, "in_channels": 1, "num_classes": 10}


def own(builder: Callable[..., Any] = plain, **changes: Any) -> BuiltNetwork:
    return BuiltNetwork(builder, **{**SMALL, **changes})


def fvcore(network: BuiltNetwork) -> tuple[int, int]:
    """Its MACs of convolutions, linear layers and matrix products, and its activations, traced on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

        model = build(network).eval()
        for p in model.parameters():
            p.requires_grad_(False)
        image = torch.zeros(1, network.in_channels, network.resolution, network.resolution)
        analyses = [kind(model, image) for kind in (FlopCountAnalysis, ActivationCountAnalysis)]
        for analysis in analyses:
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        macs = sum(int(analyses[0].by_operator().get(name, 0)) for name in ("conv", "linear", "matmul"))
        return macs, int(analyses[1].total())


# -- what it costs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        own(depth=2.0, width=1.5, resolution=17),
        own(partial(plain, kernel_size=5, channels=[8, 24, 40])),
        BuiltNetwork("resnet18", resolution=65),
        BuiltNetwork("se_resnet50", width=0.25, resolution=64),
        BuiltNetwork(Attention, num_classes=7, resolution=32),
    ],
    ids=lambda network: network.name,
)
def test_costs_are_fvcores(network: BuiltNetwork) -> None:
    found = cost(network)
    assert (found.macs, found.activations) == fvcore(network)
    assert found.params == sum(p.numel() for p in build(network).parameters())
    assert found.stages == ()


@pytest.mark.parametrize("kind", ["matmul", "fused"])
def test_attention_counts_however_it_is_written(kind: str) -> None:
    network = BuiltNetwork(partial(Attention, kind=kind), num_classes=7, resolution=32)
    d, n = 32, 64  # channels and patches; a layer: q, k, v, q·k and its product with v
    assert cost(network).macs == 16 * 3 * d * n + 2 * (3 * d * d * n + 2 * n * n * d) + 7 * d


def test_pytorchs_attention_module_counts_its_output_layer_too() -> None:
    d, n = 32, 64
    network = BuiltNetwork(partial(Attention, kind="module"), num_classes=7, resolution=32)
    assert cost(network).macs == 16 * 3 * d * n + 2 * (4 * d * d * n + 2 * n * n * d) + 7 * d


@pytest.mark.parametrize("network", [own(), own(depth=3.0, width=2.0, resolution=24)], ids=str)
def test_peak_memory_is_what_a_forward_pass_holds(network: BuiltNetwork) -> None:
    assert cost(network).peak_memory == profile(network, repeats=2, warmup=0, fvcore=False).peak_memory


def test_batch_norm_costs_no_memory_and_keeps_its_attributes() -> None:
    def normed(depth: float, width: float, resolution: int) -> nn.Module:
        return _Normed()

    class _Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.out = nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.bn.num_features == 8
            return self.out(self.bn(self.conv(x)).mean((2, 3)))  # type: ignore[no-any-return]

    assert cost(own(normed)).peak_memory == 4 * (16 * 16 + 8 * 8 * 8 + 8)  # image, map, its mean
    assert cost(own(normed)).params == (9 * 8 + 8) + 16 + 90


def test_total_stride() -> None:
    assert own().total_stride == 4
    assert own(partial(plain, channels=[8, 8, 8])).total_stride == 8
    assert BuiltNetwork("resnet18").total_stride == 32


def test_what_cannot_be_built_without_memory_is_built_with_it() -> None:
    assert cost(own(own_networks.scheduled)) == cost(own())


def test_a_function_defined_anew_is_costed_anew() -> None:
    def define(channels: int) -> Callable[..., Any]:
        def builder(depth: float, width: float, resolution: int) -> nn.Module:
            return plain(depth, width, resolution, channels=(channels,))

        return builder

    first, second = own(define(8)), own(define(16))
    assert first.digest == second.digest
    assert cost(first).params < cost(second).params


def test_more_of_each_costs_more_where_rounding_hides_it_at_first() -> None:
    check_builder(own(depth=0.2))  # one block at 0.2, 0.4 and 0.8
    check_builder(BuiltNetwork("wrn_28_10", depth=0.25, width=0.1, resolution=8, num_classes=10))


# -- what it is --------------------------------------------------------------------------------------


def test_a_file_keeps_all_but_the_code(tmp_path: Path) -> None:
    network = own(partial(plain, kernel_size=5, channels=(8, 24)), depth=0.5, width=2, name="mine")
    data = yaml.safe_load(network.save(tmp_path / "network.yaml").read_text())
    assert data == {
        "effnas_network": 1,
        "name": "mine",
        "builder": "own_networks.plain",
        "options": {"kernel_size": 5, "channels": [8, 24]},
        "depth": 0.5,
        "width": 2.0,
        **SMALL,
    }
    found = load_architecture(tmp_path / "network.yaml", own())
    assert found == network
    assert isinstance(found, BuiltNetwork)
    assert found.name == "mine"
    assert cost(found) == cost(network)


def test_a_file_brings_the_options_and_the_network_the_code(tmp_path: Path) -> None:
    own(partial(plain, kernel_size=5)).save(tmp_path / "five.yaml")
    own().save(tmp_path / "default.yaml")
    found = load_architecture(tmp_path / "five.yaml", own(partial(plain, kernel_size=7)))
    assert found == own(partial(plain, kernel_size=5))
    assert load_architecture(tmp_path / "default.yaml", own(partial(plain, kernel_size=7))) == own()


def test_options_are_bound_and_stay_bound() -> None:
    network = own().with_options(kernel_size=5).with_options(channels=[8])
    assert network == own(partial(plain, kernel_size=5, channels=(8,)))
    assert network.with_options() is network


def test_the_name_takes_no_part_in_identity_and_all_else_does() -> None:
    network = own()
    assert (network.name, network.with_(name="x")) == ("plain", network)
    assert hash(network.with_(name="x")) == hash(network)
    changes: list[dict[str, Any]] = [{"depth": 2.0}, {"width": 2.0}, {"resolution": 8}, {"num_classes": 3}]
    others = [network.with_(**change) for change in changes] + [network.with_options(kernel_size=5)]
    assert len({network, *others}) == 6


def test_it_pickles() -> None:
    network = own(partial(plain, kernel_size=5))
    assert pickle.loads(pickle.dumps(network)) == network


def test_a_seed_decides_its_first_weights() -> None:
    first, again, other = (build(own(), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_scaling_multiplies_the_multipliers(tmp_path: Path) -> None:
    found = scale(own(depth=0.5, width=2.0), Coefficients(1.2, 1.1, 1.25), 2)
    assert isinstance(found, BuiltNetwork)
    assert (found.depth, found.width, found.resolution) == (pytest.approx(0.72), pytest.approx(2.42), 25)
    assert found.builder is plain


def test_it_exports() -> None:
    network = own(partial(plain, kernel_size=5))
    model = build(network, 0).eval()
    images = torch.randn(2, 1, 16, 16)
    program = torch.export.export(model, (images,))
    torch.testing.assert_close(program.module()(images), model(images))


def test_the_classifier_is_what_depends_on_the_classes() -> None:
    assert own().classifier_axes == {"6.weight": 0, "6.bias": 0}
    assert BuiltNetwork("resnet18").classifier_axes == {"classifier.weight": 0, "classifier.bias": 0}
    same = own(own_networks.features)
    assert same.classifier_axes == {}
    weights = Weights("w.pth", build(same).state_dict(), "own")
    with pytest.raises(UserError, match=r"features makes the same classifier for any number of classes: give it a par"):
        load_into(build(same), weights, classifier="skip", architecture=same)


# -- what is wrong with it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: own(3),
            "builder must be a callable .* `_target_: package.function` with `_partial_: true`.*; got int",
        ),
        (lambda: own("convnxt"), "builder: unknown 'convnxt'. Choose one of: resnet18"),
        (
            lambda: own(Builder(3)),
            "builder must be a function or a class, got an object of Builder, whose state no file can record",
        ),
        (lambda: own(Builder(3).build), "builder must be a function or a class, got an object of Builder"),
        (
            lambda: own(partial(plain, 2.0)),
            r"own_networks.plain: bind its options by name, not by position \(\[2.0\]\)",
        ),
        (
            lambda: own(partial(plain, kernel_size=torch.tensor(3))),
            "own_networks.plain: its options must be plain data .*Tensor is not JSON serializable",
        ),
        (
            lambda: own(partial(plain, kernel_size={3: 5})),
            r"own_networks.plain: its options must be plain data .*got \{'kernel_size': \{3: 5\}\}",
        ),
        (lambda: own(depth=0), r"depth multiplier must be in \(0, 10000\], got 0"),
        (lambda: own(width=-1.0), r"width multiplier must be in \(0, 10000\], got -1.0"),
        (lambda: own(resolution=0), "resolution must be between 1 and 100000, got 0"),
        (lambda: own(in_channels=1.5), "in_channels must be a whole number, got 1.5"),
        (lambda: own(num_classes=0), "num_classes must be between 1 and 10000000, got 0"),
        (lambda: own(name=3), "name must be a string of at most 200 characters, got 3"),
        (lambda: own().with_(height=3), "BuiltNetwork field: unknown 'height'"),
        (
            lambda: BuiltNetwork("resnet50").with_options(blocks=[1]),
            "builder resnet50: a network of the zoo takes no options, got blocks",
        ),
    ],
)
def test_wrong_fields(make: Callable[[], BuiltNetwork], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (own_networks.no_module, "builder own_networks.no_module must return a torch.nn.Module, got dict"),
        (
            own_networks.two_arguments,
            r"two_arguments must be callable as \(depth, width, resolution\); its signature is \(.*: too many pos",
        ),
        (partial(plain, kernel=3), r"plain must be callable as .* got an unexpected keyword argument 'kernel'"),
        (partial(plain, depth=3), r"plain must be callable as .* multiple values for argument 'depth'"),
        (own_networks.lazy, "lazy must return a module without lazy layers; lazy are: 2.weight, 2.bias"),
        (own_networks.failing, r"failing failed at depth 1, width 1, resolution 16: RuntimeError: no such depth"),
        (
            own_networks.features,
            r"features must return logits of shape \(n, num_classes\) = \(1, 10\) for one image, got shape "
            r"\(1, 4, 16, 16\); give it a parameter num_classes",
        ),
        (
            own_networks.pairs,
            r"pairs: a network of depth 1, width 1, resolution 16 cannot take an image of 1 channels and 16 pixels",
        ),
        (
            partial(plain, num_classes=3),
            r"plain must return logits of shape .*got shape \(1, 3\).*or set num_classes of the network to what it "
            r"makes",
        ),
    ],
)
def test_wrong_builders(builder: Callable[..., Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cost(own(builder))


def test_a_resolution_under_the_total_stride() -> None:
    network = own(own_networks.patchy, resolution=16)
    assert network.total_stride == 8
    with pytest.raises(UserError, match=r"phi = -9, .*: the resolution would be 5.* pixels; it must be between 8"):
        scale(network, Coefficients(1.2, 1.1, 1.12), -9)
    with pytest.raises(
        UserError, match="patchy: a network of depth 1, width 1, resolution 3 cannot take an image of 1 ch"
    ):
        cost(network.with_(resolution=3))


@pytest.mark.parametrize("name", ["depth", "width", "resolution"])
def test_builders_that_ignore_an_argument(name: str) -> None:
    builder = getattr(own_networks, f"no_{name}")
    with pytest.raises(
        UserError, match=rf"no_{name} ignores {name}: {name} \d+ costs [\d,]+ MACs, {name} \d+ [\d,]+; "
    ):
        check_builder(own(builder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"builder": "os.system"},
            r"made by the builder 'os.system', but the builder of network is 'own_networks.plain'",
        ),
        ({"builder": "resnet18"}, "a network of the zoo, resnet18, takes no options, got kernel_size"),
        ({"options": [1]}, r"options must be a mapping of names to values, got \[1\]"),
        ({"options": {3: 1}}, r"options must be a mapping of names to values, got \{3: 1\}"),
        ({"hight": 3}, "field: unknown 'hight'"),
        ({"width": "wide"}, "width multiplier must be a finite number, got 'wide'"),
        ({"effnas_network": 2}, r"not a builder's network \(no 'effnas_network: 1' in it\)"),
    ],
)
def test_wrong_files(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = {**own(partial(plain, kernel_size=5)).to_dict(), **changes}
    (tmp_path / "n.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match=f"n.yaml: .*{message}"):
        load_architecture(tmp_path / "n.yaml", own())


def test_a_file_names_no_code_to_run(tmp_path: Path) -> None:
    own().save(tmp_path / "n.yaml")
    for network in (None, BuiltNetwork("resnet18")):
        with pytest.raises(
            UserError, match=r"n.yaml: made by the builder 'own_networks.plain', and a file never names"
        ):
            load_architecture(tmp_path / "n.yaml", network)


# -- on the command line -----------------------------------------------------------------------------

NETWORK = """\
# A network of my own.
_target_: effnas.space.built.BuiltNetwork
builder: {_target_: own_networks.NAME, _partial_: true}
resolution: 16  # of the images
in_channels: 1  # of the images
num_classes: 10  # of the labels
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a network of each builder, which is where commands run."""
    (tmp_path / "network").mkdir()
    for name in ("plain", "no_width", "no_module", "two_arguments", "failing", "gone"):
        (tmp_path / "network" / f"{name}.yaml").write_text(NETWORK.replace("NAME", name))
    (tmp_path / "network" / "lists.yaml").write_text("_target_: builtins.list\n")
    (tmp_path / "network" / "tensor.yaml").write_text(
        NETWORK.replace("NAME, ", "plain, kernel_size: {_target_: torch.ones, size: [1]}, ")
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    return main([*words, "--config-dir", "."])


def test_scale_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scale", "--network", "plain", "--phi", "1") == 0
    assert "plain_phi1" in capsys.readouterr().out
    assert run("scale", "--network", "plain", "--baseline", "outputs/scale/plain_phi1.yaml", "--target-macs", "1M") == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_width", "builder own_networks.no_width ignores width"),
        ("no_module", "builder own_networks.no_module must return a torch.nn.Module, got dict"),
        ("two_arguments", "builder own_networks.two_arguments must be callable as (depth, width, resolution)"),
        (
            "failing",
            "builder own_networks.failing failed at depth 1, width 1, resolution 16: RuntimeError: no such depth",
        ),
        ("gone", "cannot import 'own_networks.gone'"),
        ("lists", "network must be a BuiltNetwork (`_target_: effnas.space.built.BuiltNetwork` in its YAML), got list"),
        ("tensor", "builder own_networks.plain: its options must be plain data"),
        ("other", "network: unknown 'other'"),
    ],
)
def test_mistakes_end_with_status_2(name: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scale", "--network", name, "--phi", "1") == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert message in written.err
    assert "Traceback" not in written.err


def test_a_file_without_its_builder_ends_with_status_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own().save("mine.yaml")
    for words in (["scale", "--phi", "1"], ["grid-alpha-beta-gamma"]):
        assert run(*words, "--baseline", "mine.yaml") == 2
        assert "mine.yaml: made by the builder 'own_networks.plain', and a file never names" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["scale --phi 1", "train", "evaluate", "cam", "grid-alpha-beta-gamma", "ablate"])
def test_a_network_that_no_folder_has(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--network", "convnext"]) == 2
    assert "network: there is no network/convnext.yaml in your --config-dir" in capsys.readouterr().err

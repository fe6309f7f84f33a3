"""``effnas cam``: the maps against their definitions, what the command shows and leaves, and every mistake."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_networks import plain
from PIL import Image
from torch import Tensor, nn

from effnas.cli import main
from effnas.evaluate.cam.images import find_pictures
from effnas.evaluate.cam.job import run_cam
from effnas.evaluate.cam.maps import cam, enlarge, grad_cam
from effnas.evaluate.cam.report import summary_text
from effnas.evaluate.data import ImageData
from effnas.evaluate.data.sources import find_table
from effnas.evaluate.measure.job import run_evaluate
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.network import Network, build
from effnas.space.stage import Stage
from effnas.space.weights.weights import save_weights
from effnas.space.zoo import load_architecture

ROOT = Path(__file__).resolve().parents[3]
SMALL = Architecture(
    (
        Stage("mbconv", 8, stride=1, expand_ratio=2, se_ratio=0.25),
        Stage("mbconv", 12, repeats=2, stride=2, expand_ratio=3),
    ),
    stem=8,
    head=16,
    resolution=16,
    in_channels=1,
    num_classes=10,
    name="small",
)
LARGE = SMALL.with_(resolution=24, name="large")
THEIRS = ((60.0,), (90.0,))
DIGITS = tuple("0123456789")


def network(architecture: Architecture = SMALL, seed: int = 0) -> Network:
    """Random, but for statistics of BatchNorm as after a training, and sure enough of itself to be measured."""
    torch.manual_seed(seed)
    model = build(architecture)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    model.classifier.weight.data.normal_()  # type: ignore[union-attr, operator]
    model.classifier.bias.data.normal_()  # type: ignore[union-attr, operator]
    return model


def weights(folder: Path, architecture: Architecture = SMALL, **facts: Any) -> Path:
    facts = {"architecture": architecture, "normalization": THEIRS, "classes": DIGITS, **facts}
    return save_weights(folder / f"{architecture.name}.safetensors", network(architecture), **facts)


def images(count: int = 3, channels: int = 1, side: int = 16) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def show(folder: Path, given: Any = None, shown: Any = (0, 1), **options: Any) -> dict[str, Any]:
    options = {"data": ImageData(), "output": folder / "out", "device": "cpu", **options}
    return run_cam(given if given is not None else weights(folder), shown, options.pop("data"), **options)


# -- the maps --------------------------------------------------------------------------------------------


def test_cam_adds_up_to_the_logit() -> None:
    """Zhou et al. 2016, equation 2: the mean over the positions, and the bias."""
    model, batch = network().eval(), images()
    with torch.no_grad():
        logits = model(batch)
    for target in (None, 7):
        found = cam(model, batch, target)
        chosen = logits.argmax(1) if target is None else torch.full((3,), 7)
        assert found.targets.tolist() == chosen.tolist()
        assert torch.equal(found.logits, logits)
        assert found.raw.shape == (3, 4, 4)
        bias: Tensor = model.classifier.bias[chosen]  # type: ignore[union-attr, index, assignment]
        sums = found.raw.mean((1, 2)) + bias
        assert torch.allclose(sums, logits.gather(1, chosen[:, None])[:, 0], rtol=1e-4, atol=1e-4)
        assert found.maps.amin((1, 2)).tolist() == [0] * 3
        assert found.maps.amax((1, 2)).tolist() == [1] * 3


def test_grad_cam_at_the_last_feature_map_is_the_positive_part_of_cam() -> None:
    """The mean gradient is the weight over the number of positions (Selvaraju et al. 2017, section 3.1)."""
    model, batch = network(), images()
    one, other = cam(model, batch, 3), grad_cam(model, batch, 3)
    assert other.layer == "head"
    assert torch.allclose(other.raw, one.raw.relu() / 16, atol=1e-6)
    assert torch.allclose(other.maps, one.raw.relu() / one.raw.amax((1, 2), keepdim=True), atol=1e-5)


class Quadrants(nn.Module):
    """Class k is how bright quadrant k is: the classifier looks at one quadrant each."""

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        masks = torch.zeros(4, side, side)
        for k in range(4):
            masks[k, k // 2 * side // 2 :, k % 2 * side // 2 :][: side // 2, : side // 2] = 1
        self.register_buffer("masks", masks)
        self.seen = nn.Identity()
        self.classifier = nn.Linear(4, 4)
        self.classifier.weight.data = torch.eye(4)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.seen(x * self.masks)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.forward_features(x).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", [cam, grad_cam])
@pytest.mark.parametrize("k", range(4))
def test_a_classifier_of_one_quadrant_lights_that_quadrant(method: Any, k: int) -> None:
    model, bright = Quadrants(), torch.ones(1, 1, 8, 8)
    found = method(model, bright, k)
    assert torch.equal(found.maps[0], model.masks[k])  # type: ignore[index]


def test_grad_cam_of_a_layer_that_is_changed_in_place() -> None:
    """By the definition, written out; what follows the layer must not change what was seen of it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 6, 3), nn.Flatten(), nn.Linear(6 * 12 * 12, 4)
    )
    batch = images(2)
    found = grad_cam(model, batch, 2, "0")
    features = model[0](batch).detach().requires_grad_()
    logits = model[4](model[3](model[2](features.relu())))
    (slope,) = torch.autograd.grad(logits[:, 2].sum(), features)
    expected = (slope.mean((2, 3))[:, :, None, None] * features).sum(1).clamp(min=0)
    assert torch.allclose(found.raw, expected.detach(), atol=1e-6)
    assert bool((features < 0).any())  # so that an activation in place would have been seen
    assert grad_cam(model, batch).layer == "2"


def test_the_network_is_left_as_it_was() -> None:
    model = network().train()
    model.stem.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    cam(model, images())
    grad_cam(model, images(), layer="stages.0")
    with pytest.raises(UserError, match=r"target must be between 0 and 9, .*got 99"):
        grad_cam(model, images(), target=99)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_frozen_networks_have_grad_cam_too() -> None:
    model = network()
    expected = grad_cam(model, images(), layer="stages.1").raw
    assert float(expected.max()) > 0
    assert torch.equal(grad_cam(model.requires_grad_(False), images(), layer="stages.1").raw, expected)


def test_a_map_that_is_the_same_everywhere_is_0() -> None:
    model = Quadrants()
    for method in (cam, grad_cam):
        assert torch.equal(method(model, torch.zeros(1, 1, 8, 8), 0).maps, torch.zeros(1, 8, 8))


def test_enlarged_maps_keep_their_place_and_range() -> None:
    small = torch.zeros(1, 4, 4)
    small[0, 1, 2] = 1
    large = enlarge(small, 40, 80)
    assert large.shape == (1, 40, 80)
    row, column = divmod(int(large[0].argmax()), 80)
    assert (row // 10, column // 20) == (1, 2)
    assert float(large.min()) == 0
    assert 0.9 < float(large.max()) <= 1


class Other(nn.Module):
    """Something between the feature map and the classifier."""

    def __init__(self, *, norm: bool = False, linear: bool = True, width: int = 4) -> None:
        super().__init__()
        self.body, self.unused = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
        self.blind = nn.Conv2d(1, 4, 3)
        self.norm = nn.LayerNorm(4) if norm else nn.Identity() if width == 4 else nn.Linear(4, width)
        self.classifier = nn.Linear(width, 3) if linear else nn.Sequential(nn.Linear(width, 3))

    def forward_features(self, x: Tensor) -> Tensor:
        self.blind(x)
        return self.body(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.norm(self.forward_features(x).mean((2, 3))))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(256, 3)),
            r"needs a network with forward_features .* has no forward_feat",
        ),
        (Other(linear=False), r"a linear classifier .* this one has as classifier a Sequential: use method=grad_cam$"),
        (Other(norm=True), r"^method=cam: the logits are not the classifier's answer .* use method=grad_cam$"),
        (Other(width=7), r"^method=cam: the logits are not the classifier's answer .* use method=grad_cam$"),
    ],
)
def test_networks_without_cam(model: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cam(model, images())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_0", "shufflenet_v2_x0_5", "googlenet"])
def test_networks_of_the_zoo_have_a_cam_or_are_refused_and_all_have_a_grad_cam(name: str) -> None:
    model = build(load_architecture(name).with_(num_classes=4), 0)
    batch = images(1, channels=3, side=64)
    assert grad_cam(model, batch).maps.shape[1] > 1
    if name in ("mobilenet_v3_small", "squeezenet1_0"):
        with pytest.raises(UserError, match=r"^method=cam.*: use method=grad_cam$"):
            cam(model, batch)
    else:
        assert cam(model, batch).maps.shape[1] > 1


def test_gradients_are_found_in_inference_mode_too() -> None:
    model, batch = network().eval(), images()
    expected = grad_cam(model, batch)
    with torch.inference_mode():
        made = network().eval()  # its weights can have no gradient
        for one, shown in ((model, batch), (made, images())):
            found = grad_cam(one, shown)
            assert torch.equal(found.maps, expected.maps)
            assert cam(one, shown).layer == "forward_features"
    assert torch.equal(grad_cam(made, batch).maps, expected.maps)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            "bodi",
            r"^layer: the network has no module 'bodi'. Nearest are: body, .*; at the top: body, unused, blind, norm",
        ),
        ("unused", r"^layer: 'unused' is not used in a forward pass"),
        ("blind", r"^layer: the logits do not depend on 'blind'"),
        (
            "classifier",
            r"^layer: the output of 'classifier' is of shape \(3, 3\), not a feature map \(n, channels, height",
        ),
    ],
)
def test_layers_that_cannot_be_shown(layer: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        grad_cam(Other(), images(), layer=layer)


def test_outputs_that_cannot_be_shown() -> None:
    with pytest.raises(
        UserError, match=r"^target must be between 0 and 9, because the network has 10 classes; got 10$"
    ):
        cam(network(), images(), 10)
    with pytest.raises(
        UserError, match=r"^layer: the output of 'forward_features' is of shape \(1, 16, 1, 1\), not a feat"
    ):
        cam(network(), images(1, side=4))
    with pytest.raises(UserError, match=r"^layer: no module of the network returns a feature map"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(256, 3)), images())
    with pytest.raises(
        UserError, match=r"must return logits \(n, classes\) for activation maps; this one returns shape"
    ):
        grad_cam(nn.Sequential(nn.Conv2d(1, 4, 3)), images())
    with pytest.raises(UserError, match=r"^the network's output is not finite"):
        grad_cam(network(), images() * torch.nan)


# -- the run ---------------------------------------------------------------------------------------------


@pytest.mark.pictures
def test_what_it_leaves(tmp_path: Path) -> None:
    summary = show(tmp_path, [weights(tmp_path), weights(tmp_path, LARGE)], [5, 17, 3], method="cam")
    out = tmp_path / "out"
    assert json.loads((out / "cam.json").read_text(encoding="utf-8")) == json.loads(json.dumps(summary))
    assert [image["name"] for image in summary["images"]] == ["row 5", "row 17", "row 3"]
    table = find_table(ImageData(), "test")
    assert [image["class"] for image in summary["images"]] == [str(table.labels[i]) for i in (5, 17, 3)]  # type: ignore[union-attr]
    small, large = summary["networks"]
    assert (small["name"], small["resolution"], small["map"]) == ("small", 16, [4, 4])
    assert (large["name"], large["resolution"], large["map"]) == ("large", 24, [6, 6])
    assert (small["macs"], large["macs"]) == (cost(SMALL).macs, cost(LARGE).macs)
    with np.load(out / "maps.npz") as arrays:
        assert sorted(arrays) == ["maps_0", "maps_1", "raw_0", "raw_1"]
        assert arrays["maps_1"].shape == arrays["raw_1"].shape == (3, 6, 6)
        assert arrays["maps_0"].dtype == np.float32
        model = network().eval()
        pixels = torch.stack([torch.from_numpy(table.fetch(np.array([i]))[0][1]) for i in (5, 17, 3)])[:, None]  # type: ignore[union-attr, arg-type]
        large_pixels = nn.functional.interpolate(pixels, size=(16, 16), mode="bilinear", antialias=True)
        batch = (large_pixels.float() - 60) / 90
        assert np.allclose(arrays["raw_0"], cam(model, batch).raw, atol=1e-4)
    with Image.open(out / "cam.png") as image:
        width, height = image.size
    assert (width > 700, height > 700) == (True, True)


@pytest.mark.pictures
def test_the_same_command_gives_the_same_files(tmp_path: Path) -> None:
    file = weights(tmp_path)
    files = ("cam.png", "maps.npz")
    show(tmp_path, file)
    first = [(tmp_path / "out" / name).read_bytes() for name in files]
    show(tmp_path, file)
    assert [(tmp_path / "out" / name).read_bytes() for name in files] == first


def test_predictions_are_those_of_evaluate(tmp_path: Path) -> None:
    file, data = weights(tmp_path, LARGE), ImageData(center_crop=0.75, interpolation="bicubic")
    run_evaluate(None, file, data, latency_batch=None, output=tmp_path / "e", quiet=True, device="cpu")
    with (tmp_path / "e" / "predictions.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    found = show(tmp_path, file, list(range(10)), data=data)["networks"][0]["predictions"]
    assert [row["class"] for row in found] == [row["predicted"] for row in rows[:10]]
    assert [row["probability"] for row in found] == pytest.approx([float(r["confidence"]) for r in rows[:10]], abs=2e-4)


def test_target_layer_and_text(tmp_path: Path) -> None:
    files = [weights(tmp_path), weights(tmp_path)]
    summary = show(tmp_path, files, [0, 1], method="grad_cam", layer="stages.0", target="3", resolution=20)
    one, two = summary["networks"]
    assert (one["name"], two["name"]) == ("small", "small (2)")
    assert one["predictions"] == two["predictions"]
    assert (one["layer"], one["map"], one["resolution"]) == ("stages.0", [10, 10], 20)
    assert {row["target_index"] for row in one["predictions"]} == {3}
    assert show(tmp_path, files, [0, 1], method="grad_cam", layer="stages.0", target=3, resolution=20) == {
        **summary,
        "target": 3,
    }
    text = summary_text(summary)
    assert text.startswith("Grad-CAM of class 3 at stages.0\n\nsmall (")
    row = one["predictions"][0]
    assert f"{row['class']} {row['probability']:.1%}; map of 3 {row['target_probability']:.1%}" in text
    assert "images normalised with mean 60 and std 90)" in text
    assert text.endswith(f"written to {tmp_path / 'out'}: cam.png maps.npz cam.json")


def test_files_and_folders(tmp_path: Path) -> None:
    table = find_table(ImageData(), "test")
    folder = tmp_path / "photos" / "deep"
    folder.mkdir(parents=True)
    for i in (2, 0):
        pixels = table.fetch(np.array([i]))[0][1]  # type: ignore[union-attr]
        Image.fromarray(pixels).save(folder / f"{i}.png")  # type: ignore[arg-type]
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    file = weights(tmp_path)
    rows = show(tmp_path, file, [0, 2])
    for shown in (str(tmp_path / "photos"), [folder / "0.png", str(folder / "2.png")]):
        found = show(tmp_path, file, shown)
        assert [Path(image["name"]).name for image in found["images"]] == ["0.png", "2.png"]
        assert (found["images"][0]["class"], found["data"]) == (None, None)
        assert found["networks"] == rows["networks"]


def test_names_of_classes(tmp_path: Path) -> None:
    named = show(tmp_path, weights(tmp_path, classes=tuple("abcdefghij")))
    unnamed = show(tmp_path, weights(tmp_path, classes=None))
    photo = tmp_path / "photo.png"
    Image.new("L", (8, 8), 100).save(photo)
    alone = show(tmp_path, weights(tmp_path, classes=None), photo)
    for summary, names in ((named, "abcdefghij"), (unnamed, DIGITS), (alone, [f"class {i}" for i in range(10)])):
        for row in summary["networks"][0]["predictions"]:
            assert row["class"] == names[row["index"]]


def test_foreign_weights_come_with_their_architectures(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "plain.pth")
    LARGE.save(tmp_path / "large.yaml")
    data = ImageData(normalize=[60, 90])  # type: ignore[arg-type]
    given = [None, str(tmp_path / "large.yaml")]
    files = [weights(tmp_path), tmp_path / "plain.pth"]
    summary = show(tmp_path, files, architecture=given, data=data)
    assert [one["resolution"] for one in summary["networks"]] == [16, 24]


def test_networks_of_builders(tmp_path: Path) -> None:
    """ResNet has the form that CAM needs; a network of the user's own may not, and comes with its builder."""
    torch.manual_seed(0)
    facts: dict[str, Any] = {"normalization": THEIRS, "classes": DIGITS}
    resnet = BuiltNetwork("resnet18", width=0.25, resolution=64, in_channels=1, num_classes=10)
    mine = BuiltNetwork(plain, resolution=16, in_channels=1)
    mine = mine.with_(num_classes=10, name="mine")
    files = [
        save_weights(tmp_path / f"{one.name}.safetensors", build(one), architecture=one, **facts)
        for one in (resnet, mine)
    ]
    summary = show(tmp_path, files[0])
    (found,) = summary["networks"]
    assert (found["macs"], found["resolution"], found["map"]) == (cost(resnet).macs, 64, [2, 2])
    both = show(tmp_path, files, architecture=[resnet, None], network=mine, method="grad_cam")["networks"]
    assert both[0]["predictions"] == found["predictions"]
    assert (both[1]["name"], both[1]["digest"], both[1]["map"]) == ("mine", mine.digest, [4, 4])
    with pytest.raises(UserError, match=r"^mine: method=cam needs a network with forward_features"):
        show(tmp_path, files[1], network=mine)


# -- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"given": []}, r"^weights: none given; use weights=FILE or weights=\[FILE,FILE\]"),
        ({"method": "gradcam"}, r"^method: unknown 'gradcam'. Did you mean 'grad_cam'\?"),
        ({"layer": "head"}, r"^layer=head belongs to method=grad_cam: CAM always reads the last feature map$"),
        (
            {"method": "grad_cam", "layer": "stage.1"},
            r"^small: layer: the network has no module 'stage.1'. Nearest are: st",
        ),
        (
            {"method": "grad_cam", "layer": "pool"},
            r"^small: layer: the output of 'pool' is of shape \(2, 16, 1, 1\), no",
        ),
        (
            {"architecture": ["efficientnet_b0"] * 2},
            r"^architecture must have as many entries as weights, 1, .* got 2$",
        ),
        ({"architecture": "efficientnet_b0"}, r"^weights: .* belongs to another network; missing: stages"),
        ({"target": 10}, r"^target must be between 0 and 9, the classes of small, got 10$"),
        ({"target": -1}, r"^target must be between 0 and 9, the classes of small, got -1$"),
        ({"target": 1.5}, r"^target must be null, the number of a class or its name, got 1.5$"),
        ({"target": "ten"}, r"^target: small has no class 'ten'. Nearest are: 0, 1, 2, 3, 4$"),
        ({"resolution": 2}, r"^small: layer: the output of 'forward_features' is of shape .* or a larger resolution$"),
        ({"device": "tpu"}, r"^device \(of this machine\): unknown 'tpu'"),
        ({"part": "heldout"}, r"^part: unknown 'heldout'. Choose one of: test, train$"),
        ({"shown": []}, r"^images must be files, folders, or rows of the data \(whole numbers\), got \[\]$"),
        ({"shown": [True]}, r"^images must be files, folders, or rows of the data \(whole numbers\), got \[True\]$"),
        ({"shown": [1, "a.png"]}, r"^images must be files, .*, but not both at once, got \[1, 'a.png'\]$"),
        ({"shown": [364]}, r"^images: the rows of digits, test part, run from 0 to 363, got 364$"),
        ({"shown": range(33)}, r"^images: at most 32 fit into one figure, got 33: choose fewer$"),
        ({"shown": "nowhere.png"}, r"^images: no such file or folder: nowhere.png$"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        show(tmp_path, **options)


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"junk")
    Image.effect_noise((64, 64), 80).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-200])
    for name, reason in (("bad.png", "not an image"), ("cut.jpg", "image file is truncated")):
        with pytest.raises(UserError, match=rf"^images: .*{name} cannot be read: {reason}"):
            show(tmp_path, shown=tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^images: no images in the folder .*empty$"):
        show(tmp_path, shown=tmp_path / "empty")


def test_data_and_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^data.normalize: the weights .* do not say how images are normalised: set data"
    ):
        show(tmp_path, weights(tmp_path, normalization=None))
    (tmp_path / "d" / "a").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "d" / "a" / "0.png")
    data = ImageData("files", str(tmp_path / "d"))
    with pytest.raises(UserError, match=r"/d has no test part: part=train takes the images of the training part$"):
        find_pictures([0], data, "test")
    assert find_pictures(0, data, "train")[0][0].label == "a"
    wide = SMALL.with_(in_channels=2, name="wide")
    file = weights(tmp_path, wide, normalization=((1.0, 1.0), (1.0, 1.0)))
    with pytest.raises(UserError, match=r"^images have 1 or 3 channels; the network takes 2$"):
        show(tmp_path, file)
    with pytest.raises(
        UserError, match=r"^target: neither .* nor the data name the classes of small: give the number of"
    ):
        show(tmp_path, weights(tmp_path, classes=None), tmp_path / "d", target="a")


def test_memory_for_not_even_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def hungry(model: nn.Module, batch: Tensor, target: int | None) -> Any:
        sizes.append(len(batch))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("effnas.evaluate.cam.job.cam", hungry)
    with pytest.raises(
        UserError, match=r"^small: out of memory with one image at resolution 16: a smaller resolution or"
    ):
        show(tmp_path, shown=range(9))
    assert sizes == [8, 4, 2, 1]


# -- the command -----------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = f"{weights(tmp_path)},{weights(tmp_path, LARGE)}"
    words = ["cam", "--weights", files, "--images", "0,5", "--device", "cpu", f"hydra.run.dir={tmp_path / 'out'}"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Class activation maps of the predicted class\n\nsmall (")
    assert captured.err == ""
    assert main([*words, "--method", "grad_cam", "--layer", "stages.1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [network["layer"] for network in summary["networks"]] == ["stages.1"] * 2
    assert summary["command"].startswith("effnas cam --weights ")


def test_a_network_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = BuiltNetwork(plain, resolution=16, in_channels=1, num_classes=10)
    file = save_weights(tmp_path / "w.safetensors", build(mine, 0), architecture=mine, normalization=THEIRS)
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "mine.yaml").write_text(
        "_target_: effnas.space.built.BuiltNetwork\nbuilder: {_target_: own_networks.plain, _partial_: true}\n"
        "resolution: 16\nin_channels: 1\nnum_classes: 10\n",
        encoding="utf-8",
    )
    words = ["cam", "--config-dir", str(tmp_path), "--network", "mine", "--weights", str(file), "--images", "0"]
    words += ["--method", "grad_cam", "--layer", "0", "--json", "--device", "cpu", f"hydra.run.dir={tmp_path / 'out'}"]
    assert main(words) == 0
    (found,) = json.loads(capsys.readouterr().out)["networks"]
    assert (found["name"], found["layer"], found["map"]) == ("plain", "0", [8, 8])


def test_mistakes_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cam", f"hydra.run.dir={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith("effnas cam: error: weights: none given; use weights=FILE")
    words = ["cam", "--weights", str(weights(tmp_path)), f"hydra.run.dir={tmp_path}"]
    for more, message in (
        (["--images", "no.jpg"], "images: no such file or folder: no.jpg"),
        (["--target", "10"], "target must be between 0 and 9, the classes of small, got 10"),
        (
            ["--architecture", "efficientnet_b0,efficientnet_b1"],
            "architecture must have as many entries as weights, 1,",
        ),
    ):
        assert main([*words, *more]) == 2
        assert capsys.readouterr().err.startswith(f"effnas cam: error: {message}")


def test_the_page_tells_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands are understood, every option included, and its picture is there."""
    text = (ROOT / "docs" / "cam.md").read_text(encoding="utf-8")
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)).replace("\\\n", " ")
    commands = [line for line in shell.splitlines() if line.startswith("effnas ")]
    assert len(commands) >= 2
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main([*shlex.split(command.split("   #")[0])[1:], "--cfg", "job"]) == 0
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / "docs" / target).is_file(), target

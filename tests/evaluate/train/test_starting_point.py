"""What a training begins with: whose classifier, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from effnas import build, load_architecture, run_evaluate
from effnas.evaluate.data import ImageData
from effnas.evaluate.pretrained import read_pretrained
from effnas.evaluate.train.starting_point import StartingPoint, find_starting_point
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.errors import UserError
from effnas.space.network_spec import NetworkSpec
from effnas.space.stage import Stage
from effnas.space.weights.formats import FORMATS, map_names
from effnas.space.weights.weights import save_weights

NET = Architecture((Stage("mbconv", 8),), stem=8, head=16, resolution=8, in_channels=1, num_classes=10, name="net")
DIGITS = ImageData(limit=100)
NAMES = tuple("0123456789")
SIGNS = ("stem.conv.weight", "conv_stem.weight", "_conv_stem.weight", "features.1.0.block.0.0.weight")


class Convolved(nn.Module):
    """A builder's network whose classifier is a 1×1 convolution, and whose matrix stands transposed."""

    def __init__(
        self, depth: float, width: float, resolution: int, num_classes: int = 10, turned: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 2)
        self.last = nn.Conv2d(8, num_classes, 1)
        self.matrix = nn.Parameter(torch.randn(8, num_classes)) if turned else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        logits = self.last(x).mean((2, 3))
        return logits if self.matrix is None else logits + x.mean((2, 3)) @ self.matrix


def foreign(sign: str, classes: int, path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file of another implementation's names; the network's tensors."""
    module = build(NET.with_(num_classes=classes), 5)
    names = map_names(module, next(form for form in FORMATS if form.sign == sign))
    torch.save({theirs: module.state_dict()[ours] for ours, theirs in names.items()}, path)
    return path, module.state_dict()


def classifier(start: StartingPoint, name: str = "classifier.weight") -> torch.Tensor:
    tensor: torch.Tensor = start.build(0).state_dict()[name]
    return tensor


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("asked", [10, 7, 1000])
def test_the_files_classifier_decides_not_the_architecture(sign: str, asked: int, tmp_path: Path) -> None:
    file, state = foreign(sign, 10, tmp_path / "w.pth")
    start = find_starting_point(NET.with_(num_classes=asked), DIGITS, file)
    assert start.keep_classifier
    assert torch.equal(classifier(start), state["classifier.weight"])
    assert "its 10 classes are taken for the data's" in start.note or sign == "stem.conv.weight"
    file, _ = foreign(sign, 7, tmp_path / "w.pth")
    start = find_starting_point(NET.with_(num_classes=asked), DIGITS, file)
    assert not start.keep_classifier
    assert not classifier(start).any()
    assert "its 7 classes are not the data's 10: a fresh classifier" in start.note


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("asked", [10, 1000])
def test_a_file_without_a_classifier_gets_a_fresh_one(sign: str, asked: int, tmp_path: Path) -> None:
    file, state = foreign(sign, 10, tmp_path / "w.pth")
    head = next(form for form in FORMATS if form.sign == sign)
    head_name = dict(head.pairs(build(NET)))["classifier"]
    content = torch.load(file)
    torch.save({name: tensor for name, tensor in content.items() if not name.startswith(head_name + ".")}, file)
    start = find_starting_point(NET.with_(num_classes=asked), DIGITS, file)
    assert "it has no classifier: a fresh one" in start.note
    module = start.build(0).state_dict()
    assert not module["classifier.weight"].any()
    assert torch.equal(module["head.conv.weight"], state["head.conv.weight"])
    with pytest.raises(UserError, match=r"has no classifier \(0 classes, the network \d+\): fine-tune"):
        read_pretrained(NET, file).load()
    with pytest.raises(UserError, match=r"w.pth has no classifier: fine-tune it on your data \(effnas train\)"):
        run_evaluate(NET, file, DIGITS, output=tmp_path / "out")


def test_a_classifier_of_other_layers_gets_a_fresh_one(tmp_path: Path) -> None:
    state = build(NET, 5).state_dict()
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("classifier")}
    torch.save({**kept, "classifier.1.weight": torch.ones(10, 16), "classifier.1.bias": torch.ones(10)}, tmp_path / "w")
    start = find_starting_point(NET, DIGITS, tmp_path / "w")
    assert "it has no classifier: a fresh one" in start.note
    assert not classifier(start).any()


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (None, "with mean 127.5 and std 127.5)"),
        (NAMES, "with mean 127.5 and std 127.5)"),
        (NAMES[::-1], "its classifier's rows in the data's order"),
        (
            tuple("abcdefghij"),
            "its 10 classes have other names (a, b, c, …) than the data's (0, 1, 2, …): a fresh",
        ),
    ],
)
@pytest.mark.parametrize("asked", [10, 4, None])
def test_files_of_ours(names: tuple[str, ...] | None, note: str, asked: int | None, tmp_path: Path) -> None:
    module, norm = build(NET, 5), ((127.5,), (127.5,))
    file = save_weights(tmp_path / "w.safetensors", module, architecture=NET, classes=names, normalization=norm)
    start = find_starting_point(None if asked is None else NET.with_(num_classes=asked), DIGITS, file)
    assert note in start.note
    own: Any = module.classifier.weight
    expected = own.flip(0) if names == NAMES[::-1] else torch.zeros(10, 16) if names == tuple("abcdefghij") else own
    assert torch.equal(classifier(start), expected)


def test_wrapped_files(tmp_path: Path) -> None:
    state = build(NET, 5).state_dict()
    content = {"state_dict": {f"model.{name}": value for name, value in state.items()} | {"loss.w": torch.ones(3, 3)}}
    torch.save(content, tmp_path / "w.ckpt")
    start = find_starting_point(NET.with_(num_classes=1000), DIGITS, tmp_path / "w.ckpt")
    assert torch.equal(classifier(start), state["classifier.weight"])


@pytest.mark.parametrize("turned", [False, True])
def test_builders_whose_classifier_is_no_plain_matrix(turned: bool, tmp_path: Path) -> None:
    def own(classes: int) -> NetworkSpec:
        return BuiltNetwork(partial(Convolved, turned=turned), resolution=8, in_channels=1, num_classes=classes)

    state = build(own(10), 5).state_dict()
    torch.save(state, tmp_path / "w.pth")
    for asked in (10, 3):
        start = find_starting_point(None, DIGITS, tmp_path / "w.pth", own=own(asked))  # type: ignore[arg-type]
        assert torch.equal(classifier(start, "last.weight"), state["last.weight"])
    torch.save(build(own(3), 5).state_dict(), tmp_path / "w.pth")
    for asked in (10, 3):
        start = find_starting_point(None, DIGITS, tmp_path / "w.pth", own=own(asked))  # type: ignore[arg-type]
        assert "its 3 classes are not the data's 10: a fresh classifier" in start.note
        assert not classifier(start, "last.weight").any()
    torch.save({name: tensor for name, tensor in state.items() if name.startswith("stem")}, tmp_path / "w.pth")
    start = find_starting_point(None, DIGITS, tmp_path / "w.pth", own=own(10))  # type: ignore[arg-type]
    assert "it has no classifier: a fresh one" in start.note


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_networks_of_the_zoo_by_name(name: str, tmp_path: Path) -> None:
    network = load_architecture(name).with_(in_channels=1, resolution=32)
    state = build(network.with_(num_classes=10), 5).state_dict()
    torch.save(state, tmp_path / "w.pth")
    start = find_starting_point(network, DIGITS, tmp_path / "w.pth")
    assert start.architecture.num_classes == 10
    assert torch.equal(classifier(start), state["classifier.weight"])


def test_rows_are_not_reordered_where_names_repeat(tmp_path: Path) -> None:
    file = save_weights(tmp_path / "w.safetensors", build(NET, 5), architecture=NET, classes=["a"] * 10)
    start = find_starting_point(replace(NET), DIGITS, file)
    assert "have other names" in start.note

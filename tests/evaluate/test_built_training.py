"""Networks of a user's own builder in training, evaluation and files of weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from own_networks import Parted, Tied, plain

from effnas import UserError, build, cost, load_architecture
from effnas.cli import main
from effnas.evaluate.compare.job import run_compare
from effnas.evaluate.data import ImageData
from effnas.evaluate.measure.job import run_evaluate
from effnas.evaluate.proxy import read_initial
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.transfer.job import run_transfer
from effnas.space.built import BuiltNetwork
from effnas.space.weights.weights import load_into, read_weights, save_weights

DIGITS = ImageData(limit=400)
SHORT = Training(epochs=1, batch_size=64, lr=0.1, memory_format="channels_last", precision="fp32", compile=False)


def own(builder: Callable[..., Any] = plain, **changes: Any) -> BuiltNetwork:
    return BuiltNetwork(builder, **{"resolution": 8, "in_channels": 1, "num_classes": 10, **changes})


def trained(output: Path, architecture: Any = None, training: Training = SHORT, **more: Any) -> dict[str, Any]:
    data = more.pop("data", DIGITS)
    return run_train(architecture, data, training, output=output, threads=1, quiet=True, tensorboard=False, **more)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of the user's own network, with an option."""
    output = tmp_path_factory.mktemp("done")
    trained(output, own(partial(plain, kernel_size=5)))
    return output


def test_a_training_leaves_what_any_leaves(done: Path) -> None:
    network = own(partial(plain, kernel_size=5))
    assert load_architecture(done / "architecture.yaml", own()) == network
    weights = read_weights(done / "weights.safetensors", own())
    assert (weights.architecture, weights.format, weights.classes) == (network, "effnas", tuple("0123456789"))
    assert weights.normalization is not None
    model = build(network)
    load_into(model, weights)
    assert all(torch.equal(value, weights.tensors[name]) for name, value in model.state_dict().items())
    summary = json.loads((done / "summary.json").read_text())
    assert (summary["architecture"], summary["digest"]) == ("plain", network.digest)


def test_the_same_again_changes_nothing_and_another_is_refused(done: Path) -> None:
    before = json.loads((done / "summary.json").read_text())
    assert trained(done, own(partial(plain, kernel_size=5)))["accuracy"] == before["accuracy"]
    with pytest.raises(UserError, match=r"another training is in this folder .*architecture: "):
        trained(done, own())


def test_its_weights_are_evaluated(done: Path, tmp_path: Path) -> None:
    summary = run_evaluate(
        None,
        done / "weights.safetensors",
        DIGITS,
        network=own(),
        part="heldout",
        latency_batch=None,
        output=tmp_path,
        quiet=True,
    )
    assert summary["top1"] == pytest.approx(json.loads((done / "summary.json").read_text())["accuracy"])
    assert (summary["architecture"], summary["macs"] > 0) == ("plain", True)


def test_weights_of_a_users_builder_need_it(done: Path, tmp_path: Path) -> None:
    file = done / "weights.safetensors"
    for call in (read_weights, lambda path: trained(tmp_path, weights=path), read_initial):
        with pytest.raises(
            UserError, match=r"weights.safetensors: made by the builder 'own_networks.plain', and a file n"
        ):
            call(str(file))
    with pytest.raises(
        UserError,
        match=r"made by the builder 'own_networks.plain', but the builder of network is 'own_networks.Parted'",
    ):
        read_weights(file, own(Parted))


def test_weights_of_the_zoo_need_nothing(tmp_path: Path) -> None:
    network = BuiltNetwork("resnet18", width=0.125, resolution=8, num_classes=3)
    save_weights(tmp_path / "w.safetensors", build(network, 1), architecture=network, classes=["a", "b", "c"])
    weights = read_weights(tmp_path / "w.safetensors")
    assert weights.architecture == network
    model = build(network, 2)
    load_into(model, weights)
    assert all(torch.equal(value, build(network, 1).state_dict()[n]) for n, value in model.state_dict().items())
    with pytest.raises(
        UserError, match=r"initial: .* belongs to a builder's network \(resnet18\), which cannot be grown"
    ):
        read_initial(str(tmp_path / "w.safetensors"))


def test_training_goes_on_from_weights_with_their_classifier(done: Path, tmp_path: Path) -> None:
    still = Training(epochs=1, batch_size=64, lr=1e-12, warmup_epochs=0, weight_decay=0.0, ema_decay=0.0)
    summary = trained(tmp_path, training=still, weights=done / "weights.safetensors", network=own())
    assert "images normalised with mean" in summary["weights"]
    assert summary["accuracy"] == pytest.approx(json.loads((done / "summary.json").read_text())["accuracy"])


def test_other_classes_get_a_fresh_classifier_at_zero(tmp_path: Path) -> None:
    network = own(Parted, num_classes=3)
    model = build(network, 0)
    file = save_weights(tmp_path / "w.safetensors", model, architecture=network)
    frozen = Training(epochs=1, batch_size=64, lr=1e-9, freeze="features", memory_format="channels_last", compile=False)
    summary = trained(tmp_path / "out", network, frozen, weights=file)
    assert "its 3 classes are not the data's 10: a fresh classifier" in summary["weights"]
    tensors = read_weights(tmp_path / "out" / "weights.safetensors", own(Parted)).tensors
    assert tensors["classifier.weight"].shape == (10, 8)
    assert tensors["classifier.weight"].abs().max() < 1e-6
    assert torch.equal(tensors["stem.weight"], model.state_dict()["stem.weight"])  # frozen


def test_weights_of_ones_own_training_script(tmp_path: Path) -> None:
    model = build(own(), 1)
    torch.save({"model": model.state_dict()}, tmp_path / "mine.pth")
    weights = read_weights(tmp_path / "mine.pth", own())
    assert (weights.format, weights.architecture) == ("own", None)
    other = build(own(), 2)
    load_into(other, weights)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())
    with pytest.raises(UserError, match=r"mine.pth match no known format"):
        read_weights(tmp_path / "mine.pth")


def test_names_that_look_like_a_wrappers_and_tensors_with_two_names(tmp_path: Path) -> None:
    model = build(own(Tied), 1)
    file = save_weights(tmp_path / "w.safetensors", model, architecture=own(Tied))
    other = build(own(Tied), 2)
    load_into(other, read_weights(file, own(Tied)))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    wide = own(width=2.0)
    file = save_weights(tmp_path / "w.safetensors", build(wide, 1), architecture=wide)
    model = build(own(), 2)
    with pytest.raises(
        UserError, match=r"belongs to another network; other shapes: 0.weight is 16×1×3×3, our 0.weight 8×1×3×3"
    ):
        load_into(model, read_weights(file, own()))
    assert all(torch.equal(value, build(own(), 2).state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match=r"the network to be written does not match its architecture: 0.weight differs"):
        save_weights(tmp_path / "x.safetensors", model, architecture=wide)


def test_the_stem_and_some_stages_can_be_frozen_where_there_are_such(tmp_path: Path) -> None:
    network = own(Parted)
    model = build(network, 0)
    training = Training(
        epochs=1, batch_size=64, freeze=1, layer_decay=0.5, memory_format="channels_last", compile=False
    )
    trained(tmp_path, network, training)
    tensors = read_weights(tmp_path / "weights.safetensors", network).tensors
    same = {name for name, value in model.state_dict().items() if torch.equal(value, tensors[name])}
    assert same == {"stem.weight", "stem.bias", "stages.0.weight", "stages.0.bias"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"training": Training(epochs=1, freeze="features")},
            "freeze=features needs a network with the parts stem, stages .* Sequential has no stem and no",
        ),
        (
            {"padding": "same"},
            "padding=same is for networks that are Architectures; plain is what its builder, own_networks",
        ),
        ({"bn_eps": 0.1}, "bn_eps=0.1 is for networks that are Architectures"),
        ({"grow": True}, "grow: networks of a builder cannot be grown; leave grow out"),
        ({"network": "convnext"}, "network must be a BuiltNetwork .*, got str"),
        (
            {"architecture": own(partial(plain, num_classes=3), num_classes=3)},
            r"plain must return logits of shape \(n, num_classes\) = \(1, 10\) for one image, got shape \(1, 3\)",
        ),
    ],
)
def test_what_a_builders_network_cannot_do(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    options = {"architecture": own(), **options}
    with pytest.raises(UserError, match=message):
        trained(tmp_path, **options)


def test_they_are_transferred_and_compared(done: Path, tmp_path: Path) -> None:
    weights = str(done / "weights.safetensors")
    table = run_transfer(
        [], [weights, None], {"digits": DIGITS}, SHORT, network=own(), output=tmp_path / "t", quiet=True
    )
    assert [run["macs"] for run in table["runs"]] == [cost(own(partial(plain, kernel_size=5))).macs, cost(own()).macs]
    found = run_compare([str(done)], latency=True, network=own(), latency_rounds=2, output=tmp_path / "c", quiet=True)
    assert found["families"]["yours"][0]["latency"] > 0
    with pytest.raises(
        UserError, match=r"none of the networks can be built: .*made by the builder 'own_networks.plain'"
    ):
        run_compare([str(done)], latency=True, output=tmp_path / "c", quiet=True)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "mine.yaml").write_text(
        "_target_: effnas.space.built.BuiltNetwork\n"
        "builder: {_target_: own_networks.plain, _partial_: true}\n"
        "resolution: 8\nin_channels: 1\nnum_classes: 10\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["--config-dir", ".", "--network", "mine", "--json"]
    assert main(["train", *words, "--training", "proxy", "training.epochs=1", "threads=1", "tensorboard=false"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "plain"
    assert main(["evaluate", *words, "--weights", "outputs/train/weights.safetensors", "latency_batch=null"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "plain"
    assert main(["evaluate", "--weights", "outputs/train/weights.safetensors"]) == 2
    assert "made by the builder 'own_networks.plain', and a file never names code to run" in capsys.readouterr().err

"""The evaluator of shared weights: trained once, found again, resumed, and what it says of candidates."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from effnas import Architecture, run_search
from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split
from effnas.evaluate.kept_weights import name_weights
from effnas.evaluate.supernet import training as supernet_training
from effnas.evaluate.supernet.evaluator import Supernet
from effnas.evaluate.supernet.recalibrate import recalibrate
from effnas.evaluate.supernet.rules import RULES
from effnas.evaluate.train.accuracy import measure_accuracy
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.log import TrainingLog
from effnas.evaluate.train.recipe import Training
from effnas.search.objective import Accuracy
from effnas.space.errors import UserError
from effnas.space.space import SearchSpace
from effnas.space.weights.weights import read_weights

DIGITS = ImageData(limit=300, crop=1)
SPACE = SearchSpace(
    "little",
    [
        {"block": "mbconv", "channels": 8, "stride": 2, "kernel_size": [3, 5]},
        {"block": "mbconv", "channels": [8, 12], "stride": 2, "repeats": [1, 2], "expand_ratio": [1, 2]},
    ],
    **{"stem": 8, "stem_stride": 1, "head": 16, "resolution": 8, "in_channels": 1, "num_classes": 10},
)
RECIPE = Training(epochs=2, batch_size=48, lr=0.8, clip_norm=1.0, memory_format="channels_last", precision="fp32")
#: Long enough to learn something.
LEARNS = replace(RECIPE, epochs=25)


def quiet(epoch: int, accuracy: float) -> None:
    pass


def make(**changes: Any) -> Supernet:
    fields = {"space": SPACE, "data": DIGITS, "training": RECIPE, "threads": 1, "quiet": True, "device": "cpu"}
    return Supernet(**{**fields, **changes})


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Supernet:
    """One that is trained."""
    evaluator = make(training=LEARNS, path=str(tmp_path_factory.mktemp("learnt")))
    evaluator.prepare()
    return evaluator


def tensors(evaluator: Supernet) -> dict[str, torch.Tensor]:
    evaluator.prepare()
    return load_file(Path(str(evaluator.path)) / "supernet.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- what it says of a candidate -------------------------------------------------------------------------


def test_measures_a_member_and_says_with_what(learnt: Supernet) -> None:
    found = learnt(learnt.members.largest, seed=0, report=quiet)
    assert found.accuracy > 0.5  # chance is 0.1
    assert found.cost == learnt.members.largest.cost
    assert found.metrics["heldout_images"] == len(load_split(DIGITS, 1).heldout)
    assert found.metrics["recalibration_images"] == 240  # there are no more
    again = learnt(learnt.members.largest, seed=0, report=quiet)
    assert (again.accuracy, again.metrics["loss"]) == (found.accuracy, found.metrics["loss"])


def test_the_order_of_candidates_does_not_matter(learnt: Supernet) -> None:
    """Nothing of one leaks into the next."""
    rng = np.random.default_rng(0)
    members = [learnt.members.draw(rng) for _ in range(4)]
    forth = [learnt(member, seed=0, report=quiet).metrics["loss"] for member in members]
    back = [learnt(member, seed=0, report=quiet).metrics["loss"] for member in reversed(members)]
    assert forth == back[::-1]


def test_the_seed_draws_the_images_of_the_statistics(learnt: Supernet) -> None:
    few = replace(learnt, recalibration=64)
    losses = {few(few.members.smallest, seed=seed, report=quiet).metrics["loss"] for seed in (0, 0, 1)}
    assert len(losses) == 2
    none = replace(learnt, recalibration=0)
    losses = {none(none.members.smallest, seed=seed, report=quiet).metrics["loss"] for seed in (0, 1)}
    assert len(losses) == 1


def test_recalibration_is_what_makes_members_comparable(learnt: Supernet) -> None:
    rng = np.random.default_rng(0)
    members = [learnt.members.draw(rng) for _ in range(6)]
    with_, without = (
        np.mean([replace(learnt, recalibration=n)(m, seed=0, report=quiet).accuracy for m in members]) for n in (240, 0)
    )
    assert with_ > without


def test_statistics_are_exact_averages_over_the_images(learnt: Supernet) -> None:
    """Of the stem, whose input depends on no other statistics: the mean over all images, in batches of any size."""
    split = load_split(DIGITS, 1)
    found = []
    for size in (240, 60, 48):
        network = learnt.extract(learnt.members.smallest)
        how: Any = {"resolution": 8, "device": torch.device("cpu"), "seed": 0}
        assert recalibrate(network, split.train, 240, batch_size=size, **how) == 240
        found.append(network.stem.bn.running_mean)  # type: ignore[union-attr]
        assert not network.training
        assert network.stem.bn.momentum == 0.01  # type: ignore[union-attr]
    images = next(iter(split.train.batches(240, device="cpu")))[0]
    with torch.no_grad():
        expected = network.stem.conv(split.train.pixels.prepare(images, 8)).mean((0, 2, 3))  # type: ignore[union-attr, operator]
    for mean in found:
        assert torch.allclose(mean, expected, atol=1e-5)


def test_batches_are_of_one_size(learnt: Supernet) -> None:
    split = load_split(DIGITS, 1)
    network = learnt.extract(learnt.members.smallest)
    how: Any = {"resolution": 8, "device": torch.device("cpu"), "seed": 0}
    assert recalibrate(network, split.train, 100, batch_size=48, **how) == 99  # three of 33
    assert recalibrate(network, split.train, 1000, batch_size=64, **how) == 240
    before = network.stem.bn.running_mean.clone()  # type: ignore[union-attr]
    assert recalibrate(network, split.train, 0, batch_size=64, **how) == 0
    assert torch.equal(before, network.stem.bn.running_mean)  # type: ignore[union-attr]


def test_a_member_is_what_its_weights_say(learnt: Supernet, tmp_path: Path) -> None:
    """The file that is left measures as the candidate did, and a training goes on from it."""
    member = learnt.members.largest
    found = learnt.keeping(str(tmp_path))(member, seed=3, report=quiet)
    file = tmp_path / name_weights(member.digest, 3)
    weights = read_weights(file)
    assert weights.architecture == member
    assert weights.classes == load_split(DIGITS, 1).classes
    network = learnt.extract(member, seed=3)
    assert same(dict(weights.tensors), {name: t.contiguous() for name, t in network.state_dict().items()})
    measured, _ = measure_accuracy(network, load_split(DIGITS, 1).heldout, batch_size=48, resolution=8)
    assert measured == found.accuracy
    recipe = replace(RECIPE, epochs=1, lr=1e-6, bn_momentum=1e-6)
    summary = run_train(
        None, DIGITS, recipe, weights=file, output=tmp_path / "on", test=False, tensorboard=False, quiet=True
    )
    assert summary["accuracy"] == pytest.approx(found.accuracy, abs=0.02)


def test_latency_is_measured_where_it_is_asked_for(learnt: Supernet) -> None:
    assert learnt(learnt.members.smallest, seed=0, report=quiet).latency is None
    assert replace(learnt, latency_batch=1)(learnt.members.smallest, seed=0, report=quiet).latency


def test_a_network_that_is_no_member_stops_a_search(learnt: Supernet) -> None:
    with pytest.raises(
        UserError, match=r"is not in the space little of the supernet: resolution is 16, members have 8"
    ):
        learnt(learnt.members.smallest.with_(resolution=16), seed=0, report=quiet)


# -- the training ----------------------------------------------------------------------------------------


def test_is_trained_once_and_found_by_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFNAS_CACHE", str(tmp_path))
    trained: list[str] = []
    engine = supernet_training.train

    def counted(*arguments: Any, **options: Any) -> Any:
        trained.append("once")
        return engine(*arguments, **options)

    monkeypatch.setattr(supernet_training, "train", counted)
    recipe = replace(RECIPE, epochs=1)
    make(training=recipe).prepare()
    other = SearchSpace("other name", [dict(row) for row in STAGES], **NETWORK)
    for again in (make(training=recipe), make(training=recipe, recalibration=64), make(training=recipe, space=other)):
        again.prepare()
    assert len(trained) == 1
    for change in (
        {"seed": 1},
        {"rule": "fair"},
        {"training": replace(recipe, lr=0.4)},
        {"data": ImageData(limit=200)},
    ):
        make(**{"training": recipe, **change}).prepare()
    assert len(trained) == 5
    folders = sorted((tmp_path / "supernet").iterdir())
    assert len(folders) == 5
    for folder in folders:  # no checkpoint stays, which is three times as large
        assert {file.name for file in folder.iterdir()} == {"supernet.safetensors", "log.csv", ".lock"}


STAGES: list[dict[str, Any]] = [
    {"block": "mbconv", "channels": 8, "stride": 2, "kernel_size": [3, 5]},
    {"block": "mbconv", "channels": [8, 12], "stride": 2, "repeats": [1, 2], "expand_ratio": [1, 2]},
]
NETWORK: dict[str, Any] = {
    "stem": 8,
    "stem_stride": 1,
    "head": 16,
    "resolution": 8,
    "in_channels": 1,
    "num_classes": 10,
}


class Interrupted(TrainingLog):
    """As Ctrl-C after a step."""

    at = 0

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        super().step(step, images, lr, loss)
        if step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("rule", RULES)
def test_an_interrupted_training_goes_on_to_the_same_bits(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"rule": rule, "training": replace(RECIPE, ema_decay=0.9, label_smoothing=0.1)}
    whole = tensors(make(path=str(tmp_path / "whole"), **changes))
    with monkeypatch.context() as patch:
        patch.setattr(supernet_training, "TrainingLog", Interrupted)
        for at in (2, 6, 8):  # of ten
            patch.setattr(Interrupted, "at", at)
            with pytest.raises(KeyboardInterrupt):
                make(path=str(tmp_path / "parts"), **changes).prepare()
            assert (tmp_path / "parts" / "checkpoint.pt").is_file()
            assert not (tmp_path / "parts" / "supernet.safetensors").exists()
    assert same(tensors(make(path=str(tmp_path / "parts"), **changes)), whole)


def test_rules_train_other_weights(tmp_path: Path) -> None:
    found = [tensors(make(rule=rule, path=str(tmp_path / rule)))["classifier.weight"] for rule in RULES]
    for i, one in enumerate(found):
        assert not any(torch.equal(one, other) for other in found[:i])


def test_parts_of_a_batch_train_as_the_whole_does(tmp_path: Path) -> None:
    """But for BatchNorm, which sees the parts: with frozen statistics the sums would be the same."""
    found = tensors(make(path=str(tmp_path / "parts"), training=replace(RECIPE, accumulate=2)))
    whole = tensors(make(path=str(tmp_path / "whole")))
    assert not same(found, whole)
    for name in whole:
        assert torch.isfinite(found[name]).all()
    balanced = tensors(make(path=str(tmp_path / "balanced"), training=replace(RECIPE, balance="weights", mixup=0.2)))
    assert not same(balanced, whole)


def test_processes_that_need_one_supernet_train_it_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = [make(path=str(tmp_path), training=replace(RECIPE, epochs=1)) for _ in range(2)]
        found = list(pool.map(lambda one: one(one.members.smallest, seed=0, report=quiet).metrics["loss"], made))
    assert found[0] == found[1]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


def test_bf16_trains_too(tmp_path: Path) -> None:
    low, high = (make(path=str(tmp_path / p), training=replace(RECIPE, precision=p)) for p in ("bf16", "fp32"))
    assert not same(tensors(low), tensors(high))
    losses = [one(one.members.largest, seed=0, report=quiet).metrics["loss"] for one in (low, high)]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)


def test_several_resolutions(tmp_path: Path) -> None:
    space = SearchSpace("sides", STAGES, **{**NETWORK, "resolution": [8, 12]})
    evaluator = make(path=str(tmp_path), space=space)
    low, high = (space.build({**first(space), "resolution": side}) for side in (8, 12))
    losses = {evaluator(member, seed=0, report=quiet).metrics["loss"] for member in (low, high)}
    assert len(losses) == 2
    assert evaluator.members.largest.resolution == 12


def first(space: SearchSpace) -> dict[str, Any]:
    return {name: choices[0] for name, choices in space.choices.items()}


def test_a_training_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the training of the supernet failed: loss is nan .* a lower training.lr"):
        make(path=str(tmp_path), training=replace(RECIPE, lr=1e20, clip_norm=None)).prepare()


PROCESSES = """
import hashlib, os, sys
from pathlib import Path
from effnas.evaluate.data import ImageData
from effnas.evaluate.supernet import training as supernet_training
from effnas.evaluate.supernet.evaluator import Supernet
from effnas.evaluate.train.recipe import Training

folder, engine = Path(sys.argv[1]), supernet_training.train

def watched(network, *arguments, **options):
    result = engine(network, *arguments, **options)
    weights = b"".join(p.detach().numpy().tobytes() for p in network.parameters())
    (folder / f"rank-{os.environ['RANK']}").write_text(hashlib.sha256(weights).hexdigest())
    return result

supernet_training.train = watched
recipe = Training(epochs=1, batch_size=64, lr=0.8, precision="fp32", memory_format="channels_last", compile=False)
Supernet("tiny", ImageData(limit=300), recipe, path=str(folder / "shared"), threads=1, quiet=True).prepare()
"""


@pytest.mark.slow
def test_processes_of_torchrun_train_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROCESSES)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(tmp_path / "script.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (tmp_path / f"rank-{i}" for i in range(2))
    assert first.read_text() == second.read_text()
    assert (tmp_path / "shared" / "supernet.safetensors").is_file()


# -- files ----------------------------------------------------------------------------------------------


def test_a_file_is_used_as_it_is(learnt: Supernet) -> None:
    file = Path(str(learnt.path)) / "supernet.safetensors"
    other = replace(learnt, path=str(file), training=replace(RECIPE, epochs=7), rule="fair")
    member = learnt.members.largest
    assert other(member, seed=0, report=quiet).accuracy == learnt(member, seed=0, report=quiet).accuracy
    assert other.describe()["rule"] == "sandwich"
    back = pickle.loads(pickle.dumps(other))  # what a worker is sent has no weights
    assert len(pickle.dumps(other)) < 20_000
    assert back(member, seed=0, report=quiet).accuracy == learnt(member, seed=0, report=quiet).accuracy


def test_a_file_of_another_space_is_refused(learnt: Supernet) -> None:
    file = str(Path(str(learnt.path)) / "supernet.safetensors")
    space = SearchSpace("wider", [STAGES[0], {**STAGES[1], "channels": [8, 16]}], **NETWORK)
    text = r"is a supernet of the space little, not of wider, which has other members \(decisions.block1_channels: "
    with pytest.raises(UserError, match=text):
        replace(learnt, path=file, space=space).prepare()
    namesake = SearchSpace("little", [STAGES[0], {**STAGES[1], "channels": [8, 16]}], **NETWORK)
    with pytest.raises(UserError, match=r"is a supernet of another space of the name little, which has other members"):
        replace(learnt, path=file, space=namesake).prepare()
    with pytest.raises(UserError, match=r"another supernet is in .*space.decisions.block1_channels: .*choose another"):
        replace(learnt, space=space).prepare()


def test_another_supernet_in_the_folder_is_refused(learnt: Supernet) -> None:
    with pytest.raises(
        UserError, match=r"another supernet is in .* \(training.epochs: 25 → 3\): choose another folder"
    ):
        replace(learnt, training=replace(LEARNS, epochs=3)).prepare()


def test_a_checkpoint_of_another_supernet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(supernet_training, "TrainingLog", Interrupted)
        patch.setattr(Interrupted, "at", 2)
        with pytest.raises(KeyboardInterrupt):
            make(path=str(tmp_path)).prepare()
    with pytest.raises(UserError, match=r"another training is in this folder \(seed: 0 → 1\); choose .*path=DIR"):
        make(path=str(tmp_path), seed=1).prepare()


def test_an_interrupted_supernet_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluator.path: no such file: .*supernet.safetensors"):
        make(path=str(tmp_path / "supernet.safetensors")).prepare()


def test_other_classes_are_refused(learnt: Supernet, tmp_path: Path) -> None:
    file = Path(str(learnt.path)) / "supernet.safetensors"
    facts = read_facts(file)
    changed = tmp_path / "supernet.safetensors"
    write(changed, load_file(file), {**facts, "classes": [f"class {i}" for i in range(10)]})
    with pytest.raises(UserError, match=r"was trained on other classes \(class 0, class 1"):
        replace(learnt, path=str(changed)).prepare()


def read_facts(file: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return dict(json.loads(opened.metadata()["effnas_supernet"]))


def write(file: Path, found: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    save_file(found, file, {"effnas_supernet": json.dumps(facts)})


def damaged(file: Path) -> Iterator[tuple[str, dict[str, torch.Tensor], dict[str, str]]]:
    found, facts = load_file(file), read_facts(file)
    good = {"effnas_supernet": json.dumps(facts)}
    yield "is damaged: classifier.bias", {n: t for n, t in found.items() if n != "classifier.bias"}, good
    yield "is damaged: classifier.bias", {**found, "classifier.bias": torch.zeros(3)}, good
    yield "is damaged: more", {**found, "more": torch.zeros(3)}, good
    yield "holds no supernet", found, {}
    yield "holds weights of one network", found, {"effnas_architecture": "{}"}
    for text in ("{", "[]", "{}", json.dumps({**facts, "identity": {}}), json.dumps({**facts, "format": 99})):
        yield "the description inside .* is damaged, or of another version", found, {"effnas_supernet": text}


def test_damaged_files_are_refused(learnt: Supernet, tmp_path: Path) -> None:
    file = tmp_path / "supernet.safetensors"
    for text, found, facts in damaged(Path(str(learnt.path)) / "supernet.safetensors"):
        save_file(found, file, facts or None)
        with pytest.raises(UserError, match=text):
            replace(learnt, path=str(file)).prepare()
    for content, rule in ((b"\x00 no safetensors", "not a whole safetensors file"), (b"no weights", "a file of text")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"^evaluator.path: .* is {rule}"):
            replace(learnt, path=str(file)).prepare()
    (tmp_path / "other").write_bytes(b"")
    with pytest.raises(UserError, match=r"^evaluator.path: .* cannot be read"):
        replace(learnt, path=str(tmp_path / "other")).prepare()


def test_a_folder_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").mkdir()
    make(path=str(tmp_path / "mine.safetensors")).prepare()
    assert (tmp_path / "mine.safetensors" / "supernet.safetensors").is_file()


def test_weights_to_start_from_and_a_trained_supernet_exclude_each_other(learnt: Supernet) -> None:
    file = str(Path(str(learnt.path)) / "supernet.safetensors")
    with pytest.raises(UserError, match=r"evaluator.weights begin the training .* evaluator.path=.* is one that is"):
        replace(learnt, path=file, weights=file).prepare()


def test_a_supernet_is_no_networks_weights(learnt: Supernet, tmp_path: Path) -> None:
    file = str(Path(str(learnt.path)) / "supernet.safetensors")
    text = r"is a supernet, whose weights all members of its space share: give those of one member"
    with pytest.raises(UserError, match=text):
        read_weights(file)
    with pytest.raises(UserError, match=rf"evaluator.weights: .*{text}"):
        make(path=str(tmp_path), weights=file).prepare()


# -- settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rule": "sandwhich"}, "evaluator.rule: unknown 'sandwhich'"),
        ({"recalibration": -1}, "evaluator.recalibration must be at least 0, got -1"),
        ({"path": ""}, "evaluator.path must be a folder, a file or null"),
        ({"space": "tinny"}, "space: unknown 'tinny'"),
        ({"space": 3}, "evaluator.space must be a space, its name or its file, got int"),
        ({"training": {}}, "training must be of type Training"),
        ({"training": replace(RECIPE, sync_bn=True)}, "training.sync_bn must be false"),
        ({"data": 3}, "data must be of type ImageData"),
        ({"seed": -1}, "evaluator.seed must be"),
        ({"quiet": 1}, "evaluator.quiet must be true or false"),
        ({"latency_batch": 0}, "latency_batch must be"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        make(**changes)


def test_classes_of_the_space_must_be_the_datas() -> None:
    space = SearchSpace("seven", STAGES, **{**NETWORK, "num_classes": 7})
    with pytest.raises(UserError, match=r"the data has 10 classes, the architecture 7: set space.num_classes=10"):
        make(space=space).prepare()


# -- in a search ----------------------------------------------------------------------------------------


def test_a_search_names_a_winner_and_keeps_its_weights(learnt: Supernet, tmp_path: Path) -> None:
    summary = run_search(SPACE, learnt, Accuracy(), trials=6, output=tmp_path, quiet=True)
    assert summary["complete"] == 6
    details = summary["evaluator_details"]
    assert "effnas train --weights goes on" in details["note"]
    assert details["rule"] == "sandwich"
    assert 0 < details["smallest_accuracy"] <= 1
    (kept,) = (tmp_path / "weights").glob("trial-*.safetensors")
    weights = read_weights(kept)
    assert isinstance(weights.architecture, Architecture)
    assert weights.architecture == Architecture.from_yaml((tmp_path / "baseline.yaml").read_text())
    network = learnt.extract(weights.architecture)
    assert same(dict(weights.tensors), {name: t.contiguous() for name, t in network.state_dict().items()})


@pytest.mark.slow
def test_two_workers_share_one_training(tmp_path: Path) -> None:
    evaluator = make(path=str(tmp_path / "supernet"), training=replace(RECIPE, epochs=1))
    summary = run_search(SPACE, evaluator, Accuracy(), trials=6, workers=2, output=tmp_path / "search", quiet=True)
    assert summary["complete"] == 6
    assert len((tmp_path / "supernet" / "log.csv").read_text().splitlines()) == 2

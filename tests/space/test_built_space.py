"""Searching the networks of a user's own builder."""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import own_networks
import pytest
from algorithms import ALGORITHMS, SLOW, factory
from own_networks import plain
from synthetic import Synthetic, read_csv, search

from effnas import UserError, cost, load_architecture
from effnas.cli import main
from effnas.evaluate.data import ImageData
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.search.objective import Accuracy, MnasNetReward
from effnas.space.built import BuiltNetwork
from effnas.space.built_space import BuilderSpace

NETWORK = BuiltNetwork(plain, resolution=16, in_channels=1, num_classes=10)
SHAPES = {"choices": {"narrow": [8], "even": [8, 8], "rising": [8, 24]}}
REWARD = MnasNetReward(target=100e3)


def space(network: BuiltNetwork = NETWORK, **changes: Any) -> BuilderSpace:
    fields = {"depth": [1, 2.0, 3.0], "width": [1.0, 2.0], "options": {"kernel_size": [3, 5], "channels": SHAPES}}
    return BuilderSpace("mine", network, **{**fields, **changes})


# -- what there is -----------------------------------------------------------------------------------


def test_decisions_and_the_networks_that_they_build() -> None:
    found = space()
    assert {name: list(d.choices) for name, d in found.distributions.items()} == {
        "depth": [1, 2.0, 3.0],
        "width": [1.0, 2.0],
        "kernel_size": [3, 5],
        "channels": ["narrow", "even", "rising"],
    }
    assert found.size == 36
    network = found.build({"depth": 2.0, "width": 1, "kernel_size": 5, "channels": "rising"})
    assert network == BuiltNetwork(partial(plain, kernel_size=5, channels=(8, 24)), 2.0, 1.0, 16, 1, 10)
    assert network.name == f"mine_{network.digest[:8]}"


def test_one_value_holds_for_all_and_the_rest_is_the_networks() -> None:
    base = NETWORK.with_options(channels=[8, 24])
    found = BuilderSpace("mine", base, depth=2.0, width=[1.0, 2.0], resolution=12, options={"kernel_size": 5})
    assert list(found.choices) == ["width"]
    wide = found.build({"width": 2.0})
    assert wide == BuiltNetwork(partial(plain, kernel_size=5, channels=(8, 24)), 2.0, 2.0, 12, 1, 10)


def test_resolutions_are_decided_too() -> None:
    found = BuilderSpace("mine", NETWORK, resolution=[8, 16])
    assert [found.build({"resolution": side}).resolution for side in (8, 16)] == [8, 16]


def test_samples_are_uniform_and_mutants_are_neighbours() -> None:
    found, rng = space(), np.random.default_rng(0)
    samples = [found.sample(rng) for _ in range(720)]
    assert {tuple(sample.values()) for sample in samples} == {
        (d, w, k, c) for d in (1, 2.0, 3.0) for w in (1.0, 2.0) for k in (3, 5) for c in SHAPES["choices"]
    }
    for name, labels in found.choices.items():
        for label in labels:
            share = sum(sample[name] == label for sample in samples) / 720
            assert share == pytest.approx(1 / len(labels), abs=0.06)
    for sample in samples[:100]:
        mutant = found.mutate(sample, rng)
        assert found.contains(mutant)
        assert sum(mutant[name] != sample[name] for name in sample) == 1
    with pytest.raises(UserError, match=r"space mine: no neighbour of \{'depth': 1.0\}"):
        BuilderSpace("mine", NETWORK, depth=[1.0]).mutate({"depth": 1.0}, rng)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "resnet50"}, r"network must be a BuiltNetwork \(`_target_: effnas.space.built.Bu.*, got str"),
        ({"name": 3}, "name must be a string of at most 100 characters, got 3"),
        (
            {"depth": None, "width": 2.0, "options": None},
            "space mine: nothing to decide; give depth, width, resolution",
        ),
        ({"depth": []}, "space mine: depth: no choices"),
        ({"depth": [1, 1.0]}, "space mine: depth: a choice appears twice"),
        ({"depth": [1.0, 0.0]}, r"space mine: depth=0.0: depth multiplier must be in \(0, 10000\]"),
        ({"width": ["wide", "w"]}, "width multiplier must be a finite number, got 'wide'"),
        ({"resolution": [8, 16.5]}, "space mine: resolution=16.5: resolution must be a whole number"),
        ({"options": [3]}, "space mine: options must be a mapping of the builder's options"),
        (
            {"options": {"channels": [[8], [16]]}},
            r"channels: a choice must be a number, a string or true/false, got \[8\]",
        ),
        ({"options": {"depth": [1, 2]}}, "space mine: depth is not an option of the builder: put it beside options"),
        (
            {"network": BuiltNetwork("resnet18"), "options": {"bottleneck": [False, True]}},
            "builder resnet18: a network of the zoo takes no options, got bottleneck",
        ),
        ({"options": {"kernel": [3, 5]}}, "plain must be callable as .* unexpected keyword argument 'kernel'"),
        (
            {"network": NETWORK.with_(builder=own_networks.no_depth), "options": None},
            "builder own_networks.no_depth ignores depth",
        ),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"name": "mine", "network": NETWORK, "depth": [1.0, 2.0], **changes}
    with pytest.raises(UserError, match=message):
        BuilderSpace(**fields)


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ({"depth": 1, "width": 1.0, "kernel_size": 3}, "space mine: decision 'channels' is missing; its choices are"),
        ({"depth": 9, "width": 1.0, "kernel_size": 3, "channels": "even"}, "space mine: depth: unknown '9'"),
        ({"hight": 9}, "space mine: decision: unknown 'hight'"),
    ],
)
def test_wrong_decisions(decisions: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        space().build(decisions)
    assert not space().contains(decisions)


# -- searching it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [pytest.param(a, marks=pytest.mark.slow) if a in SLOW else a for a in ALGORITHMS])
def test_every_algorithm_searches_it(algorithm: str, tmp_path: Path) -> None:
    if algorithm.startswith("nni_") and find_spec("nni") is None:
        pytest.skip("NNI is not installed: pip install 'effnas[nni]'")
    found = search(tmp_path, space=space(), algorithm=factory(algorithm), objective=REWARD, trials=14)
    assert found["complete"] == 14
    best = load_architecture(tmp_path / "baseline.yaml", NETWORK)
    assert best == space().build(found["best"]["decisions"])
    assert cost(best).macs == found["best"]["macs"]


def test_a_search_stopped_and_resumed_is_the_search_never_stopped(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", space=space(), trials=12)
    search(tmp_path / "parts", space=space(), trials=5)
    parts = search(tmp_path / "parts", space=space(), trials=12)
    assert parts["best"]["decisions"] == whole["best"]["decisions"]
    rows = [read_csv(tmp_path / name / "trials.csv") for name in ("whole", "parts")]
    assert [row["decision.depth"] for row in rows[0]] == [row["decision.depth"] for row in rows[1]]


def test_limits_hold_and_are_out_of_reach_by_name(tmp_path: Path) -> None:
    macs = sorted(cost(space().build(space().sample(np.random.default_rng(i)))).macs for i in range(20))
    found = search(tmp_path, space=space(), objective=Accuracy(max_macs=macs[5]), trials=8)
    assert found["best"]["macs"] <= macs[5]
    with pytest.raises(UserError, match="no network of the space mine meets macs ≤ 10; the nearest found has macs"):
        search(tmp_path / "b", space=space(), objective=Accuracy(max_macs=10))


def test_a_network_that_cannot_be_built_is_a_failed_trial(tmp_path: Path) -> None:
    frail = BuilderSpace("frail", NETWORK.with_(builder=own_networks.frail), width=[0.5, 1, 2.0, 3.0, 4.0])
    frail.choices["depth"], frail._values["depth"] = (1, 2), (1, 2)
    found = search(tmp_path, space=frail, trials=10)
    assert found["failed"] > 0
    assert found["complete"] > 0
    assert set(found["reasons"]) == {
        f"builder own_networks.frail failed at depth 2, width {w}, resolution 16: RuntimeError: too deep"
        for w in (0.5, 1, 2, 3, 4)
    } & set(found["reasons"])


def test_other_classes_than_the_data_has(tmp_path: Path) -> None:
    proxy = Proxy(ImageData(limit=100), Training(epochs=1), device="cpu")
    with pytest.raises(
        UserError, match="has 10 classes, the architecture 3: set num_classes of the builder's network to 10"
    ):
        search(tmp_path, proxy, BuilderSpace("mine", NETWORK.with_(num_classes=3), depth=[1, 2]))


def test_a_builder_that_cannot_be_sent_to_workers(tmp_path: Path) -> None:
    hidden = BuilderSpace("hidden", NETWORK.with_(builder=lambda d, w, r: plain(d, w, r)), depth=[1, 2])
    assert search(tmp_path / "here", Synthetic(), hidden, trials=2)["complete"] == 2
    with pytest.raises(UserError, match=r"builder .*<lambda> cannot be sent to a worker process: .* or use workers=1"):
        search(tmp_path / "there", Synthetic(), hidden, trials=2, workers=2)


@pytest.mark.slow
def test_workers_get_networks_of_importable_builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = search(tmp_path / "a", Synthetic(), space(), trials=2, workers=2)
    assert found["complete"] == 2
    session = ModuleType("session")
    exec("from own_networks import plain\ndef local(d, w, r): return plain(d, w, r)", session.__dict__)
    monkeypatch.setitem(sys.modules, "session", session)  # as a notebook's: without a file
    local = BuilderSpace("local", NETWORK.with_(builder=session.local), depth=[1, 2])
    with pytest.raises(UserError, match=r"builder: a worker process cannot load it: ModuleNotFoundError: .*'session'"):
        search(tmp_path / "b", Synthetic(), local, trials=2, workers=2)


# -- the commands ------------------------------------------------------------------------------------


def test_from_search_to_grid_and_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = (
        "_target_: effnas.space.built.BuiltNetwork\nbuilder: {_target_: own_networks.plain, _partial_: true}\n"
        "resolution: 8  # pixels\nin_channels: 1  # grey\nnum_classes: 10  # digits\n"
    )
    for group in ("network", "space"):
        (tmp_path / group).mkdir()
    (tmp_path / "network" / "mine.yaml").write_text(network)
    (tmp_path / "space" / "mine.yaml").write_text(
        "defaults:\n  - /network@network: mine\n"
        "_target_: effnas.space.built_space.BuilderSpace\nname: mine  # of the space\ndepth: [1, 2]  # blocks\n"
        "options: {kernel_size: [3, 5]}  # of the builder\n"
    )
    monkeypatch.chdir(tmp_path)
    mine = ["--config-dir", ".", "--json"]
    short = ["training.epochs=1", "training.warmup_epochs=0", "--data.limit", "100"]
    assert main(["search", *mine, "--space", "mine", "--trials", "2", *short]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["best"]["architecture"]["builder"] == "own_networks.plain"
    assert "kernel_size" in summary["best"]["architecture"]["options"]
    base = ["--network", "mine", "--baseline", "outputs/search/baseline.yaml"]
    few = ["alpha=[1.2,1.2]", "beta=[1.1,1.1]", "gamma=[1.1,1.2]"]
    assert main(["grid-alpha-beta-gamma", *mine, *base, *few, *short]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["alpha"] == 1.2
    assert main(["scale", *mine, *base, "--coefficients", "outputs/grid/coefficients.yaml", "--family", "0..2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["macs"] for row in rows] == sorted(row["macs"] for row in rows)
    assert rows[0]["macs"] == summary["best"]["macs"]

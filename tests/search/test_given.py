"""What a Python user gives to a search, of the wrong kind or of NumPy's: told at once, in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from synthetic import TESTS, Synthetic, search

import effnas
from effnas import Architecture, Coefficients, Stage, UserError, load_architecture, run_rank, run_scale, run_search
from effnas.search.objective import MnasNetReward

B0 = load_architecture("efficientnet_b0")
PAPER = Coefficients(1.2, 1.1, 1.15)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"space": None}, "space must be a space, its name or its file, got None"),
        ({"space": {"a": 1}}, "space must be a space"),
        ({"evaluator": None}, "evaluator must be called with a network, got None"),
        ({"evaluator": "proxy"}, "evaluator must be called with a network, got 'proxy'"),
        ({"evaluator": Synthetic}, r"evaluator must be called .*: make one, Synthetic\(…\)"),
        ({"objective": "reward"}, r"objective must be an objective, like MnasNetReward\(\), got 'reward'"),
        ({"objective": MnasNetReward}, "objective must be an objective"),
        ({"algorithm": "tpe"}, r"algorithm must be called as algorithm\(seed=…\), got 'tpe'"),
        ({"algorithm": RandomSampler()}, "algorithm must be called .*: give its class, RandomSampler"),
        ({"pruner": "median"}, r"pruner must be one of Optuna's, like MedianPruner\(\), got 'median'"),
        ({"pruner": optuna.pruners.MedianPruner}, "pruner must be one of Optuna's"),
        ({"executor": "ray"}, r"executor must be an executor, like RayCluster\(\), got 'ray'"),
        ({"tracker": "wandb"}, "tracker must be a tracker of effnas.evaluate.tracking, got 'wandb'"),
        ({"storage": Path("a.db")}, "storage must be a URL such as sqlite:///study.db, got .*Path"),
        ({"storage": optuna.storages.InMemoryStorage()}, "storage must be a URL"),
        ({"study": 5}, "study must be a name, got 5"),
        ({"study": ""}, "study must be a name, got ''"),
        ({"quiet": "no"}, "quiet must be true or false, got 'no'"),
        ({"report": 1}, "report must be true or false, got 1"),
        ({"restart": "false"}, "restart must be true or false"),
    ],
)
def test_of_the_wrong_kind(given: dict[str, Any], text: str, tmp_path: Path) -> None:
    good: dict[str, Any] = {"space": "tiny", "evaluator": Synthetic(), "trials": 2, "output": tmp_path / "out"}
    with pytest.raises(UserError, match=text):
        run_search(**{**good, **given})
    assert not (tmp_path / "out").exists()


def test_numbers_of_numpy_and_paths(tmp_path: Path) -> None:
    file = TESTS.parent / "conf" / "space" / "tiny.yaml"
    how: dict[str, Any] = {"timeout": np.float32(60), "workers": np.int64(1), "quiet": np.bool_(True)}
    summary = search(tmp_path, space=file, trials=np.int64(2), seed=np.uint32(3), keep=np.int8(1), **how)
    assert (summary["complete"], summary["seed"]) == (2, 3)
    assert search(tmp_path, space=file, trials=2, seed=3)["complete"] == 2  # the same search
    with pytest.raises(UserError, match="members must be between 10 and 1000000, got 2"):
        run_rank(file, Synthetic(), members=np.int64(2))
    with pytest.raises(UserError, match="evaluator must be called with a network, got None"):
        run_rank(file, None, output=tmp_path / "rank")  # type: ignore[arg-type]


def test_networks_of_numbers_of_numpys(tmp_path: Path) -> None:
    plain = Architecture([Stage("mbconv", 8, kernel_size=5)], resolution=32, dropout=0.25)
    numbers = Stage("mbconv", np.int32(8), kernel_size=np.int64(5))
    found = Architecture([numbers], resolution=np.int64(32), dropout=np.float32(0.25), fixed_ends=np.bool_(False))
    assert found == plain
    assert found.digest == plain.digest
    assert load_architecture(str(found.save(tmp_path / "a.yaml"))) == plain
    with pytest.raises(UserError, match="channels must be a whole number, got array"):
        Stage("mbconv", np.array([8]))
    with pytest.raises(UserError, match="stages must be Stage objects, got NoneType"):
        Architecture(None)  # type: ignore[arg-type]


def test_scaling_by_numbers_of_numpys_and_what_stands_for_coefficients(tmp_path: Path) -> None:
    expected = effnas.scale(B0, PAPER, 1)
    assert Coefficients(np.float64(1.2), 1.1, 1.15) == PAPER
    for phi in (np.int64(1), np.float32(1)):
        assert effnas.scale(B0, PAPER, phi) == expected
    for coefficients in ("paper", (1.2, 1.1, 1.15), "1.2,1.1,1.15"):
        assert effnas.scale(B0, coefficients, 1) == expected
    found = run_scale(baseline=B0, coefficients=PAPER, phi=1, output=tmp_path / "out")
    assert isinstance(found, dict)
    assert found["phi"] == 1


@pytest.mark.parametrize("name", ["cost", "build", "scale"])
def test_a_name_is_no_network(name: str) -> None:
    call = getattr(effnas, name)
    rest = (PAPER, 1) if name == "scale" else ()
    text = rf"{name}: architecture must be a network, got str: load_architecture\('efficientnet_b0'\) makes one of a na"
    with pytest.raises(UserError, match=text):
        call("efficientnet_b0", *rest)
    for wrong in (None, 3, [B0]):
        with pytest.raises(UserError, match=rf"{name}: architecture must be a network, got {type(wrong).__name__}$"):
            call(wrong, *rest)


def test_a_seed_of_weights_is_a_whole_number() -> None:
    with pytest.raises(UserError, match="build: seed must be a whole number, got True"):
        effnas.build(B0, True)

"""A search stopped at any moment and started again is the search that was never stopped."""

from __future__ import annotations

import json
import random
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra.utils
import optuna
import pytest
from omegaconf import OmegaConf
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from synthetic import Synthetic, calls, decisions_and_scores, own_folder, read_csv, search, start, wait_for

from effnas.search.objective import Accuracy, Pareto

CONF = Path(__file__).resolve().parents[2] / "conf"
ALGORITHMS = sorted(file.stem for file in (CONF / "algorithm").glob("*.yaml"))
#: Knows one objective and says so: tests/search/test_job.py.
SINGLE = ("cmaes",)
#: Its proposals take long: a slow test, as in tests/search/algorithms/test_algorithms.py.
SLOW = ("gp",)


def factory(algorithm: str) -> Any:
    return hydra.utils.instantiate(OmegaConf.load(CONF / "algorithm" / f"{algorithm}.yaml"), _partial_=True)


def stored_trials(output: Path) -> list[FrozenTrial]:
    journal = JournalStorage(JournalFileBackend(str(output / "study.journal")))
    return optuna.load_study(study_name="search", storage=journal).get_trials(deepcopy=False)


# -- in one process ------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [Accuracy(max_macs=700e3), Pareto()], ids=["limit", "pareto"])
@pytest.mark.parametrize("algorithm", [pytest.param(a, marks=pytest.mark.slow) if a in SLOW else a for a in ALGORITHMS])
def test_ten_and_then_twenty_are_twenty_at_once(algorithm: str, objective: Any, tmp_path: Path) -> None:
    if algorithm.startswith("nni_") and find_spec("nni") is None:
        pytest.skip("NNI is not installed: pip install 'effnas[nni]'")
    if algorithm in SINGLE and isinstance(objective, Pareto):
        pytest.skip(f"{algorithm} handles one objective")
    options: dict[str, Any] = {"algorithm": factory(algorithm), "objective": objective}
    search(tmp_path / "once", trials=28, **options)
    for trials in (10, 28):
        search(tmp_path / "parts", trials=trials, **options)
    assert decisions_and_scores(tmp_path / "parts") == decisions_and_scores(tmp_path / "once")


def test_a_rare_feasible_region_resumes_too(tmp_path: Path) -> None:
    options: dict[str, Any] = {"algorithm": RandomSampler, "objective": Accuracy(max_macs=220e3)}
    search(tmp_path / "once", trials=6, **options)
    for trials in (1, 2, 6):
        search(tmp_path / "parts", trials=trials, **options)
    assert decisions_and_scores(tmp_path / "parts") == decisions_and_scores(tmp_path / "once")


def test_a_finished_command_changes_nothing(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    names = ("trials.csv", "pareto.csv", "baseline.yaml", "study.journal")
    first = search(tmp_path, Synthetic(str(log)))
    before = [(tmp_path / name).read_bytes() for name in names[:3]]
    evaluated = calls(log)
    for trials in (8, 5):  # fewer than there are: all are kept
        again = search(tmp_path, Synthetic(str(log)), trials=trials)
        assert [(tmp_path / name).read_bytes() for name in names[:3]] == before
        assert calls(log) == evaluated
        assert again["best"] == first["best"]
        assert again["trials"] == 8


@pytest.mark.parametrize("call", [1, 4, 7])
def test_ctrl_c_writes_what_there_is(tmp_path: Path, call: int) -> None:
    output, log = tmp_path / "out", tmp_path / "calls.txt"
    evaluator = Synthetic(str(log), interrupt_at=call)
    with pytest.raises(KeyboardInterrupt):
        search(output, evaluator)
    rows = read_csv(output / "trials.csv")
    assert [row["state"] for row in rows] == ["complete"] * (call - 1)
    trials = stored_trials(output)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * (call - 1) + [TrialState.FAIL]
    assert trials[-1].user_attrs["interrupted"] is True
    assert trials[-1].user_attrs["result"]["reason"] == "interrupted"
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["best"] is None) == (call == 1)
    summary = search(output, evaluator)
    assert summary["trials"] == 8
    whole = Synthetic(str(tmp_path / "others.txt"), interrupt_at=10**9)
    search(tmp_path / "whole", whole)
    assert decisions_and_scores(output) == decisions_and_scores(tmp_path / "whole")
    assert sorted(set(calls(log))) == sorted(calls(tmp_path / "others.txt"))


def test_after_the_timeout_nothing_is_started(tmp_path: Path) -> None:
    began = time.monotonic()
    summary = search(tmp_path, Synthetic(delay=0.2), trials=1000, timeout=0.7)
    assert 2 <= summary["trials"] <= 4
    assert time.monotonic() - began < 10
    assert {trial.state for trial in stored_trials(tmp_path)} == {TrialState.COMPLETE}
    assert search(tmp_path, Synthetic(delay=0.2), trials=6)["trials"] == 6


# -- signals and kills ---------------------------------------------------------------------------------


def command(folder: Path, *words: str) -> list[str]:
    own = own_folder(folder)
    return ["search", "--config-dir", str(own), "evaluator=synthetic", "hydra.run.dir=out", *words]


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("workers", [1, 2])
def test_signals_end_a_search_cleanly(tmp_path: Path, how: signal.Signals, workers: int) -> None:
    words = command(tmp_path, "evaluator.delay=0.3", f"workers={workers}")
    process = start([*words, "trials=1000"], tmp_path)
    wait_for(lambda: len(calls(tmp_path / "calls.txt")) >= 4)
    process.send_signal(how)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert errors.splitlines()[-1] == "interrupted; run the same command again to continue"
    assert "Traceback" not in errors
    rows = read_csv(tmp_path / "out" / "trials.csv")
    assert len(rows) >= 2
    assert {row["state"] for row in rows} == {"complete"}
    for name in ("baseline.yaml", "summary.json", "search.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    states = [trial.state for trial in stored_trials(tmp_path / "out")]
    assert TrialState.RUNNING not in states
    assert states.count(TrialState.FAIL) <= workers
    process = start([*words, f"trials={len(rows) + 2}", "--json"], tmp_path)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(out)["trials"] == json.loads(out)["complete"] == len(rows) + 2
    assert f"resuming: {len(rows)} of {len(rows) + 2} trials are finished" in errors


def test_many_signals_at_once(tmp_path: Path) -> None:
    process = start([*command(tmp_path, "evaluator.delay=0.05"), "trials=1000"], tmp_path)
    wait_for(lambda: len(calls(tmp_path / "calls.txt")) >= 3)
    for _ in range(3):  # a wrapper that passes the terminal's on doubles it
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert (tmp_path / "out" / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_five_random_moments(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    words = command(tmp_path, "evaluator.delay=0.1", "workers=2", "trials=80", "algorithm=random", "space=mobile_cifar")
    output, log = tmp_path / "out", tmp_path / "calls.txt"
    told: dict[int, tuple[dict[str, Any], float]] = {}
    for _ in range(5):
        before = len(calls(log))
        process = start(words, tmp_path)
        wait_for(lambda before=before: len(calls(log)) > before)  # both are at work
        time.sleep(rng.uniform(0.0, 0.6))
        process.kill()
        process.communicate()
        if (output / "study.journal").exists():
            for number, (params, value) in told.items():
                trial = stored_trials(output)[number]
                assert (trial.params, trial.value, trial.state) == (params, value, TrialState.COMPLETE)
            told = {t.number: (t.params, t.value) for t in stored_trials(output) if t.state == TrialState.COMPLETE}
    assert 0 < len(told) < 80
    process = start([*words, "--json"], tmp_path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    summary = json.loads(out)
    assert summary["trials"] == summary["complete"] == 80
    trials = stored_trials(output)
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == len(read_csv(output / "trials.csv")) == 80
    originals = [t for t in complete if "duplicate_of" not in t.user_attrs["result"]]
    assert len({t.user_attrs["result"]["key"] for t in originals}) == len(originals)  # none doubled
    for number, (params, value) in told.items():
        assert (trials[number].params, trials[number].value) == (params, value)
    assert all(trial.user_attrs["interrupted"] for trial in trials if trial.state == TrialState.FAIL)
    evaluated = {line.split()[0] for line in calls(log)}
    assert {t.user_attrs["result"]["digest"] for t in complete} <= evaluated


# -- several processes ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_folder_and_two_processes(tmp_path: Path) -> None:
    words = command(tmp_path, "evaluator.delay=0.5", "trials=1000")
    first = start(words, tmp_path)
    wait_for(lambda: calls(tmp_path / "calls.txt"))
    second = start(words, tmp_path)
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 2
    assert "another effnas process is running in this folder" in errors
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert first.returncode == 130


@pytest.mark.slow
def test_two_processes_share_the_trials_of_one_storage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    words = command(tmp_path, "evaluator.delay=0.3", "trials=16", "algorithm=random", f"storage={url}")
    words = [word for word in words if not word.startswith("hydra.run.dir")]
    processes = [start([*words, f"hydra.run.dir={name}"], tmp_path) for name in ("a", "b")]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    trials = optuna.load_study(study_name="search", storage=url).trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert 16 <= len(trials) <= 17  # each finishes what it has begun
    owners = [trial.user_attrs["result"]["owner"] for trial in trials]
    assert min(owners.count(owner) for owner in set(owners)) >= 4
    assert len(set(owners)) == 2
    process = start([*words, "hydra.run.dir=a", "--json"], tmp_path)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["trials"] == len(trials)

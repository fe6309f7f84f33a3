"""The fence around Optuna: what it needs is still there, and nobody else needs anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import GPSampler, TPESampler
from optuna.trial import TrialState

import effnas

FENCE = "search/optuna_private.py"
#: That around its tables in a data base.
TABLES = ("search/sharing/tables_private.py", "search/sharing/rows_private.py", "search/sharing/mysql_private.py")
#: That of another library.
NNI = "search/algorithms/nni_library.py"
SPACE = {"a": CategoricalDistribution([1, 2, 3])}


@contextmanager
def in_place(names: str) -> Iterator[Any]:
    """The fence; whatever goes wrong with it is told in one sentence."""
    try:
        fence = import_module("effnas.search.optuna_private")
        yield fence
    except Exception as error:
        tested = ", ".join(fence.TESTED_VERSIONS) if "fence" in locals() else "others"
        pytest.fail(
            f"Optuna {optuna.__version__} has moved {names} ({type(error).__name__}: {error}): mend {FENCE}, which was "
            f"tested with Optuna {tested}",
            pytrace=False,
        )


def find_study(fence: Any) -> None:
    storage = optuna.storages.InMemoryStorage()
    for name in ("first", "second"):
        study = optuna.create_study(storage=storage, study_name=name)
        assert fence.get_storage(study) is storage
        assert storage.get_study_name_from_id(fence.get_study_id(study)) == name


def find_trial(fence: Any) -> None:
    storage = optuna.storages.InMemoryStorage()
    studies = [optuna.create_study(storage=storage) for _ in range(2)]
    asked = [study.ask(SPACE) for study in studies]
    assert len({fence.get_trial_id(trial) for trial in asked}) == 2
    for study, trial in zip(studies, asked, strict=True):
        for same in (trial, study.trials[0]):
            assert fence.read_trial(study, same) == study.trials[0]
            fence.set_user_attr(study, same, "user", 1)
            fence.set_system_attr(study, same, "system", 2)
        assert study.trials[0].user_attrs == {"user": 1}
        assert study.trials[0].system_attrs["system"] == 2


def find_enqueued_params(fence: Any) -> None:
    study = optuna.create_study()
    study.enqueue_trial({"a": 3})
    for _ in range(2):
        study.ask(SPACE)
    assert [fence.get_enqueued_params(trial) for trial in study.trials] == [{"a": 3}, None]


def find_constraints(fence: Any) -> None:
    trial = optuna.trial.create_trial(state=TrialState.PRUNED, constraints={"macs": 1.0})
    fence.add_constraints(trial, {"latency": 0.0})
    assert trial.constraints == {"macs": 1.0, "latency": 0.0}


def find_generator(fence: Any) -> None:
    assert fence.draw_seed(GPSampler(seed=0)) == fence.draw_seed(GPSampler(seed=0)) < 2**31


def find_listing(fence: Any) -> None:
    class Doubled(fence.ListedAsStudy):  # type: ignore[misc]
        calls = 0

        def get_trials(self, *args: Any, **kwargs: Any) -> Any:
            Doubled.calls += 1
            return study.get_trials(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(study, name)

    study = optuna.create_study(sampler=TPESampler(seed=0, n_startup_trials=0))
    study.tell(study.ask(SPACE), 1.0)
    study.sampler.sample_independent(Doubled(), study.trials[0], "a", SPACE["a"])
    assert Doubled.calls > 0


def find_boxes(fence: Any) -> None:
    lower, upper = fence.divide_non_dominated(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    volumes = np.prod(upper - np.maximum(lower, 0.0), axis=1)
    assert volumes.sum() == 9.0 - 3.0  # the 3 by 3 square without what the two points dominate: 2 + 2 - 1


def find_journal(fence: Any, path: Path) -> None:
    from effnas.search.journal import Journal, JournalFile

    study = optuna.create_study(storage=Journal(JournalFile(path)))
    trial = study.ask(SPACE)
    before = path.read_text()
    assert "param_name" not in before  # held back
    study.tell(trial, 1.0)
    assert path.read_text().count("param_name") == 1
    assert [t.value for t in study.get_trials(states=[TrialState.COMPLETE])] == [1.0]


@pytest.mark.parametrize(
    ("names", "check"),
    [
        ("Study._storage or Study._study_id", find_study),
        ("Trial._trial_id or FrozenTrial._trial_id", find_trial),
        ('the system attribute "fixed_params" of enqueued trials', find_enqueued_params),
        ('the system attributes "constraints:…" of trials', find_constraints),
        ("GPSampler._rng", find_generator),
        ("Study._get_trials, by which samplers list the trials", find_listing),
        ("optuna._hypervolume.get_non_dominated_box_bounds", find_boxes),
    ],
)
def test_optuna_still_has(names: str, check: Callable[[Any], None]):
    with in_place(names) as fence:
        check(fence)


def test_optuna_still_has_its_journal(tmp_path: Path):
    with in_place("JournalStorage's _write_log, _sync_with_backend, _replay_result, … or JournalOperation") as fence:
        find_journal(fence, tmp_path / "journal")


def test_a_moved_name_is_told_in_one_sentence():
    with (
        pytest.raises(
            pytest.fail.Exception, match=r"^Optuna \S+ has moved Study\._storage .*: mend search/optuna_priva"
        ),
        in_place("Study._storage") as fence,
    ):
        fence.get_storage(object())


def test_no_other_file_uses_private_names_of_optuna():
    root = Path(effnas.__file__).parent
    trees = {
        path.relative_to(root): ast.parse(path.read_text())
        for room in ("commandline", "scaling", "search")
        for path in sorted((root / room).rglob("*.py"))
    }
    ours = {name for path, tree in trees.items() if str(path) not in (FENCE, *TABLES, NNI) for name in own_names(tree)}
    found = [
        f"{path}:{line}: {text}"
        for path, tree in trees.items()
        if str(path) not in (FENCE, *TABLES, NNI)
        for line, text in private_uses(tree, ours)
    ]
    assert found == []


def own_names(tree: ast.Module) -> Iterator[str]:
    """Private names that the file itself gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


def private_uses(tree: ast.Module, ours: set[str]) -> Iterator[tuple[int, str]]:
    """Private names of others: attributes, modules, and Optuna's names for what a trial's attributes hold."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            public = not re.match("_[a-z]", node.attr) or node.attr in ("_replace", "_exit")  # documented ones
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") and node.attr in ours
            private = not public and not own
        elif isinstance(node, ast.ImportFrom):
            private = re.match(r"optuna\b.*\._", str(node.module)) is not None
        else:
            private = isinstance(node, ast.Constant) and node.value in ("fixed_params", "constraints:")
        if private:
            yield node.lineno, ast.unparse(node)

"""``algorithm=auto``: what it chooses, what it says, and that a search keeps to it."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from synthetic import own_folder

from effnas.cli import main
from effnas.search.algorithms.auto import CHOSEN, Auto, Choice, choose_algorithm, keep_choice
from effnas.search.algorithms.predictor import Predictor
from effnas.space.errors import UserError


@pytest.mark.parametrize(
    ("trials", "at_once", "objectives", "informed", "why"),
    [
        (100, 1, 1, True, "^the best in nearly every comparison of searches like this one$"),
        (1000, 128, 2, True, "^the best in nearly every comparison of searches like this one$"),
        (100, 129, 1, True, r"but not measured for 129 trials at once \(up to 128\)$"),
        (1001, 1, 1, True, r"but not measured for 1,001 trials \(up to 1,000\)$"),
        (100, 1, 3, True, r"but not measured for 3 objectives \(up to 2\)$"),
        (100, 1, 1, False, "but not measured for spaces whose costs are not known before training$"),
        (5000, 256, 1, True, "256 trials at once .*, 5,000 trials"),
    ],
)
def test_each_choice_has_its_reason(trials: int, at_once: int, objectives: int, informed: bool, why: str):
    choice = choose_algorithm(trials, at_once, objectives, informed)
    assert choice.algorithm == "predictor"
    with pytest.raises(UserError, match=why):
        raise UserError(choice.why)


def test_a_search_that_is_continued_keeps_the_choice():
    study = optuna.create_study()
    first = choose_algorithm(10, 1, 1, True)
    assert keep_choice(study, first) == first
    assert keep_choice(study, Choice("random", "another machine")) == first
    assert study.user_attrs[CHOSEN] == {"algorithm": "predictor", "why": first.why}


def test_in_a_study_of_ones_own_it_is_the_predictor():
    choices = {}
    for sampler in (Auto, Predictor):
        study = optuna.create_study(sampler=sampler(seed=1))
        study.optimize(lambda trial: sum(trial.suggest_categorical(n, [0, 1, 2]) for n in "abcd"), n_trials=14)
        choices[sampler] = [trial.params for trial in study.trials]
    assert choices[Auto] == choices[Predictor]


def test_a_search_says_records_and_keeps_what_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    own_folder(tmp_path / "mine")
    line = ["search", "--config-dir", "mine", "--evaluator", "synthetic", "--algorithm", "auto", "--output", "run"]
    assert main([*line, "trials=4"]) == 0
    told = capsys.readouterr()
    assert "algorithm=auto: predictor, the best in nearly every comparison of" in told.err
    assert "algorithm=auto: predictor, the best in nearly every comparison of" in told.out
    chosen = json.loads(Path("run/summary.json").read_text())["chosen"]
    assert chosen["algorithm"] == "predictor"
    assert main([*line, "trials=2000", "timeout=1e-9"]) == 0  # would be told otherwise
    assert json.loads(Path("run/summary.json").read_text())["chosen"] == chosen

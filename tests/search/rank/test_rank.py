"""``effnas rank``: with evaluators whose truth, noise and costs are known."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import Figures, check_laws
from optuna.pruners import MedianPruner
from synthetic import calls, four_networks, read_csv

from effnas import UserError, load_space, run_rank
from effnas.cli import main
from effnas.evaluate.data.image_data import ImageData
from effnas.evaluate.evaluation import Evaluation, EvaluationError
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.search.rank.job import draw_members
from effnas.search.rank.report import summary_text
from effnas.search.rank.shortcuts import PASSES, Smaller, count_beforehand, read_shortcuts
from effnas.space.cost import cost
from effnas.space.network_spec import NetworkSpec


@dataclass(frozen=True)
class Noisy:
    """A truth that MACs and luck decide, and noise that the seed decides."""

    log: str | None = None
    noise: float = 0.0
    passes: float = 1000.0
    wrong: float = 0.0
    failing: float = 0.0
    interrupt_at: int | None = None

    def identity(self) -> dict[str, Any]:
        return {"noise": self.noise, "wrong": self.wrong}

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Any) -> Evaluation:
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{architecture.digest} {seed}\n")
            if len(calls(self.log)) == self.interrupt_at:
                raise KeyboardInterrupt
        number = int(architecture.digest[:8], 16)
        if np.random.default_rng((4, number)).random() < self.failing:
            raise EvaluationError("loss is not finite")
        own = np.random.default_rng(number).standard_normal()
        luck = np.random.default_rng((seed, number)).standard_normal()
        wrong = np.random.default_rng((77, number)).standard_normal()
        value = 0.5 + 0.02 * (own + self.noise * luck + self.wrong * wrong)
        return Evaluation(float(value), cost(architecture), seconds=0.01, metrics={PASSES: self.passes})


CHEAP = {"perfect": Noisy(passes=100.0), "poor": Noisy(passes=10.0, wrong=2.0)}


def rank(output: Path, evaluator: Any = None, **options: Any) -> Any:
    given = {"shortcuts": CHEAP, "members": 80, "quiet": True, **options}
    return run_rank("tiny", evaluator or Noisy(noise=0.5), output=output, **given)


def row_of(summary: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in summary["rows"] if row["shortcut"] == name)
    return found


KEYS = {"shortcut", "tau", "low", "high", "tau_over_ceiling", "tau_top", "tau_equal_macs", "cost"}


def test_the_table(tmp_path: Path) -> None:
    summary = rank(tmp_path / "o")
    assert summary["members"] == 80
    assert all(row.keys() >= KEYS for row in summary["rows"])
    names = [row["shortcut"] for row in summary["rows"]]
    assert names[:2] == ["perfect", "poor"]
    assert {"log_macs", "log_params", "depth", "expansion_layers", "activations"} <= set(names)
    assert "predictor_8" in names  # a tenth of 80 trainings, what `perfect` costs
    # normal truth, noise of half its deviation: r = .8, of the mean of two .889; its root is .943
    assert summary["ceiling"] == pytest.approx(2 / math.pi * math.asin(0.943), abs=0.05)
    perfect, poor = row_of(summary, "perfect"), row_of(summary, "poor")
    assert perfect["tau_over_ceiling"] == pytest.approx(1, abs=0.08)
    assert perfect["low"] < perfect["tau"] < perfect["high"]
    assert (perfect["cost"], perfect["trainings"]) == (pytest.approx(0.1), 8)
    assert perfect["predictor_tau"] == row_of(summary, "predictor_8")["tau"]
    assert poor["tau"] < perfect["tau"]
    assert poor["cost"] == pytest.approx(0.01)
    assert row_of(summary, "log_macs")["cost"] == 0
    assert perfect["overlap"] > poor["overlap"]
    chosen, told = summary["selected_on"], summary["confirmed_on"]
    assert (chosen["shortcut"], chosen["seeds"], told["seeds"]) == ("perfect", [0], [1])
    assert told["tau"] != chosen["tau"]
    assert json.loads((tmp_path / "o" / "summary.json").read_text()) == summary
    members = read_csv(tmp_path / "o" / "members.csv")
    assert len(members) == 80
    one = members[3]
    assert float(one["accuracy"]) == pytest.approx((float(one["accuracy.0"]) + float(one["accuracy.1"])) / 2)
    assert {"shortcut.perfect", "shortcut.log_macs", "decision.block0_channels"} <= one.keys()
    text = summary_text(summary)
    assert "perfect pays: above" in text
    assert "poor does not pay" in text or "poor: not surely better" in text or "poor pays" in text
    assert f"the best by seeds 0 is perfect: τ {told['tau']:.3f} with seeds 1, which chose nothing" in text
    assert len(summary.table("rows")) == len(summary["rows"])


def test_shortcuts_have_a_seed_of_their_own(tmp_path: Path) -> None:
    """One that is the reference again reaches what one more training does, and not the training's own noise."""
    again = {"again": Noisy(str(tmp_path / "again"), noise=1.0)}
    summary = rank(tmp_path / "o", Noisy(noise=1.0), shortcuts=again)
    assert {line.split()[1] for line in calls(tmp_path / "again")} == {"99"}
    assert row_of(summary, "again")["tau"] == pytest.approx(summary["one_training"], abs=0.13)
    assert row_of(summary, "again")["cost"] == 1


def test_it_is_resumed_and_grows(tmp_path: Path) -> None:
    log, cheap = str(tmp_path / "log"), str(tmp_path / "cheap")
    small: dict[str, Any] = {"members": 12, "shortcuts": {"cheap": Noisy(cheap, wrong=1.0)}}
    with pytest.raises(KeyboardInterrupt):
        rank(tmp_path / "o", Noisy(log, interrupt_at=7), **small)
    with pytest.raises(KeyboardInterrupt):
        rank(tmp_path / "o", Noisy(log), **{**small, "shortcuts": {"cheap": Noisy(cheap, wrong=1.0, interrupt_at=5)}})
    first = rank(tmp_path / "o", Noisy(log), **small)
    assert len(calls(log)) == 24 + 1  # the interrupted one twice
    assert len(calls(cheap)) == 12 + 1
    assert rank(tmp_path / "o", Noisy(log), **small)["rows"] == first["rows"]
    more = rank(tmp_path / "o", Noisy(log), **{**small, "members": 20, "seeds": 3})
    assert more["members"] == 20
    assert len(calls(log)) == 60 + 1
    assert len(calls(cheap)) == 20 + 1
    with pytest.raises(UserError, match=r"holds another search .*wrong: 1\.0 → 0\.5"):
        rank(tmp_path / "o", Noisy(log), members=20, seeds=3, shortcuts={"cheap": Noisy(wrong=0.5)})
    anew = rank(tmp_path / "o", Noisy(log), **{**small, "shortcuts": {"cheap": Noisy(wrong=0.5)}}, restart=True)
    assert anew["members"] == 12
    assert (tmp_path / "o" / "members.1.csv").exists()


@pytest.mark.slow
def test_two_workers_find_the_same(tmp_path: Path) -> None:
    options: dict[str, Any] = {"members": 12, "shortcuts": {"poor": CHEAP["poor"]}}
    one = rank(tmp_path / "one", **options)
    two = rank(tmp_path / "two", **options, workers=2)
    assert one["rows"] == two["rows"]


def test_members_that_fail_are_left_out(tmp_path: Path) -> None:
    cheap = {"perfect": Noisy(), "failing": Noisy(failing=0.3)}
    summary = rank(tmp_path / "o", Noisy(failing=0.1), members=40, shortcuts=cheap, max_failures=None)
    assert summary["members"] < 40
    assert summary["failed"] == 2 * (40 - summary["members"])
    assert row_of(summary, "failing")["members"] < summary["members"] == row_of(summary, "perfect")["members"]
    assert f"{summary['failed']} trainings failed; the first reason: " in summary_text(summary)
    assert "loss is not finite" in summary["reasons"][0]
    with pytest.raises(UserError, match="no member has a result"):
        rank(tmp_path / "p", Noisy(), members=12, shortcuts={"none": Noisy(failing=1.0)}, max_failures=None)


def test_without_image_passes_seconds_count(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Timed(Noisy):
        def __call__(self, architecture: NetworkSpec, *, seed: int, report: Any) -> Evaluation:
            return replace(super().__call__(architecture, seed=seed, report=report), metrics={})

    summary = rank(tmp_path / "o", Timed(), members=12, shortcuts={"timed": Timed()})
    assert summary["cost_in"] == "seconds"
    assert row_of(summary, "timed")["cost"] == pytest.approx(1)


@pytest.mark.pictures
def test_the_figure_keeps_the_laws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures(monkeypatch)
    rank(tmp_path / "o", members=20, shortcuts={**CHEAP, "a_shortcut_with_a_rather_long_name_of_its_own": Noisy()})
    check_laws(figures.only)
    assert len([axes for axes in figures.only.axes if axes.get_title(loc="left")]) == 8


# -- members and shortcuts ---------------------------------------------------------------------------------


def test_members_are_different_and_grow(tmp_path: Path) -> None:
    space = load_space("tiny")
    few, many = draw_members(space, 10, 5), draw_members(space, 30, 5)
    assert [n.digest for _, n in many[:10]] == [n.digest for _, n in few]
    assert len({n.digest for _, n in many}) == 30
    with pytest.raises(UserError, match="space four: 4 different networks are too few to rank; 10 are needed"):
        run_rank(four_networks(), Noisy(), output=tmp_path / "o", quiet=True, shortcuts=CHEAP)


def proxy(**changes: Any) -> Proxy:
    return Proxy(ImageData(limit=200), Training(epochs=8, warmup_epochs=2.0), threads=1, **changes)


def test_words_make_less_of_the_reference() -> None:
    space = load_space("tiny")
    words = ["epochs_2", "images_100+epochs_4", "resolution_12", "synflow", "log_macs"]
    epochs, both, pixels, synflow = read_shortcuts(words, space, proxy())
    assert isinstance(epochs.evaluator, Proxy)
    training = epochs.evaluator.training
    assert (training.epochs, training.warmup_epochs, training.eval_every) == (2, 0.5, 2)
    assert isinstance(both.evaluator, Proxy)
    assert (both.evaluator.training.epochs, both.evaluator.data.limit) == (4, 100)  # type: ignore[attr-defined]
    assert pixels.evaluator == Smaller(proxy(), 12)
    assert (synflow.name, synflow.metric) == ("synflow", "synflow")  # the count is looked at anyway


def test_smaller_images_cost_less() -> None:
    network = draw_members(load_space("tiny"), 10, 0)[0][1]
    found = Smaller(Noisy(passes=900), 8)(network, seed=0, report=lambda *_: None)
    small = network.with_(resolution=8)
    assert found.metrics[PASSES] == pytest.approx(900 * cost(small).macs / cost(network).macs)
    with pytest.raises(EvaluationError, match="16 pixels are not below the network's 16"):
        Smaller(Noisy(), 16)(network, seed=0, report=lambda *_: None)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["epoch_2"], "shortcuts: unknown 'epoch_2'"),
        (["epochs_8"], "epochs_8: the reference has no more: 8 epochs"),
        (["images_200"], "images_200: the reference has no more: data.limit=200"),
        (["epochs_2+epochs_3"], "says one thing twice"),
        (["synflow", "synflow"], "synflow is there twice"),
        ([{"synflow": {"batch": 3}}], "synflow takes no settings"),
        ([{"supernet": {"epoch": 3}}], "shortcuts: supernet: unknown 'epoch'"),
        ([{"mine": 3}], "mine must be an evaluator, or settings, got 3"),
        ([3], "a word, a mapping or an evaluator is expected, got 3"),
        (["../x"], "a name has letters, digits"),
    ],
)
def test_shortcuts_that_are_none(given: Any, text: str) -> None:
    with pytest.raises(UserError, match=text):
        read_shortcuts(given, load_space("tiny"), proxy())


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="epochs_2: the reference, Noisy, has no training to make less of"):
        rank(tmp_path / "o", shortcuts=["epochs_2"])
    with pytest.raises(UserError, match=r"seeds \(two or more.* must be"):
        rank(tmp_path / "o", seeds=1)
    with pytest.raises(UserError, match="members must be"):
        rank(tmp_path / "o", members=9)
    with pytest.raises(UserError, match=r"pruner must be none: .* got MedianPruner"):
        rank(tmp_path / "o", pruner=MedianPruner())
    assert not (tmp_path / "o").exists()


def test_a_supernet_has_a_price() -> None:
    assert count_beforehand(Noisy(), []) == 0
    (shortcut,) = read_shortcuts("supernet_3", load_space("tiny"), proxy())
    assert shortcut.evaluator.training.epochs == 3  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a supernet, a proxy, fewer epochs, smaller images and an evaluator of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = "rank --data.limit 150 --training.epochs 2 --members 10 --quiet --json --evaluator.threads 1"
    words += " --training.precision fp32 --training.memory_format channels_last --training.compile false"
    own = "{mine: {_target_: effnas.evaluate.zero_cost.zero_cost.ZeroCost, space: tiny, proxies: depth, reference: 8}}"
    given = f"--shortcuts=[naswot,epochs_1,resolution_8,supernet_1,{own}]"
    assert main([*words.split(), given, f"-o={tmp_path / 'o'}"]) == 0
    summary = json.loads(capsys.readouterr().out)
    names = [row["shortcut"] for row in summary["rows"] if row["kind"] == "shortcut"]
    assert names == ["naswot", "epochs_1", "resolution_8", "supernet_1", "mine"]
    assert row_of(summary, "epochs_1")["cost"] == pytest.approx(0.5, abs=0.01)
    assert 0.2 < row_of(summary, "resolution_8")["cost"] < 0.6
    assert row_of(summary, "supernet_1")["cost"] > 0.1
    assert row_of(summary, "mine")["tau"] == pytest.approx(row_of(summary, "depth")["tau"])
    assert (tmp_path / "o" / "rank.png").exists()

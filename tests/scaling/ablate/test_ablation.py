"""Rules of scaling side by side."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_rel
from synthetic import Synthetic, calls, own_folder, read_csv
from torch import nn

from effnas.cli import main
from effnas.evaluate.evaluation import Evaluation, EvaluationError
from effnas.scaling.ablate.job import run_ablation
from effnas.scaling.ablate.paired import compare, holm, paired
from effnas.scaling.ablate.report import summary_text
from effnas.scaling.rules import LACS
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.network_spec import NetworkSpec
from effnas.space.stage import Stage
from effnas.space.zoo import load_architecture

BASE = Architecture(
    (Stage("mbconv", 16, 3, expand_ratio=3), Stage("mbconv", 32, 3, stride=2, expand_ratio=3)),
    stem=16,
    stem_stride=2,
    head=96,
    activation="relu",
    resolution=32,
    num_classes=10,
    name="small",
)


@dataclass(frozen=True)
class Truth:
    """Accuracies of which the truth is known: a gain by rule for each doubling, and noise that seeds share or not.

    Args:
        log: file that gets a line for each call.
        gains: by rule, for each doubling of MACs.
        noise: standard deviation of each training.
        broken: networks with this in their name fail.
        interrupt_at: the call in which Ctrl-C is pressed.
    """

    log: str
    gains: Any = ()
    noise: float = 0.0
    broken: str = ""
    interrupt_at: int | None = None

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Any) -> Evaluation:
        with open(self.log, "a") as file:
            file.write(f"{architecture.name} {seed}\n")
        if self.interrupt_at is not None and len(calls(self.log)) == self.interrupt_at:
            raise KeyboardInterrupt
        if self.broken and self.broken in architecture.name:
            raise EvaluationError("loss is not finite")
        rule = architecture.name.split("_")[1] if "_" in architecture.name else ""
        doublings = round(math.log2(cost(architecture).macs / cost(BASE).macs))
        accuracy = 0.5 + 0.01 * seed + dict(self.gains).get(rule, 0.0) * doublings  # seeds differ, but alike
        # the digest and not the name decides: equal networks have equal noise
        own = np.random.default_rng((seed, int(architecture.digest[:8], 16))).normal(0, self.noise)
        return Evaluation(accuracy + float(own), cost(architecture))


RULES = ("compound", "depth", "width")
GAINS = (("compound", 0.05), ("depth", 0.01), ("width", 0.05))


def ablate(folder: Path, evaluator: Any = None, base: Any = BASE, **options: Any) -> dict[str, Any]:
    given = {"rules": RULES, "latency": False, "seeds": 5, "quiet": True, **options}
    return run_ablation(base, evaluator or Truth(str(folder / "calls.txt"), GAINS), output=folder / "out", **given)


def row_of(summary: dict[str, Any], rule: str, factor: float) -> dict[str, Any]:
    return next(row for row in summary["rows"] if (row["rule"], row["factor"]) == (rule, factor))


def comparison(summary: dict[str, Any], rule: str, factor: float) -> dict[str, Any]:
    return next(row for row in summary["comparisons"] if (row["rule"], row["factor"]) == (rule, factor))


# -- the result ----------------------------------------------------------------------------------------


def test_the_known_truth_is_found(tmp_path: Path) -> None:
    summary = ablate(tmp_path, Truth(str(tmp_path / "calls.txt"), GAINS, noise=0.004), seeds=6)
    assert summary["trials"] == summary["complete"] == 7 * 6
    for factor in (2, 4):
        worse = comparison(summary, "depth", factor)
        assert worse["stands"] is True
        assert worse["difference"] == pytest.approx(-0.04 * math.log2(factor), abs=0.01)
        assert worse["text"] == "stands: worse than compound"
        alike = comparison(summary, "width", factor)
        assert alike["stands"] is False
        assert alike["text"] == "does not stand out from the noise"
        for rule in ("depth", "width"):
            ours, theirs = (row_of(summary, r, factor)["accuracies"] for r in (rule, "compound"))
            test = ttest_rel([ours[s] for s in sorted(ours)], [theirs[s] for s in sorted(theirs)])
            found = comparison(summary, rule, factor)
            assert (found["t"], found["p"]) == pytest.approx((test.statistic, test.pvalue))
            interval = test.confidence_interval(0.95)
            assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))
            assert found["p_holm"] >= found["p"]
    row = row_of(summary, "depth", 4)
    values = list(row["accuracies"].values())
    assert row["accuracy"] == pytest.approx(statistics.fmean(values))
    assert row["standard_error"] == pytest.approx(statistics.stdev(values) / math.sqrt(6))
    assert row["seeds"] == 6
    text = summary_text(summary)
    assert "by depth (d=4.00" in text
    assert "Holm over 4 comparisons, level 0.05" in text


@dataclass(frozen=True)
class Luck:
    """All networks are equally good; what differs is luck, which the seed decides."""

    log: str
    interrupt_at: int | None = None

    def identity(self) -> dict[str, Any]:
        return {}

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Any) -> Evaluation:
        with open(self.log, "a") as file:
            file.write(f"{architecture.name} {seed}\n")
        if len(calls(self.log)) == self.interrupt_at:
            raise KeyboardInterrupt
        luck = np.random.default_rng((seed, int(architecture.digest[:8], 16))).normal(0, 0.02)
        return Evaluation(0.5 + float(luck), cost(architecture))


def test_the_best_rule_is_confirmed_by_other_seeds(tmp_path: Path) -> None:
    log = str(tmp_path / "calls.txt")
    alone = ablate(tmp_path, Luck(log), seeds=3)
    assert [one["confirmed_on"] for one in alone["winners"]] == [None, None]
    assert alone["selected_on"] == alone["winners"][1]["selected_on"]
    assert 0 < alone["optimism"] < 0.02
    for one in alone["winners"]:
        assert one["selected_on"]["accuracy"] == max(row_of(alone, rule, one["factor"])["accuracy"] for rule in RULES)
    assert "which is too high, in expectation by" in summary_text(alone)
    before = len(calls(log))
    with pytest.raises(KeyboardInterrupt):
        ablate(tmp_path, Luck(log, interrupt_at=before + 3), seeds=3, confirm=6)
    summary = ablate(tmp_path, Luck(log), seeds=3, confirm=6)
    assert summary["rows"] == alone["rows"]  # the tests do not see the new ones
    assert summary["comparisons"] == alone["comparisons"]
    new = {tuple(line.split()) for line in calls(log)[before:]}
    expected = set()
    for one in summary["winners"]:
        factor, chosen, reported = one["factor"], one["selected_on"], one["confirmed_on"]
        assert reported["seeds"] == list(range(94, 100))
        assert reported["accuracy"] == pytest.approx(0.5, abs=3 * 0.02 / 6**0.5)
        rules = {one["rule"], "compound"}
        expected |= {(f"small_{rule}_x{factor:g}", str(seed)) for rule in rules for seed in reported["seeds"]}
        if one["rule"] != "compound":
            assert chosen["difference"] > 0
            assert abs(reported["difference"]) < 3 * 0.02 * (2 / 6) ** 0.5
    assert new == expected
    assert "on 6 seeds that chose nothing" in summary_text(summary)


def test_every_network_has_the_budget(tmp_path: Path) -> None:
    summary = ablate(tmp_path, seeds=1, rules=("compound", "depth", "width", "resolution", "dwr"), factors=(4, 2))
    base = cost(BASE)
    assert [(r["factor"], r["rule"]) for r in summary["rows"]] == [
        (f, r) for f in (2, 4) for r in ("compound", "depth", "width", "resolution", "dwr")
    ]
    for row in summary["rows"]:
        network = load_architecture(row["file"])
        costs = cost(network)
        assert network.digest == row["digest"]
        assert costs.macs / base.macs == pytest.approx(row["factor"], rel=0.02)
        for name in ("macs", "params", "activations", "peak_memory"):
            assert row[name] == getattr(costs, name)
        assert row["macs_ratio"] == pytest.approx(costs.macs / base.macs)
        assert isinstance(network, Architecture)
        assert row["blocks"] == sum(stage.repeats for stage in network.stages)
        assert row["resolution"] == network.resolution
        nominal = row["depth"] * row["width"] ** 2 * row["resolution_multiplier"] ** 2
        assert row["nominal_macs_ratio"] == pytest.approx(nominal)
    assert summary["base"]["blocks"] == 6
    # what was done to meet it is told
    depth = row_of(summary, "depth", 2)
    assert depth["trimmed"] != 1
    assert any(f"depth ×2 (width × {depth['trimmed']:.3f}" in note for note in summary["notes"])


@pytest.mark.pictures
def test_files_and_fields(tmp_path: Path) -> None:
    summary = ablate(tmp_path, command="effnas ablate")
    out = tmp_path / "out"
    assert json.loads((out / "summary.json").read_text()) == summary
    fields = ["base", "rows", "reference", "comparisons", "notes", "tolerance", "latency_of", "reasons"]
    fields += ["trials", "complete", "failed", "duplicates", "seconds", "seed", "evaluator", "versions", "command"]
    assert set(fields) <= summary.keys()
    assert (summary["reference"], summary["base"]["rule"], summary["base"]["name"]) == ("compound", "base", "small")
    rows = read_csv(out / "ablation.csv")
    assert [row["rule"] for row in rows] == ["base", *RULES, *RULES]
    assert [float(row["accuracy"]) for row in rows[1:]] == pytest.approx([row["accuracy"] for row in summary["rows"]])
    assert [row["rule"] for row in read_csv(out / "comparisons.csv")] == ["depth", "width"] * 2
    assert len(read_csv(out / "trials.csv")) == 35
    with Image.open(out / "ablation.png") as image:
        assert len(image.convert("RGB").resize((64, 64)).getcolors(4096) or ()) > 5
    assert "<svg" in (out / "ablation.svg").read_text()
    assert load_architecture(out / "networks" / "base.yaml").digest == BASE.digest


def test_latency_is_measured_once(tmp_path: Path) -> None:
    options: dict[str, Any] = {"latency": True, "latency_rounds": 2, "factors": 2, "seeds": 1}
    summary = ablate(tmp_path, **options)
    assert summary["base"]["latency_ratio"] == 1
    assert all(row["latency"] > 0 and row["latency_ratio"] > 0 for row in summary["rows"])
    assert summary["latency_of"] == "batch 1, cpu, 1 thread"
    assert "latency: batch 1, cpu, 1 thread, here, in alternation" in summary_text(summary)
    assert row_of(summary, "depth", 2)["divisor"] == 2
    assert "widths that are not multiples of 8 can be slower than their MACs suggest" in summary["notes"]
    again = ablate(tmp_path, **{**options, "seeds": 2})
    assert [row["latency"] for row in again["rows"]] == [row["latency"] for row in summary["rows"]]


# -- the tests -----------------------------------------------------------------------------------------


def test_one_seed_allows_no_test(tmp_path: Path) -> None:
    summary = ablate(tmp_path, seeds=1)
    for row in summary["comparisons"]:
        assert row["text"] == "no test possible with one seed: use seeds=5 or more"
        assert (row["p"], row["p_holm"], row["stands"], row["low"], row["seeds"]) == (None, None, None, None, 1)
    assert comparison(summary, "depth", 2)["difference"] == pytest.approx(-0.04)
    assert summary["base"]["standard_error"] is None
    assert "no test possible with one seed" in summary_text(summary)


def test_two_seeds_give_no_verdict(tmp_path: Path) -> None:
    summary = ablate(tmp_path, seeds=2)
    for row in summary["comparisons"]:
        assert row["stands"] is None
        assert row["p"] is not None
        assert row["text"] == "two seeds are too few for a verdict: use seeds=5 or more"


def test_differences_without_spread() -> None:
    sure = paired({0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.4, 1: 0.5, 2: 0.6})
    assert (sure["p"], sure["t"]) == (0.0, None)
    assert sure["difference"] == pytest.approx(0.1)
    assert (sure["low"], sure["high"]) == pytest.approx((0.1, 0.1))
    assert paired({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})["p"] == 1.0


def test_only_shared_seeds_are_paired() -> None:
    found = paired({0: 0.5, 1: 0.7, 2: 0.9, 3: 0.1}, {1: 0.6, 2: 0.7, 3: 0.0, 4: 0.9})
    assert found["seeds"] == 3
    assert found["p"] == pytest.approx(ttest_rel([0.7, 0.9, 0.1], [0.6, 0.7, 0.0]).pvalue)
    assert paired({0: 0.5}, {1: 0.5})["difference"] is None


def test_holm() -> None:
    # by hand: 4 · 0.01, then 3 · 0.02, then 2 · 0.03 = 0.06 (the same), then 0.5
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.04, 0.01]) == pytest.approx([0.04, 0.02])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_many_comparisons_raise_the_bar() -> None:
    def row(rule: str, values: tuple[float, ...]) -> dict[str, Any]:
        return {"rule": rule, "factor": 2.0, "digest": rule, "accuracies": dict(enumerate(values))}

    base = row("compound", (0.5, 0.5, 0.5))
    one = row("depth", (0.55, 0.57, 0.59))  # p = 0.027
    assert [c["stands"] for c in compare([base, one], "compound")] == [True]
    other = row("width", (0.55, 0.57, 0.595))  # p = 0.032
    assert [c["stands"] for c in compare([base, one, other], "compound")] == [False, False]
    assert [c["rule"] for c in compare([base, one, other], "width")] == ["compound", "depth"]


def test_rules_that_give_one_network(tmp_path: Path) -> None:
    coefficients = [LACS.alpha, LACS.beta, LACS.gamma]
    options: dict[str, Any] = {"rules": ("compound", "lacs", "depth"), "factors": 2, "coefficients": coefficients}
    summary = ablate(tmp_path, **options)
    assert len(calls(tmp_path / "calls.txt")) == 3 * 5  # the base, the two that are one, depth
    assert row_of(summary, "lacs", 2)["equal_to"] == "compound"
    assert row_of(summary, "lacs", 2)["accuracies"] == row_of(summary, "compound", 2)["accuracies"]
    found = comparison(summary, "lacs", 2)
    assert (found["p"], found["text"]) == (None, "the same network: nothing to compare")
    assert "lacs ×2 is the same network as compound" in summary["notes"]


# -- failing and going on ------------------------------------------------------------------------------


def test_the_result_has_data_frames(tmp_path: Path) -> None:
    result = run_ablation(
        BASE, Truth(str(tmp_path / "calls.txt"), GAINS), rules=RULES, latency=False, output=tmp_path / "out", quiet=True
    )
    assert result == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(result.trials) == result["trials"]
    assert list(result.table("networks")["rule"][1:]) == [row["rule"] for row in result["rows"]]
    assert len(result.table("comparisons")) == len(result["comparisons"])
    assert set(result.front["rule"]) <= {"base", *RULES}


def test_a_network_that_fails(tmp_path: Path) -> None:
    summary = ablate(tmp_path, Truth(str(tmp_path / "calls.txt"), GAINS, broken="_depth_x4"))
    assert summary["failed"] == 5
    assert set(summary["reasons"]) == {"EvaluationError: loss is not finite"}
    assert row_of(summary, "depth", 4)["accuracy"] is None
    assert comparison(summary, "depth", 4)["text"] == "no seed has a result for both"
    assert comparison(summary, "width", 4)["seeds"] == 5
    text = summary_text(summary)
    assert "failed" in text
    assert "5 trainings failed; the first reason: EvaluationError: loss is not finite" in text


def test_all_fail(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no training has a result \(35 failed\); the first reason: EvaluationError: loss is not"
    ):
        ablate(tmp_path, Truth(str(tmp_path / "calls.txt"), broken="small"), max_failures=None)
    assert len(read_csv(tmp_path / "out" / "ablation.csv")) == 7


def test_more_seeds_later(tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    ablate(tmp_path, seeds=2)
    assert len(calls(tmp_path / "calls.txt")) == 14
    later = ablate(tmp_path, seeds=4)
    assert len(calls(tmp_path / "calls.txt")) == len(set(calls(tmp_path / "calls.txt"))) == 28
    once = ablate(tmp_path / "once", seeds=4)
    assert later["comparisons"] == once["comparisons"]
    assert [r["accuracies"] for r in later["rows"]] == [r["accuracies"] for r in once["rows"]]


def test_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    evaluator = Truth(str(tmp_path / "calls.txt"), GAINS, interrupt_at=9)
    with pytest.raises(KeyboardInterrupt):
        ablate(tmp_path, evaluator)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["complete"] == 8
    assert [row["seeds"] for row in summary["rows"]] == [1] * 6  # seed by seed: the first is whole
    finished = ablate(tmp_path, evaluator)
    assert finished["comparisons"] == ablate(tmp_path / "whole")["comparisons"]
    assert len(calls(tmp_path / "calls.txt")) == 36


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"rules": ("compound", "depth")}, r"networks\.width 2: '\w+' → None"),
        ({"factors": (2, 3)}, r"networks\.compound 4"),
        ({"base": BASE.with_(stem=24)}, "baseline: '.*' → '.*'"),
        ({"seed": 1}, "seed: 0 → 1"),
        ({"coefficients": [1.1, 1.2, 1.1]}, r"networks\.compound 2"),
    ],
)
def test_another_ablation_in_the_same_folder(tmp_path: Path, change: dict[str, Any], difference: str) -> None:
    ablate(tmp_path, seeds=1)
    with pytest.raises(UserError, match=rf"holds another search \(.*{difference}"):
        ablate(tmp_path, **{"seeds": 1, **change})


# -- bases ---------------------------------------------------------------------------------------------


def small_convnet(depth: float, width: float, resolution: int, *, num_classes: int = 10) -> nn.Module:
    channels = round(24 * width)
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1)]
    for _ in range(round(4 * depth)):
        layers += [nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def test_a_network_of_the_users_own_builder(tmp_path: Path) -> None:
    own = BuiltNetwork(partial(small_convnet, num_classes=10), resolution=24, num_classes=10, name="own")
    options: dict[str, Any] = {"rules": ("depth", "width", "resolution"), "factors": 2, "seeds": 3}
    summary = ablate(tmp_path, base=None, network=own, tolerance=0.05, **options)
    assert summary["reference"] == "depth"
    assert [row["blocks"] for row in summary["rows"]] == [None] * 3
    for row in summary["rows"]:
        network = load_architecture(row["file"], own)
        assert cost(network).macs / cost(own).macs == pytest.approx(2, rel=0.05)
    assert "blocks" not in summary_text(summary)


def test_a_budget_that_a_rule_cannot_meet(tmp_path: Path) -> None:
    flat = BASE.with_(stages=(Stage("mbconv", 16), Stage("mbconv", 32, stride=2, expand_ratio=6)), fixed_ends=True)
    with pytest.raises(
        UserError, match=r"rule depth cannot meet .* \(2 times those of small\) within 2\.00%; the near"
    ):
        ablate(tmp_path, base=flat)  # with fixed ends no block is left to add
    assert not calls(tmp_path / "calls.txt")  # told before anything is trained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rules": ("compound", "deph")},
            r"rules: unknown 'deph'\. Did you mean 'depth'\? Choose one of: compound, pub",
        ),
        ({"rules": ("compound",)}, r"rules: give at least two, got \['compound'\]; choose from: compound"),
        ({"rules": "compound"}, "rules: give at least two"),
        ({"rules": ()}, "rules: give at least two"),
        ({"rules": 3}, "rules: unknown '3'"),
        ({"rules": ("depth", "depth")}, "rules: depth appears twice"),
        ({"reference": "resolution"}, "reference: unknown 'resolution'. .*one of: compound, depth, width"),
        ({"factors": (2, 0)}, r"factors: factor must be in \(0, 1e\+06\], got 0"),
        ({"factors": (2, -4)}, r"factors: factor must be in \(0, 1e\+06\], got -4"),
        ({"factors": "many"}, "factors: factor must be a finite number, got 'many'"),
        ({"factors": ()}, r"factors: none given"),
        ({"factors": (1, 2)}, "factors: 1 is the base itself"),
        ({"factors": (2, 2.0)}, "factors: 2 appears twice"),
        ({"tolerance": -0.01}, "tolerance must be in"),
        ({"seeds": 0}, "seeds must be between 1 and 100, got 0"),
        ({"seeds": 2.5}, "seeds must be a whole number, got 2.5"),
        ({"seed": -1}, "seed must be"),
        ({"latency": True, "latency_rounds": 1}, "latency_rounds must be between 2 and 1000, got 1"),
        ({"latency": True, "latency_batch": 0}, "latency_batch must be"),
        ({"coefficients": "1.2,1.1"}, "coefficients must be three numbers"),
        ({"rules": ("depth", "width"), "coefficients": "paper"}, r"coefficients belong to rule compound, which is not"),
        (
            {"shares": [0.1, 0.8, 0.1]},
            r"shares belong to rule dwr, which is not among rules=\[compound, depth, width\]",
        ),
        ({"base": "no_such_network"}, "no_such_network"),
        ({"base": None, "network": BASE}, "network must be a BuiltNetwork"),
    ],
)
def test_mistakes(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ablate(tmp_path, **options)
    assert not calls(tmp_path / "calls.txt")


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    BASE.save(tmp_path / "base.yaml")
    words = ["ablate", "evaluator=synthetic", "--config-dir", str(own_folder(tmp_path)), "--baseline", "base.yaml"]
    words += ["--factors", "2", "rules=[compound,width]", "--latency", "false"]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    (tmp_path / "once").mkdir()
    options: dict[str, Any] = {"rules": ("compound", "width"), "factors": 2, "seeds": 3}
    assert summary["comparisons"] == ablate(tmp_path / "once", Synthetic(), **options)["comparisons"]
    assert summary["command"].startswith("effnas ablate evaluator=synthetic")
    assert "the base and 2 scaled networks: 9 trainings with 3 seeds" in captured.err
    assert main([*words, "--seeds", "4"]) == 0
    assert "outputs/ablate: summary.json ablation.csv" in capsys.readouterr().out
    assert len(calls(tmp_path / "calls.txt")) == 12
    assert main([*words, "--rules", "compound,nothing"]) == 2
    assert "rules: unknown 'nothing'" in capsys.readouterr().err

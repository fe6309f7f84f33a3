"""Latency that is known before training: ready laws, models of evaluators, and what a search makes of them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effnas import cost, load_architecture, load_latency, load_space, run_scale, run_search
from effnas.cli import main
from effnas.evaluate.evaluation import Evaluation
from effnas.evaluate.latency.known import KnowsLatency
from effnas.evaluate.latency.laws import read_laws
from effnas.evaluate.latency.model import LatencyModel, fit_latency
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.tabular import Tabular
from effnas.evaluate.zero_cost.zero_cost import ZeroCost
from effnas.search.feasible import cost_rows
from effnas.search.objective import Accuracy, MnasNetReward, Pareto
from effnas.space.cost import ArchitectureBatch, cost_batch
from effnas.space.errors import UserError


def seconds_of(network: Any) -> float:
    total = cost(network)
    return float(1e-9 * total.activations**1.1 + 2e-4 * network.blocks)


@dataclass(frozen=True)
class Larger(KnowsLatency):
    """Larger networks are better; each call is a line of ``log``."""

    log: str = ""

    def __post_init__(self) -> None:
        self.check_latency_model()

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Evaluation:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{self.say_latency(architecture)}\n")
        accuracy = 0.2 + 0.06 * math.log10(cost(architecture).macs)
        return Evaluation(accuracy, cost(architecture), latency=self.say_latency(architecture))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of the space ``tiny``."""
    space, rng = load_space("tiny"), np.random.default_rng(0)
    networks = list({(n := space.build(space.sample(rng))).digest: n for _ in range(80)}.values())
    file = tmp_path_factory.mktemp("model") / "latency.json"
    fit_latency(networks, [seconds_of(network) for network in networks], "tiny")[0].save(file)
    return str(file)


def seconds_drawn(model: str) -> list[float]:
    space, rng, known = load_space("tiny"), np.random.default_rng(1), load_latency(model)
    return [known(space.build(space.sample(rng))) for _ in range(200)]


# -- laws ------------------------------------------------------------------------------------------------


def test_the_law_of_a_graphics_card_goes_with_activations() -> None:
    law = read_laws()["rtx4090"]
    assert law.exponents == {"activations": pytest.approx(1.16, abs=0.01), "macs": pytest.approx(-0.08, abs=0.01)}
    b0, b1 = (load_architecture(f"efficientnet_{name}") for name in ("b0", "b1"))
    c0, c1 = cost(b0), cost(b1)
    known = load_latency("rtx4090")
    ratio = (c1.activations / c0.activations) ** law.exponents["activations"]
    ratio *= (c1.macs / c0.macs) ** law.exponents["macs"]
    assert known(b1) / known(b0) == pytest.approx(ratio)
    assert known.extrapolates(b0) == ""


@pytest.mark.parametrize("name", sorted(read_laws()))
def test_laws_are_what_was_measured(name: str, shared_data: Path) -> None:
    column = {"rtx4090": "rtx4090_amp_nhwc", "rtx5090": "rtx5090_amp_nchw", "i9_10940x": "i9_10940x_fp32_batch1"}[name]
    with (shared_data / "timm_results" / "networks.csv").open(encoding="utf-8") as lines:
        rows = {(row["model"], row["img_size"]): row for row in csv.DictReader(lines)}
    known = load_latency(name)
    for network, size in (("efficientnet_b0", 224), ("efficientnet_b1", 256), ("efficientnet_b2", 288)):
        measured = 1 / float(rows[network, str(size)][f"img_s_{column}"])
        assert known(load_architecture(network).with_(resolution=size)) == pytest.approx(measured, rel=0.6)


def test_a_law_says_where_it_is_extrapolated(caplog: pytest.LogCaptureFixture) -> None:
    known = load_latency("rtx5090")
    small = load_architecture("efficientnet_b0").with_(resolution=32, name="small")
    assert known.extrapolates(small).startswith("activations is ")
    known(small)
    known(small)
    assert caplog.text.count("small: latency is extrapolated: activations is ") == 1


def test_a_law_knows_the_networks_of_builders() -> None:
    assert 0 < load_latency("i9_10940x")(load_architecture("mobilenet_v3_small")) < 1


@pytest.mark.parametrize("name", ["rtx4090", "model"])
def test_many_networks_at_once_are_as_each(name: str, model: str) -> None:
    space, known = load_space("tiny"), load_latency(model if name == "model" else name)
    indices = space.sample_indices(50, np.random.default_rng(2))
    found = cost_rows(space, indices, known)
    singles = [known(space.build(space.decisions(row))) for row in indices]
    assert found.latency == pytest.approx(singles)
    batch = ArchitectureBatch.of([space.build(space.decisions(row)) for row in indices])
    assert known.many(batch, cost_batch(batch)) == pytest.approx(singles)


def test_scaling_by_a_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["scale", "--target-latency", "0.6ms", "--latency-model", "rtx4090", "-o", str(tmp_path), "--json"]
    assert main(line) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["latency"] <= 0.6e-3
    larger = run_scale(phi=row["phi"] + 0.05, latency_model="rtx4090", output=tmp_path / "larger")
    assert isinstance(larger, dict)
    assert larger["latency"] > 0.6e-3


# -- searches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["predictor", "evolution", "random"])
def test_what_is_too_slow_is_never_trained(name: str, model: str, tmp_path: Path) -> None:
    limit = float(np.quantile(seconds_drawn(model), 0.4))
    line = ["search", "space=tiny", "evaluator=zero_cost", "evaluator.proxies=log_macs", "evaluator.reference=8"]
    line += [f"evaluator.latency_model={model}", "objective=accuracy", f"objective.max_latency={limit}"]
    line += [f"algorithm={name}", "trials=24", "-o", str(tmp_path), "--quiet", "--json"]
    assert main(line) == 0
    with (tmp_path / "trials.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    done = [row for row in rows if row["state"] == "complete"]
    assert done
    assert all(float(row["latency"]) <= limit for row in done)
    slow = [row for row in rows if row["state"] == "infeasible"]
    assert all(" s > " in row["reason"] and row["reason"].startswith("infeasible: latency ") for row in slow)
    assert all(float(row["latency"]) > limit for row in slow)
    assert not slow if name == "predictor" else slow


def test_a_front_takes_latency_as_a_known_cost(model: str, tmp_path: Path) -> None:
    evaluator = Larger(latency_model=model, log=str(tmp_path / "log"))
    objective = Pareto(metrics=("accuracy", "latency"), max_latency=float(np.quantile(seconds_drawn(model), 0.5)))
    summary = run_search("tiny", evaluator, objective, trials=16, output=tmp_path / "out", quiet=True)
    assert summary["complete"] == 16
    assert "by cross-validation" in summary["evaluator_details"]["latency_is"]
    assert all(0 < row["latency"] <= objective.max_latency for row in summary["front"])  # type: ignore[operator]
    assert len((tmp_path / "log").read_text().splitlines()) == summary["complete"] - summary["duplicates"]


def test_the_reward_of_latency_needs_no_evaluation_to_know_its_factor(model: str) -> None:
    space, known = load_space("tiny"), load_latency(model)
    indices = space.sample_indices(5, np.random.default_rng(0))
    costs = cost_rows(space, indices, known)
    objective = MnasNetReward(metric="latency", target=2e-3)
    assert costs.latency is not None
    assert objective.before_training(costs)[1][:, 0] == pytest.approx((costs.latency / 2e-3) ** -0.07)
    assert (objective.before_training(cost_rows(space, indices))[1] == 1).all()


def test_limits_out_of_reach_are_told_at_once(model: str, tmp_path: Path) -> None:
    evaluator = Larger(latency_model=model, log=str(tmp_path / "log"))
    with pytest.raises(UserError, match=r"no network of the space tiny meets latency ≤ 1e-09 s; the nearest found has"):
        run_search("tiny", evaluator, Accuracy(max_latency=1e-9), trials=4, output=tmp_path / "out", quiet=True)
    assert not (tmp_path / "log").exists()


def test_an_evaluator_of_ones_own_may_know_latency(tmp_path: Path) -> None:
    class Own:
        def known_latency(self, network: Any) -> float:
            return seconds_of(network)

        def __call__(self, architecture: Any, *, seed: int, report: Any) -> Evaluation:
            total = cost(architecture)
            return Evaluation(0.1 * math.log10(total.macs), total, latency=seconds_of(architecture))

        def identity(self) -> Mapping[str, Any]:
            return {"name": "own"}

    space, rng = load_space("tiny"), np.random.default_rng(1)
    limit = float(np.quantile([seconds_of(space.build(space.sample(rng))) for _ in range(100)], 0.5))
    summary = run_search(space, Own(), Accuracy(max_latency=limit), trials=20, output=tmp_path, quiet=True)
    assert summary["best"]["latency"] <= limit
    assert summary["infeasible"] > 0


def test_latency_is_an_option_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["search", "space=accel_nasbench", "evaluator=zero_cost", "evaluator.proxies=log_params", "trials=6"]
    line += ["evaluator.reference=8", "latency=rtx4090", "objective=pareto", "objective.metrics=[merit,latency]"]
    line += ["objective.max_latency=0.0003", "-o", str(tmp_path), "--quiet", "--json"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    known = load_latency("rtx4090")
    assert found["best"]["latency"] == pytest.approx(known(load_architecture(str(tmp_path / "baseline.yaml"))))
    assert found["best"]["latency"] <= 0.0003
    assert found["evaluator_details"]["latency_is"].startswith("law of 144 mobile-type networks on NVIDIA RTX 4090")


# -- mistakes --------------------------------------------------------------------------------------------


def test_a_model_of_another_space(model: str, tmp_path: Path) -> None:
    evaluator = Larger(latency_model=model, log=str(tmp_path / "log"))
    match = r"latency_model: .*latency.json is of space tiny, and this search is in space mobile_cifar: measure some"
    with pytest.raises(UserError, match=match):
        run_search("mobile_cifar", evaluator, Accuracy(), trials=4, output=tmp_path / "out", quiet=True)
    match = "efficientnet_b0_phi1 is not built as the networks of space tiny that this latency model is of: it has 7 "
    with pytest.raises(UserError, match=match):
        run_scale(phi=1, latency_model=model, output=tmp_path / "scale")


def test_latency_is_said_once(model: str, tmp_path: Path) -> None:
    from effnas.evaluate.data import ImageData
    from effnas.evaluate.train.recipe import Training

    match = "evaluator.latency_model=.* and evaluator.{}={} both say the latency"
    with pytest.raises(UserError, match=match.format("latency_batch", "4")):
        Proxy(ImageData(), Training(), latency_batch=4, latency_model=model)
    with pytest.raises(UserError, match=match.format("latency", "seconds")):
        Tabular("table.csv", "tiny", latency="seconds", latency_model="rtx4090")
    with pytest.raises(UserError, match=r"latency=rtx4090 and evaluator.latency_model=rtx5090: leave one of them out"):
        run_search("tiny", ZeroCost("tiny", latency_model="rtx5090"), Accuracy(), latency="rtx4090")
    with pytest.raises(UserError, match=r"latency=rtx4090: evaluator function takes no model of latency; give it a "):
        run_search("tiny", lambda *_, **__: None, Accuracy(), latency="rtx4090")  # type: ignore[arg-type,misc]
    with pytest.raises(UserError, match=r"evaluator.latency_model must be a law's name, a file or null, got 3"):
        ZeroCost("tiny", latency_model=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"no such file: rtx3090; .* ready laws are rtx4090, rtx5090, i9_10940x"):
        ZeroCost("tiny", latency_model="rtx3090")


def test_a_model_says_its_own_error(model: str) -> None:
    found = load_latency(model)
    assert isinstance(found, LatencyModel)
    assert found.judged["median_error"] < 0.1
    assert "median error" in found.trust
    assert "families it has not seen" in load_latency("rtx4090").trust

"""Shares and merits, and the random networks they are told by."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effnas import UserError, load_space
from effnas.evaluate.evaluation import EvaluationError
from effnas.evaluate.zero_cost import reference
from effnas.evaluate.zero_cost.proxies import score_network
from effnas.evaluate.zero_cost.reference import Reference, draw_members, find_share, measure_members
from effnas.space.space import SearchSpace

SPACE = load_space("tiny")


def test_a_share_is_the_part_that_is_outscored() -> None:
    scores = [1.0, 2.0, 3.0, 4.0]
    assert [find_share(scores, score) for score in scores] == [0.125, 0.375, 0.625, 0.875]
    assert find_share(scores, 2.5) == 0.5
    assert find_share([5.0, 5.0, 5.0, 7.0], 5.0) == 0.375
    assert find_share([1.0, 1.0], 1.0) == 0.5


def test_a_share_keeps_the_order_within_and_beyond_the_reference() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    ladder = [find_share(scores, score) for score in np.linspace(-12, 12, 200)]
    assert all(low < high for low, high in pairwise(ladder))
    assert 0 < ladder[0] < 0.01
    assert 0.99 < ladder[-1] < 1
    assert find_share(scores, -1e9) > 0


def test_the_merit_of_several_proxies_is_the_geometric_mean() -> None:
    population = Reference({"depth": [1, 2, 3, 4], "synflow": [10, 20, 30, 40]})
    scores = {"depth": 4.0, "synflow": 10.0}
    assert population.find_merit(scores, ["depth"]) == pytest.approx(0.875)
    assert population.find_merit(scores, ["depth", "synflow"]) == pytest.approx(math.sqrt(0.875 * 0.125))


def test_az_nas_ranks_by_the_logarithms_of_the_ranks() -> None:
    """As the authors' code ranks a population: Σ log(rank / n), ranks from 1."""
    rng = np.random.default_rng(1)
    parts = {name: rng.normal(size=40) for name in reference.PARTS}
    population = Reference({name: values.tolist() for name, values in parts.items()})
    merits = [population.find_merit({name: values[i] for name, values in parts.items()}, ["az_nas"]) for i in range(40)]
    ranks = [values.argsort().argsort() + 1 for values in parts.values()]
    theirs = sum(np.log(rank / 40) for rank in ranks)
    assert np.corrcoef(np.argsort(np.argsort(merits)), np.argsort(np.argsort(theirs)))[0, 1] > 0.99


def test_members_are_different_and_always_the_same() -> None:
    members = draw_members(SPACE, 20)
    digests = [network.digest for _, network in members]
    assert len(set(digests)) == 20
    assert [SPACE.build(decisions).digest for decisions, _ in members] == digests
    assert [network.digest for _, network in draw_members(SPACE, 20)] == digests


def test_a_small_space_has_fewer() -> None:
    stage = {"block": "mbconv", "channels": 8, "kernel_size": [3, 5]}
    two = SearchSpace("two", [stage], resolution=8, num_classes=3)
    assert len(draw_members(two, 50)) == 2


def test_scores_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFNAS_CACHE", str(tmp_path))
    decisions, first = measure_members(SPACE, ["expansion_layers", "depth"], 6)
    assert [score_network(SPACE.build(d), ["depth"])["depth"] for d in decisions] == first.scores["depth"]
    (file,) = (tmp_path / "zero_cost").iterdir()
    calls: list[str] = []

    def count(architecture: Any, names: Any) -> dict[str, float]:
        calls.append(architecture.digest)
        return {name: 1.0 + len(calls) for name in names}

    monkeypatch.setattr(reference, "score_network", count)
    assert measure_members(SPACE, ["expansion_layers", "depth"], 6)[1] == first
    assert not calls
    for broken in ("", "[]", '{"rows": [[1]]}', json.dumps({"rows": [[1, "x"]] * 6}), '{"rows": null}'):
        calls.clear()
        file.write_text(broken)
        measure_members(SPACE, ["expansion_layers", "depth"], 6)
        assert len(calls) == 6
    calls.clear()
    measure_members(SPACE, ["depth"], 6)  # other scores, another file
    assert len(calls) == 6


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFNAS_CACHE", "/dev/null/effnas")
    assert measure_members(SPACE, ["depth"], 4)[1].size == 4


def test_members_without_a_score_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFNAS_CACHE", str(tmp_path))
    known = [network.digest for _, network in draw_members(SPACE, 4)]

    def fail(architecture: Any, names: Any) -> dict[str, float]:
        if architecture.digest == known[0] or all_fail:
            raise EvaluationError("zico: no gradient differs")
        return dict.fromkeys(names, float(known.index(architecture.digest)))

    monkeypatch.setattr(reference, "score_network", fail)
    all_fail = False
    decisions, population = measure_members(SPACE, ["depth"], 4)
    assert population.scores["depth"] == [1, 2, 3]
    assert [SPACE.build(d).digest for d in decisions] == known[1:]
    assert measure_members(SPACE, ["depth"], 4)[1] == population  # from the cache
    all_fail = True
    with pytest.raises(UserError, match="space tiny: none of 4 random networks has a score; zico: no gradient differs"):
        measure_members(SPACE, ["synflow"], 4)


def test_a_space_of_which_nothing_can_be_built() -> None:
    class Impossible:
        name = "impossible"
        distributions = SPACE.distributions

        def build(self, decisions: Mapping[str, Any]) -> Any:
            raise UserError("these decisions make no network")

    with pytest.raises(UserError, match="impossible: no random member could be built; the first: these decisions"):
        draw_members(Impossible(), 3)

"""Proxies of members that were never scored: exact where they are counts, learned elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau
from synthetic import Synthetic

from effnas import UserError, load_space, run_search
from effnas.evaluate.zero_cost import learned
from effnas.evaluate.zero_cost.learned import ProxyFeatures
from effnas.evaluate.zero_cost.proxies import score_network
from effnas.evaluate.zero_cost.reference import Reference
from effnas.search.algorithms.member_facts import SpaceKnown, add_features
from effnas.search.algorithms.predictor import Predictor
from effnas.search.objective import Accuracy
from effnas.space.space import SearchSpace

SPACE = load_space("tiny")


def members(count: int) -> tuple[Any, list[Any]]:
    indices = SPACE.sample_indices(count, np.random.default_rng(5))
    return indices, [SPACE.build(SPACE.decisions(row)) for row in indices]


def test_counts_are_exact() -> None:
    indices, networks = members(30)
    names = ("depth", "expansion_layers", "log_params")
    table = ProxyFeatures(SPACE, names).look(indices)
    assert table == pytest.approx(np.array([list(score_network(network, names).values()) for network in networks]))


def test_scores_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "MEMBERS", 60)
    indices, networks = members(25)
    table = ProxyFeatures(SPACE, ("synflow", "depth")).look(indices)
    true = [score_network(network, ["synflow"])["synflow"] for network in networks]
    assert kendalltau(table[:, 0], true).statistic > 0.7
    assert (table[:, 1] == [network.blocks for network in networks]).all()


def test_spaces_that_nothing_can_be_learned_from() -> None:
    stage = {"block": "mbconv", "channels": 8, "kernel_size": [3, 5], "repeats": [1, 2, 3]}
    few = SearchSpace("few", [stage], resolution=8, num_classes=3)
    message = "20 or more scored members are needed to learn synflow, but the space few has 6; the counts need none"
    with pytest.raises(UserError, match=message):
        ProxyFeatures(few, ("synflow",)).look(np.zeros((1, 2), np.int64))


def test_a_proxy_that_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(*_: Any) -> Any:
        return [SPACE.sample(np.random.default_rng(i)) for i in range(30)], Reference({"naswot": [1.0] * 30})

    monkeypatch.setattr(learned, "measure_members", same)
    with pytest.raises(UserError, match=r"algorithm.features: naswot is the same for all networks of tiny"):
        ProxyFeatures(SPACE, ("naswot",)).look(np.zeros((1, len(SPACE.choices)), np.int64))


def facts(known: Any) -> Any:
    indices, _ = members(5)
    return known.facts({name: indices[:, i] for i, name in enumerate(SPACE.choices)})


def test_features_stand_beside_the_costs() -> None:
    known = SpaceKnown(SPACE, Accuracy())
    assert add_features(known, []) is known
    more = add_features(known, ["depth", "expansion_layers"])
    assert (facts(more).features[:, :3] == facts(known).features).all()
    assert facts(more).features.shape == (5, 5)


@pytest.mark.parametrize(
    ("known", "names", "message"),
    [
        (None, ["depth"], r"algorithm.features \(depth\) are facts of networks: they need effnas search in a space"),
        (SpaceKnown(SPACE, Accuracy()), ["deep"], "algorithm.features: unknown 'deep'. Did you mean 'depth'"),
        (SpaceKnown(SPACE, Accuracy()), ["depth", "depth"], "algorithm.features must differ, got depth, depth"),
        (SpaceKnown(SPACE, Accuracy()), 3, "algorithm.features must be one or more of synflow, .*, got 3"),
    ],
)
def test_mistakes(known: Any, names: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Predictor(known=known, features=names)


def test_a_search_with_features_resumes_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    def search(folder: str, trials: int, features: Sequence[str]) -> list[float]:
        algorithm = partial(Predictor, startup=4, features=features)
        where: Any = {"output": tmp_path / folder, "trials": trials, "quiet": True, "seed": 3}
        return list(run_search(SPACE, Synthetic(), Accuracy(), algorithm, **where).trials["score"])

    whole = search("a", 9, ["depth", "expansion_layers"])
    search("b", 6, ["depth", "expansion_layers"])
    assert search("b", 9, ["depth", "expansion_layers"]) == whole
    assert search("c", 9, [])[4:] != whole[4:]  # the model has seen them

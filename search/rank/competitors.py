"""What a shortcut has to beat: plain counts, which cost nothing, and a model of as many trainings as it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...evaluate.evaluation import EvaluationError
from ...evaluate.zero_cost.counts import COUNTS, count_network
from ...space.cost import cost
from ...space.network_spec import NetworkSpec
from .statistics import FEWEST, LEVEL, Array, Interval, kendall, kendall_equal, kendall_top, overlap

#: Random choices of the networks that the model is trained on.
REPEATS = 40
#: Bootstrap draws of each.
DRAWS = 25
#: Networks that must be left to be ranked.
SPARE = 10


def count_members(networks: Sequence[NetworkSpec]) -> dict[str, Array]:
    """The plain counts that all of them have, by name, each of shape (n,); more is taken to be better."""
    found = {}
    for name in COUNTS:
        try:
            found[name] = np.array([count_network(network, (name,))[name] for network in networks])
        except EvaluationError:  # of builders' networks, whose blocks nobody knows
            continue
    return found


def make_features(decisions: Sequence[Mapping[str, Any]], networks: Sequence[NetworkSpec]) -> Array:
    """What the model sees, shape (n, f), standardised: each choice as 0 or 1, and the logarithms of the costs."""
    columns = [
        [float(member[name] == choice) for member in decisions]
        for name in decisions[0]
        for choice in dict.fromkeys(member[name] for member in decisions)
    ]
    costs = [cost(network) for network in networks]
    columns += [[math.log(getattr(one, name)) for one in costs] for name in ("macs", "params", "activations")]
    table = np.array(columns).T
    spread = table.std(axis=0)
    return np.asarray((table - table.mean(axis=0))[:, spread > 0] / spread[spread > 0])


def judge_predictor(features: Array, known: Array, truth: Array, macs: Array, trainings: int) -> dict[str, Any] | None:
    """How a ridge regression, trained on so many of the members, ranks the others; None: too few are left.

    Its penalty is chosen by leaving one out (scikit-learn's RidgeCV). Everything is a mean over random choices of the
    members that it is trained on; the interval is of these choices and of a bootstrap over the others together.

    Args:
        features: of :func:`make_features`.
        known: the accuracy that one training of each member gives, shape (n,).
        truth: the reference, shape (n,).
        macs: of the members.
        trainings: how many of ``known`` it sees.
    """
    count = len(truth)
    if trainings < FEWEST or count - trainings < SPARE:
        return None
    from sklearn.linear_model import RidgeCV

    rng = np.random.default_rng(0)
    rows: dict[str, list[float]] = {"tau": [], "tau_top": [], "tau_equal_macs": [], "overlap": []}
    drawn: list[float] = []
    for _ in range(REPEATS):
        order = rng.permutation(count)
        seen, rest = order[:trainings], order[trainings:]
        model = RidgeCV(alphas=np.logspace(-2, 4, 13)).fit(features[seen], known[seen])
        guess = np.asarray(model.predict(features[rest]), np.float64)
        rows["tau"].append(kendall(guess, truth[rest]))
        rows["tau_top"].append(kendall_top(guess, truth[rest]))
        rows["tau_equal_macs"].append(kendall_equal(guess, truth[rest], macs[rest])[0])
        rows["overlap"].append(overlap(guess, truth[rest]))
        for _ in range(DRAWS):
            again = rng.integers(len(rest), size=len(rest))
            drawn.append(kendall(guess[again], truth[rest][again]))
    sure = [tau for tau in drawn if not math.isnan(tau)]
    low, high = np.percentile(sure, (50 * (1 - LEVEL), 50 * (1 + LEVEL))) if sure else (math.nan, math.nan)
    means = {
        name: float(np.mean(v)) if (v := [x for x in values if not math.isnan(x)]) else math.nan
        for name, values in rows.items()
    }
    return {"interval": Interval(means["tau"], float(low), float(high)), **means}

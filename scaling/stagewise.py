"""Which stages should grow: a rule of scaling from the trainings of a search.

Compound scaling makes all stages wider and deeper alike. What a search has trained says more: an additive model, ridge
regression of the accuracy on the logarithms of each stage's width and depth beside all other decisions, gives what each
is worth. A tilt moves growth from stages that are worth little for their MACs to those that are worth more, at equal
MACs, and no further than the search has seen.

The best of many noisy slopes is too good. So the gain that counts is measured on trainings that had no part in choosing
the tilt: one half of the networks chooses it, the other half says what it is worth, and the other way round. Where that
is not above its own standard error, the rule declines.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..space.architecture import Architecture
from ..space.cost import cost
from ..space.errors import UserError
from ..space.files import load_yaml
from ..space.network_spec import NetworkSpec
from ..space.paths import expand_path
from ..space.zoo import load_architecture
from .rules import Multipliers, Rule

Array = NDArray[np.float64]

NAME = "stagewise"
#: Networks that the model needs, and splits in halves.
LEAST, SPLITS = 30, 10
#: Strengths of the ridge that are tried, in units of the features' variance.
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
#: The logarithm of what a stage's growth may differ from the others' by, at most.
MOST = math.log(2.0)
PREFIX = "decision."
#: The fields of a stage that grow; a space may call them otherwise.
FIELDS = ("channels", "repeats")


@dataclass(frozen=True)
class Stagewise:
    """A rule whose stages grow unevenly: the growth of another rule, and a tilt.

    Args:
        rule: of depth, width and resolution as a whole.
        tilt: by stage, what ln(width) and ln(depth) get for each unit of the logarithm by which the network's width
            and depth grow, shape (stages, 2).
        weights: the stages' parts in the MACs, in any unit: widths make up for what the tilt is off.
        gain: accuracy that a doubling of the MACs is expected to gain by the tilt, a fraction, and its standard error.
    """

    rule: Rule
    tilt: tuple[tuple[float, float], ...]
    weights: tuple[float, ...]
    gain: tuple[float, float]
    name: str = NAME

    @property
    def low(self) -> float:
        """The other rule's."""
        return self.rule.low

    @property
    def high(self) -> float:
        """The other rule's."""
        return self.rule.high

    def __call__(self, phi: float) -> Multipliers:
        """The other rule's."""
        return self.rule(phi)

    def tilt_at(self, phi: float) -> tuple[tuple[float, float], ...]:
        """What each stage's width and depth are multiplied by besides."""
        reach = _reach(self.rule(phi)) * (1 if phi >= 0 else -1)
        parts = [(math.exp(reach * wide), math.exp(reach * deep)) for wide, deep in self.tilt]
        macs = sum(share * wide**2 * deep for share, (wide, deep) in zip(self.weights, parts, strict=True))
        even = math.sqrt(sum(self.weights) / macs)
        # no stage becomes narrower than it is while the network grows
        least = 1 / self.rule(phi).width if phi > 0 else 0.0
        return tuple((max(wide * even, least), deep) for wide, deep in parts)


def _reach(by: Multipliers) -> float:
    """How far the tilt goes: as far as the width has grown, or the depth where that has grown more."""
    return min(max(abs(math.log(by.width)), abs(math.log(by.depth))), MOST)


def read_stagewise(runs: Sequence[str], base: NetworkSpec, rule: Rule) -> Stagewise:
    """The rule that the searches' trainings tell, for a network of their space.

    Args:
        runs: folders of ``effnas search``, of one space.
        base: a network of it.
        rule: how the network grows as a whole.

    Raises:
        UserError: the folders are no searches, too few networks were trained, the network has other stages, or the gain
            is not above its error.
    """
    if not getattr(base, "stages", ()):
        raise UserError("rule=stagewise needs a network of stages; a builder's own has none that effnas knows")
    staged = cast(Architecture, base)
    rows = [row for run in runs for row in _read_run(expand_path(run), len(staged.stages))]
    decisions, accuracies = _features(rows)
    if len(accuracies) < LEAST:
        raise UserError(
            f"rule=stagewise needs at least {LEAST} different networks that were trained in full, got {len(accuracies)}"
        )
    stages = _stage_decisions(decisions, staged)
    slopes = _slopes(staged)
    model = _Stages(decisions, accuracies, stages, slopes, _reach(rule(1.0)))
    gain, error = model.check_gain()
    if gain <= error:
        raise UserError(
            f"rule=stagewise declines: with other stages grown than by rule={rule.name} it expects {100 * gain:+.2f} "
            f"points ± {100 * error:.2f} at twice the MACs, from {len(accuracies)} networks; use rule={rule.name}, or "
            "more trainings"
        )
    return Stagewise(rule, model.tilt(np.arange(len(accuracies))), tuple(slopes[:, 0].tolist()), (gain, error))


# -- what was trained ------------------------------------------------------------------------------------


def _read_run(folder: Path, stages: int) -> list[dict[str, Any]]:
    """The trainings of a search that are complete: decisions and ``accuracy``."""
    from ..evaluate.table_files import read_columns

    file, own = folder / "trials.csv", folder / "baseline.yaml"
    others = len(getattr(load_architecture(str(own)), "stages", ())) if own.is_file() else stages
    if others != stages:
        raise UserError(f"runs: {folder}: its networks have {others} stages, and the one to scale has {stages}")
    if not file.is_file():
        raise UserError(f"runs: {folder}: no folder of effnas search: it has no trials.csv")
    columns = read_columns(file)
    names = [name for name in columns if name.startswith(PREFIX)]
    if not names or not {"state", "accuracy"} <= columns.keys():
        raise UserError(f"runs: {file}: is not of effnas search: it has no columns state, accuracy and {PREFIX}…")
    rows, words = [], _read_words(folder)
    for i, state in enumerate(columns["state"]):
        again = columns.get("duplicate_of", [""] * (i + 1))[i]
        if state == "complete" and str(columns["accuracy"][i]).strip() and not str(again or "").strip():
            cells = {_plain_name(name, words): str(columns[name][i]) for name in names}
            rows.append({**cells, "accuracy": float(columns["accuracy"][i])})
    return rows


def _read_words(folder: Path) -> dict[str, str]:
    """The space's own words for the fields that grow, as the run's configuration has them."""
    file = folder / ".hydra" / "config.yaml"
    space = (load_yaml(file.read_text(encoding="utf-8"), str(file)) or {}).get("space") if file.is_file() else None
    names = space.get("names") if isinstance(space, Mapping) else None
    return {str(names[field]): field for field in FIELDS if field in names} if isinstance(names, Mapping) else {}


def _plain_name(name: str, words: Mapping[str, str]) -> str:
    """``block3_l`` is ``block3_repeats`` where that is what the space calls it."""
    head, _, field = name.removeprefix(PREFIX).rpartition("_")
    return f"{head}_{words.get(field, field)}"


def _features(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[str]], Array]:
    """The cells of each decision, and the accuracies."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "accuracy"))
    if any(name not in row for row in rows for name in names):
        raise UserError("runs: their searches are of different spaces: they have other decisions")
    return {name: [row[name] for row in rows] for name in names}, np.array(
        [row["accuracy"] for row in rows], np.float64
    )


def _stage_decisions(decisions: Mapping[str, Sequence[str]], base: Architecture) -> list[tuple[str, str]]:
    """The names of each stage's decisions on width and depth."""
    found = [(f"block{i}_channels", f"block{i}_repeats") for i in range(len(base.stages))]
    known = {name for pair in found for name in pair if name in decisions}
    beyond = [n for n in decisions if n.endswith(FIELDS) and n not in known]
    if not known or beyond or not all(_is_positive(cell) for name in known for cell in decisions[name]):
        raise UserError(
            f"rule=stagewise: the network has {len(base.stages)} stages, and the searches decide on "
            f"{', '.join(sorted([*known, *beyond])) or 'no width and no depth'}: each width and depth must be that of "
            "one of its stages, in numbers, and none of the stages may be left out"
        )
    return found


def _is_positive(cell: str) -> bool:
    try:
        return float(cell) > 0
    except ValueError:
        return False


def _slopes(base: Architecture) -> Array:
    """d ln(MACs) / d ln(width) and d ln(depth) of each stage, by a step of each, shape (stages, 2)."""
    macs = cost(base).macs
    slopes = np.zeros((len(base.stages), 2))
    for i, stage in enumerate(base.stages):
        for j, (wide, deep) in enumerate(((1.5, 1.0), (1.0, 2.0))):
            tilt = [(1.0, 1.0)] * len(base.stages)
            tilt[i] = (wide, deep)
            grown = base.scaled(1.0, 1.0, base.resolution, divisor=1, tilt=tilt)
            own = grown.stages[i]
            step = math.log(own.channels / stage.channels) if j == 0 else math.log(own.repeats / stage.repeats)
            slopes[i, j] = math.log(cost(grown).macs / macs) / step
    return slopes


# -- the model -------------------------------------------------------------------------------------------


class _Stages:
    """The additive model of widths and depths, and the tilt that it says is best."""

    def __init__(
        self,
        decisions: Mapping[str, Sequence[str]],
        accuracies: Array,
        stages: Sequence[tuple[str, str]],
        slopes: Array,
        reach: float,
    ) -> None:
        columns, spans = list[Array](), np.zeros(slopes.shape)
        self._places: dict[tuple[int, int], int] = {}
        for i, pair in enumerate(stages):
            for j, name in enumerate(pair):
                values = np.log([float(cell) for cell in decisions[name]]) if name in decisions else np.zeros(1)
                spans[i, j] = np.ptp(values)
                if spans[i, j] > 0:
                    self._places[i, j] = len(columns)
                    columns.append(values)
        for name, cells in decisions.items():
            levels = sorted({*cells})
            if not any(name in pair for pair in stages):  # all but the first level
                columns += [np.array([cell == level for cell in cells], np.float64) for level in levels[1:]]
        self._features, self._accuracies = np.stack(columns, axis=1), accuracies
        self._slopes, self._reach = slopes, reach
        #: In units of the reach: no further than the searches have seen, and no stage shrinks while others grow.
        self._limits = np.minimum(1.0, spans / max(reach, 1e-9))

    def _fit(self, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """Slopes of widths and depths and their covariance, for some of the networks."""
        at, y = self._features[rows], self._accuracies[rows]
        at, y = at - at.mean(axis=0), y - y.mean()
        scale = np.where(at.std(axis=0) > 0, at.std(axis=0), 1.0)
        left, sizes, right = np.linalg.svd(at / scale, full_matrices=False)
        seen = left.T @ y
        best = (math.inf, STRENGTHS[0], 0.0)
        for strength in STRENGTHS:  # by generalised cross-validation (Golub, Heath and Wahba 1979)
            kept = sizes**2 / (sizes**2 + strength)
            rest = float(((y - left @ (kept * seen)) ** 2).sum())
            freedom = max(len(y) - 1 - kept.sum(), 1.0)
            score = len(y) * rest / freedom**2
            best = min(best, (score, strength, rest / freedom))
        _, strength, variance = best
        inverse = right.T @ np.diag(1 / (sizes**2 + strength)) @ right
        slopes = right.T @ (sizes / (sizes**2 + strength) * seen) / scale
        places = [*self._places.values()]
        covariance = (variance * inverse / np.outer(scale, scale))[np.ix_(places, places)]
        return slopes[places], covariance

    def _direction(self, rows: NDArray[np.int64]) -> Array:
        """The tilt in units of the reach that gains most at equal MACs, by the slopes of some networks."""
        from scipy.optimize import linprog

        slopes, _ = self._fit(rows)
        keys = [*self._places]
        macs = np.array([self._slopes[key] for key in keys])
        bounds = [(-self._limits[key], self._limits[key]) for key in keys]
        found = linprog(-slopes, A_eq=macs[None], b_eq=[0.0], bounds=bounds)
        return np.asarray(found.x if found.status == 0 else np.zeros(len(keys)), np.float64)

    def tilt(self, rows: NDArray[np.int64]) -> tuple[tuple[float, float], ...]:
        """The same by stage: of width and of depth."""
        table = np.zeros(self._slopes.shape)
        for key, value in zip(self._places, self._direction(rows), strict=True):
            table[key] = value
        return tuple((float(wide), float(deep)) for wide, deep in table)

    def check_gain(self) -> tuple[float, float]:
        """What the tilt gains at twice the MACs, by networks that did not choose it, and the standard error."""
        rng = np.random.default_rng(0)
        gains, variances = [], []
        count = len(self._accuracies)
        for _ in range(SPLITS):
            order = rng.permutation(count)
            halves = order[: count // 2], order[count // 2 :]
            for one, other in (halves, halves[::-1]):
                direction = self._direction(one) * self._reach
                slopes, covariance = self._fit(other)
                gains.append(float(slopes @ direction))
                variances.append(float(direction @ covariance @ direction))
        return statistics.fmean(gains), math.sqrt(statistics.fmean(variances))

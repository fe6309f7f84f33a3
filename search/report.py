"""The output folder of a search: tables, the baseline, the summary, and its text on the terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from ..evaluate.evaluation import Evaluator
from ..evaluate.folder import write_json
from ..evaluate.kept_weights import KeptWeights
from ..evaluate.non_dominated import non_dominated
from ..evaluate.study_result import StudyResult
from ..space.errors import UserError, check_int
from ..space.tables import text_table
from .confirm import REPEAT, choose_winner, rank_networks
from .feasible import Space
from .figure import search_figure
from .objective import Objective
from .progress import Beforehand, TrialWatcher
from .record import (
    MEASURES,
    breaks_limit,
    is_usable,
    job_facts,
    result_of,
    shown_trials,
    trial_row,
    usable_trials,
    write_rows,
)


class Keeper:
    """Keeps the trained weights of the best networks of a study, and removes the others as trials are told.

    Args:
        output: of the search; the weights are in its folder ``weights``.
        count: networks; 0: none.
        objective: what is best; of several objectives, the front's members before others, and then the first one.
        evaluator: one that leaves weights has a method ``keeping(folder)``, which returns an evaluator that does.

    Raises:
        UserError: several are to be kept of an evaluator that trains nothing.
    """

    def __init__(self, output: Path, count: int, objective: Objective, evaluator: Evaluator) -> None:
        check_int("keep", count, 0, 1_000_000)
        self._files, self._count, self._objective = KeptWeights(output), count, objective
        keeping = getattr(evaluator, "keeping", None)
        if keeping is None and count > 1:
            raise UserError(f"keep must be 0 or 1, because {type(evaluator).__name__} trains no network, got {count}")
        #: What to evaluate with instead.
        self.evaluator: Evaluator = keeping(str(self._files.folder.absolute())) if keeping and count else evaluator

    def open(self, study: Study) -> None:
        """Make good what a kill left, when the folder is held and nothing is running."""
        if self._files.folder.is_dir():
            self._files.take_left({result_of(t).get("key", ""): t.number for t in reversed(self._rank(study))})
            self._remove_others(study)

    def watch(self, watcher: TrialWatcher, study: Study) -> TrialWatcher:
        """The watcher, called after the weights of a finished trial have found their place."""

        def finished(trial: FrozenTrial) -> None:
            if self._files.take(result_of(trial).get("key", ""), trial.number):
                self._remove_others(study)

        return Beforehand(watcher, finished)

    def conclude(self, study: Study, best: FrozenTrial | None) -> list[dict[str, Any]]:
        """Keep the files of the best networks alone, one each, that of ``best`` first; what is there of them.

        Returns:
            ``number`` of the trial, ``score`` and ``file`` of each. Weights that were trained elsewhere (with a shared
            ``storage``), or that an earlier run did not keep, are not among them.
        """
        networks: dict[str, list[FrozenTrial]] = {}
        ranking = self._rank(study)
        for trial in ([] if best is None else [best]) + ranking:
            networks.setdefault(_network(trial), [])
        for trial in ranking:
            if self._files.has(trial.number):
                networks[_network(trial)].append(trial)
        kept = [trials[0] for trials in list(networks.values())[: self._count] if trials]
        self._files.keep_only({trial.number for trial in kept})
        return [{"number": t.number, "score": t.values[0], "file": str(self._files.file(t.number))} for t in kept]

    def _rank(self, study: Study) -> list[FrozenTrial]:
        """Trials that evaluated a network within the limits, best first."""
        sign = -1 if self._objective.directions[0] == "maximize" else 1
        front = front_trials(study, self._objective) if len(self._objective.names) > 1 else []
        first = {trial.number for trial in front}
        trials = [trial for trial in usable_trials(study) if "duplicate_of" not in result_of(trial)]
        return sorted(trials, key=lambda t: (t.number not in first, sign * t.values[0], t.number))

    def _remove_others(self, study: Study) -> None:
        """All but the best so far; a network that is evaluated again may win, whatever a single score says."""
        ranking = self._rank(study)
        again = {_network(trial) for trial in ranking if REPEAT in trial.user_attrs}
        best = ranking[: self._count]
        self._files.keep_only({t.number for t in (*best, *(t for t in ranking if _network(t) in again))})


def _network(trial: FrozenTrial) -> str:
    return str(result_of(trial).get("digest", trial.number))


#: Networks whose scores differ by less than so many standard errors of the difference may be as good.
STANDARD_ERRORS = 2.0
#: Rows of the front that are printed; a longer one is thinned out.
FRONT_ROWS = 16


def front_trials(study: Study, objective: Objective) -> list[FrozenTrial]:
    """The non-dominated ones: of the objectives where there are several, else of accuracy and MACs; cheapest first."""
    trials = [t for t in usable_trials(study) if "duplicate_of" not in result_of(t)]
    if len(objective.names) > 1:
        values: list[Sequence[float]] = [t.values for t in trials]
        mask = non_dominated(values, objective.directions)
    else:
        values = [(result_of(t)["accuracy"], result_of(t)["macs"]) for t in trials]
        mask = non_dominated(values, ("maximize", "minimize"))
    return sorted((t for t, keep in zip(trials, mask, strict=True) if keep), key=lambda t: result_of(t)["macs"])


def best_trial(study: Study, objective: Objective) -> FrozenTrial | None:
    """The best score; of several objectives, the front's member that is best in the first one."""
    sign = 1 if objective.directions[0] == "maximize" else -1
    trials = usable_trials(study) if len(objective.names) == 1 else front_trials(study, objective)
    return max(trials, key=lambda t: (sign * t.values[0], -t.number), default=None)


def write_search(
    study: Study,
    space: Space,
    objective: Objective,
    output: Path,
    *,
    seed: int,
    seconds: float,
    algorithm: str,
    evaluator: str,
    details: Mapping[str, Any],
    keeper: Keeper,
    estimates: Mapping[int, float],
    command: str,
) -> StudyResult:
    """Write everything and return the content of ``summary.json``.

    ``keeper``: of the candidates' weights. ``estimates``: what the sampler's model takes each trial's noise-free score
    to be.
    """
    trials = shown_trials(study)
    front = front_trials(study, objective)
    rows = _make_rows(trials, objective)
    write_rows(output / "trials.csv", rows)
    write_rows(output / "pareto.csv", _make_rows(front, objective), like=rows)
    named = choose_winner(rank_networks(trials, study.direction, estimates)) if len(objective.names) == 1 else None
    best = best_trial(study, objective) if named is None else named.trial  # where networks were evaluated again
    scores = [row["score"] for row in rows if row["state"] == "complete" and row["duplicate_of"] is None]
    summary: dict[str, Any] = {"best": None}
    if best is not None:
        architecture = space.build(best.params)
        architecture.save(output / "baseline.yaml")
        row = trial_row(best, objective.names)
        summary["best"] = {
            "number": best.number,
            "decisions": dict(best.params),
            **{key: row[key] for key in ("score", *MEASURES)},
            "architecture": architecture.to_dict(),
        }
        if named is not None:
            confirmed = {"scores": list(named.scores), "mean_score": statistics.fmean(named.scores)}
            summary["best"] |= confirmed | {"estimate": named.level}
    summary |= {
        "noise": None if best is None else _judge_noise(trials, best, objective, confirmed=named is not None),
        "median_score": statistics.median(scores) if scores else None,
        "front": [{key: row[key] for key in ("number", "score", *MEASURES)} for row in _make_rows(front, objective)],
        "weights": keeper.conclude(study, best),
        "reasons": [
            row["reason"] for t, row in zip(trials, rows, strict=True) if row["state"] == "failed" or breaks_limit(t)
        ],
        "algorithm": algorithm,
        "space": space.name,
        "objective": repr(objective),
        "evaluator_details": dict(details),
        **job_facts(study, trials, seconds, seed=seed, evaluator=evaluator, command=command, output=output),
    }
    write_json(output / "summary.json", summary)
    search_figure(rows, _make_rows(front, objective), summary, objective, output)
    return StudyResult(summary, trials=rows, front=_make_rows(front, objective))


def _judge_noise(
    trials: Sequence[FrozenTrial], best: FrozenTrial, objective: Objective, *, confirmed: bool
) -> dict[str, Any] | None:
    """How sure the winner's accuracy is on so few images, and how many networks may be as good; None: not known.

    The binomial standard error. A score is taken to vary as its accuracy does. Differences on the same images are
    somewhat surer than that.
    """
    result = result_of(best)
    images, accuracy = result.get("metrics", {}).get("heldout_images"), result["accuracy"]
    if not images:
        return None
    error = math.sqrt(accuracy * (1 - accuracy) / images)
    found: dict[str, Any] = {"heldout_images": images, "standard_error": error, "as_good": None}
    if len(objective.names) == 1 and accuracy and not confirmed:
        within = STANDARD_ERRORS * math.sqrt(2) * error / accuracy * abs(best.values[0])
        others = [t for t in trials if is_usable(t) and result_of(t).get("digest") != result["digest"]]
        close = {result_of(t).get("digest") for t in others if abs(t.values[0] - best.values[0]) <= within}
        found["as_good"] = len(close)
    return found


def _describe_noise(noise: Mapping[str, Any] | None) -> list[str]:
    if noise is None:
        return []
    text = f"on {noise['heldout_images']:,.0f} held-out images an accuracy is sure to ± {noise['standard_error']:.2%}"
    text += " (one standard error)"
    if noise["as_good"]:
        text += (
            f"; {noise['as_good']} other network{'s' * (noise['as_good'] > 1)} may be as good as the baseline: "
            "confirm=N evaluates the best again with other seeds, and more held-out images tell more apart"
        )
    return [text]


def _make_rows(trials: Sequence[FrozenTrial], objective: Objective) -> list[dict[str, Any]]:
    return [trial_row(t, objective.names) for t in trials]


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas search`` prints: the front, the baseline, where things are."""
    best = summary["best"]
    resolution = best["architecture"]["resolution"]
    front = sorted(summary["front"], key=lambda row: -row["macs"])
    if more := max(0, len(front) - FRONT_ROWS):  # evenly, the ends and the baseline among them
        shown = {round(i * (len(front) - 1) / (FRONT_ROWS - 1)) for i in range(FRONT_ROWS)}
        front = [row for i, row in enumerate(front) if i in shown or row["number"] == best["number"]]
    rows = [
        [
            str(row["number"]),
            f"{row['accuracy']:.2%}",
            f"{row['macs'] / 1e6:,.3f}",
            f"{row['params'] / 1e6:,.4f}",
            f"{row['score']:.4f}",
            "<- baseline" if row["number"] == best["number"] else "",
        ]
        for row in front
    ]
    header = ["trial", "accuracy", f"M MACs at {resolution}²", "M parameters", "score", ""]
    counts = ", ".join(
        f"{summary[key]} {key}"
        for key in ("complete", "failed", "pruned", "infeasible", "duplicates")
        if summary[key] or key == "complete"
    )
    lines = [
        f"{summary['space']}: {summary['trials']} trials ({counts}) in {summary['seconds']:.0f} s, "
        f"{summary['algorithm']}, seed {summary['seed']}",
        "",
        f"accuracy {summary['evaluator_details'].get('accuracy_is', 'on held-out images')} against MACs, the front:",
        text_table(header, rows),
        *([f"... and {len(summary['front']) - len(front)} more in pareto.csv"] if more else []),
        *_describe_noise(summary.get("noise")),
        *([note] if (note := summary["evaluator_details"].get("note")) else []),
        "",
        f"baseline: trial {best['number']}, score {best['score']:.4f}"
        + (f" (mean of {len(best['scores'])}: {best['mean_score']:.4f})" if "scores" in best else "")
        + (f" (median of all candidates {summary['median_score']:.4f})" if summary["median_score"] else ""),
        f"written to {summary['output']}: baseline.yaml trials.csv pareto.csv summary.json search.png search.svg",
        *([f"weights of the best: {summary['weights'][0]['file']}"] if summary["weights"] else []),
        f"next: effnas grid-alpha-beta-gamma --baseline {summary['output']}/baseline.yaml"
        + (" --network NAME, a YAML file of its builder" if "effnas_network" in best["architecture"] else ""),
    ]
    return "\n".join(lines)

"""The output folder of a search: tables, the baseline, the summary, and its text on the terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from ..evaluate.folder import write_json
from ..evaluate.study_result import StudyResult
from ..report.job import tell_report
from ..space.tables import text_table
from .algorithms.auto import Choice
from .algorithms.known_network import KnownNetwork
from .confirm import choice_trials, find_front
from .feasible import Space
from .figure import search_figure
from .objective import Objective
from .record import (
    MEASURES,
    breaks_limit,
    is_usable,
    job_facts,
    kind_of,
    result_of,
    shown_trials,
    trial_row,
    worth_of,
    write_rows,
)
from .winner.keeper import Keeper, describe_kept
from .winner.naming import CONFIRMED, count_seeds, describe_winner, make_front_rows, name_winner

#: Networks whose scores differ by less than so many standard errors of the difference may be as good.
STANDARD_ERRORS = 2.0
#: Rows of the front that are printed; a longer one is thinned out.
FRONT_ROWS = 16


def best_trial(front: Sequence[FrozenTrial], trials: Sequence[FrozenTrial], objective: Objective) -> FrozenTrial | None:
    """The best score; of several objectives, the front's member that is best in the first one."""
    sign = 1 if objective.directions[0] == "maximize" else -1
    usable = [trial for trial in trials if is_usable(trial)] if len(objective.names) == 1 else front
    return max(usable, key=lambda t: (sign * t.values[0], -t.number), default=None)


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
    estimate: Callable[[Study], Mapping[int, float]],
    prior: KnownNetwork | None,
    chosen: Choice | None = None,
    command: str,
) -> StudyResult:
    """Write everything and return the content of ``summary.json``.

    ``keeper``: of the candidates' weights. ``estimate``: what the sampler's model takes each trial's noise-free score
    to be. ``prior``: what the search began around. ``chosen``: by ``algorithm=auto``, and why.
    """
    trials = shown_trials(study)
    several = len(objective.names) > 1
    front = find_front(trials, objective.directions, several)
    rows = _make_rows(trials, objective)
    front_rows = make_front_rows(front, trials, objective)
    write_rows(output / "trials.csv", rows)
    write_rows(output / "pareto.csv", front_rows, like=rows)
    named, levels = (None, {}) if several else name_winner(study, trials, estimate)
    best = best_trial(front, choice_trials(trials), objective) if named is None else named.trial
    scores = [row["score"] for row in rows if row["state"] == "complete" and row["duplicate_of"] is None]
    summary: dict[str, Any] = {"best": None}
    if best is not None:
        architecture = space.build(best.params)
        architecture.save(output / "baseline.yaml")
        row = trial_row(best, objective.names)
        summary["best"] = {
            "number": best.number,
            "decisions": dict(best.params),
            **{key: row[key] for key in ("score", *MEASURES, "merit") if key in row},
            "architecture": architecture.to_dict(),
        }
        if named is not None:
            confirmed = {"scores": list(named.scores), "mean_score": statistics.fmean(named.scores)}
            summary["best"] |= confirmed | {"estimate": named.level}
        summary |= describe_winner(trials, best, objective, levels, exact=bool(details.get("exact")))
    summary |= {
        "noise": None if best is None else _judge_noise(trials, best, objective, confirmed=named is not None),
        "median_score": statistics.median(scores) if scores else None,
        "front": [
            {
                key: value
                for key, value in row.items()
                if key in ("number", "score", *MEASURES, "merit", "confirmed_merit", *CONFIRMED)
            }
            for row in front_rows
        ],
        "weights": keeper.conclude(study, best),
        "epochs": _sum_epochs(rows),
        "reasons": [
            row["reason"] for t, row in zip(trials, rows, strict=True) if row["state"] == "failed" or breaks_limit(t)
        ],
        "algorithm": algorithm,
        "chosen": None if chosen is None else asdict(chosen),
        "space": space.name,
        "objective": repr(objective),
        "prior": None if prior is None else asdict(prior),
        "evaluator_details": dict(details),
        **job_facts(study, trials, seconds, seed=seed, evaluator=evaluator, command=command, output=output),
    }
    write_json(output / "summary.json", summary)
    search_figure(rows, front_rows, summary, objective, output)
    return StudyResult(summary, trials=rows, front=front_rows)


def _sum_epochs(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Epochs that were trained; None: no candidate has reported."""
    found = [row["epochs"] for row in rows if "epochs" in row and row["duplicate_of"] is None]
    return sum(found) if found else None


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


def _describe_score(summary: Mapping[str, Any]) -> str:
    """The winner's score: the confirmed one where there is one, and then the one that it was chosen for."""
    chosen, reported = summary.get("selected_on"), summary.get("confirmed_on")
    if chosen is None or reported is None:
        return f"score {summary['best']['score']:.4f}"
    error = "" if reported["standard_error"] is None else f" ± {reported['standard_error']:.4f}"
    return (
        f"score {reported['score']:.4f}{error}, {kind_of(reported)} {worth_of(reported):.2%}, on "
        f"{count_seeds(reported)} that chose nothing; {chosen['score']:.4f}, {worth_of(chosen):.2%}, on "
        f"{count_seeds(chosen)} that chose it"
    )


def _describe_confirmed(row: Mapping[str, Any]) -> str:
    """What a member of the front reaches on seeds that did not choose it, and whether another one beats it there."""
    if not row["confirmed_seeds"]:
        return ""
    worth = row["confirmed_accuracy"] if row.get("confirmed_merit") is None else row["confirmed_merit"]
    return f"{worth:.2%} of {row['confirmed_seeds']}" + ("" if row["stands"] else ", beaten")


def _describe_optimism(summary: Mapping[str, Any]) -> list[str]:
    """That a score was selected, where nothing has confirmed it and chance has a part in it."""
    optimism, noise = summary.get("optimism"), summary.get("noise") or {}
    if summary.get("confirmed_on") is not None or optimism == 0 or noise.get("as_good") == 0:
        return []
    networks = summary["complete"] - summary["duplicates"]
    if networks < 2:
        return []
    text = f"note: the best of {networks} noisy scores is too high"
    if optimism is not None and len(summary["study"]["directions"]) == 1:
        expected = summary["selected_on"]["score"] - optimism
        text += f": the model expects {expected:.4f} of another seed"
    return [f"{text}; confirm=N has the last N trials say by how much"]


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas search`` prints: the front, the baseline, where things are."""
    best = summary["best"]
    resolution = best["architecture"]["resolution"]
    front = sorted(summary["front"], key=lambda row: -row["macs"])
    if more := max(0, len(front) - FRONT_ROWS):  # evenly, the ends and the baseline among them
        shown = {round(i * (len(front) - 1) / (FRONT_ROWS - 1)) for i in range(FRONT_ROWS)}
        front = [row for i, row in enumerate(front) if i in shown or row["number"] == best["number"]]
    again = any(row.get("confirmed_seeds") for row in front)
    rows = [
        [
            str(row["number"]),
            f"{worth_of(row):.2%}",
            *([_describe_confirmed(row)] if again else []),
            f"{row['macs'] / 1e6:,.3f}",
            f"{row['params'] / 1e6:,.4f}",
            f"{row['score']:.4f}",
            "<- baseline" if row["number"] == best["number"] else "",
        ]
        for row in front
    ]
    kind, details = kind_of(best), summary["evaluator_details"]
    usual = "on held-out images" if kind == "accuracy" else "among networks of the space"
    meaning = details.get(f"{kind}_is", usual) if kind == "accuracy" else f"({details.get(f'{kind}_is', usual)})"
    header = ["trial", kind, *["on other seeds"] * again, f"M MACs at {resolution}²", "M parameters", "score", ""]
    counts = ", ".join(
        f"{summary[key]} {key}"
        for key in ("complete", "failed", "pruned", "infeasible", "duplicates")
        if summary[key] or key == "complete"
    )
    lines = [
        f"{summary['space']}: {summary['trials']} trials ({counts}) in {summary['seconds']:.0f} s, "
        f"{summary['algorithm']}, seed {summary['seed']}"
        + (f"; {summary['epochs']:,} epochs" if summary["pruned"] and summary.get("epochs") else ""),
        *([f"algorithm=auto: {told['algorithm']}, {told['why']}"] if (told := summary.get("chosen")) else []),
        "",
        f"{kind} {meaning} against MACs, the front:",
        text_table(header, rows),
        *([f"... and {len(summary['front']) - len(front)} more in pareto.csv"] if more else []),
        *_describe_noise(summary.get("noise")),
        *([note] if (note := details.get("note")) else []),
        *([f"latency: {told}"] if (told := details.get("latency_is")) else []),
        "",
        f"baseline: trial {best['number']}, {_describe_score(summary)}"
        + (f" (median of all candidates {summary['median_score']:.4f})" if summary["median_score"] else ""),
        *_describe_optimism(summary),
        f"written to {summary['output']}: baseline.yaml trials.csv pareto.csv summary.json search.png search.svg",
        *tell_report(summary["output"]),
        *describe_kept(summary["weights"]),
        f"next: effnas grid-alpha-beta-gamma --baseline {summary['output']}/baseline.yaml"
        + (" --network NAME, a YAML file of its builder" if "effnas_network" in best["architecture"] else ""),
    ]
    return "\n".join(lines)

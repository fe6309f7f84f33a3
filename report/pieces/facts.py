"""What was asked and what was found, in words; failures with their reasons; the exact record of a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..folders import Run, read_sweeps
from ..markup import Piece, count, details, listing, number, paragraph, percent, seconds, table, text
from ..trials import is_number

#: Reasons of failures that are told.
REASONS = 40
_COUNTS = ("complete", "failed", "pruned", "infeasible", "duplicates")


def show_found(run: Run) -> Piece | None:
    """What the command was asked, what came out, and which number of it is honest."""
    body = "".join(f'<p class="warning">{text(note)}</p>' for note in run.notes)
    body += "".join(map(paragraph, (*_asked(run), *_found(run)))) + _honest(run)
    if not run.finished and not any(run.tables.values()):
        body += paragraph("Nothing can be shown yet.")
    return Piece("What was asked, and found", body) if body else None


def _asked(run: Run) -> list[str]:
    found = run.summary
    words = []
    if found.get("trials") is not None and found.get("space"):
        counts = ", ".join(f"{found[key]} {key}" for key in _COUNTS if found.get(key))
        words.append(
            f"{found['space']}: {found['trials']} trials ({counts}) in {seconds(found.get('seconds'))}, by "
            f"{found.get('algorithm', run.kind)}, evaluated by {found.get('evaluator', '?')}, seed {found.get('seed')}."
        )
    if found.get("objective"):
        words.append(f"Objective: {re.sub(r'[a-z_]+=None(, )?', '', str(found['objective']))}.")
    elif found.get("trials") is not None and not found.get("space"):
        counts = ", ".join(f"{found[key]} {key}" for key in _COUNTS if found.get(key))
        words.append(
            f"{found['trials']} trainings ({counts}) in {seconds(found.get('seconds'))}, evaluated by "
            f"{found.get('evaluator', '?')}, seed {found.get('seed')}."
        )
    if run.kind == "predict":
        asked = len(found.get("predictions") or [])
        words.append(
            f"A law over {found.get('x')} of {len(found.get('members') or [])} members, and {asked} predictions of it."
        )
    if run.kind == "train" and is_number(found.get("epochs")):
        words.append(
            f"{found.get('architecture')}: {found['epochs']} epochs on {number(found.get('train_images'), ',d')} "
            f"images in {seconds(found.get('seconds'))}, {found.get('weights')}; {found.get('settings')}."
        )
    return words


def _found(run: Run) -> list[str]:
    best = run.summary.get("best")
    if run.kind == "train":
        words = f"Held-out accuracy {percent(run.summary.get('accuracy'))}"
        if is_number(run.summary.get("test_accuracy")):
            words += f", test accuracy {percent(run.summary['test_accuracy'])}"
        return [words + "."] if is_number(run.summary.get("accuracy")) else []
    if not isinstance(best, Mapping):
        return []
    what = f"trial {best['number']}" if "number" in best else "the chosen point"
    if all(is_number(best.get(name)) for name in ("alpha", "beta", "gamma")):
        what = f"α {best['alpha']:g}, β {best['beta']:g}, γ {best['gamma']:g}"
    parts = [f"accuracy {percent(best['accuracy'])}"] if is_number(best.get("accuracy")) else []
    parts += [f"score {best['score']:.4f}"] if is_number(best.get("score")) else []
    parts += [
        f"{count(best[key])} {word}" for key, word in (("macs", "MACs"), ("params", "parameters")) if best.get(key)
    ]
    resolution = (best.get("architecture") or {}).get("resolution", best.get("resolution"))
    parts += [f"{resolution}² pixels"] if resolution else []
    return [f"Chosen: {what}: {', '.join(parts)}."]


def honest_value(summary: Mapping[str, Any]) -> tuple[str, Any]:
    """The value to report, and which it is: confirmed on seeds that chose nothing, tested, selected, …"""
    confirmed = summary.get("confirmed_on")
    if isinstance(confirmed, Mapping) and is_number(confirmed.get("accuracy")):
        return "confirmed_on", confirmed["accuracy"]
    if isinstance(confirmed, Mapping) and is_number(confirmed.get("tau")):
        return "confirmed_on, τ", confirmed["tau"]
    if is_number(summary.get("test_accuracy")):
        return "test", summary["test_accuracy"]
    best = summary.get("best")
    if isinstance(best, Mapping) and is_number(best.get("accuracy")):
        return ("exact" if summary.get("optimism") == 0 else "selected_on, too high"), best["accuracy"]
    for key in ("accuracy", "top1"):
        if is_number(summary.get(key)):
            return "held-out", summary[key]
    return "", None


def _honest(run: Run) -> str:
    chosen, confirmed = (run.summary.get(key) for key in ("selected_on", "confirmed_on"))
    if not isinstance(chosen, Mapping):
        return ""
    key = next((key for key in ("accuracy", "merit", "tau") if is_number(chosen.get(key))), None)
    if key is None:
        return ""
    form = percent if key == "accuracy" else number
    seeds = _seeds(chosen)
    if isinstance(confirmed, Mapping) and is_number(confirmed.get(key)):
        error = f" ± {form(confirmed['standard_error'])}" if is_number(confirmed.get("standard_error")) else ""
        words = (
            f"The honest number is confirmed_on: {key} {form(confirmed[key])}{error} on {_seeds(confirmed)} that chose "
            f"nothing. On {seeds} that chose it (selected_on) it was {form(chosen[key])}, which chance has raised."
        )
        return f'<p class="honest">{text(words)}</p>'
    if run.summary.get("optimism") == 0:
        words = f"The evaluator is exact, so the best {key}, {form(chosen[key])}, was not raised by chance."
        return f'<p class="honest">{text(words)}</p>'
    words = (
        f"No seed has confirmed it: {key} {form(chosen[key])} is of {seeds} that chose it (selected_on), and so too "
        "high. With confirm=N, confirmed_on would be the honest number."
    )
    return f'<p class="warning">{text(words)}</p>'


def _seeds(found: Mapping[str, Any]) -> str:
    seeds = found.get("seeds")
    n = len(seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else 1
    return f"{n} seed{'s' * (n > 1)}"


def show_failures(run: Run) -> Piece | None:
    """The reasons why trials failed, each with how often and where first."""
    rows = [row for row in run.table("trials") if row.get("state") == "failed" or _over_limit(row)]
    if not rows:
        return None
    reasons = Counter(str(row.get("reason") or "no reason was recorded") for row in rows)
    first = {str(row.get("reason") or "no reason was recorded"): row.get("number") for row in reversed(rows)}
    cells = [[reason, times, first[reason]] for reason, times in reasons.most_common(REASONS)]
    words = f"{len(rows)} of {len(run.table('trials'))} trials failed or were refused."
    if len(reasons) > REASONS:
        words += f" The {REASONS} most frequent of {len(reasons)} reasons; trials.csv has all."
    return Piece(
        "Failures", paragraph(words) + table(["reason", "times", "first trial"], cells, f"Failures of {run.name}")
    )


def _over_limit(row: Mapping[str, Any]) -> bool:
    return row.get("state") == "infeasible" and bool(row.get("reason"))


def show_record(run: Run) -> Piece:
    """The exact command, the configuration, the versions, where the files are."""
    found = run.summary
    body = ""
    if command := found.get("command"):
        body += f"<h3>Command</h3><pre class=command>{text(command)}</pre>"
    elif run.overrides:
        body += f"<h3>What was chosen</h3><pre class=command>{text(run.overrides)}</pre>"
    versions = found.get("versions")
    if isinstance(versions, Mapping):
        cells = [list(item) for item in versions.items()]
        body += details("Versions", table(["package", "version"], cells, f"Versions of {run.name}", left=2))
    body += paragraph(f"Files: {run.folder}", "note")
    if run.config:
        body += listing("Configuration (.hydra/config.yaml)", run.config)
    return Piece("Command, configuration, versions", body)


def show_table(run: Run) -> Piece | None:
    """Of commands without a figure of their own: the numbers of their summary."""
    plain = [(key, value) for key, value in run.summary.items() if isinstance(value, int | float | str | bool)]
    shown = [[key, value] for key, value in plain if key not in ("command", "output")]
    return Piece("Its numbers", table(["key", "value"], shown, f"Numbers of {run.name}", left=2)) if shown else None


def show_sweeps(runs: Sequence[Run]) -> Piece | None:
    """What the jobs of sweeps varied, and what came out; jobs that failed are in it too."""
    body = ""
    for folder, rows in read_sweeps(runs):
        columns = [key for key in rows[0] if any(row[key] is not None for row in rows)]
        cells = [[(_sweep_cell(key, row[key]), row[key]) for key in columns] for row in rows]
        body += table(columns, cells, f"Jobs of {folder.name}", left=len(columns))
    return Piece("The sweep: what was varied, and what came out", body) if body else None


def _sweep_cell(key: str, value: Any) -> str:
    if is_number(value) and key in ("accuracy", "confirmed_accuracy", "test_accuracy", "top1"):
        return percent(value)
    return count(value) if is_number(value) and key in ("macs", "params", "activations") else number(value)


def _summary_of(run: Run) -> Mapping[str, Any]:
    """The summary; of a compression that of the network that is left."""
    if run.kind != "compress":
        return run.summary
    left = (run.summary.get(key) for key in ("pruned", "trained"))
    return {key: value for part in left if isinstance(part, Mapping) for key, value in part.items()}


def compare_runs(runs: Sequence[Run]) -> Piece:
    """A row for each run."""
    rows = []
    for run in runs:
        found = _summary_of(run)
        best = found.get("best") if isinstance(found.get("best"), Mapping) else found
        which, value = honest_value(found)
        form = number if which.endswith("τ") else percent
        rows.append(
            [
                run.name,
                run.kind or "?",
                "yes" if run.finished else "NO",
                which or "–",
                (form(value), value),
                (count((best or {}).get("macs")), (best or {}).get("macs")),
                (count((best or {}).get("params")), (best or {}).get("params")),
                number(found.get("trials")),
                number(found.get("failed")),
                (seconds(found.get("seconds")), found.get("seconds")),
                number(found.get("seed"), "d"),
            ]
        )
    header = [
        "run",
        "command",
        "ended",
        "which number",
        "value",
        "MACs",
        "parameters",
        "trials",
        "failed",
        "time",
        "seed",
    ]
    return Piece("The runs compared", table(header, rows, "Runs", left=4))

"""What is read of the runs of a family: folders of train, evaluate, grid, ablate and transfer, and tables."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...space.cost import cost
from ...space.errors import UserError, unknown
from ...space.files import load_yaml, read_text
from ...space.network_spec import NetworkSpec
from ...space.paths import expand_path, is_file, is_folder
from ...space.zoo import load_architecture
from ..coefficients import Coefficients
from ..compound import scale
from .members import AXES, Result
from .table import TABLES, read_table

#: What stands in a folder of a run.
_FILES = ("summary.json", "transfer.json")
#: What folders are read.
KINDS = "effnas train, evaluate, grid-alpha-beta-gamma, ablate or transfer"
#: A larger JSON document is none of ours.
_MOST_BYTES = 50_000_000


@dataclass(frozen=True)
class Found:
    """What some runs tell: results, and of a grid or an ablation what their family grows from, and how."""

    results: tuple[Result, ...]
    baseline: NetworkSpec | None = None
    coefficients: Coefficients | None = None
    rule: str | None = None


def read_runs(
    entries: Sequence[str], *, rule: str | None = None, dataset: str | None = None, own: Any = None
) -> list[Found]:
    """Read each entry: a folder of a run (patterns like ``runs/*`` work), or a table.

    Args:
        entries: as the user names them.
        rule: of an ablation, whose networks are the family; None: its reference.
        dataset: of a transfer; None: its only one.
        own: a network of the user's own builder; files of its networks need it.

    Raises:
        UserError: an entry is nothing of that, or cannot be read.
    """
    found = []
    for entry in entries:
        for place in _expand(entry):
            if place.suffix.lower() in TABLES and not is_folder(place):
                found.append(Found(tuple(read_table(place))))
            else:
                found.append(_read_folder(place, rule, dataset, own))
    return found


def _expand(entry: str) -> list[Path]:
    path = expand_path(entry)
    if is_file(path) or is_folder(path):
        return [path]
    if glob.has_magic(str(path)):
        matches = [Path(match) for match in sorted(glob.glob(str(path)))]
        runs = [m for m in matches if m.suffix.lower() in TABLES or any(is_file(m / name) for name in _FILES)]
        if runs:
            return runs
        raise UserError(f"from: {entry}: no runs of {KINDS} among the {len(matches)} that fit")
    if "," in entry:  # as --from a,b
        return [place for part in entry.strip("[]").split(",") if part.strip() for place in _expand(part.strip())]
    raise UserError(f"from: no such folder or file: {entry:.200}. Give folders of {KINDS}, or a CSV file")


def _read_folder(place: Path, rule: str | None, dataset: str | None, own: Any) -> Found:
    file = place
    if is_folder(place):
        file = next((place / name for name in _FILES if is_file(place / name)), place / _FILES[0])
        if not is_file(file):
            raise UserError(f"from: {place}: no run of {KINDS} has finished here: it has no {' or '.join(_FILES)}")
    if file.stat().st_size > _MOST_BYTES:
        raise UserError(f"from: {file} has {file.stat().st_size:,} bytes; no summary is so large")
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"from: {file}: not a JSON document: {' '.join(str(error).split()):.100}") from None
    summary = summary if isinstance(summary, dict) else {}
    try:
        if "runs" in summary and "geometric_mean_ratio" in summary:
            return Found(tuple(_read_transfer(summary, file, dataset)))
        if "reference" in summary and "base" in summary:
            return _read_ablation(summary, file, rule)
        if "chosen_by" in summary and "baseline" in summary:
            return _read_grid(summary, file)
        if "architecture" in summary and "macs" in summary:
            return Found((_read_training(summary, file, own),))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"from: {file}: damaged or of another version: {type(error).__name__} {error}") from None
    raise UserError(f"from: {file}: no summary of {KINDS} (this one has: {', '.join(list(summary)[:12]) or 'nothing'})")


# -- one training ----------------------------------------------------------------------------------------


def _read_training(summary: Mapping[str, Any], file: Path, own: Any) -> Result:
    measure = next((key for key in ("top1", "test_accuracy", "accuracy") if summary.get(key) is not None), None)
    if measure is None:
        raise UserError(f"from: {file}: a summary without an accuracy")
    beside = file.with_name("architecture.yaml")
    network = load_architecture(beside, own) if is_file(beside) else None
    known = {axis: float(summary[axis]) for axis in ("macs", "params") if summary.get(axis)}
    if isinstance(summary.get("latency"), Mapping):
        known["latency"] = float(summary["latency"]["latency"])
    classes = f"{summary.get('classes')} classes"
    measured = {
        "top1": f"{summary.get('images')} images of {classes} ({summary.get('part')} part)",
        "test_accuracy": f"{summary.get('test_images')} test images of {classes}",
        "accuracy": f"{summary.get('heldout_images')} held-out images of {classes}",
    }[measure]
    recipe, images = _settings(file.parent)
    return Result(
        name=str(summary["architecture"] or file.parent.name),
        accuracy=float(summary[measure]),
        costs={**known, **({} if network is None else costs_of(network))},
        source=str(file),
        digest=str(summary.get("digest") or ""),
        seed=str(summary.get("seed", "")) if measure != "top1" else str(summary.get("weights", file)),
        measured=measured,
        recipe=summary.get("training") or recipe,
        images={
            **(summary.get("trained_on") or images),
            **{key: summary[key] for key in ("classes", "train_images") if summary.get(key) is not None},
        },
        network=network,
    )


def costs_of(network: NetworkSpec) -> dict[str, float]:
    """What is known of a network before it is trained."""
    total = cost(network)
    return {axis: float(getattr(total, axis)) for axis in AXES if axis != "latency"}


def _settings(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The recipe and the data of a command's run, as its own record has them; empty: there is none."""
    file = folder / ".hydra" / "config.yaml"
    if not is_file(file):
        return {}, {}
    try:
        config = load_yaml(read_text(file, "configuration"), str(file))
    except UserError:
        return {}, {}  # a user's own record with what plain YAML has not
    parts = [config.get(name) if isinstance(config, Mapping) else None for name in ("training", "data")]
    return parts[0] or {}, parts[1] or {}


# -- grids, ablations, transfers -------------------------------------------------------------------------


def _read_grid(summary: Mapping[str, Any], file: Path) -> Found:
    """The network of the coefficients that were chosen, at φ = 1: the grid's other shapes are not of the family."""
    baseline = load_architecture(file.with_name("baseline.yaml"))
    best = summary["best"]
    if best is None:
        return Found((), baseline)
    coefficients = Coefficients(*(best[name] for name in ("alpha", "beta", "gamma")))
    network = scale(baseline, coefficients, 1)
    recipe, images = _settings(file.parent)
    row = next((p for p in summary["points"] if p.get("digest") == network.digest and p["accuracy"] is not None), None)
    if row is None:  # the surface's choice need not have been trained
        return Found((), baseline, coefficients)
    result = Result(
        name=network.name,
        accuracy=float(row["accuracy"]),
        costs=costs_of(network),
        source=str(file),
        digest=network.digest,
        seed=f"grid {file.parent}",
        runs=int(row["seeds"]),
        sd=row["sd"],
        measured="held-out images of the evaluator",
        recipe=recipe,
        images=images,
        network=network,
    )
    return Found((result,), baseline, coefficients)


def _read_ablation(summary: Mapping[str, Any], file: Path, rule: str | None) -> Found:
    """The base, and the networks of one rule."""
    rules = list(dict.fromkeys(row["rule"] for row in summary["rows"]))
    chosen = rule or summary["reference"]
    if chosen not in rules:
        raise unknown(f"rule: {file}", chosen, rules)
    recipe, images = _settings(file.parent)
    rows = [summary["base"], *(row for row in summary["rows"] if row["rule"] == chosen)]
    found = {}
    for row in rows:
        if row["accuracy"] is None or row["digest"] in found:
            continue
        known = {axis: float(row[axis]) for axis in AXES if row.get(axis) is not None}
        found[row["digest"]] = Result(
            name=str(row.get("name") or f"{chosen}_x{row['factor']:g}"),
            accuracy=float(row["accuracy"]),
            costs=known,
            source=str(file),
            digest=row["digest"],
            seed=f"ablation {file.parent}",
            runs=int(row["seeds"]),
            sd=row["sd"],
            measured="held-out images of the evaluator",
            recipe=recipe,
            images=images,
        )
    base = file.parent / "networks" / "base.yaml"
    return Found(tuple(found.values()), load_architecture(base) if is_file(base) else None, rule=chosen)


def _read_transfer(summary: Mapping[str, Any], file: Path, dataset: str | None) -> list[Result]:
    names = list(dict.fromkeys(run["dataset"] for run in summary["runs"]))
    if dataset is None and len(names) > 1:
        raise UserError(
            f"{file} has {len(names)} data sets, and a law is of one: give dataset=NAME, of {', '.join(names)}"
        )
    if dataset is not None and dataset not in names:
        raise unknown(f"dataset: {file}", dataset, names)
    results = []
    for run in summary["runs"]:
        if run["dataset"] != (dataset or names[0]):
            continue
        beside = Path(run["output"]) / "architecture.yaml"
        network = load_architecture(beside) if is_file(beside) else None
        known = {"macs": float(run["macs"]), "params": float(run["params"])}
        recipe, _ = _settings(file.parent)
        results.append(
            Result(
                name=run["network"],
                accuracy=float(run["accuracy"]),
                costs={**known, **({} if network is None else costs_of(network))},
                source=str(file),
                digest=f"{run['network']} at {run['resolution']}",
                seed=str(run["seed"]),
                measured=f"{run['measured_images']} {run['part']} images of {run['classes']} classes",
                recipe=recipe,
                images={"name": run["dataset"], "classes": run["classes"], "train_images": run["train_images"]},
                network=network,
            )
        )
    return results

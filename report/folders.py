"""The folders of runs, read as data: which command's they are, what its files say, and what is missing."""

from __future__ import annotations

import csv
import glob
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..space.errors import UserError
from ..space.paths import as_text, expand_path, is_folder
from .journal import Row, read_journal

#: Of a run's folder: the command that it is of, as ``evaluate.folder`` marks it.
MARK = ".effnas"
#: Files with the result of a command, as one JSON document.
SUMMARIES = (
    "summary.json",
    *(
        f"{name}.json"
        for name in ("predict", "scale", "compare", "profile", "cam", "transfer", "reproduce", "export", "compress")
    ),
)
#: Tables that pieces of the page show.
TABLES = ("trials", "pareto", "points", "log", "members", "predict", "classes", "confusion", "measurements", "transfer")
#: Of a compression: the folder of the training of what is left.
TRAINED = "trained"
#: Of a sweep, in the folder of its jobs' folders.
SWEEP = "sweep.csv"
#: What a run that has not ended leaves: its study, or the state of its training.
BEGUN = ("study.journal", "checkpoint.pt", "log.csv", "trials.csv", "measurements.csv", "transfer.csv")
#: Larger files are not read: a page of a few megabytes has no room for them.
MAX_BYTES = 200_000_000


@dataclass(frozen=True)
class Run:
    """What the files of one folder say.

    Args:
        folder: as the user named it.
        name: on the page, one of its own.
        kind: the command, as typed after ``effnas``; "": not known.
        summary: content of the JSON document; empty where the run has not ended.
        tables: rows by the table's name; cells are numbers where they look like them, None where empty.
        config: the configuration, as YAML; "" where none was kept.
        overrides: what was chosen on the command line, as YAML, where no command was kept.
        notes: what is missing, cut off or of another version, in words.
        directions: of the objectives, where no summary tells them yet.
    """

    folder: Path
    name: str
    kind: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    config: str = ""
    notes: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    overrides: str = ""

    @property
    def finished(self) -> bool:
        """Whether its command has written its result."""
        return bool(self.summary)

    def table(self, name: str) -> Sequence[Row]:
        """The rows of a table; none where the folder has no such file."""
        return self.tables.get(name, ())


def find_folders(given: Sequence[str | Path]) -> list[Path]:
    """The folders of runs: those named, those that fit a pattern, and of a sweep's folder its jobs'.

    Raises:
        UserError: none is named, there is no such folder, or nothing in it is a result of effnas.
    """
    if not given:
        raise UserError("runs: name one or several folders of runs: effnas report outputs/search")
    found: list[Path] = []
    for one in given:
        path = expand_path(one)
        matching = [path] if is_folder(path) else [Path(name) for name in sorted(glob.glob(str(path)))]
        folders = [folder for folder in matching if is_folder(folder)]
        if not folders:
            if os.path.isfile(path):
                raise UserError(f"runs: {as_text(one)} is a file; name the folder of the run: {as_text(path.parent)}")
            raise UserError(f"runs: no such folder: {as_text(one)}; name the folder that a command wrote (its -o DIR)")
        for folder in folders:
            found += [folder] if is_run(folder) else _jobs_below(folder)
    return list(dict.fromkeys(found))


def is_run(folder: Path) -> bool:
    """Whether any of effnas's results, or a run that has not ended, is there."""
    return any(os.path.isfile(folder / name) for name in (*SUMMARIES, *BEGUN))


def _jobs_below(folder: Path) -> list[Path]:
    """Of a sweep: the folders of its jobs."""
    jobs = sorted(path for path in folder.iterdir() if path.is_dir() and is_run(path))
    if not jobs:
        raise UserError(
            f"runs: {as_text(folder)} has no results of effnas, nor has a folder in it: they have one of "
            f"{', '.join(SUMMARIES[:3])}, …, and a search that is going on has study.journal"
        )
    return jobs


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the folders; their names on the page are what of their paths tells them apart."""
    names = list(_short_names(folders))
    return [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def read_run(folder: Path, name: str) -> Run:
    """Read one folder; what cannot be read is told in the run's notes, and is no error.

    Raises:
        UserError: a file may not be read.
    """
    notes: list[str] = []
    summary = _read_summary(folder, notes)
    tables = {}
    for table in TABLES:
        file = folder / f"{table}.csv"
        if os.path.isfile(file):
            tables[table] = _read_table(file, notes)
    if os.path.isfile(inner := folder / TRAINED / "log.csv"):  # of a compression, which trains what is left
        tables.setdefault("log", _read_table(inner, notes))
    directions: list[str] = []
    if not summary and "trials" not in tables:
        tables["trials"], directions = read_journal(folder)
    kind = _find_kind(folder, summary, tables)
    if not summary:
        notes.insert(0, _tell_unfinished(folder, tables))
    config, overrides = (_read_config(folder, of) for of in ("config", "overrides"))
    return Run(folder, name, kind, summary, tables, config, tuple(notes), tuple(directions), overrides)


def _tell_unfinished(folder: Path, tables: Mapping[str, Sequence[Row]]) -> str:
    text = "this run has not ended: it has no summary yet"
    if rows := tables.get("log"):
        text += f"; {len(rows)} epochs are logged"
    if rows := tables.get("trials"):
        text += f"; {len(rows)} trials have ended"
    return f"{text}. The same command goes on with it, and effnas report shows what is there by then"


def _read_bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"{file}: {file.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None


def _read_summary(folder: Path, notes: list[str]) -> Mapping[str, Any]:
    for name in SUMMARIES:
        if not os.path.isfile(folder / name):
            continue
        try:
            found = json.loads(_read_bytes(folder / name))
        except (ValueError, RecursionError):
            notes.append(f"{name} is cut off, or no JSON: it is left out; the same command writes it anew")
            continue
        if isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
            return {"rows": found}  # of a scaled family, or of a table of the paper
        if isinstance(found, dict) and found:
            return found
        notes.append(f"{name} is not of the form that effnas writes: it is left out")
    return {}


def _read_table(file: Path, notes: list[str]) -> list[Row]:
    text = _read_bytes(file).decode("utf-8", "replace").replace("\0", "")
    csv.field_size_limit(10_000_000)
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        notes.append(f"{file.name} cannot be read ({error}): it is left out")
        return []
    if not lines:
        return []
    header, *body = lines
    whole = [line for line in body if len(line) == len(header)]
    if len(whole) < len(body):
        notes.append(f"{file.name}: {len(body) - len(whole)} of {len(body)} lines are cut off and left out")
    return [{key: _cell(value) for key, value in zip(header, line, strict=True)} for line in whole]


def _cell(text: str) -> Any:
    """A number where it looks like one, None where there is nothing."""
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return {"True": True, "False": False}.get(text, text)
    return number if math.isfinite(number) else None


def _find_kind(folder: Path, summary: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
    """The command: by its mark, else by the line that it was typed as, else by what is there."""
    try:
        return (folder / MARK).read_text(encoding="utf-8").strip()[:80]
    except (OSError, ValueError):
        pass
    words = str(summary.get("command") or "").split()
    if len(words) > 1 and words[0] == "effnas":
        return words[1]
    forms = {
        "rank": ("ceiling", "rows"),
        "ablate": ("comparisons", "rows"),
        "grid-alpha-beta-gamma": ("points", "baseline"),
        "search": ("front", "space"),
        "predict": ("law", "backtest"),
        "train": ("train_loss", "epochs"),
        "evaluate": ("top1", "ece"),
        "latency": ("task", "space"),
        "compare": ("families", "references"),
        "compress": ("before", "pruned"),
        "export": ("formats", "preprocessing"),
    }
    for kind, keys in forms.items():
        if all(key in summary for key in keys):
            return kind
    for name in SUMMARIES[1:]:
        if os.path.isfile(folder / name):
            return name.removesuffix(".json")
    begun = {"log": "train", "trials": "search", "measurements": "latency", "transfer": "transfer"}
    return next((kind for name, kind in begun.items() if tables.get(name)), "")


def _read_config(folder: Path, name: str) -> str:
    try:
        return (folder / ".hydra" / f"{name}.yaml").read_text(encoding="utf-8", errors="replace")[:100_000]
    except OSError:
        return ""


def read_sweeps(runs: Sequence[Run]) -> list[tuple[Path, list[Row]]]:
    """Of the sweeps whose jobs are among the runs: the folder, and a row for each job."""
    found = []
    for folder in dict.fromkeys(run.folder.parent for run in runs):
        if os.path.isfile(folder / SWEEP) and (rows := _read_table(folder / SWEEP, [])):
            found.append((folder, rows))
    return found


def _short_names(folders: Sequence[Path]) -> Iterator[str]:
    """The ends of the paths, as much of each as tells it apart from all others."""
    parts = [[as_text(part) for part in Path(os.path.abspath(folder)).parts] for folder in folders]
    for mine in parts:
        count = next(
            (n for n in range(1, len(mine) + 1) if sum(other[-n:] == mine[-n:] for other in parts) == 1), len(mine)
        )
        yield "/".join(mine[-count:])

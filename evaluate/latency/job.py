"""``effnas latency``: measure members of a space here, or learn from measurements how fast its networks are."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...space.errors import UserError, check_choice, check_int, unknown
from ...space.paths import as_path, is_file
from ...space.space import SearchSpace, load_space
from ..arguments import as_list, check_threads, describe_device
from ..folder import folder_lock
from ..machine.cores import fit_threads
from ..progress_bar import progress_bar
from .measurements import read_measurements
from .model import MOST, fit_latency
from .report import MEASURED, write_fit, write_measured

TASKS = ("measure", "fit")
#: What else the precisions are called.
ALIASES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def run_latency(
    task: Sequence[str] | str = (),
    *,
    space: SearchSpace | str | None = None,
    unit: str | None = None,
    members: int = 100,
    batch_size: int = 1,
    threads: int | None = 1,
    device: str = "cpu",
    precision: str = "fp32",
    rounds: int = 5,
    seed: int = 0,
    output: str | Path = "outputs/latency",
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure members of a space, or fit a model to measurements.

    Args:
        task: ``measure``, or ``fit`` and the file of measurements
            (:func:`~effnas.evaluate.latency.measurements.read_measurements`).
        space: whose networks they are; a string is a shipped one's name or a file.
        unit: of the file's ``seconds``.
        members: different ones to measure; those that ``output`` has are not measured again.
        batch_size, threads, device, precision: of the measurement (:func:`~effnas.evaluate.machine.profile.profile`);
            ``float32``, ``bfloat16`` and ``float16`` are names of fp32, bf16 and fp16.
        rounds: in which a few networks take turns; the median counts.
        seed: of the choice of members.
        output: folder of ``measurements.csv`` and ``summary.json``; or of ``latency.json``, the model, ``summary.json``
            and ``latency.png``, ``latency.svg``.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``summary.json``: of a fit ``rows kendall_tau median_error`` by cross-validation.

    Raises:
        UserError: neither task, no space, a file that cannot be used, or too few networks in it.
    """
    words = [str(word) for word in as_list(task)]
    if not words or words[0] not in TASKS:
        raise unknown("latency", words[0] if words else "", TASKS)
    if space is None:
        raise UserError("space: none given; say whose networks they are: --space NAME or a file")
    known, output = load_space(space) if isinstance(space, str) else space, as_path("output", output)
    if words[0] == "fit":
        if len(words) != 2:
            raise UserError(f"latency fit takes one file of measurements, got {' '.join(words[1:]) or 'none'}")
        networks, seconds = read_measurements(words[1], known, unit)
        if len(networks) > MOST:
            kept = sorted(np.random.default_rng(seed).permutation(len(networks))[:MOST].tolist())
        else:
            kept = list(range(len(networks)))
        with folder_lock(output, "latency"):
            model, said = fit_latency([networks[i] for i in kept], [seconds[i] for i in kept], known.name)
            facts = {"file": words[1], "networks": len(networks), "rows": len(kept), "command": command}
            return write_fit(model, said, [seconds[i] for i in kept], facts, output)
    if len(words) > 1:
        raise UserError(f"latency measure takes no file, got {' '.join(words[1:])}")
    check_int("members", members, 1, 100_000)
    check_int("rounds", rounds, 2, 1000)
    check_int("batch_size", batch_size, 1, 1_000_000)
    check_threads(threads)
    threads = fit_threads(threads)
    precision = ALIASES.get(precision, precision)
    check_choice("precision", precision, (*ALIASES.values(), *ALIASES))
    how = {"batch_size": batch_size, "threads": threads, "device": device, "precision": precision}
    return _measure(known, members, rounds, seed, how, output, command, quiet)


def _measure(
    space: SearchSpace,
    count: int,
    rounds: int,
    seed: int,
    how: Mapping[str, Any],
    output: Path,
    command: str,
    quiet: bool,
) -> dict[str, Any]:
    from .measuring import draw_members, measure_members  # needs torch

    drawn = draw_members(space, count, seed)
    columns = [*space.distributions, "seconds", *how, "rounds"]
    with folder_lock(output, "latency"), progress_bar("latency", len(drawn), quiet=quiet) as seen:
        rows = _read_rows(output / MEASURED, columns, {**how, "rounds": rounds})
        have = {tuple(row[name] for name in space.distributions) for row in rows}
        todo = [(d, n) for d, n in drawn if tuple(str(d[name]) for name in space.distributions) not in have]
        done = len(drawn) - len(todo)
        left = iter(todo)
        for seconds in measure_members(
            [network for _, network in todo], rounds=rounds, seen=lambda n: seen(done + n), **how
        ):
            for second in seconds:
                decisions, _ = next(left)
                rows.append({**{k: str(v) for k, v in decisions.items()}, "seconds": second, **how, "rounds": rounds})
            write_measured(columns, rows, output)
        where = f"batch {how['batch_size']}, {describe_device(how['device'], how['threads'])}, {how['precision']}"
        facts = {"space": space.name, "measured": where, "rounds": rounds, "seed": seed, "command": command}
        return write_measured(columns, rows, output, facts)


def _read_rows(file: Path, columns: Sequence[str], how: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an earlier run measured in the same way."""
    if not is_file(file):
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        rows: list[dict[str, Any]] = list(csv.DictReader(lines))
    for row in rows:
        other = [name for name in how if str(row.get(name)) != ("" if how[name] is None else str(how[name]))]
        if list(row) != list(columns) or other:
            raise UserError(
                f"{file}: was measured otherwise ({', '.join(other) or 'another space'}); choose another -o DIR"
            )
    return rows

"""``effnas compare``: the settings, the run."""

from __future__ import annotations

import glob
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...space.built import BuiltNetwork, check_network
from ...space.errors import UserError, check_choice
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path, is_file, is_folder
from ..arguments import as_list, check_threads, describe_device
from ..folder import check_owner
from ..machine.cores import fit_threads
from ..machine.device import find_device
from ..machine.paired_latency import paired_latency
from ..progress_bar import progress_bar
from .equal_accuracy import Families, comparable, equal_accuracy, nearest, speed_ups
from .points import Point, find_network, merge_runs
from .reading import is_run, read_points, read_run
from .references import SETS, published_points
from .report import write_comparison

AXES, SCALES = ("macs", "params", "latency"), ("log", "linear")
#: The family of members that name none.
YOURS = "yours"


def run_compare(
    members: Sequence[str] | str = (),
    *,
    families: Mapping[str, Sequence[str] | str] | None = None,
    references: Sequence[str] | str = (),
    x: Sequence[str] | str = ("macs", "params"),
    scale: str = "log",
    names: bool = True,
    latency: bool = False,
    network: BuiltNetwork | None = None,
    latency_rounds: int = 5,
    threads: int | None = 1,
    device: str = "cpu",
    output: str | Path = "outputs/compare",
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Show the accuracy of networks against what they cost (Tan & Le 2019, Figures 1 and 5, Tables 2 and 4).

    Args:
        members: folders of ``effnas train`` and ``effnas evaluate`` or their ``summary.json``, patterns of these
            (``runs/*``), CSV files (:func:`~effnas.evaluate.compare.reading.read_points`), or names of published sets.
            Runs of the same network with several seeds are one point, with the standard error of their mean.
        families: the same, by the name of the family; a line joins each.
        references: published sets (:data:`~effnas.evaluate.compare.references.SETS`) or CSV files, shown behind the
            families.
        x: ``macs``, ``params`` or ``latency``, one panel each.
        scale: ``log`` or ``linear``, of these axes.
        names: write the name beside each point.
        latency: measure here, in alternation, the networks of the families that can be built and the published ones
            nearest to them.
        network: a network of the user's own builder; files of its networks need it when their latency is measured.
        latency_rounds, threads, device: as :func:`~effnas.evaluate.machine.paired_latency.paired_latency`.
        output: folder of ``compare.png``, ``compare.svg``, ``compare.csv`` and ``compare.json``.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``compare.json``.

    Raises:
        UserError: a file or folder is not what it should be, an option is wrong, or there is nothing to show.
    """
    axes = _names(x)
    for axis in axes:
        check_choice("x", axis, AXES)
    if not axes:
        raise UserError(f"x: no axis given; choose one or more of: {', '.join(AXES)}")
    check_choice("scale", scale, SCALES)
    check_threads(threads)
    threads = fit_threads(threads) if latency else threads
    output = as_path("output", output)
    check_owner(output, "compare")
    network = check_network(network)
    found = _families(_names(members), families or {})
    points = [point for entry in _names(references) for point in _reference_points(entry)]
    points = [point for point in points if all(point not in members for members in found.values())]
    notes = _notes(found, points)
    rounds: dict[Point, list[float]] = {}
    if latency:
        found, points, rounds, unbuilt = _measure_latencies(
            found, points, network, latency_rounds, threads, device, quiet
        )
        notes += unbuilt
    for axis in axes:
        _check_axis(axis, found)
    return write_comparison(
        found,
        points,
        axes=axes,
        scale=scale,
        names=names,
        pairs=equal_accuracy(found, points),
        speed_ups=speed_ups(found, points, rounds),
        rounds=rounds,
        notes=notes,
        output=output,
        command=command,
    )


def _names(value: Sequence[str] | str | None) -> list[str]:
    return list(map(str, as_list(value)))


# -- what is compared ------------------------------------------------------------------------------------


def _families(members: Sequence[str], named: Mapping[str, Sequence[str] | str]) -> dict[str, list[Point]]:
    if not isinstance(named, Mapping):
        raise UserError(f"families must map names to networks, families={{mine: [FOLDER, …]}}, got {named!r}")
    points = [point for entry in members for point in _member_points(entry, YOURS)]
    for family, entries in named.items():
        # a family named here is one line, whatever a CSV file says
        points += [
            replace(point, family=str(family)) for entry in _names(entries) for point in _member_points(entry, family)
        ]
    if not points:
        raise UserError(
            "members: none given; use members=[FOLDER,…] with folders of effnas train or evaluate, a CSV file, or "
            f"named families: families={{mine: [FOLDER,…]}}; published ones are named {', '.join(SETS[:2])}"
        )
    found: dict[str, list[Point]] = {}
    for point in merge_runs(points):
        found.setdefault(point.family or YOURS, []).append(point)
    return found


def _member_points(entry: str, family: str) -> list[Point]:
    if entry in SETS:
        return [replace(point, family=point.family or entry) for point in published_points(entry)]
    if Path(entry).suffix.lower() == ".csv":
        return read_points(entry, family)
    if is_file(entry) or is_folder(entry):
        return [read_run(entry, family)]
    matches = sorted(glob.glob(entry)) if glob.has_magic(entry) else []
    if not matches:
        raise UserError(
            f"members: no such folder or file: {entry:.200}. Give folders of effnas train or evaluate (patterns like "
            f"runs/* work), CSV files, or one of: {', '.join(SETS)}"
        )
    runs = [match for match in matches if is_run(match)]
    if not runs:
        raise UserError(f"members: {entry}: no runs of effnas train or evaluate among the {len(matches)} that fit")
    if others := [Path(match).name for match in matches if match not in runs]:
        print(f"{entry}: left out, as no runs: {', '.join(others[:5])}{', …' * (len(others) > 5)}", file=sys.stderr)
    return [point for match in runs for point in _member_points(match, family)]


def _reference_points(entry: str) -> list[Point]:
    if entry in SETS:
        return list(published_points(entry))
    if not is_file(entry):
        raise UserError(f"references: {entry!r} is neither a CSV file nor one of: {', '.join(SETS)}")
    return read_points(entry, "")


def _notes(families: Families, references: Sequence[Point]) -> list[str]:
    """What makes accuracies incomparable, as far as the summaries say."""
    members = [point for points in families.values() for point in points]
    apart = [point for point in members if any(not comparable(point, other) for other in (*members, *references))]
    apart = [point for point in apart if not point.imagenet]
    if apart:
        return [
            "NOT COMPARABLE with published accuracies of ImageNet's 50,000 validation images, and no ratios are given: "
            + _by_images(apart)
        ]
    if len({point.of for point in members if point.of}) > 1:
        return [
            f"the accuracies were not measured on the same images: {_by_images(point for point in members if point.of)}"
        ]
    return []


def _by_images(points: Iterable[Point]) -> str:
    groups: dict[str, list[str]] = {}
    for point in points:
        groups.setdefault(point.of, []).append(point.name)
    return "; ".join(f"{_shortened(names)}: {of}" for of, names in groups.items())


def _shortened(parts: Sequence[str]) -> str:
    return ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")


def _check_axis(axis: str, families: Families) -> None:
    lacking = [point.name for points in families.values() for point in points if getattr(point, axis) is None]
    if lacking and axis == "latency":
        raise UserError(
            f"x=latency: no latency for {_shortened(lacking)}: measure it here with latency=true, take folders of "
            "effnas evaluate, or give a CSV file the column latency"
        )
    if lacking:
        raise UserError(
            f"x={axis}: no {axis} of {_shortened(lacking)}: give the CSV file a column {axis} or architecture"
        )


# -- latency ---------------------------------------------------------------------------------------------


def _measure_latencies(
    families: Families,
    references: Sequence[Point],
    own: BuiltNetwork | None,
    rounds: int,
    threads: int | None,
    device: str,
    quiet: bool,
) -> tuple[dict[str, list[Point]], list[Point], dict[Point, list[float]], list[str]]:
    """Families and references with the latencies measured here, these by round, and what could not be measured."""
    place = find_device(device)
    networks: dict[Point, NetworkSpec] = {}
    unbuilt = []
    for point in (point for points in families.values() for point in points):
        try:
            networks[point] = find_network(point, own)
        except UserError as error:
            unbuilt.append(f"latency of {point.name} was not measured: {error}")
    if not networks:
        raise UserError(f"latency=true: none of the networks can be built: {unbuilt[0]}")
    buildable = [point for point in references if point.architecture]
    for member in list(networks):
        reference = nearest(member, [p for p in buildable if p.family != member.family and comparable(member, p)])
        if reference is not None:
            networks[reference] = find_network(reference)
    distinct = {network.digest: network for network in networks.values()}
    with progress_bar("latency", (rounds + 1) * len(distinct), quiet=quiet) as seen:
        seconds = paired_latency(list(distinct.values()), rounds=rounds, threads=threads, device=str(place), seen=seen)
    by_digest = dict(zip(distinct, seconds, strict=True))
    how = f"batch 1, {describe_device(place, threads)}"

    def timed(point: Point) -> Point:
        if point not in networks:
            return point
        median = statistics.median(by_digest[networks[point].digest])
        return replace(point, latency=median, latency_of=f"{how}, here")

    measured = {timed(point): by_digest[network.digest] for point, network in networks.items()}
    kept = {family: [timed(point) for point in points] for family, points in families.items()}
    return kept, [timed(point) for point in references], measured, unbuilt

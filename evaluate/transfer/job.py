"""``effnas transfer``: the settings, the trainings."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...space.built import BuiltNetwork, check_network
from ...space.errors import UserError, advise_without_restart, check_int
from ...space.files import write_text
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ...space.weights.contents import Weights
from ..arguments import as_list
from ..data.labelled_images import LabelledImages
from ..data.sources import find_table
from ..folder import folder_lock, set_aside
from ..identity import describe_changes, describe_content, describe_files
from ..pretrained import find_architecture, read_weights_of
from ..train.job import run_train
from ..train.recipe import Training
from .datasets import make_named_data
from .report import RESULTS, Run, write_transfer

#: Beside a training's own files: what it was, and how many images it saw. Written when it has finished.
RECORD = "run.json"


@dataclass(frozen=True)
class _Start:
    """One network of the table, and the weights it starts from."""

    name: str
    network: NetworkSpec
    weights: Weights | None


def run_transfer(
    architecture: Sequence[str | None] | str,
    weights: Sequence[str | None] | str,
    datasets: Mapping[str, LabelledImages] | Sequence[str] | str,
    training: Training,
    *,
    data: Mapping[str, Any] | None = None,
    network: BuiltNetwork | None = None,
    resolution: int | None = None,
    in_channels: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    restart: bool = False,
    output: str | Path = "outputs/transfer",
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train every network on every data set (Tan & Le 2019, section 5.3 and Table 5); continues from what ``output``
    has.

    A finished training is not repeated; an interrupted one continues.

    Args:
        architecture: zoo names or files, one per network; empty or None: the one that its weights name, or else
            ``network``.
        weights: files that they start from, in the same order; empty or None: from scratch.
        datasets: by name, in the order of the table; or names alone, of choices of the group ``data``.
        training: the recipe, of all.
        data: with names alone, changes to what they stand for
            (:func:`~effnas.evaluate.transfer.datasets.make_named_data`).
        network: a network of the user's own builder; files of its networks need it.
        resolution: of the input in pixels; None: each network's own.
        in_channels: of the images; None: each network's. Weights for colour images are
            adapted, as timm does it.
        seeds: trainings of each network on each data set.
        seed: the first of them.
        device, threads, restart: as :func:`~effnas.evaluate.train.job.run_train`.
        output: folder of ``transfer.csv``, ``transfer.json`` and ``runs/DATA/NETWORK/seedN``, of
            :func:`~effnas.evaluate.train.job.run_train` each.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``transfer.json``.

    Raises:
        UserError: networks and weights do not pair, something is not there or does not fit, or a training failed.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint written.
    """
    check_int("seeds", seeds, 1, 1000)
    check_int("seed", seed, 0, 2**32 - 1 - seeds)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("effnas transfer runs in one process; with torchrun use effnas train, one network at a time")
    if not isinstance(datasets, Mapping):
        datasets = make_named_data([str(name) for name in as_list(datasets)], data or {})
    starts, output = _starts(architecture, weights, network), as_path("output", output)
    asked = {"resolution": resolution, "in_channels": in_channels}
    changes = {name: value for name, value in asked.items() if value is not None}
    starts = [replace(start, network=start.network.with_(**changes)) for start in starts]
    tasks = [
        _Task(name, data, start, first, output / "runs" / _safe(name) / _safe(start.name) / f"seed{first}")
        for name, data in datasets.items()
        for start in starts
        for first in range(seed, seed + seeds)
    ]
    with folder_lock(output, "transfer"), ExitStack() as stack:
        if restart:
            set_aside(output, RESULTS)
            stack.enter_context(advise_without_restart())
        identities = [task.identity(training) for task in tasks]
        found = {}
        for i, task in enumerate(tasks):  # before the first training: another one in a folder is refused
            if (run := _read_finished(task, identities[i])) is not None:
                found[i] = run
        for images in {tasks[i].data for i in range(len(tasks)) if i not in found}:
            find_table(images, "train")  # what is not there is told before hours of training, not after
        for i, task in enumerate(tasks):
            if i in found:
                continue
            if not quiet:
                print(f"training {i + 1} of {len(tasks)}: {task.title}", file=sys.stderr, flush=True)
            found[i] = _train_task(task, training, identities[i], device, threads, command, quiet)
        return write_transfer([found[i] for i in range(len(tasks))], output, command)


@dataclass(frozen=True)
class _Task:
    """One training."""

    dataset: str
    data: LabelledImages
    start: _Start
    seed: int
    output: Path

    @property
    def title(self) -> str:
        return f"{self.start.name} on {self.dataset}, seed {self.seed}"

    def identity(self, training: Training) -> dict[str, Any]:
        """What makes it this training, as JSON has it."""
        weights = self.start.weights
        facts = {
            "architecture": self.start.network.digest,
            "weights": None if weights is None else weights.digest,
            "data": describe_content(self.data),
            "files": describe_files(self.data),
            "training": training.to_dict(),
            "seed": self.seed,
        }
        plain: dict[str, Any] = json.loads(json.dumps(facts))
        return plain


def _read_finished(task: _Task, identity: Mapping[str, Any]) -> Run | None:
    """The result of a training that was made before with these settings; None: it has yet to be made.

    Raises:
        UserError: the folder holds another one.
    """
    try:
        record = json.loads((task.output / RECORD).read_text(encoding="utf-8"))
        known, run = dict(record["identity"]), Run(**record["run"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or a damaged one: the training itself knows where it is
        return None
    if changes := describe_changes(known, identity, {"training": Training}):
        raise UserError(
            f"{task.title}: {task.output}: another training is in this folder ({changes}); begin anew with "
            "restart=true, which keeps the old files beside the new ones, or choose another folder with -o DIR"
        )
    return run


def _train_task(
    task: _Task,
    training: Training,
    identity: Mapping[str, Any],
    device: str,
    threads: int | None,
    command: str,
    quiet: bool,
) -> Run:
    weights, network = task.start.weights, task.start.network
    try:
        summary = run_train(
            network,
            task.data,
            training,
            weights=weights,
            seed=task.seed,
            device=device,
            threads=threads,
            tensorboard=False,
            output=task.output,
            command=command,
            quiet=quiet,
        )
    except UserError as error:
        raise UserError(f"{task.title}: {error}") from error
    part = "heldout" if summary["test_accuracy"] is None else "test"
    run = Run(
        dataset=task.dataset,
        network=task.start.name,
        seed=task.seed,
        accuracy=summary["accuracy" if part == "heldout" else "test_accuracy"],
        part=part,
        params=summary["params"],
        macs=summary["macs"],
        resolution=summary["resolution"],
        classes=summary["classes"],
        train_images=summary["train_images"],
        measured_images=summary[f"{part}_images"],
        epochs=summary["epochs"],
        seconds=summary["seconds"],
        weights="" if weights is None else str(weights.path),
        output=str(task.output),
    )
    write_text(task.output / RECORD, json.dumps({"identity": identity, "run": asdict(run)}, indent=2) + "\n")
    return run


# -- the networks ----------------------------------------------------------------------------------------


def _starts(
    architecture: Sequence[str | None] | str, weights: Sequence[str | None] | str, own: BuiltNetwork | None
) -> list[_Start]:
    names, files, own = as_list(architecture), as_list(weights), check_network(own)
    if not names and not files and own is None:
        raise UserError(
            "weights: none given; use weights=[FILE,…], and architecture=[NAME,…] if the files do not name "
            "their networks"
        )
    if names and files and len(names) != len(files):
        raise UserError(
            f"architecture and weights pair up, one of each per network: got {len(names)} and {len(files)}; "
            "null stands for the architecture that the weights name, and for training from scratch"
        )
    count = max(len(names), len(files), 1)
    found = []
    for name, file in zip(names or [None] * count, files or [None] * count, strict=True):
        read = read_weights_of(name, file, own)
        network = find_architecture(name, read, own)
        found.append(_Start(network.name or "network", network, read))
    return list(_told_apart(found))


def _told_apart(starts: Sequence[_Start]) -> Iterator[_Start]:
    """Networks of the same name get their weights' too, and then a number."""
    names = [start.name for start in starts]
    longer = [
        f"{start.name} ({'from scratch' if start.weights is None else Path(start.weights.path).stem})"
        if names.count(start.name) > 1
        else start.name
        for start in starts
    ]
    for i, (start, name) in enumerate(zip(starts, longer, strict=True)):
        yield replace(start, name=f"{name} {longer[: i + 1].count(name)}" if longer.count(name) > 1 else name)


def _safe(name: str) -> str:
    """As the name of a folder."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "_"

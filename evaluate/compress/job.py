"""``effnas compress``: prune a trained network to a budget of MACs, and fine-tune what is left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ...space.architecture import Architecture
from ...space.cost import cost
from ...space.errors import UserError, advise_without_restart, check_int, check_number
from ...space.multipliers import DIVISOR, check_divisor
from ...space.network import Network
from ...space.paths import as_path
from ...space.quantity import parse_quantity
from ...space.weights.grow import check_growable
from ...space.weights.weights import save_weights
from ..arguments import check_threads
from ..data.labelled_images import LabelledImages
from ..folder import folder_lock, set_aside, write_json
from ..identity import describe_changes, describe_content, describe_files
from ..interrupt import Interrupts
from ..machine.device import find_device, out_of_memory, torch_threads
from ..progress_bar import progress_bar
from ..supernet.importance import sort_channels
from ..train.accuracy import measure_accuracy
from ..train.job import run_train
from ..train.recipe import Training
from ..train.starting_point import StartingPoint, find_starting_point
from .pruning import Calibration, cut_network, prune
from .report import PRUNED, RECORD, RESULTS, TRAINED, check_record, write_compressed


def run_compress(
    weights: str | Path | None,
    data: LabelledImages,
    training: Training,
    *,
    target_macs: float | str | None = None,
    divisor: int = DIVISOR,
    step: float = 0.05,
    calibration: int = 512,
    finetune: bool = True,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    restart: bool = False,
    output: str | Path = "outputs/compress",
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Cut channels of a trained network until it keeps within a budget, then train on; continues from what is there.

    Channels are cut in the order of their importance, from the layers where that costs the least loss on training
    images (:mod:`effnas.evaluate.compress.pruning`). What is left is an Architecture.

    Args:
        weights: file of ``effnas train``, or another one that names its network.
        data: the images, of the classes that the network knows.
        training: the recipe of the fine-tuning.
        target_macs: most MACs: a number or string such as ``20M``; at most 1: a share of the network's own.
        divisor: what widths stay multiples of: 4, 8, 16 or 32.
        step: share of the network's MACs that each cut saves at least; smaller ones are slower, and choose more finely.
        calibration: training images that a cut is judged by.
        finetune: train on; else the pruned network is only measured.
        seed: of the choice of images and of the training.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        threads: of the CPU; None: chosen by timed steps, and those torch has.
        restart: begin anew: what the folder holds of an earlier run is kept under another name, with a number.
        output: folder of ``pruned.safetensors``, ``architecture.yaml``, ``compress.json``, a figure and ``trained/``,
            which is a folder of :func:`~effnas.evaluate.train.job.run_train`.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``compress.json``.

    Raises:
        UserError: a setting is wrong, the weights do not say their network or are of other classes than the data, the
            budget is out of reach, another run is in the folder, or the training failed.
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
    """
    check_divisor(divisor)
    check_number("step", step, 0, 1, open_low=True, open_high=True)
    check_int("calibration", calibration, 1)
    check_int("seed", seed, 0, 2**32 - 1)
    check_threads(threads)
    if weights is None:
        raise UserError("weights: none given; name a trained network's file (effnas train writes weights.safetensors)")
    if target_macs is None:
        raise UserError("target_macs: none given; say how many are left, such as 20M, or 0.5 for half")
    try:
        amount = parse_quantity("target_macs", target_macs)
    except UserError as error:
        raise UserError(f"{error}; at most 1 is a share of the network's own: 0.5 is half") from None
    place, folder = find_device(device), as_path("output", output)
    start = find_starting_point(None, data, weights)
    architecture = check_growable(
        start.architecture, f"compress: {weights} is of a builder's network, whose layers are not known"
    )
    if not start.keep_classifier:
        raise UserError(f"compress: {weights} was trained on other classes than the data has")
    total = cost(architecture).macs
    target = int(amount * total) if amount <= 1 else int(amount)
    if target >= total:
        raise UserError(f"target_macs {target:,}: the network has {total:,} already; give fewer")
    identity = {
        **start.identity,
        "data": describe_content(data),
        "files": describe_files(data),
        "target": target,
        "divisor": divisor,
        "step": step,
        "calibration": calibration,
        "seed": seed,
    }
    with ExitStack() as stack:
        stack.enter_context(folder_lock(folder, "compress"))
        if restart:
            set_aside(folder, RESULTS)
            stack.enter_context(advise_without_restart())
        record = _read_record(folder, identity)
        if record is None:
            by = Calibration(start.split.train, calibration, training.batch_size, place, seed)
            room = out_of_memory(training.batch_size, architecture.resolution)
            with Interrupts() as interrupts, torch_threads(threads), room:
                record = _prune(start, architecture, target, divisor, step, by, folder, interrupts, quiet)
            record |= {"identity": identity, "command": command}
            write_json(folder / RECORD, record)
        if finetune:
            trained = run_train(
                None,
                data,
                training,
                weights=folder / PRUNED,
                seed=seed,
                device=device,
                threads=threads,
                tensorboard=False,
                output=folder / TRAINED,
                command=command,
                quiet=quiet,
            )
            names = ("accuracy", "test_accuracy", "seconds", "epochs")
            record |= {"trained": {name: trained.get(name) for name in names}}
        return write_compressed(record, architecture, folder)


def _read_record(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an earlier run with the same settings has pruned."""
    try:
        found: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        known = dict(found["identity"])
        check_record(found, folder)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{folder / RECORD}: no record of effnas compress ({type(error).__name__}): remove the file"
        ) from None
    if changes := describe_changes(known, json.loads(json.dumps(identity))):
        raise UserError(
            f"{folder}: holds another compression ({changes}). Continue it with its original settings, choose another "
            "folder with -o DIR, or restart=true"
        )
    return found if (folder / PRUNED).is_file() else None


def _prune(
    start: StartingPoint,
    architecture: Architecture,
    target: int,
    divisor: int,
    step: float,
    by: Calibration,
    folder: Path,
    interrupts: Interrupts,
    quiet: bool,
) -> dict[str, Any]:
    network = start.build(by.seed)
    assert isinstance(network, Network)
    sort_channels(network, architecture)
    network = network.to(by.device).eval()
    total, pixels = cost(architecture).macs, start.split.train.pixels
    loss, cuts = by.measure(cut_network(network, architecture), architecture.resolution), []
    with progress_bar("compress", total - target, quiet=quiet) as seen:
        left = architecture
        for cut in prune(network, architecture, target, divisor, step, by):
            left = cut.architecture
            macs = cost(left).macs
            cuts.append({"what": cut.what, "macs": macs, "loss": cut.loss})
            seen(min(total - macs, total - target))
            interrupts.check()
    left = left.with_(name=f"{architecture.name or 'network'}"[:170] + "_pruned")
    small = cut_network(network, left)
    by.measure(small, left.resolution)  # its statistics
    how: dict[str, Any] = {"batch_size": by.batch_size, "device": by.device}
    heldout = start.split.heldout
    before, after = (
        measure_accuracy(module.to(by.device), heldout, resolution=of.resolution, **how)[0]
        for module, of in ((start.build(by.seed), architecture), (small, left))
    )
    left.save(folder / "architecture.yaml")
    save_weights(
        folder / PRUNED,
        small.to("cpu", memory_format=torch.contiguous_format),  # type: ignore[call-overload]
        architecture=left,
        normalization=(pixels.mean, pixels.std),
        classes=start.split.classes,
    )
    ends = {
        name: {"name": a.name, "digest": a.digest, "macs": cost(a).macs, "params": cost(a).params, "accuracy": accuracy}
        for name, a, accuracy in (("before", architecture, before), ("pruned", left, after))
    }
    return {**ends, "loss": loss, "cuts": cuts, "target": target, "architecture": left.to_dict()}

"""``effnas profile``: the settings, the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from ...space.built import BuiltNetwork, check_network
from ...space.cost import cost
from ...space.errors import UserError, check_choice, check_int
from ...space.network import build
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ...space.zoo import ZOO, load_architecture
from ..arguments import as_list, check_threads
from ..evaluation import EvaluationError
from ..folder import folder_lock
from ..machine.device import find_device
from ..machine.fvcore_count import count_by_fvcore, part_names
from ..machine.profile import Profile, profile
from ..machine.settings import TIMED_PRECISIONS
from ..progress_bar import progress_bar
from .report import write_profile

#: Timed passes where their number is left open: so many at least and at most, in about so many seconds.
LEAST, MOST, SECONDS = 5, 50, 5.0
#: What is known of a stage: of :class:`~effnas.space.formulas.StageCost`.
STAGE = ("name", "channels", "resolution", "params", "macs", "activations", "peak_memory")


def run_profile(
    networks: Any = (),
    *,
    network: BuiltNetwork | None = None,
    resolution: int | None = None,
    in_channels: int | None = None,
    fvcore: bool = True,
    batch_size: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    repeats: int | None = None,
    output: str | Path = "outputs/profile",
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Count what networks cost, beside fvcore's count, and measure their latency and memory on this machine.

    Args:
        networks: a network, a name of the zoo, an architecture file, or a list of these; empty: ``network``.
        network: of the user's own builder; files of its networks need it.
        resolution: of the input in pixels; None: each network's.
        in_channels: of the images; None: each network's.
        fvcore: count with fvcore too.
        batch_size: images per pass when measuring.
        threads: of the CPU; None: PyTorch's default.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        precision: ``fp32`` or ``bf16``.
        repeats: timed passes; None: as many as take about 5 seconds, 5 to 50.
        output: folder of ``profile.json`` and ``profile.csv``.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``profile.json``: ``networks``, a row each, with ``name digest resolution in_channels num_classes
        params macs activations peak_memory`` (computed; bytes, of one image), ``fvcore`` (None, or ``params macs
        activations total operators uncounted note``), ``stages`` (each with ``name params macs fvcore_macs``, and
        ``channels resolution activations peak_memory`` where they are known; of a builder's network the parts of its
        module, ``macs`` None), ``latency latency_q1 latency_q3`` (seconds per batch), ``images_per_second``,
        ``measured_memory`` (bytes, of the batch; None where it cannot be measured) and ``batch_size threads device
        precision repeats``.

    Raises:
        UserError: no network, no such network, a setting out of range, or not enough memory.
    """
    check_choice("precision", precision, TIMED_PRECISIONS)
    check_int("batch_size", batch_size, 1, 1_000_000)
    check_threads(threads)
    if resolution is not None:
        check_int("resolution", resolution, 1, 100_000)
    if repeats is not None:
        check_int("repeats", repeats, 2, 1_000_000)
    find_device(device)
    changes = {"resolution": resolution, "in_channels": in_channels}
    found = _load(networks, network, {name: value for name, value in changes.items() if value is not None})
    how = {"batch_size": batch_size, "threads": threads, "device": device, "precision": precision}
    output = as_path("output", output)
    rows = []
    with folder_lock(output, "profile"), progress_bar("profile", len(found), quiet=quiet) as seen:
        for number, one in enumerate(found, 1):
            module = build(one, seed=0).eval()
            rows.append({**_counted(one, module, fvcore=fvcore), **_measured(one, module, repeats, how)})
            seen(number)
        return write_profile(rows, output, command)


def _load(given: Any, network: BuiltNetwork | None, changes: Mapping[str, int]) -> list[NetworkSpec]:
    check_network(network)
    wanted = as_list(given) if isinstance(given, str | Sequence) else [given]
    if not wanted and network is None:
        raise UserError(f"networks: name one or several, each a YAML file or one of: {', '.join(ZOO)}")
    found: list[NetworkSpec] = []
    for one in wanted or [network]:
        loaded = load_architecture(one, network) if isinstance(one, str | Path) else one
        if not hasattr(loaded, "digest"):
            raise UserError(f"networks: each must be a name of the zoo, a YAML file or a network, got {one!r:.100}")
        found.append(loaded.with_(**changes) if changes else loaded)
    return found


def _counted(network: NetworkSpec, module: nn.Module, *, fvcore: bool) -> dict[str, Any]:
    """What is known without a clock: our costs, fvcore's, and the rows of the stages."""
    ours = cost(network)
    other = count_by_fvcore(module, network) if fvcore else None
    names = part_names(module)
    macs = dict.fromkeys(names) if other is None else dict(other.parts)
    if ours.stages:  # the last row is the head's, with all that follows the stages
        values = list(macs.values())
        last = len(ours.stages) - 1
        tail = None if other is None else sum(value or 0 for value in values[last:])
        stages = [
            {**{key: getattr(row, key) for key in STAGE}, "fvcore_macs": value}
            for row, value in zip(ours.stages, [*values[:last], tail], strict=True)
        ]
    else:
        children = dict(module.named_modules())
        stages = [
            {
                "name": name,
                "params": sum(p.numel() for p in children[name].parameters()),
                "macs": None,
                "fvcore_macs": macs[name],
            }
            for name in names
            if macs[name] or any(True for _ in children[name].parameters())
        ]
    return {
        "name": network.name,
        "digest": network.digest,
        "resolution": network.resolution,
        "in_channels": network.in_channels,
        "num_classes": network.num_classes,
        "params": ours.params,
        "macs": ours.macs,
        "activations": ours.activations,
        "peak_memory": ours.peak_memory,
        "fvcore": None
        if other is None
        else {
            "params": other.params,
            "macs": other.macs,
            "activations": other.activations,
            "total": other.total,
            "operators": dict(other.operators),
            "others": other.others,
            "uncounted": dict(other.uncounted),
            "unknown_products": other.unknown_products,
        },
        "stages": stages,
    }


def _measured(network: NetworkSpec, module: nn.Module, repeats: int | None, how: dict[str, Any]) -> dict[str, Any]:
    """What the clock and the memory say; the slower the network, the fewer passes, where the user leaves it open."""

    def measure(repeats: int, warmup: int) -> Profile:
        return profile(network, module=module, repeats=repeats, warmup=warmup, fvcore=False, **how)

    try:
        if repeats is None:
            once = measure(2, 1)
            repeats = min(MOST, max(LEAST, round(SECONDS / once.latency)))
        measured = measure(repeats, min(10, repeats))
    except EvaluationError as error:
        raise UserError(f"{network.name}: {error}; set a smaller batch_size or resolution") from error
    facts = asdict(replace(measured, fvcore={}))
    facts["measured_memory"] = facts.pop("peak_memory")
    return {key: value for key, value in facts.items() if key not in ("fvcore", "resolution")}

"""The archive of Accel-NASBench: networks of EfficientNet-B0's skeleton, their accuracy and their speed on devices."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..space.errors import UserError, is_finite, show
from ..space.paths import as_text, expand_path, is_file, is_folder
from ..space.space import SearchSpace, load_space
from .tar_files import open_tar

#: The name under which the archive is distributed.
ARCHIVE = "anb_dataset_jsons.tar.gz"
#: Columns of ``platform_perf``: a latency in milliseconds per image, a throughput in images per second.
DEVICES = (
    "latency_zcu102",
    "latency_vck190",
    "throughput_zcu102",
    "throughput_vck190",
    "throughput_a100",
    "throughput_3090",
    "throughput_tpuv2",
    "throughput_tpuv3",
)
#: Members of the archive above this are not what it says it is.
MAX_MEMBER = 100_000


@dataclass(frozen=True)
class Archive:
    """The measurements, repeats of one network averaged.

    Args:
        path: of the file, for messages.
        indices: choice indices in the space ``accel_nasbench``, shape (n, 28), no two rows equal.
        accuracy: top-1 under the benchmark's shortened recipe, a fraction, shape (n,).
        devices: seconds per image by column, shape (n,), NaN where not measured.
        repeat_sd: standard deviation of the accuracies of one network trained twice; NaN where none was.
    """

    path: Path
    indices: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    devices: Mapping[str, NDArray[np.float64]]
    repeat_sd: float


@cache
def benchmark_space() -> SearchSpace:
    """The space that the benchmark's networks were drawn from."""
    return load_space("accel_nasbench")


def _find(path: str | Path) -> Path:
    file = expand_path(path)
    file = file / ARCHIVE if is_folder(file) else file
    if not is_file(file):
        raise UserError(
            f"evaluator.path: no such file: {as_text(file)} (the archive of Accel-NASBench, {ARCHIVE}, is expected)"
        )
    return file


def archive_digest(path: str | Path) -> str:
    """SHA-256 of the archive.

    Raises:
        UserError: no such file, or not readable.
    """
    file = _find(path)
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{file}: not readable: {error}") from None


def read_archive(path: str | Path) -> Archive:
    """The archive as it is distributed (a tar of one JSON document per network), or the folder that it lies in.

    Nothing is unpacked.

    Raises:
        UserError: no such file, truncated, not such an archive, a network without accuracy, with illegal decisions, or
            with something that is not a number where one belongs; the message names the member.
    """
    file = _find(path)
    space = benchmark_space()
    decisions: list[Mapping[str, Any]] = []
    rows: list[list[float]] = []
    for name, document in _documents(file):
        where = f"{file}: {name}"
        try:
            decisions.append(space.check(_mapping(document, "architecture", where)))
        except UserError as error:
            raise UserError(f"{where}: {error}" if where not in str(error) else str(error)) from None
        top1 = _number(_mapping(document, "metrics", where), "val_top1", where)
        if top1 is None:
            raise UserError(f"{where}: val_top1 is missing")
        if not 0 <= top1 <= 100:
            raise UserError(f"{where}: val_top1 must be a percentage between 0 and 100, got {top1}")
        perf = document.get("platform_perf") or {}
        rows.append([top1 / 100, *(_device(perf, device, where) for device in DEVICES)])
    if len(rows) < 100:
        raise UserError(f"{file}: at least 100 networks are needed to predict the others, found {len(rows)}")
    table = np.array(rows)
    unique, place = np.unique(space.indices(decisions), axis=0, return_inverse=True)
    place = place.reshape(-1)
    known = ~np.isnan(table)
    counts = np.stack([np.bincount(place, column) for column in known.T.astype(float)], axis=1)
    sums = np.stack([np.bincount(place, column) for column in np.where(known, table, 0.0).T], axis=1)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    repeated = counts[place, 0] > 1
    freedom = repeated.sum() - len(np.unique(place[repeated]))
    squares = float(((table[repeated, 0] - means[place[repeated], 0]) ** 2).sum())
    return Archive(
        path=file,
        indices=unique,
        accuracy=means[:, 0],
        devices={device: means[:, i] for i, device in enumerate(DEVICES, start=1)},
        repeat_sd=math.sqrt(squares / freedom) if freedom else math.nan,
    )


def _documents(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_tar(file) as archive:
        for member in archive:
            name = as_text(member.name)
            if not member.isfile() or not member.name.endswith(".json"):
                continue
            stream = archive.extractfile(member) if member.size <= MAX_MEMBER else None
            if stream is None:
                raise UserError(f"{file}: {name} has {member.size:,} bytes, more than {MAX_MEMBER:,}")
            try:
                document = json.loads(stream.read())
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file}: {name} is not JSON: {as_text(str(error))}") from None
            if not isinstance(document, dict):
                raise UserError(f"{file}: {name} must hold a mapping, got {type(document).__name__}")
            yield name, document


def _mapping(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value := document.get(key), Mapping):
        raise UserError(f"{where}: {key!r} is missing; there is {', '.join(map(str, document)) or 'nothing'}")
    return value


def _number(mapping: Mapping[str, Any], key: str, where: str) -> float | None:
    value = mapping.get(key)
    if value is None:
        return None
    if not is_finite(value):
        raise UserError(f"{where}: {key} must be a finite number, got {show(value):.60}")
    return float(value)


def _device(perf: Any, device: str, where: str) -> float:
    """Seconds per image; NaN where the network was not measured."""
    row = perf.get(device) if isinstance(perf, Mapping) else None
    if not isinstance(row, Mapping):
        return math.nan
    kind = device.partition("_")[0]
    value = _number(row, f"{kind}_mean", f"{where}: {device}")
    if value is None:
        return math.nan
    if value <= 0:
        raise UserError(f"{where}: {device} must be above 0, got {value}")
    return value / 1e3 if kind == "latency" else 1 / value

"""Everything that uses Hugging Face ``datasets`` and its hub: the one file with names that they do not document."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...space.errors import UserError
from ...space.paths import as_text
from ..tar_files import check_tar
from .table import Unlabelled

#: Releases of ``datasets`` that the undocumented names (its builders, ``data_files``) were tested with.
TESTED_VERSIONS = ("4.0.0", "5.2.0")


@lru_cache(maxsize=1)
def load_datasets() -> Any:
    """The module ``datasets``, imported when first needed (it takes a second) and told to be quiet."""
    import datasets
    import huggingface_hub.utils

    hub: Any = huggingface_hub.utils  # not typed throughout
    for module in (datasets, hub):
        module.disable_progress_bars()
        module.logging.set_verbosity(logging.CRITICAL)  # what matters is raised, and told once
    return datasets


def is_dataset(value: object) -> bool:
    """Whether it is a ``datasets.Dataset``, which nobody has without the module."""
    module = sys.modules.get("datasets")
    return module is not None and isinstance(value, module.Dataset)


def read_files(files: Sequence[Path], where: str, memory: int) -> Any:
    """The ``datasets.Dataset`` of parquet files or WebDataset tars; nothing is fetched from anywhere.

    Args:
        files: all of one kind, told by the first one's suffix.
        where: they are, for people.
        memory: bytes; larger files are converted once into the cache of ``datasets`` and read from there.

    Raises:
        Unlabelled: they hold no rows.
        UserError: they are damaged, or have names that are not UTF-8.
    """
    datasets = load_datasets()
    for file in files:
        if not _is_utf8(file):
            raise UserError(f"data.path: the name of {as_text(file)} is not UTF-8, which Arrow cannot open: rename it")
        if file.suffix.lower() == ".tar":
            _check_tar(file, file.stat().st_mtime_ns)
    # The builders themselves: load_dataset("parquet", …) would ask a server to count the download.
    if files[0].suffix.lower() == ".parquet":
        from datasets.packaged_modules.parquet.parquet import Parquet as Builder
    else:
        from datasets.packaged_modules.webdataset.webdataset import WebDataset as Builder
    stats = [file.stat() for file in files]
    small = sum(stat.st_size for stat in stats) <= memory
    listing = datasets.data_files.DataFilesList(
        [str(file) for file in files], [(str(stat.st_mtime_ns), str(stat.st_size)) for stat in stats]
    )
    with tempfile.TemporaryDirectory(prefix="effnas-") as scratch:
        try:
            builder = Builder(
                cache_dir=scratch if small else None, data_files=datasets.data_files.DataFilesDict({"train": listing})
            )
            builder.download_and_prepare()
            dataset = None
            if builder.info.splits["train"].num_examples:
                dataset = builder.as_dataset(split="train", in_memory=small)
        except Exception as error:  # whatever Arrow, tarfile and the builder say of a damaged file
            raise UserError(f"data.path: {where} cannot be read: {first_cause(error)}") from error
    if dataset is None:
        raise Unlabelled(f"{where}: no images in it")
    return dataset


@lru_cache(maxsize=4096)
def _check_tar(file: Path, changed: int) -> None:
    try:
        check_tar(file)
    except UserError as error:
        raise UserError(f"data.path: {as_text(file)} cannot be read: {error}") from None


def _is_utf8(file: Path) -> bool:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_hub(name: str, subset: str | None) -> Mapping[str, Any]:
    """The splits of a data set of the hub, fetched once into its cache.

    Raises:
        UserError: it cannot be reached or read.
    """
    try:
        splits: Mapping[str, Any] = load_datasets().load_dataset(name, subset)
    except Exception as error:  # network, login, unknown names, bad files: the libraries share no base class
        which = f"{name!r} (subset {subset!r})" if subset else repr(name)
        raise UserError(f"data.path: the hub's data set {which} cannot be read: {first_cause(error)}") from error
    return splits


def first_cause(error: BaseException) -> str:
    """What happened, in one line: the libraries wrap it in "an error occurred"."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = as_text(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__

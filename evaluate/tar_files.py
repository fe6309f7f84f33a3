"""Tar archives of unknown origin, read without trust in what their headers say."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from ..space.errors import UserError
from ..space.paths import as_text

#: Bytes that are read at once: the names of members in the largest archives have some thousands.
MAX_READ = 1 << 20
_PACKERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


class _Bounded:
    """A file that gives no more than :data:`MAX_READ` bytes at once: tarfile takes a header's word for its length."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def open_tar(file: Path) -> Iterator[tarfile.TarFile]:
    """An archive, compressed or not, to be walked through.

    Raises:
        UserError: it is none, or is damaged; also of what is read of it while it is open.
    """
    try:
        with open(file, "rb") as raw:
            packer = _PACKERS.get(raw.read(2))
            raw.seek(0)
            with (
                packer(raw) if packer else raw as plain,
                tarfile.open(fileobj=cast(Any, _Bounded(plain)), mode="r:") as archive,
            ):
                yield archive
    except UserError:
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError, ArithmeticError, zlib.error, lzma.LZMAError) as error:
        reason = as_text(" ".join(str(error).split()))[:200]
        raise UserError(f"{as_text(file)}: truncated, or not a tar archive: {reason}") from None


def check_tar(file: Path) -> None:
    """Read all headers of an archive.

    Raises:
        UserError: as :func:`open_tar`.
    """
    with open_tar(file) as archive:
        for _ in archive:
            pass

"""Files that people hand in and that runs leave behind: read as data, written whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import yaml

from .errors import OBSTRUCTED, UserError, explain_os_error, show, unknown
from .paths import as_path, as_text, is_file, is_folder

T = TypeVar("T")

#: Larger files are not architectures (L2 has 2,000 bytes): a hostile one takes neither the memory nor minutes.
MAX_BYTES = 200_000
#: Characters of one value in a file: no name is longer, and no number so long overflows a float.
MAX_SCALAR = 250


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases: a file of kilobytes must not unfold to gigabytes. A name stands once in a mapping."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_SCALAR:
            raise yaml.YAMLError(f"a value of more than {MAX_SCALAR} characters")
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(names) > len(set(names)):
                raise yaml.YAMLError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
        return node


class PlainDumper(yaml.SafeDumper):
    """Quotes what :class:`_Loader` would take for a number."""


for _kind in (_Loader, PlainDumper):  # 1e-3 is a number, as in YAML 1.2 and in Hydra's files; PyYAML alone wants 1.0e-3
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def load_yaml(text: str, source: str) -> Any:
    """Plain data from YAML text of unknown origin.

    Raises:
        UserError: not YAML, an alias, a tag that names an object, a value too long or nested too deeply.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader without aliases
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:  # PyYAML's on bad tags
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{source}: not readable as plain YAML: {reason}") from None


def make_from_mapping(cls: type[T], data: object, source: str) -> T:
    """A dataclass from plain data with its fields.

    Raises:
        UserError: not a mapping, an unknown or a missing field, or a value that the class refuses; ``source`` opens the
            message.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{source}: must be a mapping of fields, got {type(data).__name__}")
    known = fields(cast(Any, cls))
    names = [f.name for f in known]
    for key in data:
        if key not in names:
            raise unknown(f"{source}: field", key, names)
    for f in known:
        if f.default is MISSING and f.name not in data:
            raise UserError(f"{source}: {f.name!r} must be given")
    try:
        return cls(**data)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def read_text(path: str | Path, what: str) -> str:
    """The text of a user's file.

    Raises:
        UserError: no such file, a folder, too large, or not UTF-8.
    """
    path = Path(path)
    if not is_file(path):
        raise UserError(f"{what}: no such file: {as_text(path)}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{what}: {path} has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: {path} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def write_text(path: str | Path, text: str) -> Path:
    """Write a file and its folder; a crash leaves the old file or the new one, never half of it."""
    return write_bytes(path, text.encode())


def save_text(path: str | Path, text: str) -> Path:
    """As :func:`write_text`, where a user says.

    Raises:
        UserError: it is no path, a folder, or one that nothing may be written to.
        OSError: the disk is full.
    """
    place = as_path("path", path)
    if not place.name or is_folder(place):
        raise UserError(f"path: {show(str(path))} is a folder; name a file in it, like {place / 'NAME.yaml'}")
    try:
        return write_text(place, text)
    except OSError as error:
        if error.errno not in OBSTRUCTED:
            raise
        raise UserError(explain_os_error(error)) from error


def write_bytes(path: str | Path, data: bytes) -> Path:
    """As :func:`write_text`; what is written is on the disk before the old file goes."""
    with replacing(path) as file:
        file.write(data)
    return Path(path)


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write, in its folder, that takes the place of ``path`` when all is well and on the disk.

    A link in its place is replaced, and what it points to stays. A kill leaves ``.NAME.PID.tmp``, which
    :func:`remove_leftovers` finds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.unlink(missing_ok=True)  # of a killed process with the same number; nothing is written through a link
        with scratch.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # of a write: the system names no file
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


_LEFTOVER = re.compile(r"\..+\.(\d+)\.tmp")


def remove_leftovers(folder: Path, *, held: bool) -> None:
    """Remove what :func:`replacing` left in a folder when it was killed.

    Args:
        folder: only its own files are looked at.
        held: no other process writes there; else what a living one of this machine may be writing stays.
    """
    with suppress(OSError):  # no folder, or not ours: they take room and do no harm
        for file in list(folder.iterdir()):
            match = _LEFTOVER.fullmatch(file.name)
            if match and (file.is_symlink() or file.is_file()) and (held or not _is_running(int(match[1]))):
                file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether it is another living process of this machine."""
    if process == os.getpid():
        return False
    if os.name != "posix":  # asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's; or no number of a process
        return True
    return True

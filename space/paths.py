"""Paths as users write them: where they lead, whether anything is there, how they are shown; and the cache."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from pathlib import Path

from .errors import UserError, show


def expand_path(path: str | os.PathLike[str]) -> Path:
    """The path with the user's home for ``~``; that of nobody (``~nobody/x``) stays as it is, and leads nowhere."""
    return Path(os.path.expanduser(path))


def as_path(name: str, value: object) -> Path:
    """What is given as the path ``name``: text, or an object that stands for a path.

    Raises:
        UserError: it is something else, such as None or bytes, or no file system takes it.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise UserError(f"{name} must be a path, got {show(value)}")
    if "\0" in text:
        raise UserError(f"{name} must be a path, and no name of a file has a zero byte, got {show(text)}")
    return Path(text)


def cache_folder() -> Path:
    """What may be made again but takes a while is kept here: ``$EFFNAS_CACHE``, by default ``~/.cache/effnas``.

    In the folder of temporary files where the user has no home.
    """
    if place := os.environ.get("EFFNAS_CACHE"):
        return expand_path(place)
    home = os.path.expanduser("~")  # as it is for a user without one, as a container may have
    own = f"effnas-{getattr(os, 'getuid', int)()}"  # of nobody else's
    return Path(tempfile.gettempdir(), own) if home == "~" else Path(home, ".cache", "effnas")


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there: not for a name that no file system takes, where ``Path.is_file`` raises."""
    return os.path.isfile(path)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is there, as :func:`is_file`."""
    return os.path.isdir(path)


def as_text(name: str | os.PathLike[str]) -> str:
    """A name that any file and any screen takes: in Unicode's composed form, what is no UTF-8 and no letter escaped.

    A Mac keeps ``é`` as two characters and others as one: both become one. Bytes that are not UTF-8 become ``\\xe9``,
    line feeds and other control characters ``\\n``.
    """
    text = os.fspath(name)
    if text.isascii() and text.isprintable():
        return text
    raw = text.encode("utf-8", "surrogateescape") if _comes_from_bytes(text) else text.encode("utf-8", "replace")
    plain = unicodedata.normalize("NFC", raw.decode("utf-8", "backslashreplace"))
    return "".join(c.encode("unicode_escape").decode("ascii") if _is_control(c) else c for c in plain)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _comes_from_bytes(text: str) -> bool:
    """Its lone surrogates, if any, are those that stand for bytes of a file's name."""
    return all(not 0xD800 <= ord(c) <= 0xDFFF or 0xDC80 <= ord(c) <= 0xDCFF for c in text)

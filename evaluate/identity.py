"""What makes two runs the same one: the content of what they are given, as plain data.

A folder or a study that was begun with other content is refused, whether the run comes from the command line or from
Python.
"""

from __future__ import annotations

import dataclasses
import os
import reprlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from .data.labelled_images import LabelledImages

#: Settings that say how the work is shared out, and change no result.
FREE = ("workers", "threads")
#: Where the code of a dataclass' own ``repr`` is from.
_GENERATED = (dataclasses.__file__, reprlib.__file__)


def describe_content(value: Any) -> Any:
    """Plain data, equal for objects of equal content; what changes no result (:data:`FREE`) is left out.

    A path counts as the place that it leads to, however it is spelled. A data set is known by its fields, any other
    object by a ``repr`` of its own, where it has one, else by its class and its fields or attributes.
    """
    return _describe(value, ())


def _describe(value: Any, inside: tuple[int, ...]) -> Any:
    """As :func:`describe_content`; ``inside``: the ids of what it stands in, which may refer to itself."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.path.realpath(value)
    if callable(value) and hasattr(value, "__qualname__"):  # a class, a function
        return f"{value.__module__}.{value.__qualname__}"
    if id(value) in inside:
        return "..."
    inside = (*inside, id(value))
    if isinstance(value, Mapping):
        return {str(key): _describe_setting(key, value[key], inside) for key in value if key not in FREE}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    if isinstance(value, list | tuple):
        return [_describe(item, inside) for item in value]
    kind = type(value)
    if _has_own_repr(kind) and not isinstance(value, LabelledImages):
        return repr(value)
    if is_dataclass(kind):
        known = {field.name: getattr(value, field.name) for field in fields(kind)}
    else:
        known = getattr(value, "__dict__", {})
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **_describe(known, inside)}


def _describe_setting(name: Any, value: Any, inside: tuple[int, ...]) -> Any:
    if name == "path" and isinstance(value, str) and os.path.exists(value):
        return os.path.realpath(value)
    return _describe(value, inside)


def _has_own_repr(kind: Any) -> bool:
    """Whether somebody has written its ``repr``: it is neither Python's nor one that ``dataclass`` made."""
    code = getattr(kind.__repr__, "__code__", None)
    return kind.__repr__ is not object.__repr__ and not (code is not None and code.co_filename in _GENERATED)


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first settings that differ, as ``name: old → new``: what makes the run in a folder another one; "": nothing.

    Args:
        old: what identifies the run that is there, plain data.
        new: the same of the run that is to go on.
    """
    found: list[str] = []

    def compare(before: Any, now: Any, path: str) -> None:
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            for key in dict.fromkeys([*before, *now]):
                compare(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
        elif before != now:
            found.append(f"{path}: {before!r:.60} → {now!r:.60}")

    compare(old, new, "")
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")

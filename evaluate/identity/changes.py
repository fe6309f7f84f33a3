"""What differs between what two runs were given, for people."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from .content import describe_content
from .moved import find_moved

#: Differences that are told, and characters of a value.
_MOST, _LONGEST = 4, 60
#: What lacks where nothing is known of it.
_ABSENT: Any = object()
#: Entries that describe the object that they are in.
_INSIDE = ("content", "identity")

Change = tuple[str, Any, Any]
Kind = type | Mapping[str, Any]


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any], kinds: Mapping[str, Kind] | None = None) -> str:
    """The first settings that differ, as ``name: old → new``: what makes the run in a folder another one; "": nothing.

    A setting that only one of them has, since versions add settings, counts as its default: that of the constructor
    which ``_target_`` names beside it. A class is the same under the name that an earlier version had for it.

    Args:
        old: what identifies the run that is there, plain data.
        new: the same of the run that is to go on.
        kinds: of entries that name no class, by their names: the class, or defaults.
    """
    found: list[Change] = []

    def compare(before: Any, now: Any, path: str, kind: Kind | None) -> None:
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            kind = _find_kind(before, now) or kind
            defaults, parts = _read_defaults(kind), getattr(kind, "PARTS", {})
            for key in dict.fromkeys([*before, *now]):
                theirs, ours = (one.get(key, defaults.get(key, _ABSENT)) for one in (before, now))
                if key == "_target_":
                    theirs, ours = (find_moved(str(one)) or one for one in (theirs, ours))
                inner = kind if key in _INSIDE else parts.get(key, (kinds or {}).get(key))
                compare(theirs, ours, f"{path}.{key}" if path else str(key), inner)
        elif _is_list(before) and _is_list(now) and len(before) == len(now) and any(map(_is_nested, (*before, *now))):
            for place, (theirs, ours) in enumerate(zip(before, now, strict=True)):
                compare(theirs, ours, f"{path}[{place}]", kind)
        elif before is _ABSENT or now is _ABSENT:
            there = now if before is _ABSENT else before
            if there is not None and there != {} and there != []:
                found.append((path, None if before is _ABSENT else before, None if now is _ABSENT else now))
        elif before != now:
            found.append((path, before, now))

    compare(old, new, "", None)
    told = _choose_told(found)
    return ", ".join(map(_tell, told[:_MOST])) + (f" and {len(told) - _MOST} more" if len(told) > _MOST else "")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping) or _is_list(value)


# -- defaults --------------------------------------------------------------------------------------------


def _find_kind(before: Mapping[str, Any], now: Mapping[str, Any]) -> type | None:
    """The class of both, where it is one that is loaded."""
    names = [find_moved(str(one.get("_target_"))) or str(one.get("_target_")) for one in (before, now)]
    module, _, name = names[1].rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and names[0] == names[1] else None


def _read_defaults(kind: Kind | None) -> dict[str, Any]:
    """What its constructor takes for what it is not given, as far as that is plain data."""
    if not isinstance(kind, type):
        return dict(kind or {})
    found: dict[str, Any] = {}
    for part in (getattr(kind, "PARTS", {}).get(""), kind):
        if part is not None and is_dataclass(part):
            found |= {f.name: f.default for f in fields(part) if f.default is not MISSING}
            found |= {f.name: f.default_factory() for f in fields(part) if f.default_factory is not MISSING}
        elif part is not None:
            try:
                parameters = inspect.signature(part).parameters.values()
            except (TypeError, ValueError):  # written in C
                continue
            found |= {p.name: p.default for p in parameters if p.default is not p.empty}
    return dict(json.loads(json.dumps(describe_content(found))))


# -- for people ------------------------------------------------------------------------------------------


def _choose_told(found: Sequence[Change]) -> list[Change]:
    """Without what another one says better: a space's decisions say what its words for them say, and a digest of its
    networks; and an evaluator may hold what the run has, too.
    """
    paths = {path for path, _, _ in found}
    decided = {path.partition(".decisions.")[0] for path in paths if ".decisions." in path}

    def says_more(change: Change) -> bool:
        path, *values = change
        owner, _, name = path.rpartition(".")
        if path.startswith("evaluator.") and path.removeprefix("evaluator.") in paths:
            return False
        if name == "networks" and any(other.startswith(f"{owner}.") and other != path for other in paths):
            return False
        place = re.match(r"(?:evaluator\.)?(.*?)\.stages\b", path)
        return place is None or place[1] not in decided or not any(map(_is_nested, values))

    return [change for change in found if says_more(change)]


def _tell(change: Change) -> str:
    """Long values from a little before where they begin to differ."""
    path, *values = change
    texts = [repr(value) for value in values]
    same = next((place for place, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    first = max(0, same - _LONGEST // 3) if max(map(len, texts)) > _LONGEST else 0
    cut = [f"{'…' if first else ''}{text[first : first + _LONGEST]}" for text in texts]
    cut = [f"{part}…" if first + _LONGEST < len(text) else part for part, text in zip(cut, texts, strict=True)]
    return f"{path}: {' → '.join(cut)}"

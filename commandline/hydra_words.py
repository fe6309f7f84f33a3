"""From what the user typed to what Hydra reads, each word checked: before Hydra composes and torch is imported."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    ValueType,
)
from hydra.errors import HydraException

from ..space.errors import UserError
from .annotations import Kinds, is_text, number_kind
from .arguments import Arguments
from .check import check_key, check_number_option, choose_member
from .hydra_settings import check_folders, check_setting
from .options import MAX_NESTED, Options, list_choices

#: Jobs of one sweep: more would take days, and Hydra makes a list of them first.
MAX_JOBS = 10_000
#: Characters of one value, the longest that is typed in earnest being a list of paths.
MAX_VALUE = 100_000
_TEXT = frozenset(["str"])
#: Settings of Hydra's that are text, whatever they look like.
_HYDRA_TEXTS = dict.fromkeys(("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name"), _TEXT)


def write_hydra_words(arguments: Arguments, options: Options, kinds: Mapping[str, Kinds]) -> list[str]:
    """The words for Hydra's own parser: flags first, because it takes no flag after an override.

    A flag is written in one word with its value and everything else as ``key=value``, so that no value can pass for a
    flag. A value that Hydra's grammar cannot read (``a=b``, parentheses, ``~``, accents) is quoted, so that it means
    itself; so is whatever is given for an option that is text (``2020``, ``[new] photos``), but for null, ``${...}``
    and what the user has quoted. A comma is a sweep with ``-m``; without, it belongs to the value, where one option can
    hold several.

    Args:
        arguments: what was typed.
        options: of the command.
        kinds: their types, as far as they are known.

    Raises:
        UserError: an unknown option or choice, a value of the wrong type, brackets or quotes that do not close, several
            values without ``-m`` where one is expected, or a sweep of too many jobs.
    """
    multirun = "--multirun" in arguments.hydra
    kinds = {**kinds, **_HYDRA_TEXTS}
    # Hydra finds more choices and settings in other folders of the user's
    whole = options.whole and not any("searchpath" in key for key, _ in arguments.overrides)
    overrides, fixed, jobs = [], [], 1
    for key, value in arguments.overrides:
        check_key(key, options, kinds, whole=whole, flag=key in arguments.flags)
        if value is None:
            overrides.append(key)
            continue
        text, parsed = _read(key, value, options, kinds.get(key.lstrip("+"), frozenset()), multirun, whole)
        if parsed.is_hydra_override():
            check_setting(key, parsed.value())
        overrides.append(text)
        if multirun and parsed.is_sweep_override():
            jobs *= _count(key, parsed, options)
        elif multirun and not parsed.is_hydra_override():
            fixed.append(parsed.key_or_group)
    if arguments.words and options.positional is not None:
        name = options.positional.name
        overrides.append(f"{name}=[{','.join(map(_quote, arguments.words))}]")
        fixed.append(name)
    if arguments.output is not None:
        place = "hydra.sweep.dir" if multirun else "hydra.run.dir"
        if place in dict(arguments.overrides):
            raise UserError(f"-o and {place} are the same: give one of them")
        overrides.append(f"{place}={_quote(arguments.output)}")
    if not jobs:
        raise UserError("the sweep has no jobs: a range is empty, or a pattern fits no choice")
    if jobs > MAX_JOBS:
        raise UserError(f"the sweep has {jobs:,} jobs; at most {MAX_JOBS:,} are run at once: sweep over fewer values")
    check_folders(arguments, jobs)
    if multirun and fixed:  # a job's folder is named by what differs between the jobs
        overrides.append(f"hydra.job.config.override_dirname.exclude_keys=[{','.join(fixed)}]")
    flags = [flag if value is None else f"{flag}={_place(flag, value)}" for flag, value in arguments.hydra.items()]
    return [*flags, *overrides]


def _place(flag: str, value: str) -> str:
    """What a flag is given; a folder of ``--config-path`` in full, which Hydra would look for inside this package."""
    return os.path.abspath(value) if flag == "--config-path" and value else value


def _read(key: str, value: str, options: Options, kinds: Kinds, multirun: bool, whole: bool) -> tuple[str, Override]:
    """The override as Hydra shall read it, checked."""
    bare = key.lstrip("+~").partition("@")[0]
    group = next((group for group in options.groups if group.name == bare), None)
    text = is_text(kinds)
    written, parsed = _parse(key, value, text)
    option = options.by_name().get(key)
    default = None if option is None else option.default
    if isinstance(default, list) and isinstance(parsed.value(), dict):  # one where there may be several
        return _parse(key, f"[{value}]", False)
    if parsed.value_type is ValueType.SIMPLE_CHOICE_SWEEP and not multirun:
        if group is not None or isinstance(default, bool | int | float) or number_kind(kinds):
            raise UserError(f"{key} takes one value, got {value!r:.60}; to run one job for each value, add -m")
        return _parse(key, f"[{value}]" if isinstance(default, list) else _quote(value), False)
    if "${" in value:
        return written, parsed
    if text and parsed.is_sweep_override() and not multirun:  # range(1,2) is a name like others
        return _parse(key, _quote(value), False)
    found = parsed.value()
    elements = [one for one in (found.list if isinstance(found, ChoiceSweep) else [found]) if not _is_sweep(one)]
    plain = all(isinstance(one, str | QuotedString | None) for one in elements)
    if group is not None:
        names = [choose_member(group, one, options, whole) for one in elements]
        if not plain:  # 5.yaml is named "5"
            return _parse(key, ",".join(_quote(str(name)) for name in names), False)
    elif text and not plain and not isinstance(found, ChoiceSweep):
        return _parse(key, _quote(value), False)
    elif text and not plain and not re.search(r"[\[{('\"]", value):
        return _parse(key, ",".join(_quote(part.strip()) for part in value.split(",")), False)
    elif number_kind(kinds):
        for element in elements:
            check_number_option(key, element, kinds)
    return written, parsed


def _is_sweep(value: Any) -> bool:
    return isinstance(value, ChoiceSweep | Glob | IntervalSweep | RangeSweep)


def _quote(text: str) -> str:
    return str(QuotedString(text, Quote.single).with_quotes())


def _parse(key: str, value: str, text: bool) -> tuple[str, Override]:
    """The override as typed, or else with its value quoted."""
    if len(value) > MAX_VALUE:
        raise UserError(f"{key}: a value of {len(value):,} characters; at most {MAX_VALUE:,} are read")
    parser = OverridesParser.create()
    closed = value[:1] in "'\"" and value[-1:] == value[:1] and len(value) > 1
    if max(map(value.count, "[{(")) > MAX_NESTED and not closed:
        if not text:
            raise UserError(f"{key}: more than {MAX_NESTED} brackets in a value")
        value = _quote(value)
    for written in (f"{key}={value}", f"{key}={_quote(value)}"):
        try:
            return written, parser.parse_override(written)
        except (HydraException, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            if value[:1] in ("[", "{", "'", '"', "$") and not text:
                break
    raise UserError(
        f"{f'{key}={value}'[:200]!r} cannot be read: {reason:.200}. A value that is text is quoted twice, once for the "
        f"shell: '{key}=\"...\"'"
    )


def _count(key: str, parsed: Override, options: Options) -> int:
    """The values of a sweep."""
    value = parsed.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, Glob):
        return len(value.filter(list(list_choices(parsed.key_or_group, options.folders))))
    if not isinstance(value, RangeSweep):
        raise UserError(f"{key}: an interval has no end of values; sweep over a list or a range(start,stop,step)")
    if not value.step or value.start is None or value.stop is None:
        raise UserError(
            f"{key}: a range needs a start, a stop and a step that is not 0, got {parsed.input_line!r:.100}"
        )
    steps = (value.stop - value.start) / value.step
    return max(0, math.ceil(min(steps, 1e12)))


def split_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of the words for Hydra: those that choose the configuration's files, and the overrides."""
    files = [word for word in words if word.startswith("--config-")]
    return files, [word for word in words if "=" in word and not word.startswith("-")]

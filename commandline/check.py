"""Checks of one word: is there such an option, such a choice, and is the value a number where it must be one."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from hydra.core.override_parser.types import QuotedString

from ..space.errors import UserError, unknown
from .annotations import Kinds, number_kind
from .near import unknown_option
from .options import Group, Options, has_choice, list_choices, list_owners

_KEY = re.compile(r"[+~]{0,2}[A-Za-z_][\w$-]*(?:[./][\w$-]+)*(?:@[\w$-]*(?:[.:][\w$-]+)*)?")
_RULES = {"bool": "true or false", "int": "a whole number", "float": "a number"}


def check_key(key: str, options: Options, known: Collection[str], *, whole: bool, flag: bool) -> None:
    """Refuse a key that names no option; Hydra looks at those of files that were not read.

    Args:
        key: as typed before ``=``, with ``+``, ``++`` or ``~``.
        options: of the command.
        known: more names of options.
        whole: False where ``options`` may lack some.
        flag: whether it was typed as ``--key``.

    Raises:
        UserError: it is none, or it would leave out what the command needs.
    """
    if not _KEY.fullmatch(key):
        raise UserError(f"{key!r:.100} is not an option: options are --flag VALUE or key=VALUE; see --help")
    name, at, package = key.lstrip("+~").partition("@")
    if name == "hydra" or package == "hydra":
        raise UserError(f"{key}: Hydra's settings are given one by one, like hydra.run.dir=DIR")
    if name.startswith(("hydra.", "hydra/")):
        return
    if not at and key == name and name in options.by_name() and list_choices(name, options.folders):
        raise UserError(f"{name} is set entry by entry: +{name}.NAME.KEY=VALUE")  # Hydra takes it for a choice of files
    names = [*options.names(), *(one for one in known if "." not in one)]
    if key.startswith("~"):
        own = {option.name for option in options.own} | {group.name for group in options.groups} | {*known}
        if name.partition(".")[0] in names and (name in own or not any(one.startswith(f"{name}.") for one in names)):
            if "." not in name:
                raise UserError(f"{key}: {name} is an option of the command and stays; give it a value, {name}=VALUE")
        elif whole and name.partition(".")[0] not in {one.partition(".")[0] for one in names}:
            raise unknown_option(key, names)
        return
    if not whole or at:
        return
    top = name.partition(".")[0]
    if key.startswith("+"):
        if top.partition("/")[0] not in {one.partition(".")[0] for one in names}:
            raise unknown_option(key, names)
        return
    if "/" in name or name in names or any(one.startswith(f"{name}.") for one in names):
        return
    parents = [name[: dot.start()] for dot in re.finditer(r"\.", name)]
    open_groups = {group.name for group in options.groups if not group.whole}
    chosen = next((group for group in options.groups if group.name == top and group.whole), None)
    if chosen is not None:
        what = f"option: unknown {key!r}: {top}={chosen.choice}"
        if owners := list_owners(name, options.folders):
            have = "has" if len(owners) == 1 else "have"
            raise UserError(f"{what} has no such option; {', '.join(owners)} {have} it")
        if not chosen.options:
            raise UserError(f"{what} has no options, and no other {top} has this one")
    leaves = {option.name for option in options.by_name().values()}
    if any(parent in open_groups or parent in leaves or parent in known for parent in parents):
        return
    raise unknown_option(f"--{name.replace('_', '-')}" if flag else name, names)


def choose_member(group: Group, value: Any, options: Options, whole: bool) -> str | None:
    """The name of the choice; a number or a truth value is one that looks so.

    Raises:
        UserError: there is no such choice.
    """
    if isinstance(value, list | dict):
        name = group.name
        raise UserError(f"{name} takes the name of one choice: {', '.join(group.choices)}; its options are {name}.KEY")
    if value is None and group.optional:
        return None
    if value is None:
        raise UserError(f"{group.name} cannot be null; choose one of: {', '.join(group.choices)}")
    name = (
        value.text if isinstance(value, QuotedString) else str(value).lower() if isinstance(value, bool) else str(value)
    )
    if whole and not has_choice(group.name, name, options.folders):
        if not group.choices:
            raise UserError(
                f"{group.name}: there is no {group.name}/{name:.100}.yaml in your --config-dir (give --config-dir DIR, "
                f"and in it {group.name}/NAME.yaml with `_target_: MODULE.NAME`)"
            )
        raise unknown(group.name, f"{name:.100}", group.choices)
    return name


def check_number_option(key: str, value: Any, kinds: Kinds) -> None:
    """Refuse what is no number, no whole number or no truth value where the option may be nothing else.

    Raises:
        UserError: with the rule and the value.
    """
    kind = number_kind(kinds)
    text = value.text if isinstance(value, QuotedString) else value
    if kind is None or (text is None and "None" in kinds):
        return
    if not _is_kind(kind, text):
        shown = "null" if text is None else repr(text)
        raise UserError(f"{key} must be {_RULES[kind]}, got {shown if len(shown) <= 60 else shown[:57] + '...'}")


def _is_kind(kind: str, value: Any) -> bool:
    from omegaconf.errors import ValidationError
    from omegaconf.nodes import BooleanNode, FloatNode, IntegerNode

    try:
        BooleanNode(value) if kind == "bool" else IntegerNode(value) if kind == "int" else FloatNode(value)
    except (ValidationError, OverflowError, ValueError):
        return False
    return value is not None

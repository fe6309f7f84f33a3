"""The options of a command, read from its YAML files and the comments in them; neither Hydra nor torch is imported.

A trailing comment says what a key is; the comment that opens a file says what the file is.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from ..space.errors import UserError, unknown

CONF = Path(__file__).resolve().parents[1] / "conf"
#: Levels of lists and mappings in a file or a value.
MAX_NESTED = 100
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Option:
    """One key: its dotted name, its default as written and as read, and what it is."""

    name: str
    written: str
    default: Any
    comment: str


@dataclass(frozen=True)
class Group:
    """One group of the defaults list: the choice in force, the choices there are, the options of the one in force.

    ``target`` is the class that the choice names, ``whole`` whether the options are all that it has: a choice that
    extends others has more. ``optional``: its default is null.
    """

    name: str
    choice: str | None
    choices: tuple[str, ...]
    comment: str
    options: tuple[Option, ...]
    target: str = ""
    whole: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Positional:
    """The one option of a command whose value may stand alone: ``effnas reproduce table3`` is ``table=table3``.

    Args:
        name: of the option.
        choices: what it may be; where ``word`` is given, what a shell offers beside files.
        word: stands for the values in the usage, and says that there may be several, of any form: they are a list.
        flag: with ``word``, another name that they may follow, or be given to, where Python has no parameter of it:
            ``effnas predict --from a b`` is ``effnas predict a b``.
    """

    name: str
    choices: tuple[str, ...]
    word: str = ""
    flag: str = ""

    @property
    def usage(self) -> str:
        """As the first line of ``--help`` shows it."""
        flag = f"--{self.flag} " if self.flag else ""
        return f"{flag}{self.word} ..." if self.word else f"{{{'|'.join(self.choices)}}}"


@dataclass(frozen=True)
class Options:
    """All that a command accepts, as far as its YAML files say it.

    ``folders`` is where the choices of groups are; ``whole`` is false where more of them may be elsewhere.
    """

    summary: str
    own: tuple[Option, ...]
    groups: tuple[Group, ...]
    positional: Positional | None = None
    folders: tuple[Path, ...] = ()
    whole: bool = True

    def by_name(self) -> dict[str, Option]:
        """Every option, those of the groups with dotted names (``training.epochs``)."""
        return {option.name: option for part in (self.own, *(g.options for g in self.groups)) for option in part}

    def names(self) -> list[str]:
        """What may stand before ``=``: the options and the groups."""
        flag = self.positional.flag if self.positional is not None else ""
        return [*([flag] if flag else []), *self.by_name(), *(group.name for group in self.groups)]


def read_options(
    config: str, folders: Sequence[Path], chosen: Mapping[str, str], positional: Positional | None = None
) -> Options:
    """The options of the primary config ``config``, with the members of groups that the user has ``chosen``.

    Args:
        config: name of a file in one of the folders, without ``.yaml``.
        folders: Hydra's search path, the first one wins.
        chosen: group name to choice, as given on the command line; anything else in it is ignored.
        positional: handed on.

    Raises:
        UserError: there is no such config, or a file is not YAML, or no mapping.
    """
    path = _find(config, folders)
    if path is None:
        raise unknown("--config-name", config, list_choices("", folders))
    own: dict[str, Option] = {}
    groups: dict[str, tuple[str | None, str]] = {}
    whole = _read_primary(path, folders, own, groups)
    return Options(
        summary=_opening_comment(path),
        own=tuple(own.values()),
        groups=tuple(_group(name, *groups[name], folders, chosen) for name in groups),
        positional=positional,
        folders=tuple(folders),
        whole=whole,
    )


def list_choices(group: str, folders: Sequence[Path]) -> tuple[str, ...]:
    """What ``group=`` accepts: the YAML files of that name's folders."""
    return tuple(sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")}))


def list_owners(name: str, folders: Sequence[Path]) -> list[str]:
    """The choices, as ``group=choice``, that have an option ``group.key``, in their own files."""
    group, _, _ = name.partition(".")
    found = []
    for choice in list_choices(group, folders):
        with contextlib.suppress(UserError):  # a file that is no configuration
            if any(name == option.name for option in _group(group, choice, "", folders, {}).options):
                found.append(f"{group}={choice}")
    return found


def has_choice(group: str, choice: str, folders: Sequence[Path]) -> bool:
    """Whether ``group=choice`` names a file of the folders."""
    return ".." not in choice and _find(f"{group}/{choice}", folders) is not None


def _find(name: str, folders: Sequence[Path]) -> Path | None:
    files = (folder / f"{name.removesuffix('.yaml')}.yaml" for folder in folders)
    return next((file for file in files if os.path.isfile(file)), None)  # a Path's raises where a name is too long


def _read_primary(
    path: Path, folders: Sequence[Path], own: dict[str, Option], groups: dict[str, tuple[str | None, str]]
) -> bool:
    """Add what ``path`` defines, after what the configs that it extends define; False where Hydra may know of more."""
    lines, root = _compose(path)
    whole = not any("searchpath" in line for line in lines)
    for key, value in _items(root):
        if key.value != "defaults" or not isinstance(value, yaml.SequenceNode):
            continue
        for entry in value.value:
            if isinstance(entry, yaml.ScalarNode):
                base = _find(entry.value.strip("/"), folders) if entry.value != "_self_" else None
                if base is not None and base != path:
                    whole &= _read_primary(base, folders, own, groups)
            for group, choice in _items(entry):
                name = group.value.removeprefix("optional ").removeprefix("override ").strip("/ ")
                if "@" in name or name.startswith("hydra/") or not isinstance(choice, yaml.ScalarNode):
                    whole = False
                    continue
                comment = _comment(lines, choice.end_mark) or groups.get(name, (None, ""))[1]
                groups[name] = (None if choice.tag.endswith(":null") else choice.value, comment)
    for option in _options(lines, root, skip=("defaults", "hydra")):
        own[option.name] = option
    return whole


def _group(name: str, choice: str | None, comment: str, folders: Sequence[Path], chosen: Mapping[str, str]) -> Group:
    wanted = chosen.get(name, choice)
    path = _find(f"{name}/{wanted}", folders) if wanted else None
    choices = list_choices(name, folders)
    if path is None:
        return Group(name, wanted, choices, comment, (), whole=False, optional=choice is None)
    lines, root = _compose(path)
    found = {key.value: value for key, value in _items(root)}
    options = _options(lines, root, name.replace("/", ".") + ".", skip=("defaults",))
    target = str(found["_target_"].value) if "_target_" in found else ""
    whole = "defaults" not in found
    return Group(name, wanted, choices, comment, tuple(options), target, whole, optional=choice is None)


def _options(
    lines: Sequence[str], node: yaml.Node | None, prefix: str = "", skip: Sequence[str] = ()
) -> Iterator[Option]:
    for key, value in _items(node):
        if key.value in skip or key.value.startswith("_"):
            continue
        name = prefix + key.value
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _options(lines, value, name + ".")
            continue
        block = isinstance(value, yaml.SequenceNode) and not value.flow_style
        comment = _comment(lines, key.end_mark if block else value.end_mark)
        yield Option(name, _written(lines, value), _value(value), comment)


def _items(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))


def _compose(path: Path) -> tuple[list[str], yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
        if _is_nested(text):
            raise RecursionError
        root = yaml.compose(text, Loader=_LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    except RecursionError:
        raise UserError(f"{path}: not a configuration: nested too deeply") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {describe_yaml_problem(error)}") from error
    if not isinstance(root, yaml.MappingNode | NoneType):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "one value"
        raise UserError(f"{path}: a configuration is a mapping of settings, KEY: VALUE, got {kind}")
    return text.splitlines(), root


def _is_nested(text: str) -> bool:
    """Whether a text is nested more deeply than any configuration: the C library would take the process down."""
    depth = deepest = 0
    for sign in re.findall(r"[\[\]{}]", text):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest > MAX_NESTED or any(len(start) > 4 * MAX_NESTED for start in re.findall(r"^[ ?:-]+", text, re.M))


def describe_yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem


def _value(node: yaml.Node) -> Any:
    """The plain value of a node; the text of one that YAML alone cannot read (a tag of the user's)."""
    loader = _LOADER("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError:
        return str(node.value)
    finally:
        loader.dispose()


def _written(lines: Sequence[str], node: yaml.Node) -> str:
    start, end = node.start_mark, node.end_mark
    if start.line != end.line:
        return "[...]" if isinstance(node, yaml.SequenceNode) else "..."
    return lines[start.line][start.column : end.column].strip() or "null" if start.line < len(lines) else "null"


def _comment(lines: Sequence[str], mark: Any) -> str:
    rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
    match = re.match(r"\s*:?\s*#\s*(.*)", rest)
    return match[1].strip() if match else ""


def _opening_comment(path: Path) -> str:
    opening = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            opening.append(line.lstrip("# ").rstrip())
    return "\n".join(opening)

"""What the user typed, sorted: Hydra's flags, flags of ours (``--flag value`` is ``flag=value``), overrides."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from ..space.errors import UserError, check_choice, hide_passwords
from .near import unknown_option
from .options import Options

#: Hydra's flags that are let through, the short form of each, and what its value may be (None: it takes none; ():
#: anything). All of them only choose or show a configuration, or run the jobs of one. Hydra's parser never sees another
#: word that it could take for a flag: see :func:`~effnas.commandline.hydra_words.write_hydra_words`.
HYDRA_FLAGS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "--multirun": ("-m", None),  # a sweep
    "--run": ("-r", None),  # one job, as without it
    "--cfg": ("-c", ("job", "hydra", "all")),  # shows the configuration, runs nothing
    "--resolve": ("", None),  # of --cfg
    "--package": ("-p", ()),  # of --cfg: a part of it
    "--info": ("-i", ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),  # shows, runs nothing
    "--config-dir": ("-cd", ()),  # YAML of the user's, who trusts it as code (SECURITY.md)
    "--config-path": ("-cp", ()),  # the same, in place of the package's
    "--config-name": ("-cn", ()),  # a file of these folders
    "--shell-completion": ("-sc", None),  # answered by ``completion``
    "--hydra-help": ("", None),  # a text
}
#: Hydra's flags that are refused, and why. Hydra's --help and --version are never asked: they are the command's own.
REFUSED_FLAGS = {
    "--experimental-rerun": "it loads a pickle, and a pickle can run any code; run the command again with the same "
    "-o DIR, or use the configuration in .hydra: --config-dir DIR/.hydra --config-name config"
}
SHORT_FLAGS = {short: flag for flag, (short, _) in HYDRA_FLAGS.items() if short}
#: Variable with the storages' addresses in full, by what Hydra is told of them: it writes what it is told to files. The
#: processes in which a sweep's jobs may run inherit it.
ADDRESSES = "EFFNAS_STORAGES"
#: The folder that results go to: ``hydra.run.dir``, or with ``--multirun`` ``hydra.sweep.dir``.
OUTPUT = ("-o", "--output")
_MODES = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")
_FLAG = re.compile(r"--([A-Za-z_][\w.@/-]*)(?:=(.*))?", re.DOTALL)
_OVERRIDE = re.compile(r"([+~]{0,2}[A-Za-z_][\w.@/$-]*)=(.*)", re.DOTALL)


@dataclass
class Arguments:
    """The words after the command, sorted: Hydra's flags with their values, flags of ours, overrides as typed, and
    the values that stand alone where there may be several.
    """

    hydra: dict[str, str | None] = field(default_factory=dict)
    overrides: list[tuple[str, str | None]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)  # keys of the overrides that were typed as --flag
    output: str | None = None  # of -o


def scan_words(words: Sequence[str]) -> tuple[dict[str, str | None], dict[str, str]]:
    """Hydra's flags and whatever looks like a choice of a group, before it is known which flags take a value.

    Raises:
        UserError: a folder that does not exist.
    """
    hydra: dict[str, str | None] = {}
    chosen: dict[str, str] = {}
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, _, value = word.partition("=")
        flag = SHORT_FLAGS.get(name, name)
        if flag in HYDRA_FLAGS:
            hydra[flag] = value or following
        elif value:
            chosen[name.lstrip("-+")] = value
        elif name.startswith("--"):
            chosen[name.lstrip("-")] = following
    for flag in ("--config-dir", "--config-path"):
        if hydra.get(flag) and not os.path.isdir(str(hydra[flag])):
            raise UserError(f"{flag}: no such folder: {hydra[flag]}")
    return hydra, chosen


def parse_words(words: Sequence[str], options: Options) -> Arguments:
    """Sort the words after the command.

    Raises:
        UserError: a word that is neither a flag nor ``key=value`` nor the command's positional option, or a flag
            without its value.
    """
    known = options.by_name()
    arguments = Arguments()
    several = options.positional is not None and options.positional.word
    flagged = options.positional.flag if options.positional is not None and options.positional.flag else None
    alone = False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        head, equals, tail = word.partition("=")
        flag = SHORT_FLAGS.get(head, head)
        if reason := REFUSED_FLAGS.get(flag.replace("_", "-")):
            raise UserError(f"{flag} is refused: {reason}")
        if flag in HYDRA_FLAGS:
            arguments.hydra[flag] = _hydra_value(flag, tail if equals else None, rest)
        elif head in (*OUTPUT, "output") and "output" not in known and (equals or head in OUTPUT):
            arguments.output = tail if equals else rest.pop(0) if rest and not _is_flag(rest[0]) else ""
            if not arguments.output:
                raise UserError(f"{head} needs a folder: {head}{'=' if equals else ' '}DIR")
        elif match := _FLAG.fullmatch(word):
            name, value = match[1].replace("-", "_"), match[2]
            option = known.get(name)
            if value is None and option is not None and isinstance(option.default, bool):
                value = rest.pop(0) if rest and rest[0].lower() in ("true", "false") else "true"
            elif value is None and (not rest or _is_flag(rest[0])):
                if name not in options.names():
                    raise unknown_option(word, options.names())
                raise UserError(f"{word} needs a value: {word} VALUE or {name}=VALUE")
            elif value is None:
                value = rest.pop(0)
            if name == flagged:
                arguments.words.append(value)
                continue
            arguments.overrides.append((name, value))
            arguments.flags.append(name)
        elif several and equals and "/" in head and os.path.exists(word):  # of a sweep: runs/seed=1/baseline.yaml
            arguments.words.append(word)
        elif equals and head == flagged:
            arguments.words.append(tail)
        elif match := _OVERRIDE.fullmatch(word):
            arguments.overrides.append((match[1], match[2]))
        elif re.fullmatch(r"~[\w.@/]+", word):
            arguments.overrides.append((word, None))
        elif word in options.names():
            raise UserError(f"{word!r} has no value: write --{word.replace('_', '-')} VALUE or {word}=VALUE")
        elif several:
            arguments.words.append(word)
        elif options.positional is not None:
            arguments.overrides.append((options.positional.name, word))
            alone = True
        else:
            raise UserError(f"{word!r} is not an option: options are --flag VALUE or key=VALUE; see --help")
    if options.positional is not None and (alone or arguments.words):
        name = options.positional.name
        given = [str(value) for key, value in arguments.overrides if key == name]
        given += [" ".join(arguments.words)] if arguments.words else []
        if len(given) > 1:
            raise UserError(f"{name} is given more than once: {' and '.join(given)}")
    modes = [flag for flag in _MODES if flag in arguments.hydra]
    if len(modes) > 1:
        raise UserError(f"only one of {', '.join(_MODES)} at a time, got {' and '.join(modes)}")
    for flag in ("--resolve", "--package"):
        if flag in arguments.hydra and "--cfg" not in arguments.hydra:
            raise UserError(f"{flag} belongs to --cfg: add --cfg job")
    return arguments


def hide_addresses(arguments: Arguments) -> dict[str, str]:
    """Hide the passwords of ``storage`` in the words for Hydra, and return the addresses in full by the hidden ones."""
    found: dict[str, str] = {}
    for index, (key, value) in enumerate(arguments.overrides):
        if key.lstrip("+") == "storage" and value is not None:
            parts = [(hide_passwords(part), part) for part in value.split(",")]
            arguments.overrides[index] = (key, ",".join(hidden for hidden, _ in parts))
            whole = (arguments.overrides[index][1] or "", value)
            found |= {hidden.strip("'\""): part.strip("'\"") for hidden, part in (*parts, whole) if hidden != part}
    return found


def _is_flag(word: str) -> bool:
    return word in SHORT_FLAGS or word in OUTPUT or _FLAG.fullmatch(word) is not None


def _hydra_value(flag: str, value: str | None, rest: list[str]) -> str | None:
    accepted = HYDRA_FLAGS[flag][1]
    if accepted is None:
        return None
    if value is None and flag == "--info" and (not rest or rest[0] not in accepted):
        return "all"
    if value is None and rest and not _is_flag(rest[0]):
        value = rest.pop(0)
    if not value:
        raise UserError(f"{flag} needs a value" + (f": one of {', '.join(accepted)}" if accepted else ""))
    if accepted:
        check_choice(flag, value, accepted)
    return value

"""What ``--help`` prints, and the words that a shell completes without Hydra."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from ..space.errors import unknown
from .arguments import HYDRA_FLAGS
from .options import Option, Options, has_choice

_LEFT = 30
_HYDRA_HELP = (
    (
        "-o, --output DIR",
        "output folder ({output}); the same command with the same folder continues where it stopped; Hydra calls it "
        "hydra.run.dir",
    ),
    (
        "-m, --multirun",
        "one job for each combination of comma-separated values, like -m seed=0,1; -o is then the folder of all of "
        "them ({output}-sweep)",
    ),
    ("-cd, --config-dir DIR", "a folder of your own with more choices for the groups; put their classes on PYTHONPATH"),
    ("-cn, --config-name NAME", "another primary configuration, from that folder"),
    ("-c, --cfg job", "print the configuration that would run, and stop"),
    (
        "-i, --info KIND",
        "where the configuration comes from: all, config, defaults, defaults-tree, plugins, searchpath",
    ),
)


def write_overview(commands: Mapping[str, str]) -> str:
    """The text of ``effnas --help``: ``commands`` maps names to one line each."""
    rows = _rows([*commands.items()], indent=2)
    return "\n".join(
        [
            "usage: effnas COMMAND [--flag VALUE ...] [key=value ...]",
            "",
            "Design a family of convolutional networks: search a baseline, find its compound coefficients, scale it.",
            "",
            "commands, in the order of the chain:",
            *rows,
            "",
            "effnas COMMAND --help lists the options of a command; effnas --version prints the version.",
            'Shell completion: eval "$(effnas -sc install=bash)" (or zsh, fish).',
        ]
    )


def check_chosen(options: Options) -> None:
    """Raise :class:`~effnas.space.errors.UserError` for a choice of a group that is none: its options are unknown."""
    for group in options.groups:
        for choice in (group.choice or "").split(","):  # several: of a sweep
            plain = choice.removesuffix(".yaml")
            named = re.fullmatch(r"[\w./-]+", plain) and plain not in ("null", "None")
            if named and not has_choice(group.name, plain, options.folders):
                raise unknown(group.name, choice, group.choices)


def write_command_help(name: str, options: Options, examples: Iterable[str], output: str) -> str:
    """The text of ``effnas COMMAND --help``.

    Args:
        name: of the command.
        options: as its YAML files say.
        examples: command lines.
        output: the folder that results go to.
    """
    word = f"{options.positional.usage} " if options.positional is not None else ""
    lines = [f"usage: effnas {name} {word}[--flag VALUE ...] [key=value ...]", "", *_wrapped(options.summary), ""]
    lines += ["--flag VALUE and flag=VALUE are the same; the value shown is the default.", "", "options:"]
    lines += _rows((_flag(option), option.comment) for option in options.own)
    for group in options.groups:
        given = f"; one of: {', '.join(group.choices)}" if group.choices else ""
        lines += ["", *_rows([(f"--{group.name} {group.choice or 'null'}", group.comment + given)], indent=0)]
        lines += _rows((_flag(option), option.comment) for option in group.options)
    lines += ["", "runs, sweeps and configurations (Hydra's own):"]
    lines += _rows((flag, text.format(output=output)) for flag, text in _HYDRA_HELP)
    lines += ["", "examples:", *(f"  {example}" for example in examples)]
    return "\n".join(lines)


def list_flags(options: Options) -> list[str]:
    """Everything that may follow ``--``, for completion."""
    return ["--help", *(f"--{name.replace('_', '-')}" for name in options.names()), "--output", *HYDRA_FLAGS]


def _flag(option: Option) -> str:
    return f"--{option.name.replace('_', '-')} {'required' if option.written == '???' else option.written}"


def _rows(rows: Iterable[tuple[str, str]], indent: int = 2) -> list[str]:
    """Two columns; the right one wraps, and starts on a line of its own where the left one is long."""
    lines: list[str] = []
    for left, right in rows:
        text = _wrapped(right, _LEFT + 2)
        head = " " * indent + left
        if len(head) > _LEFT or not text:
            lines += [head, *(" " * (_LEFT + 2) + line for line in text)]
        else:
            lines += [f"{head:<{_LEFT}}  {text[0]}", *(" " * (_LEFT + 2) + line for line in text[1:])]
    return lines


def _wrapped(text: str, taken: int = 0) -> Sequence[str]:
    width = max(40, min(shutil.get_terminal_size((120, 24)).columns, 140) - taken)
    return [part for line in text.splitlines() for part in textwrap.wrap(line, width, break_on_hyphens=False)]

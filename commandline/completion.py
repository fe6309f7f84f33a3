"""What a shell offers next: commands and flags from here, overrides and groups from Hydra's own completion."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence

from ..space.errors import UserError
from .annotations import read_kinds
from .arguments import HYDRA_FLAGS, OUTPUT, SHORT_FLAGS, Arguments, parse_words
from .commands import COMMANDS
from .help import list_flags
from .options import Options
from .run import call_hydra, find_options

_SHELLS = ("bash", "zsh", "fish")

#: Hydra's answer for a command: the words before, as it wants them, and the word that is being typed.
Query = Callable[[str, list[str], str], list[str]]


def list_candidates(
    line: str, commands: Iterable[str], options_of: Callable[[str, list[str]], Options], query: Query
) -> list[str]:
    """The words that may stand where ``line`` ends.

    Args:
        line: what was typed up to the cursor, from the program's name on.
        commands: their names.
        options_of: a command's options, given the words after it.
        query: asks Hydra.
    """
    from .hydra_words import write_hydra_words

    typed = line.split()[1:]
    word = typed.pop() if typed and not line[-1].isspace() else ""
    if not typed:
        return _starting(word, [*commands, "--help", "--version"])
    name, before = typed[0], typed[1:]
    if name not in commands:
        return []
    try:
        options = options_of(name, before)
        if word.startswith("-"):
            return _starting(word, list_flags(options))
        prefix = _awaited(before[-1], options) if before else ""
        if prefix is None:
            return []
        arguments = parse_words(before[:-1] if prefix else before, options)
        kinds = read_kinds(COMMANDS[name].run, options)
        hydra = [w for w in write_hydra_words(arguments, options, kinds) if not any(c.isspace() for c in w)]
    except UserError:  # something before the cursor is wrong; the command itself will say what
        return []
    ours = {name.partition(".")[0] for name in options.names()} | {"hydra"}
    found = [
        f for f in query(name, hydra, prefix + word) if re.split(r"[=.]", f)[0] in ours
    ]  # Hydra offers every group
    return [*_positional(prefix, word, arguments, options), *(one.removeprefix(prefix) for one in found)]


def _positional(prefix: str, word: str, arguments: Arguments, options: Options) -> list[str]:
    """Choices of the command's positional option, where it may stand: alone, or after its name."""
    if options.positional is None or options.positional.name in dict(arguments.overrides):
        return []
    key = f"{options.positional.name}="
    if prefix == key:
        return _starting(word, options.positional.choices)
    return _starting(word, options.positional.choices) + (
        _starting(word, [key + choice for choice in options.positional.choices]) if word.startswith(key) else []
    )


def _starting(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(word)]


def _awaited(last: str, options: Options) -> str | None:
    """``key=`` where ``last`` is a flag that waits for its value, "" where it is not, None for a flag of Hydra's."""
    if not last.startswith("-") or "=" in last:
        return ""
    flag = SHORT_FLAGS.get(last, last)
    if flag in HYDRA_FLAGS:
        return "" if HYDRA_FLAGS[flag][1] is None else None
    if last in OUTPUT:
        return None
    key = last.lstrip("-").replace("-", "_")
    option = options.by_name().get(key)
    return "" if option is not None and isinstance(option.default, bool) else f"{key}="


def answer_shell(words: Sequence[str]) -> None:
    """``effnas -sc install=bash`` and what the installed function asks: ``effnas -sc query=bash``.

    Raises:
        UserError: neither of them.
    """
    action, _, shell = words[0].partition("=") if len(words) == 1 else ("", "", "")
    if action not in ("install", "uninstall", "query") or shell not in _SHELLS:
        raise UserError(f"-sc takes install=SHELL or uninstall=SHELL, SHELL one of {', '.join(_SHELLS)}")
    if action != "query":
        call_hydra(COMMANDS["scale"], ["-sc", f"{action}={shell}"])
        return

    def query(name: str, before: list[str], word: str) -> list[str]:
        from .hydra_words import split_flags

        folders, overrides = split_flags(before)
        os.environ["COMP_LINE"] = " ".join(["effnas", *overrides, word])
        answer = io.StringIO()
        with (
            contextlib.redirect_stdout(answer),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(Exception, SystemExit),  # no traceback at the prompt: the command itself will tell
        ):
            call_hydra(COMMANDS[name], [*folders, "-sc", "query=bash"])
        return answer.getvalue().split()

    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    line = line[: int(point)] if point.isdecimal() and len(point) < 10 else line
    print(*list_candidates(line, COMMANDS, find_options, query), sep="\n" if shell == "fish" else " ")

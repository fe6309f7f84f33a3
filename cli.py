"""The command line, ``effnas COMMAND [--flag value ...] [key=value ...]``: words in, exit status out.

Standard output carries the result and nothing else; progress, warnings and errors go to standard error. Exit status: 0;
2 for a mistake of the user's, reported in one message; 130 after Ctrl-C; 1 for a bug, with its traceback.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from .commandline.process import Unheard, end_in_time, open_streams, say

#: The commands are imported where they are used, inside ``main``: Ctrl-C during imports ends as at any other time.
_COMPLETION = ("-sc", "--shell-completion")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit status; without ``argv`` the program's, which then ends in any case."""
    if argv is not None:
        return _answer(list(argv))
    open_streams()
    sys.stderr = Unheard(sys.stderr)
    status = _answer(sys.argv[1:])
    end_in_time(status)
    return status


def _answer(words: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # no stream of text
            # a terminal that lacks a character, or a name that is no text: escaped, after hours of work
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return _report(words)
    except KeyboardInterrupt as interrupt:
        advice = str(interrupt) or "run the same command again"
        say(f"interrupted; {advice} to continue\n")
        return 130
    except BrokenPipeError:  # the reader has gone (`| head`): nothing more to say, not at interpreter exit either
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as end:  # Hydra's, after --hydra-help and the like
        return end.code if isinstance(end.code, int) else 0
    except Exception:
        from .space.errors import hide_passwords

        say(hide_passwords(traceback.format_exc(), *words))
        return 1


def _report(words: list[str]) -> int:
    """Run the words; a mistake in them is one message."""
    from .commandline.commands import COMMANDS
    from .space.errors import UserError, explain_os_error, hide_passwords

    try:
        _main(words)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        raise
    except (UserError, OSError) as error:
        text = explain_os_error(error) if isinstance(error, OSError) else str(error)
        name = f" {words[0]}" if words and words[0] in COMMANDS else ""
        say(f"effnas{name}: error: {hide_passwords(text, *words)}\n")
        return 2


def _main(words: list[str]) -> None:
    from .commandline.commands import COMMANDS
    from .commandline.help import write_overview
    from .space.errors import UserError, unknown

    if not words:
        raise UserError(f"a command is needed: {', '.join(COMMANDS)}; see effnas --help")
    first, rest = words[0], words[1:]
    if first in ("-h", "--help", "help"):
        print(write_overview({name: command.summary for name, command in COMMANDS.items()}))
    elif first == "--version":
        from . import __version__

        print(f"effnas {__version__}")
    elif first in _COMPLETION:
        _complete(rest)
    elif first in COMMANDS:
        _main_command(first, rest)
    elif first.startswith("-") or "=" in first:
        raise UserError(f"the command comes first, then {first}; choose one of: {', '.join(COMMANDS)}")
    else:
        raise unknown("command", first, COMMANDS)


def _main_command(name: str, words: list[str]) -> None:
    from .commandline.commands import COMMANDS
    from .commandline.help import check_chosen, write_command_help
    from .commandline.run import find_options, run_command

    if any(word in _COMPLETION for word in words):
        return _complete([word for word in words if "=" in word])
    command, options = COMMANDS[name], find_options(name, words)
    if "-h" in words or "--help" in words:
        check_chosen(options)
        print(write_command_help(name, options, command.examples, f"default outputs/{command.config}"))
    else:
        run_command(name, words, options)


def _complete(words: Sequence[str]) -> None:
    from .commandline.completion import answer_shell

    answer_shell(words)

"""The one kind of error that a user can correct, and the checks that raise it."""

from __future__ import annotations

import contextlib
import difflib
import errno
import math
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

#: No whole number is larger: it has to fit into 64 bits.
MAX_INT = 2**63 - 1
#: Characters of a value in a message.
MAX_SHOWN = 200


#: How messages advise it; :func:`advise_without_restart` finds it there.
AGAIN = "run the same command again"


class UserError(ValueError):
    """A mistake of the user's: the message names the rule, the value and the choices.

    The command line prints it as one message and exits with status 2; nothing else is caught there.
    """


def unknown(what: str, value: object, choices: Iterable[object]) -> UserError:
    """The error for a name that is not among ``choices``, with the nearest one suggested."""
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    choose = f"Choose one of: {', '.join(names)}" if names else "There is none"
    return UserError(f"{what}: unknown {str(value)!r}.{hint} {choose}")


def check_choice(what: str, value: object, choices: Iterable[object]) -> None:
    """Raise :class:`UserError` unless ``value`` is one of ``choices``."""
    names = list(choices)
    if value not in names:
        raise unknown(what, value, names)


def check_int(what: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise :class:`UserError` unless ``value`` is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{what} must be a whole number, got {show(value)}")
    if value < low or value > (MAX_INT if high is None else high):
        bound = f"between {low} and {MAX_INT if high is None else high}"
        bound = f"at least {low}" if high is None and value < low else bound
        raise UserError(f"{what} must be {bound}, got {show(value)}")


def is_finite(value: Any) -> bool:
    """Whether a float can hold it: a number, not NaN or infinite, nor a whole number of 309 digits; no truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def show(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a whole number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def check_number(
    what: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise :class:`UserError` unless ``value`` is a finite number in [low, high] (ends as said)."""
    if not is_finite(value):
        raise UserError(f"{what} must be a finite number, got {show(value)}")
    if value < low or value > high or (open_low and value == low) or (open_high and value == high):
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        raise UserError(f"{what} must be in {left}{low:g}, {high:g}{right}, got {value!r}")


#: A password in an address, as SQLAlchemy writes it, and one among the address's settings.
_LOGIN = re.compile(r"(\b[a-z][\w+.-]*://[^\s:/@'\"]*:)([^\s'\"]+)(?=@)", re.IGNORECASE)
_SETTING = re.compile(
    r"([?&;][\w-]*(?:password|passwd|passphrase|pwd|secret|token)[\w-]*=)([^&;#,\s'\"]+?)(?=[:.]?(?:[&;#,\s'\"]|$))",
    re.IGNORECASE,
)


def hide_passwords(text: str, *urls: str) -> str:
    """The text with ``***`` for the passwords of addresses in it, and for those of ``urls`` wherever they stand."""
    for url in urls:
        for _, found in (*_LOGIN.findall(url), *_SETTING.findall(url)):
            for password in {found, unquote(found)} - {"***"}:
                text = re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "***", text)
    return _SETTING.sub(r"\1***", _LOGIN.sub(r"\1***", text))


@contextlib.contextmanager
def advise_without_restart() -> Iterator[None]:
    """For what is done after a folder was begun anew: who runs the same command again must leave ``--restart`` out.

    Raises:
        UserError: what was raised inside, or a refusal of the system's, with that advice.
        KeyboardInterrupt: the same, with the advice as its argument.
    """
    advice = f"{AGAIN} without --restart"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice) from None
    except UserError as error:
        raise UserError(str(error).replace(AGAIN, advice)) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) or not error.errno:
            raise
        raise UserError(explain_os_error(error).replace(AGAIN, advice)) from error


#: What the machine has run out of, and what stands where a file should be.
EXHAUSTED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
OBSTRUCTED = {
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}


def explain_os_error(error: OSError) -> str:
    """One line for a refusal of the system's: the path, its reason and number, and what helps."""
    number = error.errno or 0
    name = errno.errorcode.get(number, type(error).__name__)
    reason = f"{error.strerror or str(error) or type(error).__name__} ({name})"
    path = error.filename2 or error.filename
    text = f"{os.fsdecode(path)}: {reason}" if isinstance(path, str | bytes | os.PathLike) else reason
    if number in EXHAUSTED:
        return f"{text}; make room or raise the limit (ulimit -a), then {AGAIN} to continue"
    if number in OBSTRUCTED:
        return f"{text}; remove it, mend its rights or choose another folder, then {AGAIN}"
    return f"{text}; {AGAIN} to continue"

"""A data base that does not answer for a while: whoever asked waits, says so, and asks again."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError

from ...space.errors import AGAIN, UserError, explain_os_error, hide_passwords
from ...space.quantity import format_duration

T = TypeVar("T")
#: Seconds for which a data base that does not answer is asked again.
PATIENCE = 600.0
#: Seconds between two attempts: the first, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
#: What servers say of a transaction that may succeed when made again: it was cut off, or stood in another's way.
_AGAIN = ("57P01", "57P02", "57P03", "40001", "40P01", "08")
#: The same in the numbers of MySQL and MariaDB: a row has changed meanwhile, too many connections, shutdown, a lock
#: that was not to be had in time, a deadlock, and connections that were lost.
_AGAIN_NUMBERS = {1020, 1040, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1184, 1205, 1213, 1927, 2006, 2013, 2055, 4031}
#: Of these, and of a statement that is too long: what it may come of if a statement is long.
_CUT_OFF, _LONG = {1153, 2006, 2013}, 2**20
#: What else they refuse in tables that Optuna has made there.
_OPTUNAS = {
    1062: "takes A for a: give effnas an empty data base",
    1366: "lacks letters: give effnas an empty data base",
    1406: "holds 65,535 bytes: ALTER TABLE {table} MODIFY value_json LONGTEXT",
}
#: How addresses begin whose drivers come with an extra, by their data bases; the extra has the name of the first part.
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
#: What is said of a connection that a server which stops or starts has refused. Drivers give no code there, and a wrong
#: password is refused in the same way.
_RESTARTING = ("connection refused", "starting up", "shutting down", "closed the connection")


class Outages:
    """Makes a transaction again where the data base was away.

    Args:
        address: of the storage.
        patience: seconds without an answer after which its error is raised; then nothing is waited for any more.
    """

    def __init__(self, address: str, patience: float = PATIENCE) -> None:
        self._address, self._patience = address, patience
        #: What waits so many seconds; a search lets Ctrl-C through meanwhile.
        self.pause: Callable[[float], None] = time.sleep
        #: When it last answered after it had been away, by the clock of :func:`time.monotonic`; None: it never was.
        self.ended: float | None = None

    def call(self, transaction: Callable[[bool], T]) -> T:
        """What the transaction gives. It gets whether it may have been made before, and its answer was lost.

        Raises:
            StorageInternalError: the data base has not answered for too long, or refuses the transaction.
            KeyboardInterrupt: a signal came while it was waited for.
        """
        start, pause, told = time.monotonic(), FIRST_PAUSE, False
        while True:
            try:
                result = transaction(pause > FIRST_PAUSE)
            except StorageInternalError as error:
                if not is_outage(error) or time.monotonic() - start + pause > self._patience:
                    self._patience = 0.0
                    raise
                if not told and pause > FIRST_PAUSE:
                    left = format_duration(self._patience - (time.monotonic() - start))
                    self._say(f"does not answer ({describe_fault(error, self._address)}); it is asked again for {left}")
                    told = True
            else:
                if pause > FIRST_PAUSE:
                    self.ended = time.monotonic()
                if told:
                    self._say(f"answers again, after {format_duration(self.ended - start if self.ended else 0)}")
                return result
            try:
                self.pause(pause)
            except KeyboardInterrupt:
                self._patience = 0.0
                raise
            pause = min(2 * pause, LONGEST_PAUSE)

    def _say(self, what: str) -> None:
        print(f"storage {hide_passwords(self._address)}: {what}", file=sys.stderr, flush=True)


def describe_fault(error: BaseException, address: str) -> str:
    """What a data base has refused, in one line: without statements, their values and passwords."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, ImportError):
        return _describe_driver(cause, address)
    text = hide_passwords(" ".join(str(getattr(cause, "orig", None) or cause or error).split()), address)[:200]
    return f"{text or type(error).__name__}{_explain_number(cause)}"


def explain_address(address: str, fault: str) -> str:
    """What to say of an address that was refused for this fault; "": nothing more, it is one."""
    known = "sqlite:///FILE, postgresql+psycopg://USER@HOST/NAME or mysql+pymysql://USER@HOST/NAME"
    if "://" not in address:
        return f"; it is no path but an address, like {known}"
    return f"; addresses are {known}" if "Can't load plugin" in fault else ""


def _explain_number(error: Any) -> str:
    """What MySQL does not say of its limits."""
    number = _number_of(error)
    if (length := _length_of(error)) is not None:
        return f"; {length:,} characters are to be written, and the server's max_allowed_packet may be less"
    table = re.search(r"(?:INTO|UPDATE) (\w+)", str(getattr(error, "statement", "")))
    if number not in _OPTUNAS or table is None or (number == 1406 and "value_json" not in str(error.orig)):
        return ""
    return f"; where Optuna has made this table it {_OPTUNAS[number].format(table=table[1])}"


def _length_of(error: BaseException | None) -> int | None:
    """Of the values of a statement that was refused, if it may have been for that; the error may be the next one."""
    while error is not None:
        length = len(repr(getattr(error, "params", None))) if _number_of(error) in _CUT_OFF else 0
        if length > _LONG:
            return length
        error = error.__context__
    return None


def _describe_driver(error: ImportError, address: str) -> str:
    missing = getattr(error.__cause__, "name", None) or error.name
    says = f"its driver {missing} is not installed" if missing else str(error)
    begins = _DRIVERS.get(re.split(r"[+:]", address)[0].lower(), "")
    extra = begins.split("+")[0]
    return f'{says}: pip install "effnas[{extra}]", and let it begin with {begins}://' if begins else says


def _number_of(error: object) -> int | None:
    """What the drivers of MySQL give in place of a code."""
    words = getattr(getattr(error, "orig", None), "args", None)
    return words[0] if words and isinstance(words[0], int) else None


def is_outage(error: StorageInternalError) -> bool:
    """Whether the data base was away or busy, and not the transaction at fault."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    cause = error.__cause__
    if isinstance(cause, PoolTimeout):
        return True
    if not isinstance(cause, DBAPIError) or _length_of(cause) is not None:
        return False
    if cause.connection_invalidated or _number_of(cause) in _AGAIN_NUMBERS:
        return True
    if str(getattr(cause.orig, "sqlstate", None) or "").startswith(_AGAIN):
        return True
    text = str(cause.orig)
    if "sqlite" in type(cause.orig).__module__:
        return "locked" in text or "busy" in text
    # no connection was made: such errors know no statement
    return isinstance(cause, OperationalError | InterfaceError) and cause.statement is None


def is_restart(error: Exception) -> bool:
    """Whether the server that was asked for a first connection may only be starting again."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return _number_of(cause) in _AGAIN_NUMBERS or any(word in str(error).lower() for word in _RESTARTING)


@contextmanager
def explained(storage: str | None) -> Iterator[None]:
    """What the system or a data base refuses while a study runs, in one line; what is finished is in the study."""
    try:
        yield
    except BrokenPipeError:  # the reader of our messages has gone
        raise
    except OSError as error:
        raise UserError(explain_os_error(error)) from error
    except StorageInternalError as error:
        place, reason = storage or "the journal", describe_fault(error, storage or "")
        raise UserError(f"storage {hide_passwords(place)}: {reason}; {AGAIN} to continue") from None

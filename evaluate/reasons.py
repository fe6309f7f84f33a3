"""Why a candidate has no value, as one line that any terminal, table and storage takes."""

from __future__ import annotations

#: Characters of a reason.
LONGEST = 300


def escape_reason(text: object) -> str:
    """A text on one line of at most :data:`LONGEST` characters: what does not print is written as an escape.

    So no terminal obeys it, and UTF-8 can always hold it (a lone surrogate stands where a file's name was not UTF-8).
    """
    line = " ".join(str(text)[: 10 * LONGEST].split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def describe_exception(error: BaseException) -> str:
    """The kind of an exception and what it says, where it can say it, as :func:`escape_reason` writes it."""
    try:
        text = str(error)
    except Exception as failure:  # of its own __str__
        text = f"(its text cannot be made: {type(failure).__name__})"
    return escape_reason(f"{type(error).__name__}: {text}" if text else type(error).__name__)

"""A name that is near the one that was typed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ..space.errors import UserError


def unknown_option(typed: str, names: Sequence[str]) -> UserError:
    """The error for a flag or a key that is no option: up to three near ones, not all of them.

    Args:
        typed: ``--flag`` or ``key``, as the user wrote it; the near ones are written so too.
        names: of all options.
    """
    name = typed.lstrip("+-").replace("-", "_")
    ends = [known for known in names if known.endswith(f".{name}")]
    near = list(dict.fromkeys([*ends, *difflib.get_close_matches(name, names, n=3, cutoff=0.6)]))[:3]
    if not near and "." not in name:  # objective.max_macs for --mx-macs
        last = {known.rpartition(".")[2]: known for known in reversed(names)}
        near = [last[one] for one in difflib.get_close_matches(name, last, n=3, cutoff=0.75)]
    if typed.startswith("--"):
        near = [f"--{known.replace('_', '-')}" for known in near]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UserError(f"option: unknown {typed!r:.100}.{hint} For all of them see --help")

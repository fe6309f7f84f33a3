"""What says the latency of networks, by name or from a file."""

from __future__ import annotations

from pathlib import Path

from ...space.paths import as_path, is_file
from .laws import KnownLatency, read_laws


def load_latency(name_or_file: str | Path) -> KnownLatency:
    """A ready law by its name (``rtx4090``, …), or the model that ``effnas latency fit`` wrote.

    Called with a network either gives seconds: the law per image, the model of what was measured.

    Raises:
        UserError: no such law or file, or the file holds no such model.
    """
    name_or_file, laws = as_path("name_or_file", name_or_file), read_laws()
    if str(name_or_file) in laws and not is_file(name_or_file):
        return laws[str(name_or_file)]
    from .model import read_model  # tables and statistics, which a law does not need

    return read_model(name_or_file, tuple(laws))

"""Fixtures that many tests share."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import BinaryIO

# Before torch is loaded: the networks of the tests are small, and two threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is timed while tests run side by side says nothing about the machine: it is kept for this run alone, and all of
# its processes inherit the folder.
if "EFFNAS_CACHE" not in os.environ:
    os.environ["EFFNAS_CACHE"] = tempfile.mkdtemp(prefix="effnas-tests-")
    atexit.register(shutil.rmtree, os.environ["EFFNAS_CACHE"], ignore_errors=True)

import pytest
from matplotlib.figure import Figure

# A killed process loses nothing that the kernel has; only a power cut would, and no test brings one about. A disk may
# take 10 ms to say that it has something, which made up a seventh of the suite.
os.fsync = lambda _: None

# A shell starts what runs in the background with Ctrl-C ignored, nohup with SIGHUP ignored, and processes hand that on:
# the tests that send these would wait for nothing.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (getattr(signal, "SIGHUP", None), signal.SIG_DFL)):
    with contextlib.suppress(ValueError):  # not the main thread
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """What modules hold stays: the collector need not look through all of it whenever a test frees memory."""
    gc.collect()
    gc.freeze()


def _touch(figure: Figure, file: BinaryIO, **_: object) -> None:
    file.write(b"not painted")


@pytest.fixture(autouse=True)
def unpainted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn up but not painted, which is most of the time that a small job takes; nor is a run's page made.

    Tests that look at a picture have the mark ``pictures``.
    """
    if request.node.get_closest_marker("pictures") is None:
        monkeypatch.setattr(Figure, "savefig", _touch)
        monkeypatch.setattr("effnas.report.job.make_page", lambda *_: "not made")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it are skipped where it is not there."""
    folder = Path(os.environ.get("EFFNAS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set EFFNAS_DATA")
    return folder

"""Latency ratios of a grid's networks to the baseline, as measured on this machine and kept beside the study."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...evaluate.arguments import check_threads
from ...space.errors import UserError, check_int
from ...space.files import write_text
from ...space.network_spec import NetworkSpec

FILE = "latency.json"
#: Times that a network and the baseline are measured, in turns, and the timed passes of each; the median ratio counts.
TURNS, PASSES = 5, 12
#: A network whose ratios are so much further from 2 than the tolerance in all of the first turns is not measured again;
#: one turn alone may have met with another process.
CLEARLY, FIRST = 0.4, 2


class LatencyRatios:
    """Measures networks in inference, turn by turn with the baseline: what slows the machine down slows both.

    What is measured is written to ``latency.json`` in the folder after each network, and read from there by the next
    run: the grid of a study must not change with the machine's load.

    Args:
        baseline: the network of φ = 0.
        folder: of the study.
        within: tolerance of the ratio.
        batch_size: images per pass.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        threads: of PyTorch on the CPU; None: unchanged.
        quiet: no progress on standard error.

    Raises:
        UserError: a setting is out of range.
    """

    def __init__(
        self,
        baseline: NetworkSpec,
        folder: Path,
        *,
        within: float,
        batch_size: int = 1,
        device: str = "cpu",
        threads: int | None = None,
        quiet: bool = False,
    ) -> None:
        check_int("latency_batch", batch_size, 1, 1_000_000)
        check_threads(threads, "latency_threads")
        self._baseline, self._path, self._within, self._quiet = baseline, folder / FILE, within, quiet
        self.settings = {"latency_batch": batch_size, "latency_device": device, "latency_threads": threads}
        self._options: dict[str, Any] = {"batch_size": batch_size, "device": device, "threads": threads}
        #: By digest: ``ratio`` and ``latency`` (seconds per batch, median of the turns), or the ``reason`` there is
        #: none.
        self.known: dict[str, dict[str, Any]] = {}

    def open(self) -> None:
        """Read what an earlier run has measured, when the folder is held.

        Raises:
            UserError: the folder has latencies of another baseline or of other settings, or a file that is no record
                of them.
        """
        self.known = self._read()

    def __call__(self, networks: Sequence[NetworkSpec]) -> dict[str, float]:
        """Latency ratios by digest; without those that could not be measured.

        Raises:
            UserError: the baseline cannot be measured, or the machine lacks the device.
        """
        new = [network for network in networks if network.digest not in self.known]
        if new and not self._quiet:
            print(f"measuring the latency of {len(new)} networks", file=sys.stderr, flush=True)
        shown = time.monotonic()
        for count, network in enumerate(new, 1):
            self.known[network.digest] = self._measure(network)
            document = {"baseline": self._baseline.digest, **self.settings, "networks": self.known}
            write_text(self._path, json.dumps(document, indent=1) + "\n")
            if not self._quiet and time.monotonic() - shown > 10:
                shown = time.monotonic()
                print(f"measured {count} of {len(new)}", file=sys.stderr, flush=True)
        measured = ((n.digest, self.known[n.digest].get("ratio")) for n in networks)
        return {digest: ratio for digest, ratio in measured if ratio is not None}

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            networks: dict[str, dict[str, Any]] = document.pop("networks")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self._path}: not a record of latencies ({type(error).__name__}): remove the file"
            ) from None
        wanted = {"baseline": self._baseline.digest, **self.settings}
        differing = [name for name in wanted if document.get(name) != wanted[name]]
        if differing:
            changes = ", ".join(f"{name}: {document.get(name)!r} → {wanted[name]!r}" for name in differing)
            raise UserError(
                f"{self._path}: holds latencies of another search ({changes}). Continue it with its original "
                "settings, or choose another folder with -o DIR"
            )
        return networks

    def _measure(self, network: NetworkSpec) -> dict[str, Any]:
        from ...evaluate.machine.paired_latency import NotTimedError, time_round  # imports torch

        ratios, latencies = [], []
        for turn in range(TURNS):
            try:
                base, latency = time_round([self._baseline, network], [PASSES, PASSES], warmup=3, **self._options)
            except NotTimedError as error:
                if error.index == 0:
                    raise UserError(f"the baseline's latency cannot be measured: {error}") from None
                return {"reason": str(error)}
            ratios.append(latency / base)
            latencies.append(latency)
            if turn + 1 == FIRST and min(abs(ratio - 2) for ratio in ratios) > self._within + CLEARLY:
                break
        return {"ratio": statistics.median(ratios), "latency": statistics.median(latencies), "turns": len(ratios)}

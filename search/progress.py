"""What a person sees while a search runs: on standard error, live on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from ..evaluate.non_dominated import non_dominated
from ..space.quantity import format_duration
from .objective import Objective
from .problem import Candidate
from .record import is_counted, is_usable, kind_of, reason_of, result_of, trace_first, worth_of

#: Rows of the running front that fit a small terminal.
FRONT_ROWS = 8


class TrialWatcher(Protocol):
    """Sees the loop's events; the progress display is one."""

    def started(self, trial: Trial, candidate: Candidate) -> None:
        """A candidate went to a worker."""

    def reported(self, number: int, step: int, accuracy: float) -> None:
        """A running candidate measured itself."""

    def finished(self, trial: FrozenTrial) -> None:
        """A trial has its final state."""

    def found(self, trial: FrozenTrial) -> None:
        """A trial has been finished by an earlier run or by another process."""

    def waits(self, where: str) -> None:
        """All that is left to do is running in other processes, there."""


@dataclass(frozen=True)
class Beforehand:
    """A :class:`TrialWatcher` with something to be done before it hears of a finished trial."""

    watcher: TrialWatcher
    act: Callable[[FrozenTrial], None]

    def started(self, trial: Trial, candidate: Candidate) -> None:
        """As :meth:`TrialWatcher.started`."""
        self.watcher.started(trial, candidate)

    def reported(self, number: int, step: int, accuracy: float) -> None:
        """As :meth:`TrialWatcher.reported`."""
        self.watcher.reported(number, step, accuracy)

    def finished(self, trial: FrozenTrial) -> None:
        """As :meth:`TrialWatcher.finished`."""
        self.act(trial)
        self.watcher.finished(trial)

    def found(self, trial: FrozenTrial) -> None:
        """As :meth:`TrialWatcher.found`."""
        self.watcher.found(trial)

    def waits(self, where: str) -> None:
        """As :meth:`TrialWatcher.waits`."""
        self.watcher.waits(where)


class Progress:
    """A bar with the time left, the candidates in training, the best so far and the running front.

    A context manager that gives a :class:`TrialWatcher`.

    Args:
        study: with the trials of earlier runs.
        objective: of it.
        trials: to finish.
        note: printed first.
        waiting: keys of the candidates that are enqueued, where all are: the time left is that of the different ones.
        quiet: nothing is shown.
    """

    def __init__(
        self,
        study: Study,
        objective: Objective,
        trials: int,
        note: str = "",
        *,
        waiting: Sequence[str] = (),
        quiet: bool = False,
    ) -> None:
        self._objective = objective
        #: Name of the one score, where it is not the accuracy that is shown anyway.
        self._score = objective.names[0] if len(objective.names) == 1 and objective.names != ("accuracy",) else None
        self._trials, self._note = trials, note
        # the stream of now: a candidate may put another one in its place while the display is refreshed
        self._console = Console(file=sys.stderr, highlight=False, quiet=quiet)
        self._quiet = quiet
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
        )
        live = self._console.is_terminal and not quiet
        self._live = Live(self, console=self._console, refresh_per_second=4) if live else None
        # Kept up to date, and not looked for among all trials at every event.
        self._best: FrozenTrial | None = None
        #: MACs, accuracy and parameters of each member of the front, the largest first.
        self._front: list[tuple[int, float, int]] = []
        #: Trials that were counted, of this process or of others.
        self._known: set[int] = set()
        #: Different candidates that are enqueued and have no result yet; those evaluated here.
        self._wanted, self._enumerated, self._trained = set(waiting), bool(waiting), 0
        self._waits = ""
        self._task = self._bar.add_task("search", total=trials, left="")
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                self.found(trial)
        self._running: dict[int, str] = {}
        self._skipped = 0
        self._start = time.monotonic()
        self._before = self._finished
        #: Trials that are still to be enqueued.
        self._later = max(0, trials - self._finished - len(waiting))

    def __enter__(self) -> Progress:
        if self._note:
            self._console.print(self._note, soft_wrap=True)
        if self._finished:
            self._console.print(f"resuming: {self._finished} of {self._trials} trials are finished")
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        if kind is KeyboardInterrupt and not self._quiet:
            print(f"stopped: {self._finished} of {self._trials} trials are finished", file=sys.stderr)

    @property
    def _finished(self) -> int:
        return len(self._known)

    # -- the loop's events ---------------------------------------------------------------------------

    def started(self, trial: Trial, candidate: Candidate) -> None:
        """A candidate went to a worker."""
        self._running[trial.number] = f"trial {trial.number}: {_describe_size(trial)}"

    def reported(self, number: int, step: int, accuracy: float) -> None:
        """A running candidate measured itself."""
        head = self._running.get(number, "").split(" · ")[0]
        self._running[number] = f"{head} · epoch {step}: {accuracy:.1%}"

    def found(self, trial: FrozenTrial) -> None:
        """A trial has been finished by an earlier run or by another process."""
        if is_counted(trial) and trial.number not in self._known:
            self._known.add(trial.number)
            self._wanted.discard(result_of(trial).get("key", ""))
            self._update_best(trial)
            self._bar.update(self._task, completed=self._finished)

    def waits(self, where: str) -> None:
        """All that is left to do is running in other processes, there."""
        if where != self._waits and not self._quiet:
            self._console.print(f"waiting for the last trials, which are running in {where}", soft_wrap=True)
        self._waits = where

    def finished(self, trial: FrozenTrial) -> None:
        """A trial has its final state."""
        self._running.pop(trial.number, None)
        if not is_counted(trial):
            if trace_first(trial) == trial.number:
                self._skipped += 1
                return
            self._update_best(trial)  # it was counted when it was stopped
        self.found(trial)
        self._trained += "duplicate_of" not in result_of(trial)
        left = self._estimate_left()
        self._bar.update(self._task, completed=self._finished, left=f"{format_duration(left)} left")
        if self._live is None and not self._quiet:
            self._print_line(trial, left)

    def _estimate_left(self) -> float:
        """Seconds until all is done: what was evaluated before costs nothing."""
        seconds = time.monotonic() - self._start
        if self._enumerated:
            return seconds / max(1, self._trained) * (len(self._wanted) + self._later)
        return seconds / max(1, self._finished - self._before) * max(0, self._trials - self._finished)

    def _update_best(self, trial: FrozenTrial) -> None:
        """See whether the trial is the best, or of the front, until now."""
        if not is_usable(trial):
            return
        result = result_of(trial)
        sign = 1 if self._objective.directions[0] == "maximize" else -1
        self._best = max(filter(None, (self._best, trial)), key=lambda t: (sign * t.values[0], -t.number))
        if self._live:
            rows = sorted({*self._front, (result["macs"], worth_of(result) or 0.0, result["params"])}, reverse=True)
            mask = non_dominated([(accuracy, macs) for macs, accuracy, _ in rows], ("maximize", "minimize"))
            self._front = [row for row, keep in zip(rows, mask, strict=True) if keep]

    # -- what is shown -------------------------------------------------------------------------------

    def _print_line(self, trial: FrozenTrial, left: float) -> None:
        result = result_of(trial)
        text = f"[{self._finished}/{self._trials}] trial {trial.number} {trial.state.name.lower()}: "
        if (worth := worth_of(result)) is not None:
            text += f"{kind_of(result)} {worth:.2%}, "
        if "macs" in result:
            text += f"{result['macs'] / 1e6:,.2f} M MACs"
        if trial.state == TrialState.COMPLETE and self._score is not None:
            text += f", {self._score} {trial.values[0]:.4f}"
        if reason := reason_of(trial):
            text += f" ({reason})"
        best = self._best
        if best is not None and len(self._objective.names) == 1:
            text += f"; best {best.values[0]:.4f} (trial {best.number})"
        print(f"{text}; {format_duration(left)} left", file=sys.stderr, flush=True)

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._bar]
        parts += [Text(f"  {text}", style="dim") for text in list(self._running.values())[:8]]
        best = self._best
        if best is not None:
            result = result_of(best)
            score = ", ".join(f"{n} {v:.4g}" for n, v in zip(self._objective.names, best.values, strict=True))
            parts.append(Text(f"best: trial {best.number}, {score}, {kind_of(result)} {worth_of(result):.2%}"))
            parts.append(self._make_front_table(kind_of(result)))
        if self._skipped:
            parts.append(Text(f"{self._skipped} proposals beyond the limits were not trained", style="dim"))
        return Group(*parts)

    def _make_front_table(self, kind: str) -> Table:
        table = Table(title="front", title_justify="left", box=None, padding=(0, 2))
        for name in (kind, "M MACs", "M params"):
            table.add_column(name, justify="right")
        for macs, accuracy, params in self._front[:FRONT_ROWS]:
            table.add_row(f"{accuracy:.2%}", f"{macs / 1e6:,.2f}", f"{params / 1e6:,.3f}")
        return table


def _describe_size(trial: Trial) -> str:
    result = result_of(trial)
    return f"{result.get('macs', 0) / 1e6:,.2f} M MACs, {result.get('params', 0) / 1e6:,.3f} M parameters"

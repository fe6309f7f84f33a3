"""Weights & Biases: one run a folder, a row of its history for each trial or epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...space.errors import UserError, check_choice
from .tracker import Beginning, Record, TrackedRun, make_row, require


@dataclass(frozen=True)
class Wandb:
    """Records in Weights & Biases. Its environment variables (``WANDB_MODE=offline``, ``WANDB_DIR``, …) count too.

    Args:
        project: of the runs.
        entity: user or team; None: the user's own.
        name: of the run; None: its folder.
        group: of runs that belong together.
        tags: of the run.
        mode: ``online``, ``offline``, ``shared`` or ``disabled``; None: as ``WANDB_MODE`` says, else online.

    Raises:
        UserError: the package wandb is not installed, or there is no such mode.
    """

    project: str = "effnas"
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    tags: Sequence[str] = ()
    mode: str | None = None

    def __post_init__(self) -> None:
        if self.mode is not None:
            check_choice("tracker.mode", self.mode, ("online", "offline", "shared", "disabled"))
        if isinstance(self.tags, str):
            raise UserError(f"tracker.tags must be a list, such as [a,b], got {self.tags!r}")
        require("wandb", "init", "wandb")

    @property
    def place(self) -> str:
        """The project."""
        return "wandb " + "/".join(filter(None, (self.entity, self.project)))

    def begin(self, beginning: Beginning) -> TrackedRun:
        """As :meth:`~effnas.evaluate.tracking.tracker.Tracker.begin`."""
        wandb = require("wandb", "init", "wandb")
        run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=self.name or beginning.name,
            group=self.group,
            tags=list(self.tags) or None,
            mode=self.mode,
            id=beginning.id,
            resume="allow",
            dir=os.environ.get("WANDB_DIR") or str(beginning.folder),
            config=dict(beginning.settings),
            # a bar of our own is on the terminal; and other runs of this process have theirs
            settings=wandb.Settings(console="off", silent=beginning.quiet or None, reinit="create_new"),
        )
        run.define_metric(beginning.axis)
        run.define_metric("*", step_metric=beginning.axis)
        return WandbRun(run, beginning.axis)


@dataclass(frozen=True)
class WandbRun:
    """An open run of W&B's."""

    run: Any
    axis: str

    @property
    def id(self) -> str:
        """Of W&B's."""
        return str(self.run.id)

    def record(self, record: Record) -> None:
        """One row: the number, all values, the decisions as ``decision/NAME``, and the words."""
        self.run.log(make_row(record, self.axis), step=record.place)

    def end(self, summary: Mapping[str, str | int | float | bool], state: str) -> None:
        """The findings become W&B's summary."""
        self.run.summary.update(dict(summary))
        self.run.finish(exit_code={"finished": 0, "stopped": 255}.get(state, 1))

"""How the engine runs on this machine: memory format, precision, compilation, threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from .recipe import Training

MEMORY_FORMATS = ("channels_last", "contiguous")


@dataclass(frozen=True)
class Settings:
    """What a network runs with.

    Args:
        memory_format: one of :data:`MEMORY_FORMATS`.
        precision: ``fp32`` or ``bf16`` (autocast).
        compile: with ``torch.compile``.
        threads: of the CPU; None: as many as torch has.
    """

    memory_format: str = "channels_last"
    precision: str = "fp32"
    compile: bool = False
    threads: int | None = None

    @property
    def layout(self) -> torch.memory_format:
        """The memory format as torch calls it."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format


def choose(
    model: nn.Module,
    shape: tuple[int, int, int, int],
    device: torch.device,
    training: Training,
    *,
    threads: int | None,
    steps: int,
    mode: str,
) -> tuple[Settings, str]:
    return Settings(
        "channels_last" if training.memory_format == "auto" else training.memory_format,
        "fp32" if training.precision == "auto" else training.precision,
        training.compile is True,
        threads,
    ), ""

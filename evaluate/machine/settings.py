"""How the engine runs on this machine: memory format, precision, compilation, threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

MEMORY_FORMATS = ("channels_last", "contiguous")
PRECISIONS = ("fp32", "bf16")
#: What inference can be timed in; fp16 needs a GPU.
TIMED_PRECISIONS = (*PRECISIONS, "fp16")


@dataclass(frozen=True)
class Settings:
    """What a network runs with.

    Args:
        memory_format: one of :data:`MEMORY_FORMATS`.
        precision: one of :data:`PRECISIONS`; bf16 is autocast.
        compile: with ``torch.compile``.
        threads: of the CPU; None: PyTorch's default.
    """

    memory_format: str = "channels_last"
    precision: str = "fp32"
    compile: bool = False
    threads: int | None = None

    @property
    def layout(self) -> torch.memory_format:
        """The memory format as torch calls it."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def __str__(self) -> str:
        parts = [self.memory_format.replace("_", "-"), self.precision, "compiled" if self.compile else ""]
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        return ", ".join(filter(None, parts))

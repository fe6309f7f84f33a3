"""The sets that a training reads: images in memory, or streamed by worker processes."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...space.errors import UserError
from .decode import Failure, Unreadable, decode_rows
from .pixels import Pixels
from .table import ImageTable, Indices

log = logging.getLogger(__name__)


class ImageSet(Protocol):
    """Labelled images that a model trains on or is measured on."""

    num_classes: int
    pixels: Pixels

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor:
        """Of the images, int64 (n,), on the CPU."""
        ...

    def batches(
        self,
        batch_size: int,
        *,
        device: str | torch.device,
        shuffle: int | None = None,
        drop_last: bool = False,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
        balanced: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(images, labels)``: uint8 (B, C, size, size) as they are stored, and int64 (B,), on ``device``.

        Args:
            batch_size: images per batch, all shards together.
            device: where the tensors go.
            shuffle: seed of a random order; None: as they come.
            drop_last: leave out an incomplete last batch, unless it is the only one.
            start: batches to leave out at the beginning: where a pass continues that was interrupted.
            shard: ``(i, n)``: the i-th of n parts, as equal as can be, of every batch.
            balanced: draw with replacement, each class as often; ``shuffle`` is the seed of this order.

        Raises:
            UserError: more images than ``max_corrupt`` allows turn out unreadable (streamed sets only).
        """
        ...


class _Batched:
    """What the sets have in common: which rows each batch has."""

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def labels(self) -> Tensor:
        raise NotImplementedError

    def _read(self, batches: list[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each batch of rows."""
        raise NotImplementedError

    def batches(
        self,
        batch_size: int,
        *,
        device: str | torch.device,
        shuffle: int | None = None,
        drop_last: bool = False,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
        balanced: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`ImageSet.batches`."""
        order = torch.arange(len(self))
        if shuffle is not None:
            generator = torch.Generator().manual_seed(shuffle)
            order = torch.randperm(len(self), generator=generator)
            if balanced:
                order = _draw_balanced(self.labels, generator)
        batches = list(torch.split(order, batch_size))
        if drop_last and len(batches) > 1 and len(batches[-1]) < batch_size:
            batches.pop()
        mine, of = shard
        return self._read([torch.tensor_split(batch, of)[mine] for batch in batches[start:]], torch.device(device))


def _draw_balanced(labels: Tensor, generator: torch.Generator) -> Tensor:
    """As many rows as there are labels, with replacement: each class that has images as often, and each of its images.

    What ``torch.utils.data.WeightedRandomSampler`` draws with weights 1 / n_c, for sets of any size.
    """
    counts = torch.bincount(labels)
    rows, first = labels.argsort(stable=True), counts.cumsum(0) - counts
    classes = counts.nonzero()[:, 0]
    drawn = classes[torch.randint(len(classes), (len(labels),), generator=generator)]
    within = (torch.rand(len(labels), generator=generator, dtype=torch.float64) * counts[drawn]).long()
    return rows[first[drawn] + torch.minimum(within, counts[drawn] - 1)]  # a share just below 1 may round up


class MemorySet(_Batched):
    """An :class:`ImageSet` held as one uint8 tensor; a copy stays on each device it was used on.

    Args:
        images: uint8 (n, C, size, size).
        labels: int64 (n,).
        num_classes: of the labels.
        pixels: how images are stored and read.
        readable: bool (n,); the other images are in no batch, but counted, as in a :class:`StreamSet`; None: all.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, num_classes: int, pixels: Pixels, readable: Tensor | None = None
    ) -> None:
        self.num_classes, self.pixels = num_classes, pixels
        self._readable = torch.ones(len(labels), dtype=torch.bool) if readable is None else readable
        self._copies = {torch.device("cpu"): (images, labels)}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labels(self) -> Tensor:
        """As :attr:`ImageSet.labels`."""
        return self._copies[torch.device("cpu")][1]

    def sample(self, rows: Indices) -> Tensor:
        """Those of these images that can be read, as they are stored."""
        chosen = torch.from_numpy(rows)
        return self._copies[torch.device("cpu")][0][chosen[self._readable[chosen]]]

    def _read(self, batches: list[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        if device not in self._copies:
            images, labels = self._copies[torch.device("cpu")]
            self._copies[device] = images.to(device), labels.to(device)
        images, labels = self._copies[device]
        for rows in batches:
            if len(chosen := rows[self._readable[rows]].to(device)):
                yield images.index_select(0, chosen), labels[chosen]


class StreamSet(_Batched):
    """An :class:`ImageSet` too large for memory: workers decode it anew each time, and stay between epochs.

    ``skipped`` grows as unreadable images are met; ``len`` counts them still.
    """

    def __init__(
        self,
        table: ImageTable,
        rows: Indices,
        num_classes: int,
        pixels: Pixels,
        workers: int,
        unreadable: Unreadable,
    ) -> None:
        self.num_classes, self.pixels, self.unreadable = num_classes, pixels, unreadable
        self._order: list[Indices] = []  # what the loader reads next; refilled before each pass
        self._table, self._rows = table, rows
        self._loader: DataLoader[Any] = DataLoader(
            _Decoder(table, pixels),
            batch_size=None,  # _order holds whole batches
            sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own: the global one belongs to the model
        )

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def labels(self) -> Tensor:
        """As :attr:`ImageSet.labels`."""
        return torch.from_numpy(self._table.labels[self._rows])

    @property
    def skipped(self) -> tuple[str, ...]:
        """Unreadable images met so far, in this set and in the one split off with it."""
        return tuple(self.unreadable.reasons)

    def _read(self, batches: list[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        self._order[:] = [self._rows[rows.numpy()] for rows in batches]
        for images, labels, failures in self._start():
            self._note(failures)
            if len(labels):
                yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    def _start(self) -> Iterator[Any]:
        try:
            return iter(self._loader)
        except (AttributeError, TypeError, pickle.PicklingError) as error:  # where workers are not forked
            raise UserError(
                f"the data set cannot be sent to the processes that decode it: {error}; define what it needs in a "
                "module that can be imported, or set data.workers=0"
            ) from error

    def _note(self, failures: Sequence[Failure]) -> None:
        for name, reason in failures:
            if name not in self.unreadable.reasons:
                log.warning("%s cannot be read and is skipped: %s", name, reason)
        self.unreadable.add(failures)
        self.unreadable.check()


class _Decoder(Dataset[Any]):
    """Rows to ``(images, labels, failures)``, in a worker."""

    def __init__(self, table: ImageTable, pixels: Pixels) -> None:
        self.table, self.pixels = table, pixels

    def __getitem__(self, rows: Indices) -> tuple[Tensor, Tensor, list[Failure]]:
        images, good, failures = decode_rows(self.table, rows, self.pixels)
        return torch.from_numpy(images[good]), torch.from_numpy(self.table.labels[rows][good]), failures

"""What the images of a data set have in common, before the first is decoded: bands, and what is white."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import numpy as np

from ....space.errors import UserError
from ..table import ImageTable, Indices, tell_once
from .depth import choose_white, find_range
from .opening import open_image, read_head, read_samples

#: Images whose heads are read, and deep images whose pixels are.
HEADS, DEEP = 1000, 200


def find_white(table: ImageTable, rows: Indices, channels: int, where: str) -> float | None:
    """What is white in those images that have more than 8 bits; None where there are none.

    Decided once for a data set, from the training part: 0 to 255 in 16 bits is 8 bits, whatever one image holds.

    Args:
        table: of the images.
        rows: that are used.
        channels: of the network's input.
        where: they are, for people.

    Raises:
        UserError: the images have bands that the network does not take.
    """
    bands: Counter[int] = Counter()
    deep = []
    some = rows[:: max(1, len(rows) // HEADS)]
    for row, (_, encoded) in zip(some, table.fetch(some), strict=True):
        with suppress(Exception):  # unreadable: decoding will say so, and count it
            head = read_head(encoded, channels)
            bands[head.bands] += 1
            if head.deep:
                deep.append(row)
    _check_bands(bands, channels, where)
    if not deep:
        return None
    looked_at = np.array(deep)[:: max(1, len(deep) // DEEP)]
    ranges, floats = [], False
    for _, encoded in table.fetch(looked_at):
        with suppress(Exception):
            samples = read_samples(encoded, channels)
            if samples is None:
                with open_image(encoded) as image:
                    samples = np.asarray(image)
            found, kind = find_range(samples), samples.dtype.kind
            choose_white(*found, floats=kind == "f")
            ranges.append(found)
            floats |= kind == "f"
    if not ranges:
        return None
    low, high = np.array(ranges).min(0)[0], np.array(ranges).max(0)[1]
    white = choose_white(low, high, floats=floats)
    taken = "floats" if white == 1 else f"{int(white).bit_length()} bits"
    tell_once(
        f"{where}: samples of more than 8 bits go up to {high:,.6g}: they are taken as {taken}, white is {white:,}"
    )
    return white


def _check_bands(bands: Counter[int], channels: int, where: str) -> None:
    if not bands:
        return
    most = bands.most_common(1)[0][0]
    fits = most in (1, 3, 4) if channels in (1, 3) else most == channels
    if not fits:
        what = "1 or 3" if most in (1, 3) else most
        raise UserError(
            f"{where}: images have {what} channels; the architecture takes {channels}: set space.in_channels={most} in "
            f"a search, --in-channels {most} in effnas train"
        )

"""The figure of ``effnas cam``: images down, networks across."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..drawing.style import SMALL, TITLE, drawing, make_figure, save_figure, shorten
from .images import Picture
from .maps import enlarge

#: Inches: side of an image, space between two, a line of text under one, above the first row, below the last one.
SIDE, GAP, LINE, ABOVE, BELOW = 2.2, 0.1, 0.15, 0.8, 0.34
#: Side of a heat map: small images would make it coarse.
PIXELS = 256
#: Letters that fit under an image, and above it.
LETTERS = 30
#: The heat map, even in brightness, and how much of it lies over the image.
COLOURS, OPACITY = "plasma", 0.5
#: ImageNet's names of classes as data sets spell them: ``n01440764_tench``.
_WORDNET = re.compile(r"n\d{8}[_ ]")


@dataclass(frozen=True, eq=False)
class Column:
    """One network's part of the figure.

    Args:
        title: of the column.
        images: (n, 1 or 3, r, r) uint8, as the network sees them.
        maps: (n, h, w) in [0, 1].
        predictions: of each image: ``class``, ``probability`` and those of the ``target``.
    """

    title: str
    images: Tensor
    maps: Tensor
    predictions: Sequence[Mapping[str, Any]]


def cam_figure(columns: Sequence[Column], pictures: Sequence[Picture], title: str, path: Path) -> None:
    """Draw it: each row an image, as the network with the largest input sees it, then the maps over it.

    Args:
        columns: of the networks, from left to right.
        pictures: of the rows, from above.
        title: of the whole.
        path: of the PNG, without its ending.
    """
    rows, across = len(pictures), 1 + len(columns)
    lines = 1 + any(found["target_index"] != found["index"] for column in columns for found in column.predictions)
    below = 0.1 + LINE * lines
    width, height = across * (SIDE + GAP) + GAP, rows * (SIDE + below) + ABOVE + BELOW
    largest = max(columns, key=lambda column: column.images.shape[-1])
    with drawing():
        figure = make_figure(width, height)
        figure.set_layout_engine("none")  # every image has its place
        for row, picture in enumerate(pictures):
            for at in range(across):
                left, bottom = GAP + at * (SIDE + GAP), height - ABOVE - row * (SIDE + below) - SIDE
                axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
                if at == 0:
                    _image(axes, largest.images[row])
                    caption, head = _short(picture.label or Path(picture.name).name), "image"
                else:
                    column = columns[at - 1]
                    _image(axes, column.images[row])
                    _heat(axes, column.images[row], column.maps[row : row + 1])
                    caption, head = _caption(column.predictions[row]), column.title
                axes.set_xlabel(caption, fontsize=SMALL, labelpad=3)
                if row == 0:
                    axes.set_title(
                        "\n".join(shorten(line, LETTERS) for line in head.split("\n")), fontsize=SMALL, pad=4
                    )
                    axes.title.set_horizontalalignment("center")
        _scale(figure, width, height)
        letters = int((width - 2 * GAP) * 72 / (0.56 * TITLE))
        figure.text(GAP / width, 1 - 0.12 / height, shorten(title, letters), fontsize=TITLE, va="top")
        save_figure(figure, path, kinds=("png",), dpi=120)


def _heat(axes: Any, image: Tensor, maps: Tensor) -> None:
    heat = enlarge(maps, PIXELS, PIXELS)[0].numpy()
    edges = (-0.5, image.shape[-1] - 0.5, image.shape[-2] - 0.5, -0.5)
    axes.imshow(heat, cmap=COLOURS, vmin=0, vmax=1, alpha=OPACITY, extent=edges)


def _scale(figure: Any, width: float, height: float) -> None:
    """What the colours mean, below."""
    from matplotlib.cm import ScalarMappable

    bar = figure.add_axes(((GAP + 0.4) / width, 0.15 / height, 0.5 * SIDE / width, 0.1 / height))
    figure.colorbar(ScalarMappable(cmap=COLOURS), cax=bar, orientation="horizontal", alpha=OPACITY).set_ticks([])
    for x, text, side in ((-0.04, "least", "right"), (1.04, "most evidence for the class, in each map", "left")):
        bar.text(x, 0.5, text, ha=side, va="center", fontsize=SMALL, transform=bar.transAxes)


def _image(axes: Any, image: Tensor) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    axes.imshow(pixels if pixels.shape[2] == 3 else pixels[:, :, 0], cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _caption(found: Mapping[str, Any]) -> str:
    text = f"{_short(found['class'], LETTERS - 7)} {found['probability']:.1%}"
    if found["target_index"] != found["index"]:
        text += f"\nmap of {_short(found['target'], LETTERS - 14)} {found['target_probability']:.1%}"
    return text


def _short(name: str, letters: int = LETTERS) -> str:
    """As people say it, and so long that it fits under an image."""
    plain = _WORDNET.sub("", name).replace("_", " ") if _WORDNET.match(name) else name
    return shorten(plain, letters)

"""Colours, letters, legends and titles of all figures, and how a figure becomes files.

A figure is made inside :func:`drawing`, so that a user's own matplotlib settings change nothing and text is what it
says, dollar signs included. Letters are readable where a page shows the picture at half its size.
"""

from __future__ import annotations

import contextlib
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...space.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe & Ito's, which colour-blind people tell apart too; a group has a marker of its own besides.
BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK = (
    *("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000"),
)
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: Of what stands in the background, and of text about it.
GREY, DARK_GREY = "#8c8c8c", "#555555"
#: Of a value by colour; even in brightness, so that it can be read without colours.
SHADES = "viridis"
#: Sizes of letters, in points: titles; axes and legends; ticks and what is written beside points.
TITLE, TEXT, SMALL = 10.5, 9.5, 8.5
#: Pixels an inch.
DPI = 150
_STYLE: Any = {
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": TEXT,
    "axes.titlesize": TITLE,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.axisbelow": True,
    "axes.xmargin": 0.07,
    "axes.ymargin": 0.07,
    "figure.titlesize": TITLE,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "grid.alpha": 0.25,
    "svg.hashsalt": "effnas",
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Settings of matplotlib inside: its defaults and ours, whatever the user's are."""
    import matplotlib  # a second to import: only when there is something to draw

    defaults: Any = {key: value for key, value in matplotlib.rcParamsDefault.items() if "backend" not in key}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a script that no font here has: a box stands for it
        with matplotlib.rc_context({**defaults, **_STYLE}):
            yield


def make_figure(width: float, height: float) -> Figure:
    """An empty one, in inches; axes and legends find their places by themselves."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def set_title(axes: Any, text: str, width: float) -> None:
    """Write a title over axes, in as many lines as it needs.

    Args:
        axes: matplotlib's, or a figure.
        text: of the title; its lines stay.
        width: inches that there are.
    """
    wrapped = wrap(text, width, TITLE)
    if hasattr(axes, "suptitle"):
        axes.suptitle(wrapped)
    else:
        axes.set_title(wrapped)


def place_legend(figure: Any, panels: Sequence[Any], width: float) -> None:
    """One legend for all panels, below them: inside, some data or other would lie under it.

    Args:
        figure: matplotlib's.
        panels: its axes; a label that several have is told once.
        width: of the figure in inches.
    """
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    labels = [wrap(label, width - 1, TEXT) for label in entries]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(len(labels), int((width - 0.2) * 72 / (TEXT * (0.53 * longest + 4.5)))))
    figure.legend(entries.values(), labels, loc="outside lower center", ncols=columns)


def wrap(text: str, width: float, size: float) -> str:
    """Text in lines of so many inches, with letters of that many points."""
    letters = max(10, int(width * 72 / (0.56 * size)))
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, letters) or [""])


def shorten(name: str, letters: int) -> str:
    """A name on one line, with its middle left out where it is too long."""
    plain = "".join(c if c.isprintable() else " " for c in name)
    if len(plain) <= letters:
        return plain
    front = (letters - 1) // 2
    return f"{plain[:front]}…{plain[len(plain) - (letters - 1 - front) :]}"


def save_figure(figure: Figure, path: Path, kinds: Sequence[str] = ("png", "svg"), dpi: int = DPI) -> None:
    """Write a figure, each file whole or not at all.

    Args:
        figure: of matplotlib.
        path: without an ending.
        kinds: the endings, one file each.
        dpi: pixels an inch.

    Raises:
        OSError: a file cannot be written.
    """
    for kind in kinds:
        with replacing(path.with_name(f"{path.name}.{kind}")) as file:
            figure.savefig(file, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)

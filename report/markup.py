"""HTML from text of unknown origin: whatever a name contains is shown as text."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..space.paths import as_text

#: Letters of one text on the page; names are shorter, and a reason that is longer is told in trials.csv.
MAX_TEXT = 2_000


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        title: what it shows, in words.
        spec: of Vega-Lite, with its data; what may be clicked has ``network``, an index of the page's networks.
        caption: how to read it.
        height: pixels.
        hides: a checkbox sets the parameter ``hide``.
        wide: takes the whole width of the page.
    """

    title: str
    spec: dict[str, Any]
    caption: str = ""
    height: int = 320
    hides: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Piece:
    """One part of the page: a heading, HTML, and figures in it."""

    title: str
    body: str = ""
    figures: Sequence[Figure] = field(default=())


def text(value: object) -> str:
    """Any value as HTML that shows it as text, in its own direction of writing."""
    plain = as_text(str(value))
    if len(plain) > MAX_TEXT:
        plain = f"{plain[:MAX_TEXT]}… ({len(plain):,} characters)"
    escaped = html.escape(plain, quote=True)
    return escaped if plain.isascii() else f"<bdi>{escaped}</bdi>"


def attribute(value: object) -> str:
    """Any value inside the quotes of an attribute."""
    return html.escape(as_text(str(value))[:MAX_TEXT], quote=True)


def cell(value: object, raw: object = None, *, number: bool = False, head: bool = False) -> str:
    """A cell of a table; ``raw`` is what a copy of the table as CSV says in its place."""
    tag, kind = ("th", ' scope="row"') if head else ("td", "")
    kind += ' class="n"' if number else ""
    kind += "" if raw is None else f' data-raw="{attribute(raw)}"'
    return f"<{tag}{kind}>{text(value)}</{tag}>"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], name: str, left: int | Collection[int] = 1) -> str:
    """A table whose first ``left`` columns, or those of these indices, are words; the others are numbers.

    It can be copied as CSV.

    A cell is a value, or a pair: what is shown, and what is copied.
    """
    words = range(left) if isinstance(left, int) else left
    lines = []
    for row in rows:
        cells = []
        for i, one in enumerate(row):
            shown, raw = one if isinstance(one, tuple) else (one, None)
            cells.append(cell(shown, raw, number=i not in words, head=i == 0))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    columns = "".join(
        f'<th scope="col"{"" if i in words else " class=n"}>{text(one)}</th>' for i, one in enumerate(header)
    )
    label = attribute(name)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table data-name="{label}">'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def paragraph(words: object, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{f' class={kind}' if kind else ''}>{text(words)}</p>"


def details(title: str, inner: str) -> str:
    """HTML under a title that opens it."""
    return f"<details><summary>{text(title)}</summary>{inner}</details>"


def listing(title: str, content: str) -> str:
    """Text as it is, under a title that opens it."""
    return details(title, f"<pre>{text_whole(content)}</pre>")


def text_whole(content: str) -> str:
    """Text of several lines, none of it left out."""
    lines = ("".join(c if c.isprintable() or c == "\t" else " " for c in line) for line in content.splitlines())
    return html.escape("\n".join(lines), quote=True)


def data_script(name: str, data: object) -> str:
    """Data for the page's script: no text in it can end the element or begin another one."""
    written = json.dumps(_finite(data), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{written}</script>'


def _finite(data: Any) -> Any:
    """JSON has no NaN and no infinity: null in their place."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if data is None or isinstance(data, str | int):
        return data
    return str(data)


def number(value: Any, form: str = ",.4g") -> str:
    """A number as people read it; – where there is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–" if value is None else str(value)
    return format(value, form) if math.isfinite(value) else "–"


def count(value: Any) -> str:
    """A count with its unit: 4.5 M."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        if abs(value) >= size:
            return f"{value / size:,.4g}{unit}"
    return f"{value:,.4g}"


def percent(value: Any) -> str:
    """A fraction in percent."""
    return number(value, ".2%")


def seconds(value: Any) -> str:
    """A time, in the unit that fits it."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    if value >= 7200:
        return f"{value / 3600:,.1f} h"
    if value >= 120:
        return f"{value / 60:,.1f} min"
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= size or unit == "µs":
            return f"{value / size:,.3g} {unit}"
    return "–"

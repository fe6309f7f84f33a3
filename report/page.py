"""The page: the pieces of all runs in order, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..space.errors import UserError
from .folders import Run
from .library import load_library
from .markup import Figure, Piece, attribute, data_script, paragraph, text
from .networks import Networks
from .pieces.compared import show_comparison, show_transfer
from .pieces.curves import show_curves
from .pieces.decisions import show_decisions
from .pieces.drawing import show_network
from .pieces.facts import compare_runs, show_failures, show_found, show_record, show_sweeps, show_table
from .pieces.family import show_family
from .pieces.front import show_front
from .pieces.grid import show_grid
from .pieces.measured import show_evaluation
from .pieces.pictures import show_pictures
from .pieces.progress import show_progress
from .pieces.rules import show_rules
from .pieces.scaled import show_recomputed, show_scaled
from .pieces.shortcuts import show_shortcuts
from .pieces.taken import show_compression, show_export
from .pieces.timed import show_latency, show_profile

#: Bytes of a page, and points that it begins with: they are halved until it has room for them.
MAX_PAGE, POINTS, FEWEST = 4_900_000, 4_000, 30
#: The page loads nothing from anywhere, whatever its text says.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_HERE = Path(__file__).parent


def make_page(runs: Sequence[Run], command: str = "") -> str:
    """The HTML of the page.

    Args:
        runs: that it shows, in order.
        command: as the user typed it.

    Raises:
        UserError: there is no room for the runs on one page, or the plots' library is not installed.
    """
    library = load_library()
    points = POINTS
    while points >= FEWEST:
        page = _make_page(runs, command, points, library)
        if len(page.encode()) <= MAX_PAGE:
            return page
        points //= 2
    raise UserError(
        f"runs: {len(runs)} of them do not fit on one page of {MAX_PAGE / 1e6:.1f} MB; make several, of fewer runs each"
    )


def _make_page(runs: Sequence[Run], command: str, points: int, library: str) -> str:
    networks, figures = Networks(), list[Figure]()
    parts: list[str] = []
    if len(runs) > 1:
        pieces = [
            *_shown("The runs compared", lambda: compare_runs(runs)),
            *_shown("Sweeps", lambda: show_sweeps(runs)),
            *_shown("Accuracy against cost", lambda: show_front(runs, networks, points)),
            *_shown("Best so far", lambda: show_progress(runs, points)),
            *_shown("Learning curves", lambda: show_curves(runs)),
        ]
        parts.append(_section("all", "All runs", pieces, figures))
    for number, run in enumerate(runs):
        alone = [run] if len(runs) == 1 else []
        parts.append(
            _section(f"run{number}", _title(run, len(runs)), _pieces_of(run, alone, networks, points), figures)
        )
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    links = "".join(f'<a href="#run{i}">{text(run.name)}</a>' for i, run in enumerate(runs)) if len(runs) > 1 else ""
    data = {
        "figures": [{"spec": f.spec, "height": f.height, "title": f.title} for f in figures],
        "networks": networks.rows,
    }
    made = f"<footer>{paragraph(f'Made by: {command}')}</footer>" if command else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>effnas: {attribute(title)}</title><style>{_read('page.css')}</style></head>\n<body>"
        f"<header><h1>{text(title)}</h1><nav>{links}</nav></header>"
        "<noscript><p class=warning>The figures need JavaScript; the tables do not.</p></noscript>"
        f"<main>{''.join(parts)}</main>{made}"
        '<aside id="pinned" aria-label="Pinned networks" aria-live="polite" hidden></aside>'
        '<div id="tip" role="status" hidden></div>'
        f"{data_script('effnas-data', data)}\n<script>{library}</script>\n<script>{_read('page.js')}</script>"
        "</body></html>\n"
    )


def _pieces_of(run: Run, alone: Sequence[Run], networks: Networks, points: int) -> list[Piece]:
    """Those of one run; what several runs share is drawn here where the page has one run alone."""
    known = (
        ("What was asked, and found", lambda: show_found(run)),
        ("Accuracy against cost", lambda: show_front(alone, networks, points)),
        ("The grid", lambda: show_grid(run, networks)),
        ("Rules of scaling", lambda: show_rules(run, networks)),
        ("How far shortcuts may be trusted", lambda: show_shortcuts(run, networks)),
        ("The family, and its prediction", lambda: show_family(run)),
        ("The networks compared", lambda: show_comparison(run, networks)),
        ("The transfer", lambda: show_transfer(run, networks)),
        ("The measurement", lambda: show_evaluation(run)),
        ("What was exported", lambda: show_export(run)),
        ("What was cut", lambda: show_compression(run)),
        ("The profile", lambda: show_profile(run, networks)),
        ("The latency", lambda: show_latency(run, networks)),
        ("What was scaled", lambda: show_scaled(run, networks)),
        ("The paper's table, recomputed", lambda: show_recomputed(run)),
        ("Its picture", lambda: show_pictures(run, points == POINTS)),
        ("The network", lambda: show_network(run)),
        ("Best so far", lambda: show_progress(alone, points)),
        ("Learning curves", lambda: show_curves(alone)),
        ("What the decisions do", lambda: show_decisions(run)),
        ("Failures", lambda: show_failures(run)),
    )
    pieces = [piece for title, make in known for piece in _shown(title, make)]
    if len(pieces) < 2 and not any(piece.figures for piece in pieces):
        pieces += _shown("Its numbers", lambda: show_table(run))
    return [*pieces, *_shown("Command, configuration, versions", lambda: show_record(run))]


def _shown(title: str, make: Callable[[], Piece | None]) -> list[Piece]:
    """A piece, none, or in its place that the files are not of the form that it reads."""
    try:
        piece = make()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        told = f"{type(error).__name__}: {error}"
        words = f"This part cannot be shown: the files are of another version of effnas, or were changed ({told})."
        return [Piece(title, paragraph(words, "warning"))]
    return [] if piece is None else [piece]


def _title(run: Run, runs: int) -> str:
    kind = f"effnas {run.kind}" if run.kind else "a run"
    return kind if runs == 1 else f"{run.name}: {kind}"


def _section(name: str, title: str, pieces: Sequence[Piece], figures: list[Figure]) -> str:
    """HTML of a run's pieces; their figures are added to the page's."""
    parts = []
    for piece in pieces:
        drawn = "".join(_figure(figure, figures) for figure in piece.figures)
        drawn = f'<div class="figures">{drawn}</div>' if drawn else ""
        parts.append(f"<section><h3>{text(piece.title)}</h3>{drawn}{piece.body}</section>")
    return f'<article id="{name}"><h2>{text(title)}</h2>{"".join(parts)}</article>'


def _figure(figure: Figure, figures: list[Figure]) -> str:
    number = len(figures)
    figures.append(figure)
    hide = '<label><input type="checkbox" class="hide"> hide dominated networks</label>' if figure.hides else ""
    wide = " wide" if figure.wide else ""
    return (
        f'<figure class="plot{wide}" data-figure="{number}"><figcaption>{text(figure.title)}</figcaption>'
        f'<div class="canvas" tabindex="0" role="group" aria-label="{attribute(figure.title)}" '
        f'style="height:{figure.height}px"></div>'
        f'<p class="tools">{hide}<button type="button" data-save="png">save as PNG</button>'
        '<button type="button" data-save="svg">save as SVG</button></p>'
        f"{f'<p class=caption>{text(figure.caption)}</p>' if figure.caption else ''}</figure>"
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")

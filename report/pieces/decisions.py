"""Which decisions matter: their importance for the score, and what the best networks have chosen."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..folders import Run
from ..marks import COLOURS, share_colour, spec, tips
from ..markup import Figure, Piece, paragraph
from ..networks import decisions_of
from ..trials import complete_trials, is_number, maximizes, thin_out

#: Fewer trials say nothing of a decision's importance.
FEWEST = 10
#: The share of trials whose choices are counted as the best's.
TOP = 0.1
#: Trials that Optuna is asked about: of more, these many evenly. 20,000 would take it ten seconds.
ASKED = 5_000
#: Decisions that are drawn, the most important ones.
DRAWN = 24
#: Choices of one decision that have a tile, the first ones.
CHOICES = 12
#: Between two tiles.
GAP = "#80808040"


def show_decisions(run: Run) -> Piece | None:
    """Importances by Optuna, and the choices among the best tenth beside those among all."""
    rows = [row for row in complete_trials(run) if is_number(row.get("score"))]
    names = [key for key in decisions_of(rows[0]) if len({row.get(key) for row in rows}) > 1] if rows else []
    if run.kind != "search" or len(rows) < FEWEST or not names:
        return None
    asked = [rows[i] for i in thin_out(rows, set(), ASKED)]
    importances = find_importances(asked, names, maximizes(run))
    order = sorted(names, key=lambda name: -importances.get(name, 0.0))[:DRAWN]
    best = sorted(rows, key=lambda row: row["score"], reverse=maximizes(run))[: max(5, math.ceil(TOP * len(rows)))]
    figures = [] if not importances else [_importance_figure(order, importances, len(asked), len(rows))]
    figures.append(_marginal_figure(order, best, rows))
    left = len(names) - len(order)
    note = paragraph(f"{left} less important decisions are left out of the figures.", "note") if left else ""
    return Piece("What the decisions do", note, figures)


def find_importances(rows: Sequence[Mapping[str, Any]], names: Sequence[str], maximize: bool) -> dict[str, float]:
    """How much each decision has to do with being among the best tenth, by Optuna; none where it cannot tell.

    Its default, PED-ANOVA (Watanabe et al. 2023): 0.1 s for 1,000 trials, where fANOVA takes 7.
    """
    if len({row["score"] for row in rows}) < 2:
        return {}
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.importance import get_param_importances

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(direction="maximize" if maximize else "minimize")
            kinds: dict[str, BaseDistribution] = {
                name: CategoricalDistribution(list(dict.fromkeys(_plain(row.get(name)) for row in rows)))
                for name in names
            }
            study.add_trials(
                [
                    optuna.trial.create_trial(
                        params={name: _plain(row.get(name)) for name in names},
                        distributions=kinds,
                        value=float(row["score"]),
                    )
                    for row in rows
                ]
            )
            return get_param_importances(study)
    except (ValueError, RuntimeError):  # it refuses what it cannot tell
        return {}
    finally:
        optuna.logging.set_verbosity(level)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


def _short(name: str) -> str:
    return name.partition(".")[2] or name


def _importance_figure(order: Sequence[str], importances: Mapping[str, float], asked: int, trials: int) -> Figure:
    bars = [{"d": _short(name), "v": importances.get(name, 0.0)} for name in order]
    y = {"field": "d", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 170}}
    x = {"field": "v", "type": "quantitative", "title": "importance", "axis": {"format": ".0%", "tickCount": 5}}
    layer = {
        "mark": {"type": "bar", "color": COLOURS[0], "height": {"band": 0.7}},
        "encoding": {"y": y, "x": x, "tooltip": tips(("d", "decision", ""), ("v", "importance", ".1%"))},
    }
    which = f"{trials:,} trials" if asked == trials else f"{asked:,} of {trials:,} trials, evenly chosen"
    caption = (
        f"How much each decision has to do with being among the best tenth of {which} (Optuna's PED-ANOVA; "
        "together 100 %). It says what mattered in this search, not which choice is better."
    )
    return Figure("Importance of the decisions", spec(bars, [layer]), caption, 60 + 18 * len(order))


def _marginal_figure(
    order: Sequence[str], best: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> Figure:
    tiles = []
    for name in order:
        among, everywhere = (Counter(row.get(name) for row in some) for some in (best, rows))
        choices = sorted(
            everywhere, key=lambda value: (not is_number(value), value if is_number(value) else 0, str(value))
        )
        for place, choice in enumerate(choices[:CHOICES]):
            share = among[choice] / len(best)
            tiles.append(
                {
                    "d": _short(name),
                    "c": place,
                    "choice": str(choice),
                    "v": share,
                    "all": everywhere[choice] / len(rows),
                    "label": f"{str(choice)[:8]}",
                    "dark": share < 0.6,
                }
            )
    y = {"field": "d", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 170}}
    x = {"field": "c", "type": "ordinal", "title": "choices, in order", "axis": {"labels": False, "ticks": False}}
    colour = share_colour("v", "share of the best")
    told = tips(
        ("d", "decision", ""), ("choice", "choice", ""), ("v", "among the best", ".0%"), ("all", "among all", ".0%")
    )
    written = {"condition": {"test": "datum.dark", "value": "#ffffff"}, "value": "#000000"}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "rect", "stroke": GAP}, "encoding": {"x": x, "y": y, "color": colour, "tooltip": told}},
        {
            "mark": {"type": "text", "fontSize": 10, "limit": 60, "tooltip": None},
            "encoding": {"x": x, "y": y, "text": {"field": "label"}, "color": written},
        },
    ]
    caption = (
        f"What the best {len(best)} of {len(rows):,} trials have chosen (the best tenth, five at least): each tile is "
        "a choice, its colour how many of the best have it. Point at a tile to compare with all trials: a search that "
        "has settled repeats its favourites everywhere."
    )
    return Figure("Choices among the best tenth", spec(tiles, layers), caption, 110 + 20 * len(order))

"""What ``effnas scale`` computes and prints: one network or a family of them, from φ, a preset or a budget.

Torch-free and without table libraries, so that the command starts at once.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..space.architecture import Architecture
from ..space.cost import cost
from ..space.errors import UserError, check_number, unknown
from ..space.quantity import parse_quantity
from ..space.zoo import load_architecture, zoo
from .coefficients import PAPER, PRESETS, Coefficients, load_coefficients
from .compound import scale, solve_phi

MAX_FAMILY = 1000
_DEFAULT_BASELINE = "efficientnet_b0"
_EXPLANATION = """\
Published EfficientNet-B1..B7 / the formula (depth alpha^phi, width beta^phi, resolution 224 gamma^phi) at phi = 1..7,
{coefficients}

{table}

"phi:" and the next three columns: the phi at which the formula gives the published depth, width, resolution or MACs.
"MACs ratio" is the published network's to B0, "nominal" the same before rounding, "formula's" that of phi = 1..7.

The number in a name is not phi, and no single phi gives a published row: the authors published a table of multipliers,
whose depth, width and resolution each imply another phi. B2 has the depth and width of phi = 1, but 260 px, not 258;
B1 is not widened at all; by MACs the rows run from phi = 0.88 to 7.02.
A step of phi multiplies MACs by alpha beta^2 gamma^2 = {ratio:.3f} before rounding, not by 2. Repeats round up and
channels go to multiples of 8, so that the achieved ratio differs, most for small networks: 2.57 at phi = 1.
For a published network use preset=b3; for the formula, from any baseline and with any coefficients, phi=3."""
_RANGE = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)")


@dataclass
class ScaleJob:
    """Options of ``effnas scale``; exactly one of phi, preset, family and the targets, or explain, says what to make.

    Args:
        baseline: zoo name or architecture file.
        coefficients: "paper", three numbers ("1.2,1.1,1.15" or a list) or a coefficients file.
        phi: one network at this φ.
        preset: one published network: b0…b8, l2, lite0…lite4.
        family: a network for each φ of a range ("0..7", both ends), of "0,0.5,1", or of a list.
        target_macs, target_params: the largest network within; a number or text such as 400M or 1.5G (M = 10^6).
        target_memory: the same for peak memory in bytes (see ``effnas.cost``); 6MB and 6M are 6·10^6.
        explain: why the published table is not the formula.
        json: print JSON instead of a table.
    """

    # Any: Hydra hands over numbers, texts and lists as the user wrote them
    baseline: str = _DEFAULT_BASELINE
    coefficients: Any = "paper"
    phi: float | None = None
    preset: str | None = None
    family: Any = None
    target_macs: Any = None
    target_params: Any = None
    target_memory: Any = None
    explain: bool = False
    json: bool = False


def run_scale(options: ScaleJob, output: Path) -> list[dict[str, Any]]:
    """Make what the options ask for: one YAML file a network and ``scale.json`` in ``output``; returns the rows.

    Rows are plain data: ``name phi depth width resolution params macs activations peak_memory macs_ratio
    nominal_macs_ratio dropout file architecture``. ``depth`` and ``width`` are the multipliers; ``macs_ratio`` is
    what was achieved against the unscaled baseline, ``nominal_macs_ratio`` (α·β²·γ²)^φ, or depth·width²·(resolution
    ratio)² of a preset, whose ``phi`` is None. With ``explain`` alone the rows are :func:`explain_rows` and no
    network is written.

    Raises:
        UserError: options that contradict each other or say nothing, a bad value, an infeasible target.
    """
    asked = _asked(options)
    if not asked:
        rows = explain_rows()
    elif options.preset is not None:
        rows = [_preset_row(options)]
    else:
        baseline = load_architecture(options.baseline)
        coefficients = load_coefficients(options.coefficients)
        base_macs = cost(baseline).macs
        rows = [_row(baseline, coefficients, phi, base_macs) for phi in _phis(options, baseline, coefficients)]
    output.mkdir(parents=True, exist_ok=True)
    for row in rows if asked else ():
        row["file"] = str(output / (re.sub(r"[^\w.-]+", "_", row["name"], flags=re.ASCII) + ".yaml"))
        Architecture.from_dict(row["architecture"]).save(row["file"])
    (output / "scale.json").write_text(json.dumps(document(options, rows), indent=2) + "\n", encoding="utf-8")
    return rows


def document(options: ScaleJob, rows: list[dict[str, Any]]) -> Any:
    """What ``--json`` prints and ``scale.json`` holds: one object, or a list for a family or an explanation."""
    return rows[0] if _asked(options) and options.family is None else rows


def render(options: ScaleJob, rows: list[dict[str, Any]]) -> str:
    """The result of :func:`run_scale` as the text the command prints: JSON, or tables."""
    if options.json:
        return json.dumps(document(options, rows), indent=2)
    parts = [table(rows)] if _asked(options) else []
    return "\n\n".join([*parts, explain()] if options.explain else parts)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of :func:`run_scale` as an aligned text table; MACs are of one image at the resolution beside them."""
    header = ["name", "phi", "depth", "width", "resolution", "params", "MACs", "MACs ratio", "nominal", "activations"]
    cells = [
        [
            row["name"],
            "-" if row["phi"] is None else f"{row['phi']:g}",
            f"{row['depth']:.3g}",
            f"{row['width']:.3g}",
            f"{row['resolution']} px",
            *(f"{row[key]:,}" for key in ("params", "macs")),
            *(f"{row[key]:.3f}" for key in ("macs_ratio", "nominal_macs_ratio")),
            f"{row['activations']:,}",
        ]
        for row in rows
    ]
    return _align([header, *cells])


# -- the published table against the formula ---------------------------------------------------------


def explain_rows() -> list[dict[str, Any]]:
    """B1…B7: published against predicted (the paper's α, β, γ at φ = 1…7), and the φ that each quantity implies.

    ``phi_depth``, ``phi_width`` and ``phi_resolution`` are log_α, log_β and log_γ of the published multiplier,
    ``phi_macs`` the logarithm of the achieved MACs ratio to the base α·β²·γ². ``macs_ratio`` and
    ``nominal_macs_ratio`` are the published network's, ``predicted_macs_ratio`` the scaled network's.
    """
    base = zoo(_DEFAULT_BASELINE)
    base_macs = cost(base).macs
    rows = []
    for phi in range(1, 8):
        published = PRESETS[f"b{phi}"]
        growth = published.resolution / base.resolution
        predicted = scale(base, PAPER, phi)
        achieved = cost(zoo(f"efficientnet_b{phi}")).macs / base_macs
        rows.append(
            {
                "name": f"b{phi}",
                "phi": phi,
                "depth": published.depth,
                "width": published.width,
                "resolution": published.resolution,
                "predicted_depth": PAPER.alpha**phi,
                "predicted_width": PAPER.beta**phi,
                "predicted_resolution": predicted.resolution,
                "phi_depth": math.log(published.depth, PAPER.alpha),
                "phi_width": math.log(published.width, PAPER.beta),
                "phi_resolution": math.log(growth, PAPER.gamma),
                "phi_macs": math.log(achieved, PAPER.macs_ratio),
                "macs_ratio": achieved,
                "nominal_macs_ratio": published.depth * published.width**2 * growth**2,
                "predicted_macs_ratio": cost(predicted).macs / base_macs,
            }
        )
    return rows


def explain() -> str:
    """:func:`explain_rows` as a table, and why published and predicted differ, in a few sentences."""
    header = ["", "depth", "width", "resolution (px)", "phi: depth", "width", "resolution", "MACs"]
    header += ["MACs ratio", "nominal", "formula's"]
    cells = [
        [
            row["name"].upper(),
            *(f"{row[key]:.1f} / {row[f'predicted_{key}']:.2f}" for key in ("depth", "width")),
            f"{row['resolution']} / {row['predicted_resolution']}",
            *(f"{row[f'phi_{key}']:.2f}" for key in ("depth", "width", "resolution", "macs")),
            *(f"{row[key]:.2f}" for key in ("macs_ratio", "nominal_macs_ratio", "predicted_macs_ratio")),
        ]
        for row in explain_rows()
    ]
    return _EXPLANATION.format(coefficients=PAPER, ratio=PAPER.macs_ratio, table=_align([header, *cells]))


# -- parts -------------------------------------------------------------------------------------------


def _asked(options: ScaleJob) -> list[str]:
    """The option, or the targets, that say what to make; none with ``explain`` alone."""
    targets = [name for name in ("target_macs", "target_params", "target_memory") if getattr(options, name) is not None]
    others = [name for name in ("phi", "preset", "family") if getattr(options, name) is not None]
    if len(others) + bool(targets) > 1:
        raise UserError(
            f"{' and '.join(others + targets)} exclude each other: give phi, preset, family or targets "
            "(several targets may go together)"
        )
    if not others and not targets and not options.explain:
        raise UserError(
            "nothing to make; give one of phi=3, preset=b3, family=0..7, target_macs=400M, target_params=5M, "
            "target_memory=6MB, or explain=true"
        )
    if options.json and options.explain and (others or targets):
        raise UserError(f"json prints one document: give explain or {' and '.join(others + targets)}, not both")
    return others + targets


def _phis(options: ScaleJob, baseline: Architecture, coefficients: Coefficients) -> list[float]:
    if options.phi is not None:
        check_number("phi", options.phi, -100, 100)
        return [float(options.phi)]
    if options.family is not None:
        return _family(options.family)
    macs = None if options.target_macs is None else parse_quantity("target_macs", options.target_macs)
    params = None if options.target_params is None else parse_quantity("target_params", options.target_params)
    memory = options.target_memory
    if memory is not None:
        memory = parse_quantity(
            "target_memory", memory.strip().removesuffix("B") if isinstance(memory, str) else memory
        )
    return [solve_phi(baseline, coefficients, macs=macs, params=params, memory=memory)]


def _row(baseline: Architecture, coefficients: Coefficients, phi: float, base_macs: int) -> dict[str, Any]:
    multipliers = coefficients.alpha**phi, coefficients.beta**phi
    return _describe(scale(baseline, coefficients, phi), phi, *multipliers, base_macs, coefficients.macs_ratio**phi)


def _preset_row(options: ScaleJob) -> dict[str, Any]:
    if options.preset not in PRESETS:
        raise unknown("preset", options.preset, PRESETS)
    if options.baseline != _DEFAULT_BASELINE or load_coefficients(options.coefficients) != PAPER:
        raise UserError(
            f"preset {options.preset} has its own baseline and multipliers: leave baseline and coefficients out, "
            "or use phi"
        )
    published = PRESETS[options.preset]
    base = zoo("efficientnet_lite0" if "lite" in options.preset else _DEFAULT_BASELINE)
    nominal = published.depth * published.width**2 * (published.resolution / base.resolution) ** 2
    network = zoo(f"efficientnet_{options.preset}")
    return _describe(network, None, published.depth, published.width, cost(base).macs, nominal)


def _describe(
    network: Architecture, phi: float | None, depth: float, width: float, base_macs: int, nominal: float
) -> dict[str, Any]:
    total = cost(network)
    return {
        "name": network.name,
        "phi": phi,
        "depth": depth,
        "width": width,
        "resolution": network.resolution,
        "params": total.params,
        "macs": total.macs,
        "activations": total.activations,
        "peak_memory": total.peak_memory,
        "macs_ratio": total.macs / base_macs,
        "nominal_macs_ratio": nominal,
        "dropout": network.dropout,
        "architecture": network.to_dict(),
    }


def _family(value: object) -> list[float]:
    """The φ of "0..7", "0,0.5,1", one number or a list."""
    rule = "family must be a range like 0..7 or numbers like 0,0.5,1"
    if isinstance(value, str):
        if match := _RANGE.fullmatch(value.strip()):
            first, last = int(match[1]), int(match[2])
            if not -100 <= first <= last <= 100:
                raise UserError(f"{rule}, a range rising within -100..100, got {value!r}")
            return [float(phi) for phi in range(first, last + 1)]
        try:
            value = [float(part) for part in value.strip().strip("[]").split(",")]
        except ValueError:
            raise UserError(f"{rule}, got {value!r:.100}") from None
    phis: list[Any] = list(value) if isinstance(value, Sequence) else [value]
    if not 1 <= len(phis) <= MAX_FAMILY:
        raise UserError(f"{rule}, 1 to {MAX_FAMILY} of them, got {len(phis)}")
    for phi in phis:
        check_number("family: phi", phi, -100, 100)
    labels = [f"{phi:g}" for phi in phis]  # as in the names of networks and files
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"family: phi {label} is there twice")
    return [float(phi) for phi in phis]


def _align(rows: list[list[str]]) -> str:
    """Rows of equal length as text: first column to the left, the others to the right, a rule under the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

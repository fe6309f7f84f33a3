"""What ``effnas scale`` computes and prints: one network or a family of them, from φ, a preset or a budget.

Torch-free and without table libraries, so that the command starts at once; a builder's network and a limit on latency
need torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...space.built import check_network
from ...space.cost import cost
from ...space.errors import UserError, check_number, unknown
from ...space.network_spec import NetworkSpec
from ...space.quantity import parse_quantity
from ...space.tables import text_table
from ...space.zoo import load_architecture, zoo
from ..coefficients import PAPER, PRESETS, load_coefficients
from ..compound import scale_by
from ..rules import Multipliers, Rule, load_shares, make_rule
from ..solve import TARGETS, Latency, solve_phi
from .explain import explain, explain_rows

MAX_FAMILY = 1000
#: Timed passes of a network when latency is a target: about a dozen networks are measured.
LATENCY_REPEATS = 20
_DEFAULT_BASELINE = "efficientnet_b0"
_RANGE = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)")


@dataclass
class ScaleJob:
    """Options of ``effnas scale``; exactly one of phi, preset, family and the targets, or explain, says what to make.

    Args:
        baseline: zoo name or architecture file; None: ``network``, or else efficientnet_b0.
        network: a network of the user's own builder; files of its networks need it, too.
        rule: how depth, width and resolution grow with φ: of :data:`~effnas.scaling.rules.RULES`.
        coefficients: of compound and lacs: "paper", three numbers ("1.2,1.1,1.15" or a list) or a coefficients file;
            None: the rule's own.
        shares: of dwr: of depth, width and resolution in the MACs factor; None: 0.1, 0.8, 0.1.
        depth_rounding: how depth · repeats becomes whole: "up", as the official code, or "nearest".
        phi: one network at this φ.
        preset: one published network: b0…b8, l2, lite0…lite4.
        family: a network for each φ of a range ("0..7", both ends), of "0,0.5,1", or of a list.
        target_macs, target_params, target_activations: the largest network within; a number or text such as 400M or
            1.5G (M = 10^6).
        target_memory: the same for peak memory in bytes (see ``effnas.cost``); 6MB and 6M are 6·10^6.
        target_latency: the same for seconds per batch as measured here and now; a number or text such as 12ms.
        latency_batch, latency_device, latency_threads: of that measurement
        (:func:`~effnas.evaluate.machine.profile.profile`).
        explain: why the published table is not the formula.
        json: print JSON instead of a table.
    """

    # Any: Hydra hands over numbers, texts and lists as the user wrote them
    baseline: str | None = None
    network: Any = None
    rule: str = "compound"
    coefficients: Any = None
    shares: Any = None
    depth_rounding: str = "up"
    phi: float | None = None
    preset: str | None = None
    family: Any = None
    target_macs: Any = None
    target_params: Any = None
    target_activations: Any = None
    target_memory: Any = None
    target_latency: Any = None
    latency_batch: int = 1
    latency_device: str = "cpu"
    latency_threads: int | None = None
    explain: bool = False
    json: bool = False


def run_scale(options: ScaleJob, output: Path) -> list[dict[str, Any]]:
    """Make what the options ask for: one YAML file a network and ``scale.json`` in ``output``; returns the rows.

    Rows are plain data: ``name rule phi depth width resolution params macs activations peak_memory macs_ratio
    nominal_macs_ratio dropout file architecture``, and ``latency`` where it was a target. ``depth`` and ``width`` are
    the multipliers; ``macs_ratio`` is what was achieved against the unscaled baseline, ``nominal_macs_ratio``
    depth·width²·(resolution ratio)² before rounding: (α·β²·γ²)^φ. A preset's ``phi`` and ``rule`` are None. With
    ``explain`` alone the rows are :func:`~effnas.scaling.scale.explain.explain_rows` and no network is written.

    Raises:
        UserError: options that contradict each other or say nothing, a bad value, an infeasible target.
    """
    asked = _asked(options)
    networks: list[NetworkSpec] = []
    if not asked:
        rows = explain_rows()
    elif options.preset is not None:
        networks, rows = _preset(options)
    else:
        networks, rows = _scaled(options)
    output.mkdir(parents=True, exist_ok=True)
    for row, network in zip(rows if asked else (), networks, strict=True):
        row["file"] = str(output / (re.sub(r"[^\w.-]+", "_", row["name"], flags=re.ASCII) + ".yaml"))
        network.save(row["file"])
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
    if any("latency" in row for row in rows):
        header.append("latency")
        cells = [[*line, f"{1e3 * row['latency']:.3g} ms"] for line, row in zip(cells, rows, strict=True)]
    return text_table(header, cells)


def _asked(options: ScaleJob) -> list[str]:
    """The option, or the targets, that say what to make; none with ``explain`` alone."""
    targets = [f"target_{name}" for name in (*TARGETS, "latency") if getattr(options, f"target_{name}") is not None]
    others = [name for name in ("phi", "preset", "family") if getattr(options, name) is not None]
    if len(others) + bool(targets) > 1:
        raise UserError(
            f"{' and '.join(others + targets)} exclude each other: give phi, preset, family or targets "
            "(several targets may go together)"
        )
    if not others and not targets and not options.explain:
        raise UserError(
            "nothing to make; give one of phi=3, preset=b3, family=0..7, target_macs=400M, target_params=5M, "
            "target_activations=4M, target_memory=6MB, target_latency=20ms, or explain=true"
        )
    if options.json and options.explain and (others or targets):
        raise UserError(f"json prints one document: give explain or {' and '.join(others + targets)}, not both")
    return others + targets


def _scaled(options: ScaleJob) -> tuple[list[NetworkSpec], list[dict[str, Any]]]:
    baseline = base_network(options.baseline, options.network)
    given = None if options.coefficients is None else load_coefficients(options.coefficients)
    rule = make_rule(options.rule, coefficients=given, shares=load_shares(options.shares), lite=baseline.fixed_ends)
    baseline.check_scalable(options.depth_rounding)
    measure = _latency(options)
    phis = _phis(options, baseline, rule, measure)
    networks = [scale_by(baseline, rule, phi, depth_rounding=options.depth_rounding) for phi in phis]
    base_macs = cost(baseline).macs
    rows = [_describe(n, rule.name, phi, rule(phi), base_macs) for n, phi in zip(networks, phis, strict=True)]
    if options.target_latency is not None:
        rows = [{**row, "latency": measure(network)} for row, network in zip(rows, networks, strict=True)]
    return networks, rows


def base_network(baseline: NetworkSpec | str | None, network: Any, default: str = _DEFAULT_BASELINE) -> NetworkSpec:
    """The network that a job scales: itself, a file or zoo name, the user's own ``network``, or else the default.

    Raises:
        UserError: it cannot be read, ``network`` is none, or its builder ignores one of its arguments.
    """
    network, found = check_network(network), baseline
    if found is None or isinstance(found, str):
        found = load_architecture(found or (None if network else default), network)
    found.check_scalable()
    return found


def _phis(options: ScaleJob, baseline: NetworkSpec, rule: Rule, measure: Latency) -> list[float]:
    if options.phi is not None:
        check_number("phi", options.phi, -100, 100)
        return [float(options.phi)]
    if options.family is not None:
        return _family(options.family)
    limits = {}
    for name in TARGETS:
        value = getattr(options, f"target_{name}")
        if name == "memory" and isinstance(value, str):
            value = value.strip().removesuffix("B")
        limits[name] = None if value is None else parse_quantity(f"target_{name}", value)
    latency, rounding = _seconds(options.target_latency), options.depth_rounding
    return [solve_phi(baseline, rule, **limits, latency=latency, measure=measure, depth_rounding=rounding)]


def _seconds(value: object) -> float | None:
    """Seconds from a number or a string such as "12ms"."""
    if not isinstance(value, str):
        return value  # type: ignore[return-value]  # solve_phi checks it
    text = value.strip()
    number, unit = (text[:-2], 1e-3) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        return float(number) * unit
    except ValueError:
        raise UserError(f"target_latency must be seconds, like 0.012 or 12ms, got {value!r:.60}") from None


def _latency(options: ScaleJob) -> Latency:
    """Median seconds per batch, measured once for each network."""

    @cache
    def measure(network: NetworkSpec) -> float:
        from ...evaluate.machine.profile import profile

        return profile(
            network,
            batch_size=options.latency_batch,
            threads=options.latency_threads,
            device=options.latency_device,
            repeats=LATENCY_REPEATS,
            warmup=3,
            fvcore=False,
        ).latency

    return measure


def _preset(options: ScaleJob) -> tuple[list[NetworkSpec], list[dict[str, Any]]]:
    if options.preset not in PRESETS:
        raise unknown("preset", options.preset, PRESETS)
    own_coefficients = options.coefficients is not None and load_coefficients(options.coefficients) != PAPER
    own_baseline = options.network is not None or options.baseline not in (None, _DEFAULT_BASELINE)
    if own_baseline or own_coefficients or options.rule != "compound":
        raise UserError(
            f"preset {options.preset} has its own baseline and multipliers: leave baseline, network, rule and "
            "coefficients out, or use phi"
        )
    published = PRESETS[options.preset]
    base = zoo("efficientnet_lite0" if "lite" in options.preset else _DEFAULT_BASELINE)
    network = zoo(f"efficientnet_{options.preset}")
    multipliers = Multipliers(published.depth, published.width, published.resolution / base.resolution)
    return [network], [_describe(network, None, None, multipliers, cost(base).macs)]


def _describe(
    network: NetworkSpec, rule: str | None, phi: float | None, by: Multipliers, base_macs: int
) -> dict[str, Any]:
    total = cost(network)
    return {
        "name": network.name,
        "rule": rule,
        "phi": phi,
        "depth": by.depth,
        "width": by.width,
        "resolution": network.resolution,
        "params": total.params,
        "macs": total.macs,
        "activations": total.activations,
        "peak_memory": total.peak_memory,
        "macs_ratio": total.macs / base_macs,
        "nominal_macs_ratio": by.macs_ratio,
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
            raise UserError(f"family: phi {label} appears twice")
    return [float(phi) for phi in phis]

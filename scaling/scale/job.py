"""``effnas scale``: one network or a family of them, from φ, a preset or a budget.

Torch-free and without table libraries, so that the command starts at once; a builder's network and a limit on latency
need torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ...evaluate.arguments import as_list
from ...space.built import BuiltNetwork
from ...space.cost import cost
from ...space.errors import UserError, check_choice, check_number, unknown
from ...space.multipliers import DIVISOR, check_divisor
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ...space.quantity import parse_cost
from ..coefficients import PAPER, PRESETS, load_coefficients
from ..compound import BASELINE, base_network, name_divisor, scale_by
from ..rules import RULES, Multipliers, Rule, load_shares, make_rule
from ..solve import TARGETS, Latency, solve_phi
from .explain import explain_rows
from .report import write_scale

MAX_FAMILY = 1000
#: The rule that is read from trainings, beside those that are formulas.
STAGEWISE = "stagewise"
#: Timed passes of a network when latency is a target: about a dozen networks are measured.
LATENCY_REPEATS = 20
_RANGE = re.compile(r"(-?[0-9]{1,9})\.\.(-?[0-9]{1,9})")


def run_scale(
    *,
    baseline: NetworkSpec | str | None = None,
    network: BuiltNetwork | None = None,
    in_channels: int | None = None,
    rule: str = "compound",
    runs: Sequence[str] | str | None = None,
    coefficients: Any = None,
    shares: Sequence[float] | str | None = None,
    divisor: int = DIVISOR,
    depth_rounding: str = "up",
    phi: float | None = None,
    preset: str | None = None,
    family: Sequence[float] | float | str | None = None,
    target_macs: float | str | None = None,
    target_params: float | str | None = None,
    target_activations: float | str | None = None,
    target_memory: float | str | None = None,
    target_latency: float | str | None = None,
    latency_batch: int = 1,
    latency_device: str = "cpu",
    latency_threads: int | None = None,
    latency_model: str | Path | None = None,
    explain: bool = False,
    json: bool = False,
    output: str | Path = "outputs/scale",
) -> dict[str, Any] | list[dict[str, Any]]:
    """Make one network or a family; exactly one of phi, preset, family and the targets, or explain, says what to make.

    Args:
        baseline: a network; a string is a zoo name or an architecture file; None: ``network``, or else efficientnet_b0.
        network: a network of the user's own builder; files of its networks need it, too.
        in_channels: of the images; None: the baseline's own.
        rule: how depth, width and resolution grow with φ: of :data:`~effnas.scaling.rules.RULES`; or ``stagewise``,
            compound scaling whose stages grow by what they are worth (:mod:`~effnas.scaling.stagewise`).
        runs: of stagewise: folders of ``effnas search``; the baseline is the first one's, unless another is given.
        coefficients: of compound and lacs: "paper", three numbers ("1.2,1.1,1.15" or a list) or a coefficients file;
            None: the rule's own.
        shares: of dwr: of depth, width and resolution in the MACs factor; None: 0.1, 0.8, 0.1.
        divisor: what widths become multiples of, as the hardware likes them: 4, 8 (the official code's), 16 or 32.
        depth_rounding: how depth · repeats becomes whole: "up", as the official code, or "nearest".
        phi: one network at this φ.
        preset: one published network: b0…b8, l2, lite0…lite4.
        family: a network for each φ of a range ("0..7", both ends), of "0,0.5,1", or of a list.
        target_macs, target_params, target_activations: the largest network within; a number or string such as 400M or
            1.5G (M = 10^6).
        target_memory: the same for peak memory in bytes (see ``effnas.cost``); 6MB and 6M are 6·10^6.
        target_latency: the same for seconds per batch as measured here and now; a number or string such as 12ms.
        latency_batch, latency_device, latency_threads: of that measurement
            (:func:`~effnas.evaluate.machine.profile.profile`).
        latency_model: a ready law's name (``rtx4090``, …) or a file of ``effnas latency fit``: the seconds are its own,
            and nothing is measured.
        explain: why the published table is not the formula.
        json: one document is wanted: refuse explain beside networks.
        output: folder of ``scale.json`` and of a YAML file for each network.

    Returns:
        The content of ``scale.json``: of one network a row, of a family or an explanation a list of them. Rows are
        plain data: ``name rule phi depth width resolution params macs activations peak_memory macs_ratio
        nominal_macs_ratio dropout file architecture``, and ``latency`` where it was a target or a model says it.
        ``depth`` and ``width`` are the multipliers; ``macs_ratio`` is what was achieved against the unscaled baseline,
        ``nominal_macs_ratio`` depth·width²·(resolution ratio)² before rounding: (α·β²·γ²)^φ. A preset's ``phi`` and
        ``rule`` are None. Rows of stagewise have ``stagewise_gain``: the accuracy expected beyond equal growth at twice
        the MACs, and its standard error. With ``explain`` alone they are
        :func:`~effnas.scaling.scale.explain.explain_rows`, and no network is written.

    Raises:
        UserError: options that contradict each other or say nothing, a bad value, an infeasible target.
    """
    check_choice("rule", rule, (*RULES, STAGEWISE))
    folders = [str(run) for run in as_list(runs)]
    if folders and rule != STAGEWISE:
        raise UserError(
            f"{folders[0]!r} is not an option: options are --flag VALUE or key=VALUE, see --help; runs belong to "
            f"rule={STAGEWISE}, not to rule={rule}"
        )
    targets = {
        "target_macs": target_macs,
        "target_params": target_params,
        "target_activations": target_activations,
        "target_memory": target_memory,
        "target_latency": target_latency,
    }
    asked = _asked({"phi": phi, "preset": preset, "family": family}, targets, explain=explain, json=json)
    output = as_path("output", output)
    if not asked:
        return write_scale([], explain_rows(), output, several=True)
    if preset is not None:
        if preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        own = baseline not in (None, BASELINE) or network is not None or rule != "compound"
        if own or (coefficients is not None and load_coefficients(coefficients) != PAPER):
            raise UserError(
                f"preset {preset} has its own baseline and multipliers: leave baseline, network, rule and "
                "coefficients out, or use phi"
            )
        made, row = _preset(preset, in_channels, divisor)
        return write_scale([made], [row], output)
    if rule == STAGEWISE and not folders:
        raise UserError(f"rule={STAGEWISE} needs the trainings of a search: --from RUN")
    if folders and baseline is None:
        baseline = str(Path(folders[0]) / "baseline.yaml")
    base = base_network(baseline, network, in_channels=in_channels)
    given = None if coefficients is None else load_coefficients(coefficients)
    by = make_rule(
        "compound" if folders else rule, coefficients=given, shares=load_shares(shares), lite=base.fixed_ends
    )
    if folders:
        from ..stagewise import read_stagewise  # of tables

        by = read_stagewise(folders, base, by)
    base.check_scalable(depth_rounding, divisor)
    rounding: dict[str, Any] = {"divisor": divisor, "depth_rounding": depth_rounding}
    measure = _latency(latency_batch, latency_device, latency_threads)
    if latency_model is not None:
        from ...evaluate.latency.loading import load_latency  # of a file it needs statistics

        measure = load_latency(latency_model)
    if phi is not None:
        check_number("phi", phi, -100, 100)
        phis = [float(phi)]
    elif family is not None:
        phis = read_family(family)
    else:
        phis = [_largest(base, by, targets, measure, rounding)]
    networks = [scale_by(base, by, phi, **rounding) for phi in phis]
    base_macs = cost(base).macs
    rows = [_describe(n, by.name, phi, by(phi), base_macs) for n, phi in zip(networks, phis, strict=True)]
    if target_latency is not None or latency_model is not None:
        rows = [{**row, "latency": measure(made)} for row, made in zip(rows, networks, strict=True)]
    if folders:
        rows = [{**row, "stagewise_gain": by.gain} for row in rows]  # type: ignore[attr-defined]  # it is that rule
    return write_scale(networks, rows, output, several=family is not None)


def _asked(ways: Mapping[str, object], targets: Mapping[str, object], *, explain: bool, json: bool) -> list[str]:
    """The option, or the targets, that say what to make; none with ``explain`` alone."""
    others = [name for name, value in ways.items() if value is not None]
    limits = [name for name, value in targets.items() if value is not None]
    if len(others) + bool(limits) > 1:
        raise UserError(
            f"{' and '.join(others + limits)} exclude each other: give phi, preset, family or targets "
            "(several targets may go together)"
        )
    if not others and not limits and not explain:
        raise UserError(
            "nothing to make; give one of phi=3, preset=b3, family=0..7, target_macs=400M, target_params=5M, "
            "target_activations=4M, target_memory=6MB, target_latency=20ms, or explain=true"
        )
    if json and explain and (others or limits):
        raise UserError(f"json prints one document: give explain or {' and '.join(others + limits)}, not both")
    return others + limits


def _largest(
    base: NetworkSpec, rule: Rule, targets: Mapping[str, Any], measure: Latency, rounding: Mapping[str, Any]
) -> float:
    """The φ of the largest network within the targets."""
    limits: dict[str, Any] = {}
    for name in (*TARGETS, "latency"):
        value = targets[f"target_{name}"]
        limits[name] = None if value is None else parse_cost(f"target_{name}", name, value)
    return solve_phi(base, rule, **limits, measure=measure, **rounding)


def _latency(batch: int, device: str, threads: int | None) -> Latency:
    """Median seconds per batch, measured once for each network."""

    @cache
    def measure(network: NetworkSpec) -> float:
        from ...evaluate.machine.profile import profile

        return profile(
            network,
            batch_size=batch,
            threads=threads,
            device=device,
            repeats=LATENCY_REPEATS,
            warmup=3,
            fvcore=False,
        ).latency

    return measure


def _preset(name: str, in_channels: int | None, divisor: int) -> tuple[NetworkSpec, dict[str, Any]]:
    published = PRESETS[name]
    check_divisor(divisor)
    base = base_network("efficientnet_lite0" if "lite" in name else BASELINE, None, in_channels=in_channels)
    network = base_network(f"efficientnet_{name}", None, in_channels=in_channels)
    if divisor != DIVISOR:
        network = base.scaled(*published, divisor=divisor).with_(name=network.name + name_divisor(divisor))
    multipliers = Multipliers(published.depth, published.width, published.resolution / base.resolution)
    return network, _describe(network, None, None, multipliers, cost(base).macs)


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


def read_family(value: object) -> list[float]:
    """The φ of "0..7", "0,0.5,1", one number or a list.

    Raises:
        UserError: it is none of these, or a φ is there twice.
    """
    rule = "family must be a range like 0..7 or numbers like 0,0.5,1"
    if isinstance(value, str):
        if match := _RANGE.fullmatch(value.strip()):
            first, last = int(match[1]), int(match[2])
            if not -100 <= first <= last <= 100:
                raise UserError(f"{rule}, a range rising within -100..100, got {value!r:.100}")
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

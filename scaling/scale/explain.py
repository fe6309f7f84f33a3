"""Why the published EfficientNets are not the formula: the question that users ask most."""

from __future__ import annotations

import math
from typing import Any

from ...space.cost import cost
from ...space.tables import text_table
from ...space.zoo import zoo
from ..coefficients import PAPER, PRESETS
from ..compound import scale

_EXPLANATION = """\
Published EfficientNet-B1..B7 / the formula (depth alpha^phi, width beta^phi, resolution 224 gamma^phi) at phi = 1..7,
{coefficients}

{table}

"phi:" and the next three columns: the phi at which the formula gives the published depth, width, resolution or MACs.
"MACs ratio" is the published network's to B0, "nominal" the same before rounding, "formula's" that of phi = 1..7.

The number in a name is not phi, and no single phi gives a published row. The authors published a table of multipliers,
in which depth, width and resolution each imply a different phi. B2 has the depth and width of phi = 1, but 260 px, not
258; B1 is not widened at all; by MACs the rows range from phi = 0.88 to 7.02.
A step of phi multiplies MACs by alpha beta^2 gamma^2 = {ratio:.3f} before rounding, not by 2. Repeats round up and
channels round to multiples of 8, so the achieved ratio differs, most for small networks: 2.57 at phi = 1.
For a published network use preset=b3; for the formula, with any baseline and coefficients, use phi=3."""


def explain_rows() -> list[dict[str, Any]]:
    """B1…B7: published against predicted (the paper's α, β, γ at φ = 1…7), and the φ that each quantity implies.

    ``phi_depth``, ``phi_width`` and ``phi_resolution`` are log_α, log_β and log_γ of the published multiplier,
    ``phi_macs`` the logarithm of the achieved MACs ratio to the base α·β²·γ². ``macs_ratio`` and
    ``nominal_macs_ratio`` are the published network's, ``predicted_macs_ratio`` the scaled network's.
    """
    base = zoo("efficientnet_b0")
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
    return _EXPLANATION.format(coefficients=PAPER, ratio=PAPER.macs_ratio, table=text_table(header, cells))

"""The compound coefficients α, β, γ (Tan & Le 2019, section 3.3), and the published multipliers they are not.

Torch-free, so that ``effnas scale`` starts at once.
"""

from __future__ import annotations

import math
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from ..space.errors import UserError, check_number, unknown
from ..space.files import load_yaml, read_text, save_text
from ..space.quantity import as_plain
from ..space.zoo import PUBLISHED, Published

FORMAT = 1
_NAMES = ("alpha", "beta", "gamma")
#: Multipliers of B0…B8, L2 and Lite0…4 as published, by short name.
PRESETS: dict[str, Published] = {name.removeprefix("efficientnet_"): row for name, row in PUBLISHED.items()}


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Growth of depth (``alpha``), width (``beta``) and resolution (``gamma``) for φ = 1, each at least 1.

    Raises:
        UserError: one of them is not a finite number of at least 1 (and at most 10); the message names it.
    """

    alpha: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        for name in _NAMES:
            value = as_plain(getattr(self, name))
            check_number(f"coefficient {name}", value, 1, 10)
            object.__setattr__(self, name, float(value))

    @property
    def macs_ratio(self) -> float:
        """α·β²·γ², what MACs are multiplied by for φ = 1 before anything is rounded (equation 3)."""
        return self.alpha * self.beta**2 * self.gamma**2

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` turns back into equal Coefficients."""
        return {"effnas_coefficients": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: object, source: str = "coefficients") -> Coefficients:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: not coefficients, an unknown or missing field or a bad value; ``source`` opens the message.
        """
        if not isinstance(data, Mapping) or "effnas_coefficients" not in data:
            raise UserError(f"{source}: not coefficients (no 'effnas_coefficients: {FORMAT}' in it)")
        if data["effnas_coefficients"] != FORMAT:
            raise UserError(f"{source}: format {data['effnas_coefficients']!r} is unknown; this version reads {FORMAT}")
        body = {key: value for key, value in data.items() if key != "effnas_coefficients"}
        for key in body:
            if key not in _NAMES:
                raise unknown(f"{source}: field", key, _NAMES)
        for name in _NAMES:
            if name not in body:
                raise UserError(f"{source}: {name} is missing; coefficients are {', '.join(_NAMES)}")
        try:
            return cls(**body)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    def to_yaml(self) -> str:
        """The file format: :meth:`to_dict` as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str, source: str = "coefficients") -> Coefficients:
        """Inverse of :meth:`to_yaml`; safe on any text.

        Raises:
            UserError: as :meth:`from_dict`, or text that is not YAML.
        """
        return cls.from_dict(load_yaml(text, source), source)

    def save(self, path: str | Path) -> Path:
        """Write the YAML file, whole or not at all."""
        return save_text(path, self.to_yaml())

    def __str__(self) -> str:
        return f"alpha={self.alpha:g} beta={self.beta:g} gamma={self.gamma:g} (MACs ×{self.macs_ratio:.4g} per step)"


#: The paper's own grid search on B0; α·β²·γ² is 1.92, not 2.
PAPER = Coefficients(1.2, 1.1, 1.15)


def load_coefficients(value: Coefficients | str | Path | Sequence[float]) -> Coefficients:
    """Coefficients as they are, or from "paper", three numbers ("1.2,1.1,1.15" or a list) or a YAML file.

    Raises:
        UserError: none of these, or numbers out of range.
    """
    if isinstance(value, Coefficients):
        return value
    if not isinstance(value, str | Path):
        if not isinstance(value, Sequence) or len(value) != 3:
            raise UserError(f"coefficients must be three numbers alpha, beta, gamma, got {value!r:.100}")
        return Coefficients(*value)
    text = str(value)
    if text.strip() == "paper":
        return PAPER
    numbers = [_number(part) for part in text.strip().strip("[]()").split(",")]
    if not any(math.isnan(number) for number in numbers):
        if len(numbers) != 3:
            raise UserError(f"coefficients must be three numbers alpha,beta,gamma, got {len(numbers)}: {text!r:.100}")
        return Coefficients(*numbers)
    if not os.path.isfile(text):
        raise UserError(
            f"coefficients: {text!r:.200} is not 'paper' or three numbers like 1.2,1.1,1.15, and there is no such file"
        )
    return Coefficients.from_yaml(read_text(text, "coefficients"), source=text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

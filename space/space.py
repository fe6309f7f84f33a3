"""A space of networks: named decisions in, an Architecture out."""

from __future__ import annotations

import itertools
import math
import os.path
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .architecture import Architecture
from .choices import Choice as Choice
from .choices import Choices, check_name, drop_idle, read_choices
from .choices import Decisions as Decisions
from .cost import ArchitectureBatch
from .errors import UserError, check_choice, unknown
from .files import load_yaml, read_text
from .multipliers import DIVISOR, check_divisor
from .network_spec import NetworkSpec
from .stage import BLOCKS, EXPANDING, EXPANDING_CODES, SKIPS, Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGE_FIELDS = tuple(f.name for f in fields(Stage))
NETWORK_FIELDS = tuple(f.name for f in fields(Architecture) if f.name not in ("stages", "name"))
SHIPPED = Path(__file__).resolve().parents[1] / "conf" / "space"


class SearchSpace(Choices):
    """Choices per stage around a fixed skeleton.

    Any field of a stage or of the network may be one value or several. Several make a decision:

    - ``[3, 5]``: the values themselves;
    - ``{base: 40, times: [0.75, 1.0, 1.25]}``: a width relative to ``base``, rounded as EfficientNet rounds widths, to
      multiples of ``divisor``;
    - ``{base: 2, plus: [-1, 0, 1]}``: a number relative to ``base``, at least 1;
    - ``{choices: {false: 0.0, true: 0.25}}``: names of one's own for the values.

    A stage's decision is called ``block<i>_<field>``, ``<field>`` renamed by ``names``; a network's has the field's
    name.

    Decisions without effect under the others (``expand_ratio`` of a regular convolution, an identity skip where widths
    differ, two widths that round to one) are *canonicalised* to the first choice of equal effect, so that one network
    has one decision vector.

    Args:
        name: of the space.
        stages: one mapping per stage, with the fields of :class:`~effnas.space.architecture.Stage`.
        names: short names for fields inside decision names.
        divisor: 4, 8, 16 or 32, as the hardware likes widths.
        network: fields of :class:`~effnas.space.architecture.Architecture`, the rest being its defaults.

    Raises:
        UserError: an unknown field, an illegal or a repeated choice; the message names the place.
    """

    #: What its other words are fields of, and the items of its lists: a later version may add some with defaults.
    PARTS: ClassVar[Mapping[str, type]] = {"": Architecture, "stages": Stage}

    def __init__(
        self,
        name: str,
        stages: list[Mapping[str, Any]],
        names: Mapping[str, str] | None = None,
        divisor: int = DIVISOR,
        **network: Any,
    ) -> None:
        super().__init__(name)
        check_divisor(divisor, f"space {name}: divisor")
        self.divisor = divisor
        self._values: dict[str, tuple[Any, ...]] = {}
        names = {} if names is None else names
        if not isinstance(names, Mapping):
            raise UserError(f"space {name}: 'names' must be a mapping of fields to short names, got {names!r:.60}")
        for key in names:
            check_choice(f"space {name}: names", key, STAGE_FIELDS)
        if not isinstance(stages, list | tuple) or not stages:
            raise UserError(f"space {name}: 'stages' must be a list of at least one stage")
        self._network: dict[str, tuple[str, Any]] = {}
        for key, spec in network.items():
            if key not in NETWORK_FIELDS:
                raise unknown(f"space {name}: field", key, ("name", "stages", "names", "divisor", *NETWORK_FIELDS))
            self._network[key] = self._read_field(spec, key, key, Architecture)
        self._stages: list[dict[str, tuple[str, Any]]] = []
        for i, stage in enumerate(stages):
            if not isinstance(stage, Mapping):
                raise UserError(f"space {name}: stage {i} must be a mapping, got {type(stage).__name__}")
            row = {}
            for key, spec in stage.items():
                if key not in STAGE_FIELDS:
                    raise unknown(f"space {name}: stage {i}: field", key, STAGE_FIELDS)
                row[key] = self._read_field(spec, key, f"block{i}_{names.get(key, key)}", Stage)
            for key in ("block", "channels"):
                if key not in row:
                    raise UserError(f"space {name}: stage {i}: {key!r} must be given")
            self._stages.append(row)
        if not self.choices:
            raise UserError(f"space {name}: nothing to decide; give at least one field several choices")
        check_name(name)

    def _read_field(self, spec: Any, key: str, decision: str, owner: type) -> tuple[str, Any]:
        """``(decision name or "", fixed value)`` of one field of ``owner``; several choices are registered."""
        where = f"space {self.name}: {decision}"
        if not isinstance(spec, list | tuple | Mapping):
            _check_value(owner, key, spec, where)
            return "", spec
        labels, values = read_choices(spec, where, self.divisor)
        if decision in self.choices:
            raise UserError(f"{where}: two fields have this name; check 'names'")
        for label, value in zip(labels, values, strict=True):
            _check_value(owner, key, value, f"{where}={label!r}")
        self.choices[decision] = tuple(labels)
        self._values[decision] = tuple(values)
        return decision, None

    # -- decisions ----------------------------------------------------------------------------------

    def build(self, decisions: Mapping[str, Any]) -> Architecture:
        """The network that the decisions describe, named after the space and its digest.

        Raises:
            UserError: as :meth:`check`, or values that no network can have.
        """
        values = {n: self._values[n][self._index(n, label)] for n, label in self.canonical(decisions).items()}

        def resolve(row: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
            return {key: values[decision] if decision else fixed for key, (decision, fixed) in row.items()}

        stages = []
        for row in self._stages:
            data = resolve(row)
            if data["block"] not in EXPANDING:
                data["expand_ratio"] = 1
            stages.append(Stage(**data))
        architecture = Architecture(stages=tuple(stages), **resolve(self._network))
        return architecture.with_(name=f"{self.name}_{architecture.digest[:8]}")

    def decisions_of(self, architecture: NetworkSpec) -> Decisions | None:
        """The canonical decisions that build the network; None: it is not in the space."""
        stages = self._stages_of(architecture)
        if stages is None:
            return None
        found = {name: labels[0] for name, labels in self.choices.items()}  # stays where a decision has no effect
        for owner, row in [(architecture, self._network), *zip(stages, self._stages, strict=True)]:
            for key, (decision, _) in row.items():
                if decision and getattr(owner, key) in self._values[decision]:
                    place = self._values[decision].index(getattr(owner, key))
                    found[decision] = self.choices[decision][place]
        return self.canonical(found) if self.build(found).digest == architecture.digest else None

    def has_skeleton(self, architecture: NetworkSpec) -> bool:
        """Whether the network differs from the space's in nothing but the fields that the space decides."""
        stages = self._stages_of(architecture)
        if stages is None:
            return False
        first = self.build({name: labels[0] for name, labels in self.choices.items()})
        pairs = zip(stages, first.stages, self._stages, strict=True)
        replaced = architecture.with_(
            stages=tuple(replace(stage, **_take_decided(row, like)) for stage, like, row in pairs),
            **_take_decided(self._network, first),
        )
        return replaced.digest == first.digest

    def _stages_of(self, architecture: NetworkSpec) -> tuple[Stage, ...] | None:
        """Those of an Architecture with as many as the space has; None: it cannot be one of the space."""
        if not isinstance(architecture, Architecture) or len(architecture.stages) != len(self._stages):
            return None
        return architecture.stages

    def canonical(self, decisions: Mapping[str, Any]) -> Decisions:
        """The decision vector that stands for all those that build the same network."""
        result = self.check(decisions)
        index = {name: self._index(name, label) for name, label in result.items()}
        stem, fixed = self._network.get("stem", ("", 32))
        channels = self._values[stem][index[stem]] if stem else fixed
        for row in self._stages:
            data = {k: self._values[d][index[d]] if d else v for k, (d, v) in row.items()}
            effective = drop_idle(data, channels)
            for key, (decision, _) in row.items():
                if decision:
                    for i, value in enumerate(self._values[decision]):
                        if i >= index[decision] or drop_idle({**data, key: value}, channels) == effective:
                            index[decision] = i
                            data[key] = value
                            break
            channels = effective["channels"]
        for decision, _ in self._network.values():
            if decision:
                values = self._values[decision]
                index[decision] = values.index(values[index[decision]])
        return {name: self.choices[name][i] for name, i in index.items()}

    @cached_property
    def size(self) -> int:
        """Number of different networks in the space, exactly."""
        stem, fixed = self._network.get("stem", ("", 32))
        counts = dict.fromkeys(self._values[stem] if stem else (fixed,), 1)
        for row in self._stages:
            options = [self._values[decision] if decision else (fixed,) for decision, fixed in row.values()]
            after: dict[int, int] = {}
            for channels, ways in counts.items():
                distinct = {
                    tuple(sorted(drop_idle(dict(zip(row, values, strict=True)), channels).items()))
                    for values in itertools.product(*options)
                }
                for item in distinct:
                    width = dict(item)["channels"]
                    after[width] = after.get(width, 0) + ways
            counts = after
        others = [set(self._values[d]) for key, (d, _) in self._network.items() if d and key != "stem"]
        return sum(counts.values()) * math.prod(len(values) for values in others)

    def mutate(self, decisions: Mapping[str, Any], rng: np.random.Generator) -> Decisions:
        """A neighbour: one decision changed so that the network changes.

        Raises:
            UserError: as :meth:`check`, or the space has no second network.
        """
        start = self.canonical(decisions)
        names = list(self.choices)
        while names:
            name = names[int(rng.integers(len(names)))]
            options = self.choices[name]
            for i in rng.permutation(len(options)):
                result = self.canonical({**start, name: options[int(i)]})
                if result != start:
                    return result
            names.remove(name)  # no choice of this decision has an effect here
        raise UserError(f"space {self.name}: no neighbour of {dict(start)}")

    # -- many at once -------------------------------------------------------------------------------

    def batch(self, indices: NDArray[np.int64]) -> ArchitectureBatch:
        """Choice indices (n, number of decisions) as columns for :func:`~effnas.space.cost.cost_batch`."""
        import numpy as np

        n, column = len(indices), {name: i for i, name in enumerate(self.choices)}

        def values(spec: tuple[str, Any], codes: tuple[str, ...] | None, kind: type) -> NDArray[Any]:
            decision, fixed = spec
            options = self._values[decision] if decision else (fixed,)
            table: NDArray[Any] = np.array([codes.index(v) if codes else v for v in options], kind)
            return table[indices[:, column[decision]]] if decision else np.broadcast_to(table, n)

        defaults: dict[str, Any] = {f.name: f.default for f in fields(Stage)}
        arrays: dict[str, Any] = {}
        for key in ArchitectureBatch.STAGE_FIELDS:
            codes = {"block": BLOCKS, "skip": SKIPS}.get(key)
            kind = float if key == "se_ratio" else int
            columns = [values(row.get(key, ("", defaults[key])), codes, kind) for row in self._stages]
            arrays[key] = np.stack(columns, axis=1)
        arrays["expand_ratio"] = np.where(np.isin(arrays["block"], EXPANDING_CODES), arrays["expand_ratio"], 1)
        skeleton = {f.name: f.default for f in fields(Architecture)}
        for key in ArchitectureBatch.GLOBAL_FIELDS:
            arrays[key] = values(self._network.get(key, ("", skeleton[key])), None, int)
        return ArchitectureBatch(**arrays)


def _check_value(owner: type, key: str, value: Any, where: str) -> None:
    """Refuse a value that no network can have: when the space is read, not in the middle of a search."""
    others = {"block": "mbconv", "channels": 1} if owner is Stage else {"stages": (Stage("conv", 1),)}
    try:
        owner(**{**others, key: value})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _take_decided(row: Mapping[str, tuple[str, Any]], like: Stage | Architecture) -> dict[str, Any]:
    """The fields of a stage or the network that are decided, as ``like`` has them."""
    return {key: getattr(like, key) for key, (decision, _) in row.items() if decision}


def load_space(name_or_file: str | Path) -> SearchSpace:
    """A shipped space by name (``mnasnet``, ``tiny``, …) or a user's YAML file of the same form.

    Raises:
        UserError: no such space or file, not YAML, or what :class:`SearchSpace` refuses.
    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    text = str(name_or_file)
    if text not in shipped and not os.path.isfile(text):  # not Path.is_file, which raises on impossible names
        if text.endswith((".yaml", ".yml")):
            raise UserError(f"space: no such file: {text}")
        raise unknown("space", text, shipped)
    path = shipped.get(text, Path(text))
    data = load_yaml(read_text(path, "space"), f"space {path}")
    if not isinstance(data, dict) or "stages" not in data:
        raise UserError(f"space {path}: not a space (a mapping with 'stages' is expected)")
    data.pop("_target_", None)
    data.setdefault("name", path.stem)
    try:
        return SearchSpace(**data)
    except TypeError as error:
        raise UserError(f"space {path}: {error}") from None

"""What a shortcut is: anything that judges a network for less than the reference's training of it.

A shortcut is a word (``synflow``, ``epochs_2``, ``supernet``), a word with settings, or an evaluator of one's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import yaml

from ...evaluate.evaluation import Evaluation, EvaluationError, Evaluator, Report
from ...evaluate.zero_cost.counts import COUNTS
from ...evaluate.zero_cost.proxies import PROXIES
from ...space.cost import cost
from ...space.errors import UserError, check_int, unknown
from ...space.network_spec import NetworkSpec
from ..feasible import Space

#: The recipe of a supernet's shared weights, as shipped.
RECIPE = Path(__file__).resolve().parents[2] / "conf" / "training" / "supernet.yaml"
#: The reference with less of something: the word, and what its number is.
LESS = {"epochs": "epochs of training", "images": "images of the training part", "resolution": "pixels"}
#: Images through a network for a score, a backward pass counting two (:mod:`effnas.evaluate.zero_cost.conditions`).
PROXY_PASSES = {"synflow": 3, "naswot": 16, "zico": 96, "grad_norm": 48, "snip": 48, "zen_score": 32, "az_nas": 48}
#: Metric of an evaluation: images through the network, one forward pass each; a training step on one counts three.
PASSES = "image_passes"
#: Steps of a supernet whose members are counted.
STEPS = 64
_LESS = re.compile(rf"({'|'.join(LESS)})_([1-9]\d*)")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,59}", re.ASCII)


@dataclass(frozen=True)
class Shortcut:
    """One of the rows to come.

    Args:
        name: of the row, and of its folder.
        evaluator: judges a network.
        metric: of its evaluations, that ranks; None: the accuracy, or the merit.
        passes: images through each network, where its evaluations do not say :data:`PASSES`.
    """

    name: str
    evaluator: Evaluator
    metric: str | None = None
    passes: float | None = None


class Reducible(Protocol):
    """An evaluator that trains by a recipe, on images of ours: a dataclass with these fields."""

    training: Any
    data: Any


def read_shortcuts(given: Any, space: Space, evaluator: Evaluator) -> list[Shortcut]:
    """The shortcuts, in their order; plain counts among them are left out: they are always looked at.

    Args:
        given: one or several, in a list, of: a word; a mapping of words to their settings; a mapping of names to
            evaluators. An evaluator alone is named by its class.
        space: of the members.
        evaluator: the reference, which ``epochs_2`` and its like have less of.

    Raises:
        UserError: a word means nothing, a name is there twice, or the reference has nothing to be made less of.
    """
    entries: list[tuple[str, Any]] = []
    for one in [given] if isinstance(given, str | Mapping) or not isinstance(given, Sequence) else given:
        if isinstance(one, str):
            entries.append((one, None))
        elif isinstance(one, Mapping):
            entries += [(str(name), settings) for name, settings in one.items()]
        elif callable(one):
            entries.append((type(one).__name__.lower(), one))
        else:
            raise UserError(f"shortcuts: a word, a mapping or an evaluator is expected, got {one!r:.60}")
    found: list[Shortcut] = []
    for name, settings in entries:
        if _NAME.fullmatch(name) is None:
            raise UserError(f"shortcuts: a name has letters, digits and any of _ . + -, got {name!r:.60}")
        if any(other.name == name for other in found):
            raise UserError(f"shortcuts: {name} is there twice")
        if name not in COUNTS or settings is not None:
            found.append(_make_shortcut(name, settings, space, evaluator))
    return found


def _make_shortcut(name: str, settings: Any, space: Space, evaluator: Evaluator) -> Shortcut:
    if settings is not None and not isinstance(settings, Mapping):
        if not callable(settings):
            raise UserError(f"shortcuts: {name} must be an evaluator, or settings, got {settings!r:.60}")
        return Shortcut(name, settings)
    given = dict(settings or {})
    if name.startswith("supernet"):
        return Shortcut(name, _make_supernet(name, given, space, evaluator))
    if given:
        raise UserError(
            f"shortcuts: {name} takes no settings ({', '.join(map(str, given))}): those whose name begins with "
            "supernet do, and an evaluator of your own is given with `_target_: MODULE.CLASS`"
        )
    if name in PROXIES:
        from ...evaluate.zero_cost.zero_cost import ZeroCost

        merit = name == "az_nas"  # which is known only among other networks
        return Shortcut(name, ZeroCost(space, (name,)), None if merit else name, PROXY_PASSES[name])
    steps = [_LESS.fullmatch(part) for part in name.split("+")]
    if not all(steps):
        proxies = [proxy for proxy in PROXIES if proxy not in COUNTS]
        raise unknown("shortcuts", name, [*proxies, "supernet", *(f"{word}_N" for word in LESS)])
    amounts = {step[1]: int(step[2]) for step in steps if step is not None}
    if len(amounts) < len(steps):
        raise UserError(f"shortcuts: {name} says one thing twice")
    return Shortcut(name, reduce_evaluator(name, evaluator, amounts))


def reduce_evaluator(name: str, evaluator: Evaluator, amounts: Mapping[str, int]) -> Evaluator:
    """The reference with fewer epochs, fewer images, smaller images.

    The whole schedule becomes shorter, warm-up included; of fewer images the same share is held out.

    Args:
        name: of the shortcut, for messages.
        evaluator: the reference.
        amounts: by :data:`LESS`.

    Raises:
        UserError: the reference has no recipe or no data that could be changed, or no more than that of it.
    """
    changes: dict[str, Any] = {}
    if (epochs := amounts.get("epochs")) is not None:
        training = _find_field(name, evaluator, "training")
        if epochs >= training.epochs:
            raise UserError(f"shortcuts: {name}: the reference has no more: {training.epochs} epochs")
        part = epochs / training.epochs
        spans = {span: part * getattr(training, span) for span in ("warmup_epochs", "decay_epochs")}
        changes["training"] = replace(training, epochs=epochs, eval_every=epochs, **spans)
    if (images := amounts.get("images")) is not None:
        data = _find_field(name, evaluator, "data")
        if not any(field.name == "limit" for field in fields(data)):
            raise UserError(f"shortcuts: {name}: {type(data).__name__} has no limit on images")
        if data.limit is not None and images >= data.limit:
            raise UserError(f"shortcuts: {name}: the reference has no more: data.limit={data.limit}")
        changes["data"] = replace(data, limit=images)
    less: Evaluator = replace(evaluator, **changes) if changes else evaluator  # type: ignore[type-var]
    resolution = amounts.get("resolution")
    return less if resolution is None else Smaller(less, resolution)


def _find_field(name: str, evaluator: Evaluator, wanted: str) -> Any:
    value = getattr(evaluator, wanted, None)
    if not is_dataclass(evaluator) or not is_dataclass(value):
        raise UserError(
            f"shortcuts: {name}: the reference, {type(evaluator).__name__}, has no {wanted} to make less of; "
            "evaluator=proxy has"
        )
    return value


@dataclass(frozen=True)
class Smaller:
    """Another evaluator's opinion of the same network on smaller images.

    Args:
        evaluator: the other one.
        resolution: in pixels, at least 1 and below that of each network.
    """

    evaluator: Evaluator
    resolution: int

    def __post_init__(self) -> None:
        check_int("resolution", self.resolution, 1)

    def prepare(self) -> None:
        """As the other evaluator's."""
        getattr(self.evaluator, "prepare", lambda: None)()

    @property
    def device(self) -> str | None:
        """Of the other evaluator."""
        device: str | None = getattr(self.evaluator, "device", None)
        return device

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Report) -> Evaluation:
        """Evaluate the network at the smaller resolution; an image counts as the part of a pass that its MACs are.

        Raises:
            EvaluationError: it is not smaller, or the network cannot take it; as the other evaluator.
        """
        if self.resolution >= architecture.resolution:
            raise EvaluationError(f"{self.resolution} pixels are not below the network's {architecture.resolution}")
        try:
            small = architecture.with_(resolution=self.resolution)
        except UserError as error:
            raise EvaluationError(str(error)) from None
        found = self.evaluator(small, seed=seed, report=report)
        metrics = dict(found.metrics)
        if PASSES in metrics:
            metrics[PASSES] *= cost(small).macs / cost(architecture).macs
        return replace(found, metrics=metrics)


def _make_supernet(name: str, settings: dict[str, Any], space: Space, evaluator: Evaluator) -> Evaluator:
    """A supernet on the reference's data; ``supernet_30`` is trained for 30 epochs.

    Settings are the evaluator's and its recipe's (``epochs``, ``rule``, ``recalibration``, …).
    """
    from ...evaluate.supernet.evaluator import Supernet
    from ...evaluate.train.recipe import Training

    known = {field.name for field in fields(Supernet)} - {"space", "data", "training"}
    recipe = {field.name for field in fields(Training)}
    number = re.fullmatch(r"supernet_([1-9]\d*)", name)
    if number is not None:
        settings.setdefault("epochs", int(number[1]))
    for key in settings:
        if key not in known | recipe:
            raise unknown(f"shortcuts: {name}", key, sorted(known | recipe))
    shipped = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    shipped.pop("_target_")
    training = Training(**{**shipped, **{key: value for key, value in settings.items() if key in recipe}})
    own = {key: value for key, value in settings.items() if key in known}
    data = _find_field(name, evaluator, "data")
    for shared in ("device", "threads"):
        own.setdefault(shared, getattr(evaluator, shared, None) or ("auto" if shared == "device" else None))
    made: Evaluator = Supernet(space=space, data=data, training=training, **own)
    return made


def count_beforehand(evaluator: Evaluator, networks: Sequence[NetworkSpec]) -> float:
    """Images through networks before the first of them is judged: those of a supernet's training, else none.

    A member of a step counts as the part of a pass that its MACs are of these networks' mean.
    """
    rule, members = getattr(evaluator, "rule", None), getattr(evaluator, "members", None)
    if rule is None or members is None:
        return 0.0
    from ...evaluate.supernet.rules import Sampler

    facts: Mapping[str, Any] = getattr(evaluator, "describe", dict)()
    sampler, mean = Sampler(members, rule, 0), sum(cost(network).macs for network in networks) / len(networks)
    picked = [cost(pick.architecture).macs / mean for step in range(STEPS) for pick in sampler.pick(step)]
    images = int(facts["training_steps"]) * int(evaluator.training.batch_size)  # type: ignore[attr-defined]
    return 3.0 * images * sum(picked) / STEPS

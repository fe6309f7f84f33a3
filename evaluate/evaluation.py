"""What an evaluator is and what it returns."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..space.errors import UserError
from ..space.formulas import Cost
from ..space.network_spec import NetworkSpec

#: Characters of a metric's name.
MAX_NAME = 100


class Report(Protocol):
    """What an evaluator calls after each epoch, from the first one on, so that hopeless candidates can be stopped."""

    def __call__(self, step: int, accuracy: float, train_accuracy: float | None = None) -> None:
        """Report one epoch.

        Args:
            step: epochs done, from 1.
            accuracy: on held-out images, a fraction.
            train_accuracy: on the training images, a fraction; None: not known. Early on it tells more about the end
                than the accuracy does.

        Raises:
            Stopped: the study has seen enough for now.
        """
        ...


#: A report of a caller who does not ask for the accuracy on training images.
SimpleReport = Callable[[int, float], None]


def widen_report(report: Report | SimpleReport) -> Report:
    """The same for one that takes the two numbers alone, which is then not told the third."""
    given: Any = report
    wide: Report = given
    try:
        inspect.signature(report).bind(1, 0.0, 0.0)
    except TypeError:
        return lambda step, accuracy, train_accuracy=None: given(step, accuracy)
    except ValueError:  # it is not written in Python, and does not say what it takes
        pass
    return wide


class EvaluationError(RuntimeError):
    """This candidate has no value (loss not finite, out of memory): recorded as failed, the search continues."""


class Stopped(Exception):
    """Raised by ``report`` to end a hopeless candidate early; an evaluator lets it pass."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a network is worth; numbers of NumPy and torch become plain ones.

    Args:
        accuracy: top-1 on held-out images, a fraction in [0, 1]; None where none was measured, but a merit was found.
        cost: of the network that was evaluated.
        latency: seconds per batch, where it was measured.
        seconds: wall-clock time the evaluation took.
        metrics: anything else that JSON can hold, by name (``loss``, ``train_accuracy``, ``images_per_second``, …).
        merit: what ranks networks in the place of an accuracy, a fraction in [0, 1], more being better; it is never
            called an accuracy. Its evaluator has an attribute ``gives = "merit"``.

    Raises:
        EvaluationError: a field is not what it should be; the message has the rule and the value.
    """

    accuracy: float | None
    cost: Cost
    latency: float | None = None
    seconds: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    merit: float | None = None

    def __post_init__(self) -> None:
        if self.merit is not None and self.accuracy is not None:
            raise EvaluationError(f"an evaluation has an accuracy or a merit, got {self.accuracy!r} and {self.merit!r}")
        kind = "accuracy" if self.merit is None else "merit"
        worth = _read_number(kind, "a fraction between 0 and 1", getattr(self, kind))
        if not 0 <= worth <= 1:  # NaN neither
            raise EvaluationError(f"{kind} must be a fraction between 0 and 1, got {worth!r}")
        if not isinstance(self.cost, Cost):
            raise EvaluationError(f"cost must be a Cost, as cost(architecture) gives it, got {_show(self.cost)}")
        latency = self.latency
        if latency is not None:
            latency = _read_number("latency", "seconds per batch above 0, or None", latency)
            if not 0 < latency < math.inf:
                raise EvaluationError(f"latency must be seconds per batch above 0, or None, got {latency!r}")
        seconds = _read_number("seconds", "a number of seconds from 0", self.seconds)
        if not 0 <= seconds < math.inf:
            raise EvaluationError(f"seconds must be a number of seconds from 0, got {seconds!r}")
        for name, value in ((kind, worth), ("latency", latency), ("seconds", seconds)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "metrics", _read_metrics(self.metrics))

    @property
    def worth(self) -> float:
        """The accuracy, or the merit that is in its place: what objectives rank by."""
        worth = self.accuracy if self.merit is None else self.merit
        assert worth is not None  # one of the two is a number
        return worth

    @property
    def measured(self) -> dict[str, Any]:
        """For a record: the accuracy, None where there is none, and the merit, where there is one."""
        return {"accuracy": self.accuracy} | ({} if self.merit is None else {"merit": self.merit})


def _show(value: object) -> str:
    """A value for a message, where it can be shown."""
    try:
        text = repr(value)
    except Exception:  # of its own __repr__
        text = ""
    return f"{text:.60}" if text and " at 0x" not in text else f"an object of type {type(value).__name__}"


def _read_number(name: str, rule: str, value: Any) -> float:
    """A plain number from one of Python's, NumPy's, torch's and the like.

    Raises:
        EvaluationError: it is none.
    """
    try:
        single = value.item() if hasattr(value, "item") else value
        if isinstance(single, str | bytes | bool):
            raise TypeError
        return float(single)
    except Exception:  # whatever its conversions raise
        raise EvaluationError(f"{name} must be {rule}, got {_show(value)}") from None


def _read_metrics(metrics: Any) -> dict[str, Any]:
    if not isinstance(metrics, Mapping):
        raise EvaluationError(f"metrics must map names to values, got {_show(metrics)}")
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise EvaluationError(f"metrics: a name must be 1 to {MAX_NAME} printable characters, got {_show(name)}")
        try:
            found |= make_plain_mapping({name: value})
        except Exception:  # whatever its conversions raise
            raise EvaluationError(
                f"metrics: {name} must be a number, or what JSON holds (text, lists and mappings of them), got "
                f"{_show(value)}"
            ) from None
    return found


def make_plain_mapping(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as JSON can hold it: numbers of NumPy and torch become plain ones.

    Raises:
        TypeError, ValueError, RecursionError: something in it is no number, text, list or mapping, a number has
            thousands of digits, or a list holds itself.
    """
    plain = {str(name): _make_plain(inner) for name, inner in value.items()}
    json.dumps(plain)
    return plain


def _make_plain(value: Any) -> Any:
    """Plain data: numbers, texts, lists and mappings.

    Raises:
        TypeError: it cannot be made that.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _make_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # NumPy's and torch's, arrays and single numbers
        return _make_plain(value.tolist())
    if isinstance(value, int):
        return int(value)
    if hasattr(value, "__float__"):
        return float(value)
    raise TypeError


class Evaluator(Protocol):
    """Anything that says what a network is worth.

    A frozen dataclass whose fields are its settings (``conf/evaluator/*.yaml`` names it by ``_target_``), callable.
    Two calls with equal arguments return equal accuracies as far as the hardware allows.

    Two more methods are called where they are there: ``prepare()`` before a search makes its folder, so that a file
    that cannot be read is found out then, and ``describe()``, which returns what is to stand in the ``summary.json``
    under ``evaluator_details`` (its ``note`` is printed, ``accuracy_is`` says of what the accuracy is, and ``exact``
    that no seed changes it). One that finds merits instead of accuracies has ``gives = "merit"``, and its
    ``describe()`` has ``merit_is``. One that trains may have ``keeping(folder)``, which returns an evaluator that also
    leaves each candidate's weights there, as :func:`~effnas.evaluate.kept_weights.name_weights` names them (``keep=``
    of ``effnas search``).

    One that knows how fast a network is before it trains it has ``known_latency(network)``, seconds, which its
    evaluations' latency equals (:class:`~effnas.evaluate.latency.laws.KnownLatency`; ``many`` may be left out).

    A search is resumed with an equal evaluator only: one of the same class whose constructor was given the same
    (:func:`~effnas.evaluate.identity.describe_content`). Where that is not what decides its results, a method
    ``identity()`` returns what does, as plain data, and an attribute ``input_files`` has the paths of the files that it
    reads, whose content then counts too.

    For early stopping there are two more. ``reported_steps()`` says after which steps ``report`` is called, the last
    one being the end. ``checkpointing(folder)`` returns an evaluator that leaves there, under
    :func:`~effnas.evaluate.kept_weights.name_checkpoint`, where a candidate stood that was stopped; called again for
    the same network and seed it goes on from there, after it has reported the epochs before once more.
    """

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Report) -> Evaluation:
        """Evaluate one network.

        Raises:
            EvaluationError: this candidate has no value; the search records it as failed and goes on.
            UserError: no candidate could have one (missing data, wrong number of classes); the search stops.
        """
        ...


def find_kind(evaluator: object) -> str:
    """What an evaluator's evaluations have: ``accuracy`` or ``merit``."""
    return "merit" if getattr(evaluator, "gives", "accuracy") == "merit" else "accuracy"


def require_accuracy(evaluator: object, job: str) -> None:
    """Raise :class:`UserError` where a job that compares accuracies is given an evaluator of merits."""
    if find_kind(evaluator) == "merit":
        raise UserError(
            f"evaluator: {job} compares accuracies, but {type(evaluator).__name__} gives merits, which only rank "
            "networks of one space; choose an evaluator that trains or looks up: proxy, tabular"
        )

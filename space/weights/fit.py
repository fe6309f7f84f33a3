"""Which tensor of a file goes where in a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import UserError
from ..network_spec import NetworkSpec
from .contents import Weights
from .files import AVERAGED
from .formats import FORMATS, Format, map_names, recognise_format

#: What wrappers and counters leave among the weights: torch's AveragedModel, thop.
_BOOKKEEPING = ("n_averaged", "total_ops", "total_params", "num_batches_tracked")
_SHOWN = 5


@dataclass(frozen=True)
class Fit:
    """The names of a file's tensors for those of a network.

    Args:
        names: ours to the file's, for every tensor that carries the network's function.
        prefix: what wrappers put before the file's.
        head: beginning of the file's names of the classifier, where that is called so.
        left_out: names in the file that are no part of the network, BatchNorm's counters among them.
    """

    names: Mapping[str, str]
    prefix: str
    head: str
    left_out: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was dropped, for people; empty where nothing was."""
        parts = [f"names without their prefix {self.prefix}"] if self.prefix else []
        if gone := [name for name in self.left_out if not name.endswith("num_batches_tracked")]:
            parts.append(f"left out: {_shorten(gone)}")
        return "; ".join(parts)


def fit_names(module: nn.Module, weights: Weights) -> Fit:
    """Find the place of every tensor of a file; shapes are not looked at.

    Names that most of the file's have behind a common prefix are found there, an average before what it is of. What has
    no such prefix is left out, and so are counters.

    Args:
        module: of the network, on any device.
        weights: what was read.

    Raises:
        UserError: the format has no names for such a network.
    """
    form = recognise_format(weights.tensors)
    if weights.architecture is None and form is not None and form.names(module):
        names, rest, head = map_names(module, form), form.left_out, dict(form.pairs(module))["classifier"]
    else:
        names, rest, head = _own_names(module, weights), (), "classifier"
    prefix = _find_prefix(weights.tensors, set(names.values()))
    ours = {own: prefix + name for own, name in names.items()}
    wanted = set(ours.values())
    left_out = tuple(
        name
        for name, tensor in weights.tensors.items()
        if name not in wanted
        and (
            not name.startswith(prefix)
            or name.removeprefix(prefix).startswith(rest or ("\0",))
            or (tensor.ndim == 0 or name.rpartition(".")[2] in _BOOKKEEPING)
        )
    )
    return Fit(ours, prefix, f"{prefix}{head}.", left_out)


def count_classes(fit: Fit, architecture: NetworkSpec, weights: Weights) -> int | None:
    """Outputs of the classifier in a file; None: the file has none, or not all of it.

    Args:
        fit: of the file into a module of ``architecture``.
        architecture: which says where the number of classes stands in the shapes of its tensors.
        weights: what was read.
    """
    names, axes, found = fit.names, architecture.classifier_axes, weights.tensors
    shapes = [found[names[own]].shape[axis:] for own, axis in axes.items() if names[own] in found]
    if not axes:  # whatever the file has: a builder that makes the same classifier for any number of classes
        return architecture.num_classes
    return shapes[0][0] if len(shapes) == len(axes) and all(shapes) else None


def check_fit(
    module: nn.Module, weights: Weights, names: Mapping[str, str], extra: Iterable[str], classifier: Sequence[str]
) -> None:
    """Raise :class:`UserError` unless every tensor has its place, its shape and numbers that fit it.

    Args:
        module: of the network.
        weights: what was read.
        names: ours to the file's, of what is to be loaded.
        extra: what else the file has, and the network should.
        classifier: our names of the classifier's tensors.
    """
    own, found = module.state_dict(), weights.tensors
    missing = {name: f"{name} (our {ours})" for ours, name in names.items() if name not in found}
    shapes = {
        name: f"{name} is {_format_shape(found[name])}, our {ours} {_format_shape(own[ours])}"
        for ours, name in names.items()
        if name in found and found[name].shape != own[ours].shape
    }
    kinds = {
        name: f"{name} holds {str(found[name].dtype).removeprefix('torch.')}"
        for ours, name in names.items()
        if name in found and own[ours].is_floating_point() and not found[name].is_floating_point()
    }
    unknown = {name: name for name in extra}
    wrong = {*missing, *shapes, *kinds, *unknown}
    ends = {names[ours]: ours for ours in classifier if ours in names}
    if wrong and wrong <= set(ends):
        _refuse_classes(weights, own, ends)
    problems = [
        f"{what}: {_shorten(list(items.values()))}"
        for what, items in (
            ("missing", missing),
            ("not of this network", unknown),
            ("other shapes", shapes),
            ("no floating-point numbers", kinds),
        )
        if items
    ]
    if problems:
        of = f", {weights.architecture.name}" if weights.architecture and weights.architecture.name else ""
        raise UserError(
            f"weights: {weights.path} ({weights.format} format{of}) belongs to another network; {'; '.join(problems)}"
        )


def find_format(path: object, tensors: Mapping[str, Tensor]) -> Format:
    """The format of a file's names.

    Raises:
        UserError: none has such names.
    """
    found = recognise_format(tensors)
    if found is None:
        known = ", ".join(dict.fromkeys(form.name for form in FORMATS))
        raise UserError(
            f"weights: the names in {path} match no known format ({', '.join(list(tensors)[:3])}, …); known are those "
            f"of {known}, for EfficientNet, MnasNet and MobileNet, and torchvision's for ResNet, MobileNetV3, "
            "ShuffleNetV2, SqueezeNet and GoogLeNet"
        )
    return found


def _refuse_classes(weights: Weights, own: Mapping[str, Tensor], ends: Mapping[str, str]) -> None:
    """Raise :class:`UserError` where the classifier alone differs, in its number of classes."""
    sides = [(weights.tensors.get(theirs), own[ours]) for theirs, ours in ends.items() if own[ours].ndim > 1]
    if not sides:
        return
    theirs, ours = sides[0]
    advice = "fine-tune with a fresh classifier (effnas train with these weights on your data)"
    if theirs is None:
        raise UserError(f"weights: {weights.path} has no classifier (0 classes, the network {len(ours)}): {advice}")
    if theirs.ndim == ours.ndim and len(theirs) != len(ours):
        raise UserError(
            f"weights: {weights.path} has {len(theirs)} classes, the network {len(ours)}: set num_classes to the "
            f"former, or {advice}"
        )


def _own_names(module: nn.Module, weights: Weights) -> dict[str, str]:
    """The network's own names, without a prefix that all of them have and the file's have not."""
    own = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    best, drop = -1, ""
    for prefix in _common_prefixes(own):
        names = {name.removeprefix(prefix) for name in own}
        theirs = _find_prefix(weights.tensors, names)
        matches = sum(theirs + name in weights.tensors for name in names)
        if matches > best:
            best, drop = matches, prefix
    return {name: name.removeprefix(drop) for name in own}


def _common_prefixes(names: Sequence[str]) -> list[str]:
    """ "" and every dotted prefix of all names."""
    first = names[0].split(".")[:-1] if names else []
    prefixes = ["".join(f"{part}." for part in first[:i]) for i in range(len(first) + 1)]
    return [prefix for prefix in prefixes if all(name.startswith(prefix) for name in names)]


def _find_prefix(found: Iterable[str], wanted: set[str]) -> str:
    """What stands before most of the wanted names; of several, before those of an average."""
    counts: dict[str, int] = {}
    for name in found:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in wanted:
                prefix = "".join(f"{part}." for part in parts[:i])
                counts[prefix] = counts.get(prefix, 0) + 1
    most = max(counts.values(), default=0)
    averaged = [prefix for prefix, count in counts.items() if AVERAGED.search(prefix) and count >= most]
    best = averaged or [prefix for prefix, count in counts.items() if count == most] or [""]
    return min(best, key=len)


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"{name:.100}" for name in names[:_SHOWN]) + more


def _format_shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"

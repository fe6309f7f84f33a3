"""Where a network looks: class activation maps (Zhou et al. 2016) and Grad-CAM (Selvaraju et al. 2017)."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...space.errors import UserError

METHODS = ("cam", "grad_cam")
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Maps:
    """Class activation maps of n images, at the size of the layer's feature map.

    Args:
        maps: (n, h, w) in [0, 1]. CAM: each map from its least to its greatest value, as in Zhou's code and the
            EfficientNet paper's figure 7. Grad-CAM: divided by its greatest value, 0 being what does not speak for the
            class. A map that is the same everywhere is 0.
        raw: (n, h, w) before that: CAM's in units of the logit; Grad-CAM's after the ReLU.
        logits: (n, classes).
        targets: (n,), the class that each map is of.
        layer: path of the module whose output was read.
    """

    maps: Tensor
    raw: Tensor
    logits: Tensor
    targets: Tensor
    layer: str


@torch.no_grad()
def cam(model: nn.Module, images: Tensor, target: int | None = None) -> Maps:
    """What each position of the last feature map adds to a class's logit: the classifier's weights times the features.

    The mean of ``raw`` over the positions, plus the classifier's bias, is the logit (Zhou et al. 2016, equation 2). The
    network runs in evaluation mode, and is left as it was.

    Args:
        model: with ``forward_features`` (images to the last feature map), average pooling and a linear ``classifier``.
        images: (n, c, h, w), normalised.
        target: index of the class; None: the one predicted, of each image.

    Raises:
        UserError: the network is of another form, its last feature map has one position, or no such class.
    """
    classifier = getattr(model, "classifier", None)
    forward_features: Any = getattr(model, "forward_features", None)
    if not callable(forward_features) or not isinstance(classifier, nn.Linear):
        lacking = "no forward_features" if not callable(forward_features) else f"as classifier {_kind(classifier)}"
        raise UserError(
            "method=cam needs a network with forward_features and a linear classifier after average pooling; this one "
            f"has {lacking}: use method=grad_cam"
        )
    with _evaluating(model):
        features, logits = forward_features(images), _logits(model, images)
        _check_map("forward_features", features, len(images))
        fits = features.shape[1] == classifier.in_features
        pooled = classifier(features.mean((2, 3))) if fits else None
    close = 1e-3, 1e-3 * float(logits.abs().max())
    if pooled is None or pooled.shape != logits.shape or not torch.allclose(pooled, logits, *close):
        raise UserError(
            "method=cam: the logits are not the classifier's answer to the averaged feature map, so other layers lie "
            "between the two: use method=grad_cam"
        )
    targets = _targets(logits, target)
    raw = torch.einsum("nk,nkhw->nhw", classifier.weight[targets], features)
    return Maps(_scaled(raw, raw.amin((1, 2), keepdim=True)), raw, logits, targets, "forward_features")


def grad_cam(model: nn.Module, images: Tensor, target: int | None = None, layer: str | None = None) -> Maps:
    """Feature maps of a layer, each weighted by the mean gradient of the class's logit, summed; negative sums are 0.

    Selvaraju et al. 2017, equations 1 and 2. The network runs in evaluation mode, and is left as it was; no gradient
    stays in it.

    Args:
        model: maps ``images`` to logits (n, classes).
        images: (n, c, h, w), normalised.
        target: index of the class; None: the one predicted, of each image.
        layer: path of a module, ``stages.4``; None: the last one that gives a feature map of more than one position.

    Raises:
        UserError: no such layer, or one whose output is not a feature map or has no effect; or no such class.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    if layer is not None and layer not in modules:
        near = difflib.get_close_matches(layer, modules, n=_SHOWN, cutoff=0.3)
        raise UserError(
            f"layer: the network has no module {layer!r}. Nearest are: {', '.join(near) or 'none'}; at the top: "
            f"{', '.join(name for name, _ in model.named_children())}"
        )
    if torch.is_inference_mode_enabled() or any(map(torch.is_inference, _tensors(model))):
        with torch.inference_mode(False):  # no gradient passes what was made in that mode: copies of it
            return grad_cam(copy.deepcopy(model), images.clone(), target, layer)
    images = images.clone() if images.is_inference() else images
    with _evaluating(model), torch.enable_grad():
        if layer is None:
            layer = _last_map(model, modules, images[:1])
        with _outputs({layer: modules[layer]}, cut=True) as seen:
            logits = _logits(model, images)
        if layer not in seen:
            raise UserError(f"layer: {layer!r} is not used in a forward pass: choose another")
        features = seen[layer]
        _check_map(layer, features, len(images))
        targets = _targets(logits, target)
        chosen = logits.gather(1, targets[:, None]).sum()  # in evaluation mode no image sees another
        (slope,) = torch.autograd.grad(chosen, features, allow_unused=True) if chosen.requires_grad else (None,)
    if slope is None:
        raise UserError(f"layer: the logits do not depend on {layer!r}: choose another")
    weights = slope.mean((2, 3), keepdim=True)
    raw = (weights * features.detach()).sum(1).relu()
    return Maps(_scaled(raw, torch.zeros_like(raw)), raw, logits.detach(), targets, layer)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def enlarge(maps: Tensor, height: int, width: int) -> Tensor:
    """(n, h, w) to (n, height, width), bilinear, to be laid over an image."""
    return F.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _outputs(modules: dict[str, nn.Module], *, cut: bool = False) -> Iterator[dict[str, Any]]:
    """What the modules give inside, in the order in which they finish; of several calls of one the last.

    With ``cut`` a module's output is where the graph begins, and what follows works on a copy: an activation in place
    would otherwise change what was kept.
    """
    seen: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
            seen.pop(name, None)
            seen[name] = output
            if cut and isinstance(output, Tensor) and output.is_floating_point():
                seen[name] = output.detach().requires_grad_()
                return seen[name].clone()
            return None

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _last_map(model: nn.Module, modules: dict[str, nn.Module], image: Tensor) -> str:
    with _outputs(modules) as seen:
        model(image)
    found = [name for name, output in seen.items() if _is_map(output, 1)]
    if not found:
        raise UserError(
            "layer: no module of the network returns a feature map (n, channels, height, width) of more than one "
            "position: there is nothing to show"
        )
    return found[-1]


def _is_map(output: Any, images: int) -> bool:
    return (
        isinstance(output, Tensor)
        and output.ndim == 4
        and len(output) == images
        and output.shape[2] * output.shape[3] > 1
        and output.is_floating_point()
    )


def _check_map(layer: str, output: Any, images: int) -> None:
    if not _is_map(output, images):
        shape = f"of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UserError(
            f"layer: the output of {layer!r} is {shape}, not a feature map (n, channels, height, width) of more than "
            "one position: choose another layer, or a larger resolution"
        )


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"a network must return logits (n, classes) for activation maps; this one returns {got}")
    if not bool(torch.isfinite(logits).all()):
        raise UserError("the network's output is not finite: its weights are damaged, or the images not normalised")
    return logits


def _targets(logits: Tensor, target: int | None) -> Tensor:
    if target is None:
        return logits.argmax(1)
    classes = logits.shape[1]
    if not 0 <= target < classes:
        raise UserError(
            f"target must be between 0 and {classes - 1}, because the network has {classes} classes; got {target}"
        )
    return torch.full((len(logits),), target, device=logits.device)


def _scaled(raw: Tensor, low: Tensor) -> Tensor:
    span = raw.amax((1, 2), keepdim=True) - low
    return torch.where(span > 0, (raw - low) / span.clamp(min=torch.finfo(raw.dtype).tiny), 0.0)


def _kind(classifier: object) -> str:
    return "none" if classifier is None else f"a {type(classifier).__name__}"

"""``effnas cam``: the settings, the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...space.built import BuiltNetwork
from ...space.cost import cost
from ...space.errors import UserError, check_choice
from ...space.paths import as_path
from ..data.labelled_images import LabelledImages
from ..data.normalization import expand_to_channels
from ..folder import folder_lock
from ..machine.device import explain_out_of_memory, find_device, fit_batch
from .figure import Column
from .images import Picture, find_pictures, prepare_pictures
from .maps import METHODS, Maps, cam, grad_cam
from .networks import LoadedNetwork, load_networks
from .report import column_title, write_cam

#: Images per pass, at most; halved where that does not fit into memory.
BATCH_SIZE = 8


def run_cam(
    weights: Any,
    images: Any,
    data: LabelledImages,
    *,
    architecture: Any = (),
    network: BuiltNetwork | None = None,
    method: str = "cam",
    layer: str | None = None,
    target: int | str | None = None,
    part: str = "test",
    resolution: int | None = None,
    in_channels: int | None = None,
    padding: str | None = None,
    bn_eps: float | None = None,
    device: str = "auto",
    output: str | Path = "outputs/cam",
    command: str = "",
) -> dict[str, Any]:
    """Show where several networks look: activation maps of each for the same images, side by side.

    Args:
        weights: a file (:func:`~effnas.space.weights.weights.read_weights`), or a list of them.
        images: a file, a folder, a row of ``data``, or a list of these (at most 32).
        data: where rows come from; its ``center_crop``, ``interpolation``, ``image_size`` and ``normalize`` are for
            files, too. Without a normalisation in it, each network's weights decide.
        architecture: zoo name, file or Architecture of each of the weights, None for those that name it; None or an
            empty list: they all do.
        network: a network of the user's own builder; files of its networks need it.
        method: ``cam`` or ``grad_cam`` (:mod:`~effnas.evaluate.cam.maps`).
        layer: of Grad-CAM, a path of a module, the same in all networks; None: the last feature map.
        target: class whose evidence is shown, by number or name; None: the one that each network predicts.
        part: of the data, ``test`` or ``train``.
        resolution: of all networks' input in pixels; None: each architecture's.
        in_channels: of the images; None: each architecture's. Weights for colour images are
            adapted, as timm does it.
        padding, bn_eps: of the networks, if the weights need other values than their format implies.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        output: folder of ``cam.png``, ``cam.json`` and ``maps.npz`` (``maps_0``, ``raw_0``, … by network).
        command: as the user typed it, for the record.

    Returns:
        The content of ``cam.json``.

    Raises:
        UserError: a setting is wrong, an image cannot be read, or weights, architecture, method and layer do not fit.
    """
    check_choice("method", method, METHODS)
    if method == "cam" and layer is not None:
        raise UserError(f"layer={layer} belongs to method=grad_cam: CAM always reads the last feature map")
    if target is not None and (isinstance(target, bool) or not isinstance(target, int | str)):
        raise UserError(f"target must be null, the number of a class or its name, got {target!r}")
    place, output = find_device(device), as_path("output", output)
    members = load_networks(
        weights,
        architecture,
        network=network,
        padding=padding,
        bn_eps=bn_eps,
        resolution=resolution,
        in_channels=in_channels,
    )
    pictures, classes = find_pictures(images, data, part)
    with folder_lock(output, "cam"):
        columns, networks = [], []
        arrays: dict[str, Any] = {}
        for i, member in enumerate(members):
            names = member.class_names(classes)
            maps, seen, found = _look(member, pictures, data, names, method, layer, target, place)
            networks.append(found)
            columns.append(Column(column_title(found), seen, maps.maps.cpu(), found["predictions"]))
            arrays |= {f"maps_{i}": maps.maps.cpu().numpy(), f"raw_{i}": maps.raw.cpu().numpy()}
        facts = {
            "method": method,
            "target": target,
            "data": None if pictures[0].label is None else data.title,
            "part": part,
            "networks": networks,
            "center_crop": data.center_crop,
            "interpolation": data.interpolation,
            "device": str(place),
            "command": command,
        }
        return write_cam(columns, pictures, arrays, facts, output)


def _look(
    member: LoadedNetwork,
    pictures: Sequence[Picture],
    data: LabelledImages,
    names: Sequence[str] | None,
    method: str,
    layer: str | None,
    target: int | str | None,
    device: torch.device,
) -> tuple[Maps, Tensor, dict[str, Any]]:
    """The maps of one network, the images as it sees them (uint8), and its part of ``cam.json``."""
    network, weights = member.architecture, member.weights
    channels, resolution = network.in_channels, network.resolution
    normalization = expand_to_channels(data.normalize, channels) or weights.normalization
    if normalization is None:
        raise UserError(
            f"data.normalize: the weights {weights.path} do not say how images are normalised: set "
            "data.normalize=imagenet or [mean, std]"
        )
    number = None if target is None else member.class_number(target, names)
    batch, seen = prepare_pictures(pictures, data, channels, resolution, normalization)

    def run(size: int) -> Maps:
        parts = [part.to(device) for part in torch.split(batch, size)]
        if method == "cam":
            return _joined([cam(member.model, part, number) for part in parts])
        return _joined([grad_cam(member.model, part, number, layer) for part in parts])

    member.model.to(device)
    try:
        with explain_out_of_memory(resolution):
            maps, _ = fit_batch(run, BATCH_SIZE, device)
    except UserError as error:
        raise UserError(f"{member.name}: {error}") from error
    member.model.cpu()  # a device holds one network at a time
    costs = cost(network)
    return (
        maps,
        seen,
        {
            "name": member.name,
            "architecture": network.name,
            "digest": network.digest,
            "weights": weights.path,
            "weights_note": member.note,
            "resolution": resolution,
            "params": costs.params,
            "macs": costs.macs,
            "layer": maps.layer,
            "map": list(maps.maps.shape[1:]),
            "normalization": [list(numbers) for numbers in normalization],
            "predictions": _predictions(maps, names),
        },
    )


def _joined(parts: Sequence[Maps]) -> Maps:
    def together(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    return Maps(together("maps"), together("raw"), together("logits"), together("targets"), parts[0].layer)


def _predictions(maps: Maps, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Of each image; ``index`` counts from 0, and a class without a name is called by it."""
    found = []
    probabilities = maps.logits.float().softmax(1).cpu()
    for row, target in zip(probabilities, maps.targets.tolist(), strict=True):
        best = int(row.argmax())
        found.append(
            {
                "class": _name(best, names),
                "index": best,
                "probability": float(row[best]),
                "target": _name(target, names),
                "target_index": target,
                "target_probability": float(row[target]),
            }
        )
    return found


def _name(index: int, names: Sequence[str] | None) -> str:
    return names[index] if names else f"class {index}"

"""Eight bits, by NNCF: weights by channel, ranges of activations from calibration images, corrected biases.

What costs more accuracy than is allowed goes back to 32 bits: NNCF ranks the quantised operations by what each costs on
the calibration images, and reverts them one by one, the costliest first, until the rest is accurate enough.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...space.errors import UserError
from ...space.files import write_bytes
from .formats import Run, check_installed
from .images import ProofImages
from .proof import Proof, ProofError, ask_all, mean_of, relative_difference
from .silence import silenced
from .subject import Subject
from .writers import onnx_graph, openvino_model

#: What NNCF calls them.
_INPUT = onnx_graph.INPUT
#: OpenVINO's.
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


#: Names of layers, and the number of their weights.
Layers = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Quantized:
    """A format that has eight bits.

    Args:
        name: in ``export.json``.
        file: inside the export's folder.
        of: the format that it is made of.
        write: (float file, own file, images with labels, largest drop, the network's layers with weights in the order
            in which they run, and how many these are) to the layers kept in float.
        open: as :class:`~effnas.evaluate.export.formats.Format`'s.
    """

    name: str
    file: str
    of: str
    write: Callable[[Path, Path, Sequence[Any], float, Layers], list[str]]
    open: Callable[[Path, int | None], Run]


def quantize(row: Quantized, subject: Subject, folder: Path, images: ProofImages, max_drop: float) -> list[str]:
    """Write one, of the float file that the folder has.

    Args:
        row: of the format.
        subject: the network.
        folder: of the export.
        images: to calibrate on, with labels.
        max_drop: of the accuracy on them, as a fraction.

    Returns:
        Names of the layers that stay in 32 bits.

    Raises:
        UserError: NNCF is not installed, or cannot quantise the network.
    """
    from .formats import FORMATS

    assert images.labels is not None
    items = [(image[None].numpy(), int(label)) for image, label in zip(images.given, images.labels, strict=True)]
    try:
        with silenced("nncf"):
            layers = find_weighted_layers(subject.plain, subject.preprocessing.size, subject.preprocessing.channels)
            return row.write(folder / FORMATS[row.of].file, folder / row.file, items, max_drop, layers)
    except Exception as error:  # of NNCF
        raise UserError(
            f"int8: {row.of} cannot be quantised: {type(error).__name__}: {' '.join(str(error).split()):.200}"
        ) from error


def find_weighted_layers(network: nn.Module, size: int, channels: int) -> Layers:
    """Convolutions and matrices in the order in which they run."""
    found: list[tuple[str, int]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, output, name=name: found.append((name, layer.weight.numel())))
        for name, layer in network.named_modules()
        if getattr(layer, "weight", None) is not None and layer.weight.ndim > 1
    ]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, channels, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def check_int8(to: Sequence[str], has_images: bool) -> list[Quantized]:
    """The rows of the formats that are asked for.

    Raises:
        UserError: none of them has eight bits, NNCF is not installed, or there are no images to calibrate on.
    """
    rows = [row for row in INT8 if row.of in to]
    if not rows:
        raise UserError(f"int8=true quantises {' and '.join(row.of for row in INT8)}: name one of them in `to`")
    check_installed("int8=true", ("nncf",))
    if not has_images:
        raise UserError(
            "int8=true needs labelled images to calibrate on: the ranges of noise are not those of images; give data=… "
            "of the network's classes"
        )
    return rows


def prove_int8(
    row: Quantized, subject: Subject, run: Run, images: ProofImages, classes: Tensor, max_drop: float, by: str
) -> Proof:
    """The accuracy before and after, on images that it was not calibrated on.

    Args:
        row: of the format.
        subject: the network in 32 bits.
        run: what runs the quantised one.
        images: with labels.
        classes: that PyTorch gives them in 32 bits, int64 (n,).
        max_drop: of the accuracy, as a fraction; more is an error where chance does not explain it.
        by: what runs it.

    Raises:
        ProofError: the accuracy falls by more.
    """
    labels = images.labels
    assert labels is not None
    wanted = subject.logits(images.first(1))
    for size in dict.fromkeys(min(size, len(images)) for size in (1, 3)):
        shape = tuple(run(images.first(size))[-1].shape)
        if shape != (size, wanted.shape[1]):
            raise ProofError(f"{row.name}: the proof failed: a batch of {size} gives an output of shape {shape}")
    before = classes == labels
    after_classes = ask_all(run, images)
    after = after_classes == labels
    lost, won, n = int((before & ~after).sum()), int((after & ~before).sum()), len(labels)
    drop = (lost - won) / n
    # of the difference of two proportions of the same images
    error = max(lost + won - (lost - won) ** 2 / n, 0.0) ** 0.5 / n
    if drop > max_drop + 2 * error:
        raise ProofError(
            f"{row.name}: the proof failed: top-1 falls from {mean_of(before):.2%} to {mean_of(after):.2%} on {n:,} "
            f"images (allowed: {100 * max_drop:g} points, and 2 standard errors of {100 * error:.2g}); nothing was "
            "written; more calibration images may help"
        )
    return Proof(
        batches=(1, 3),
        images=images.of,
        max_difference=relative_difference(run(images.first(1))[-1], wanted),
        tolerance=None,
        agreement=mean_of(classes == after_classes),
        accuracy_before=mean_of(before),
        accuracy_after=mean_of(after),
        labelled=n,
        by=by,
        allowed_drop=max_drop,
    )


# -- ONNX ------------------------------------------------------------------------------------------------


def _write_onnx(float_file: Path, file: Path, items: Sequence[Any], max_drop: float, layers: Layers) -> list[str]:
    import onnx

    model = onnx.load(float_file)
    metadata = {entry.key: entry.value for entry in model.metadata_props}

    def start(model: Any) -> Run:
        return onnx_graph.open_session(model.SerializeToString(), None)

    before = [node.name for node in itertools.takewhile(lambda node: node.op_type != "Conv", model.graph.node)]
    found = _run_nncf(model, items, lambda item: {_INPUT: item[0]}, start, max_drop, before)
    onnx.helper.set_model_props(found, metadata)
    write_bytes(file, found.SerializeToString())
    made_by = {output: node for node in found.graph.node for output in node.output}
    kinds = ("Conv", "Gemm", "MatMul")
    weighted = [node for node in found.graph.node if node.op_type in kinds and node.name not in before]
    return [
        node.input[1].removeprefix("network.").removesuffix(".weight")
        for node in weighted
        if (source := made_by.get(node.input[1])) is None or source.op_type != "DequantizeLinear"
    ]


def _open_onnx(file: Path, threads: int | None) -> Run:
    return onnx_graph.open_session(file, threads)


# -- OpenVINO --------------------------------------------------------------------------------------------


def _write_openvino(float_file: Path, file: Path, items: Sequence[Any], max_drop: float, layers: Layers) -> list[str]:
    import openvino

    model = openvino.Core().read_model(float_file / "model.xml")

    def start(compiled: Any) -> Run:
        def run(images: Tensor) -> Sequence[Tensor]:
            return (torch.from_numpy(compiled(images.numpy())[0].copy()),)

        return run

    first = itertools.takewhile(lambda op: op.get_type_name() not in _CONVOLUTIONS, model.get_ordered_ops())
    before = [op.get_friendly_name() for op in first if op.get_type_name() != "Constant"]
    found = _run_nncf(model, items, lambda item: item[0], start, max_drop, before)
    ops = [op for op in found.get_ordered_ops() if op.get_type_name() in (*_CONVOLUTIONS, "MatMul")]
    ops = [op for op in ops if op.get_friendly_name() not in before]
    names = [op.get_friendly_name() for op in ops]
    sizes = [math.prod(op.input_value(1).get_partial_shape().to_shape()) for op in ops]
    if sizes == [size for _, size in layers]:  # OpenVINO has lost the names, and kept the order
        names = [name for name, _ in layers]
    kept = [name for name, op in zip(names, ops, strict=True) if not _is_quantized(op.input_value(1))]
    file.mkdir(parents=True, exist_ok=True)
    openvino.save_model(found, file / "model.xml", compress_to_fp16=False)
    return kept


def _is_quantized(value: Any) -> bool:
    """Whether weights come of a quantiser, through whatever reshapes them."""
    node = value.get_node()
    for _ in range(6):
        if node.get_type_name() == "FakeQuantize" or node.get_output_element_type(0).to_string() in ("i8", "u8"):
            return True
        if not node.inputs():
            return False
        node = node.input_value(0).get_node()
    return False


def _open_openvino(file: Path, threads: int | None) -> Run:
    return openvino_model.open_model(file / "model.xml", threads)


# -- NNCF ------------------------------------------------------------------------------------------------


def _run_nncf(
    model: Any,
    items: Sequence[Any],
    feed: Callable[[Any], Any],
    start: Callable[[Any], Run],
    max_drop: float,
    before: Sequence[str],
) -> Any:
    """The quantised model; ``before`` names what is done to the images before the network, which stays as it is."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

    def validate(model: Any, chosen: Iterable[Any]) -> tuple[float, list[float]]:
        run = start(model)
        right = [float(int(run(torch.from_numpy(image))[-1].argmax()) == label) for image, label in chosen]
        return sum(right) / len(right), right

    # by tensor: ONNX Runtime has no kernels for activations by channel, and would run them in 32 bits
    by_tensor = AdvancedQuantizationParameters(
        activations_quantization_params=QuantizationParameters(per_channel=False)
    )
    return nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(items, feed),
        validation_dataset=nncf.Dataset(items),
        validation_fn=validate,
        max_drop=max_drop,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(items),
        ignored_scope=nncf.IgnoredScope(names=list(before), validate=False),
        advanced_quantization_parameters=by_tensor if isinstance(feed(items[0]), dict) else None,
    )


#: Of the formats, those that have eight bits.
INT8 = (
    Quantized("onnx_int8", "model.int8.onnx", "onnx", _write_onnx, _open_onnx),
    Quantized("openvino_int8", "openvino_int8", "openvino", _write_openvino, _open_openvino),
)

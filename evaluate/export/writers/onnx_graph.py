"""``onnx``: one file with the weights inside, for any number of images; ONNX Runtime runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....space.files import write_bytes
from ..inside import RESIZE
from ..silence import silenced
from ..subject import Subject

#: ONNX's version of its operators: the one that torch's exporter is written for.
OPSET = 18
#: A file of protobuf holds no more; ONNX puts larger weights into a second one.
MOST_BYTES = 2**31 - 1
INPUT, OUTPUT = "images", "logits"
#: What the images are, in the metadata.
_INPUTS = {
    False: "normalised: (x - mean) / std, x in units of 0 to 255",
    True: "units of 0 to 255",
    RESIZE: "uint8 of any height and width, as decoded",
}


def write(subject: Subject, path: Path) -> None:
    """The file; what the images need and the classes' names are in its metadata."""
    write_bytes(path, make_model(subject).SerializeToString())


def make_model(subject: Subject) -> Any:
    """The graph as ONNX's ``ModelProto``, checked by ONNX."""
    import onnx

    with torch.no_grad(), silenced("torch.onnx"):
        program = torch.onnx.export(
            subject.module,
            (subject.example,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(subject.any_size,),
            input_names=[INPUT],
            output_names=[*subject.layers, OUTPUT],
            verbose=False,
            optimize=True,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # where in whose files each was traced from
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for name, value in describe(subject).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value
    onnx.checker.check_model(model)
    return model


def describe(subject: Subject) -> dict[str, str]:
    """The metadata: texts by name."""
    found = {
        "effnas_architecture": json.dumps(subject.architecture.to_dict()),
        "preprocessing": json.dumps(subject.preprocessing.to_dict()),
        "input": _INPUTS[subject.inside],
    }
    if subject.classes is not None:
        found["classes"] = json.dumps(list(subject.classes))
    return found


def read(subject: Subject, path: Path, threads: int | None) -> Callable[[Tensor], Sequence[Tensor]]:
    """What runs it, in ONNX Runtime on the CPU."""
    return open_session(path, threads)


def open_session(path: Path | bytes, threads: int | None) -> Callable[[Tensor], Sequence[Tensor]]:
    """Images to the outputs of a graph, of a file or of its bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    source = path if isinstance(path, bytes) else str(path)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Sequence[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {INPUT: images.numpy()})]

    return run

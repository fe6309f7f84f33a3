"""Code for the model card: a photograph to logits in each of the formats, with the runtime's own package alone."""

from __future__ import annotations

from collections.abc import Iterable

from .inside import RESIZE
from .preprocessing import Preprocessing

#: Formats that are the network alone, whatever graphs have inside.
ALONE = ("python", "timm")
_CODE = {
    "safetensors": """import effnas

network = effnas.load_pretrained("THIS_FOLDER")
logits = network(network.preprocessing("photo.jpg"))""",
    "python": """import sys
import torch

sys.path.insert(0, "THIS_FOLDER")
from network import build

logits = build()(torch.from_numpy(ready))""",
    "timm": """import sys
import timm
import torch

sys.path.insert(0, "THIS_FOLDER/timm")
import timm_model

network = timm.create_model("local-dir:THIS_FOLDER/timm", pretrained=True).eval()
logits = network(torch.from_numpy(ready))""",
    "torchscript": """import torch

logits = torch.jit.load("THIS_FOLDER/model.torchscript.pt")(torch.from_numpy(images))""",
    "torch_export": """import torch

logits = torch.export.load("THIS_FOLDER/model.pt2").module()(torch.from_numpy(images))""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("THIS_FOLDER/model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(["logits"], {"images": images})""",
    "openvino": """import openvino

settings = {"INFERENCE_PRECISION_HINT": "f32"}  # else it may take fewer bits
network = openvino.Core().compile_model("THIS_FOLDER/openvino/model.xml", "CPU", settings)
logits = network(images)[0]""",
    "executorch": """import torch
from executorch.runtime import Runtime

program = Runtime.get().load_program("THIS_FOLDER/model.pte")
(logits,) = program.load_method("forward").execute((torch.from_numpy(images),))""",
    "litert": """from ai_edge_litert.interpreter import Interpreter

network = Interpreter("THIS_FOLDER/model.tflite")
network.allocate_tensors()
network.set_tensor(network.get_input_details()[0]["index"], images)
network.invoke()
logits = network.get_tensor(network.get_output_details()[0]["index"])""",
}
#: In eight bits, the same with other files.
_CODE["onnx_int8"] = _CODE["onnx"].replace("model.onnx", "model.int8.onnx")
_CODE["openvino_int8"] = _CODE["openvino"].replace("openvino/model.xml", "openvino_int8/model.xml")


def list_usage(formats: Iterable[str], preprocessing: Preprocessing, inside: bool | str) -> list[tuple[str, str]]:
    """Titles and code. The code of an image comes after that of ``safetensors``, and before those that need it.

    Args:
        formats: names.
        preprocessing: of the images.
        inside: what of it is in the graphs.
    """
    names = [name for name in formats if name in _CODE]
    found = [("With effnas", _CODE["safetensors"])]
    rest = [name for name in names if name != "safetensors"]
    if rest:
        alone, graphs = any(name in ALONE for name in rest), any(name not in ALONE for name in rest)
        found.append(("An image for the other formats", _code_of_image(preprocessing, inside, alone, graphs)))
    return found + [(f"`{name}`", _CODE[name]) for name in rest]


def _code_of_image(p: Preprocessing, inside: bool | str, alone: bool, graphs: bool) -> str:
    convert = {1: '.convert("L")', 3: '.convert("RGB")'}.get(p.channels, "")
    lines = ["import numpy as np", "from PIL import Image, ImageOps", ""]
    lines += [f'image = ImageOps.exif_transpose(Image.open("photo.jpg")){convert}']
    whole = graphs and inside == RESIZE
    if whole:
        lines += [f"images = np.atleast_3d(np.array(image)).transpose(2, 0, 1)[None]  # uint8 (1, {p.channels}, h, w)"]
    if not whole or alone:
        at = (p.stored_size - p.size) // 2
        crop = f"[{at}:{at + p.size}, {at}:{at + p.size}]" if at else ""
        lines += ["side = min(image.size)", "left, top = (image.width - side) // 2, (image.height - side) // 2"]
        how = f"Image.Resampling.{p.interpolation.upper()}"
        size = f"({p.stored_size}, {p.stored_size})"
        lines += [f"image = image.resize({size}, {how}, box=(left, top, left + side, top + side))"]
        lines += [f"pixels = np.atleast_3d(np.asarray(image, dtype=np.float32)){crop}"]
        shape = f"  # float32 (1, {p.channels}, {p.size}, {p.size})"
        if graphs and inside is True:
            lines += [f"images = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]){shape}"]
        if alone or not inside:
            lines += [f"mean, std = np.float32({list(p.mean)}), np.float32({list(p.std)})"]
            lines += [f"ready = np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None]){shape}"]
        if graphs and not inside:
            lines += ["images = ready"]
    return "\n".join(lines)

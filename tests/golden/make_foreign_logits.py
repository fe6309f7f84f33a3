"""Makes foreign_logits.json: what timm's and torchvision's own networks answer to one picture.

Run where they can be imported (they cannot beside the CPU build of torch that the suite uses):

    pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31
    python tests/golden/make_foreign_logits.py

The weights follow from the names of the tensors (:func:`tensor`), so that the file holds names, shapes and answers.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import torch

#: (implementation, its name, our network, what the architecture needs beyond its format, gain of its convolutions: such
#: that what goes in is seen at the end)
NETWORKS = (
    ("timm", "efficientnet_b0", "efficientnet_b0", {}, 2.7),
    ("timm", "tf_efficientnet_b0", "efficientnet_b0", {"padding": "same"}, 2.7),
    ("timm", "tf_efficientnet_lite0", "efficientnet_lite0", {"padding": "same"}, 1.5),
    ("timm", "mobilenetv2_100", "mobilenet_v2", {}, 1.5),
    ("timm", "semnasnet_100", "mnasnet_a1", {}, 1.7),
    ("timm", "mobilenetv1_100", "mobilenet_v1", {}, 2.5),
    ("torchvision", "efficientnet_b0", "efficientnet_b0", {}, 2.7),
    ("torchvision", "mobilenet_v2", "mobilenet_v2", {}, 1.5),
    ("torchvision", "mnasnet1_0", "mnasnet_b1", {}, 1.5),
)
SIDE, CLASSES = 72, 12


def tensor(name: str, shape: list[int], gain: float = 1.5) -> torch.Tensor:
    """The tensor of that name: random, but the same everywhere."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        return torch.rand(shape, generator=generator) + 0.5
    if len(shape) == 1:
        centre, spread = (0.9, 0.2) if name.endswith("weight") else (0.0, 0.1)
        return centre + spread * torch.randn(shape, generator=generator)
    return torch.randn(shape, generator=generator) * math.sqrt(gain / math.prod(shape[1:]))


def picture() -> torch.Tensor:
    """One image (1, 3, SIDE, SIDE) of stripes and a slope; an even side tells the two paddings apart."""
    y, x = torch.meshgrid(*[torch.arange(SIDE, dtype=torch.float32) / SIDE] * 2, indexing="ij")
    return torch.stack([torch.sin(20 * x + 3 * y), 2 * y - 1, torch.cos(14 * x * y)])[None]


def main() -> None:
    """Write the file."""
    import timm
    import torchvision

    found = []
    for source, name, ours, needs, gain in NETWORKS:
        make = timm.create_model if source == "timm" else torchvision.models.get_model
        model = make(name, num_classes=CLASSES).eval()
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        with torch.no_grad():
            for key, value in model.state_dict().items():
                value.copy_(tensor(key, shapes[key], gain))
            logits = model(picture())[0].tolist()
        kept = {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}
        facts = {"source": source, "name": name, "ours": ours, "needs": needs, "gain": gain}
        found.append({**facts, "logits": logits, "shapes": kept})
        print(name, [round(value, 3) for value in logits[:5]])
    versions = {"timm": timm.__version__, "torchvision": torchvision.__version__, "torch": torch.__version__}
    text = json.dumps({"versions": versions, "networks": found}, separators=(",", ":"))
    Path(__file__).with_name("foreign_logits.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

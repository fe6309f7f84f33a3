"""Makes foreign_logits.json: what timm's and torchvision's own networks answer to one picture.

Run where they can be imported (they cannot beside the CPU build of torch that the suite uses); a minute or two:

    pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31
    python tests/golden/make_foreign_logits.py

The weights follow from the names and shapes of the tensors (:func:`tensor`), so that the file holds answers and a
digest of all names and shapes. That answers depend on tensors everywhere in the network is checked here.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

#: (implementation, its name, our network, what the architecture needs beyond its format, gain of its convolutions: such
#: that what goes in is seen at the end)
NETWORKS = (
    ("timm", "efficientnet_b0", "efficientnet_b0", {}, 2.7),
    ("timm", "tf_efficientnet_b0", "efficientnet_b0", {"padding": "same"}, 2.7),
    ("timm", "tf_efficientnet_b2", "efficientnet_b2", {"padding": "same"}, 2.4),
    ("timm", "tf_efficientnet_lite0", "efficientnet_lite0", {"padding": "same"}, 1.5),
    ("timm", "mobilenetv2_100", "mobilenet_v2", {}, 1.5),
    ("timm", "semnasnet_100", "mnasnet_a1", {}, 1.7),
    ("timm", "mnasnet_100", "mnasnet_b1", {}, 1.5),
    ("timm", "mobilenetv1_100", "mobilenet_v1", {}, 2.5),
    ("timm", "efficientnet_es", "efficientnet_es", {}, 1.5),
    ("timm", "tf_efficientnetv2_b0", "efficientnet_v2_b0", {"padding": "same"}, 2.2),
    ("timm", "tf_efficientnetv2_b3", "efficientnet_v2_b3", {"padding": "same"}, 2.0),
    ("torchvision", "efficientnet_b0", "efficientnet_b0", {}, 2.7),
    ("torchvision", "efficientnet_b1", "efficientnet_b1", {}, 2.5),
    ("torchvision", "efficientnet_b5", "efficientnet_b5", {}, 2.2),
    ("torchvision", "efficientnet_v2_s", "efficientnet_v2_s", {}, 1.7),
    ("torchvision", "mobilenet_v2", "mobilenet_v2", {}, 1.5),
    ("torchvision", "mnasnet1_0", "mnasnet_b1", {}, 1.5),
    ("timm", "seresnet50", "se_resnet50", {}, 1.5),
    ("torchvision", "resnet18", "resnet18", {}, 1.0),
    ("torchvision", "resnet50", "resnet50", {}, 1.0),
    ("timm", "mobilenetv3_large_100", "mobilenet_v3_large", {}, 1.9),
    ("timm", "mobilenetv3_small_100", "mobilenet_v3_small", {}, 2.5),
    ("torchvision", "mobilenet_v3_large", "mobilenet_v3_large", {}, 1.9),
    ("torchvision", "mobilenet_v3_small", "mobilenet_v3_small", {}, 2.5),
    ("torchvision", "shufflenet_v2_x0_5", "shufflenet_v2_x0_5", {}, 2.0),
    ("torchvision", "shufflenet_v2_x1_0", "shufflenet_v2_x1_0", {}, 2.0),
    ("torchvision", "squeezenet1_0", "squeezenet1_0", {}, 2.0),
    ("torchvision", "squeezenet1_1", "squeezenet1_1", {}, 2.0),
    ("torchvision", "googlenet", "googlenet", {}, 2.0),
)
#: Networks of timm's strings: these, stem, head, activation, gain.
STRINGS = (
    (
        [
            ["er_r2_k3_s1_e1_c16_se0.25"],
            ["er_r2_k5_s2_e4_c24_se0.25"],
            ["er_r2_k3_s1_e2_c24_noskip"],
            ["cn_r2_k3_s1_e1_c24_skip"],
            ["ir_r1_k3_s2_e4_c32"],
        ],
        *(16, 48, "silu", 2.5),
    ),
    (
        [["er_r1_k3_s1_e4_c24_fc24_noskip"], ["er_r3_k3_s2_e8_c32"], ["er_r1_k3_s2_e1_c48"], ["ir_r2_k5_s1_e8_c48"]],
        *(32, 64, "relu", 1.7),
    ),
)
SIDE, CLASSES = 72, 12


def tensor(name: str, shape: Sequence[int], gain: float = 1.5) -> torch.Tensor:
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


def digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """Of all names and shapes, in the order of the names; BatchNorm's counters aside."""
    rows = [f"{name} {list(shape)}\n" for name, shape in sorted(shapes.items()) if not name.endswith("_tracked")]
    return f"{len(rows)} {hashlib.sha256(''.join(rows).encode()).hexdigest()[:16]}"


@torch.no_grad()
def sensitivity(model: torch.nn.Module, logits: torch.Tensor) -> float:
    """The smallest change of the answer when one tensor is turned round; of about a hundred tensors from in to out."""
    values = [value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")]
    changes = []
    for value in values[:: max(1, len(values) // 100)]:
        kept = value.clone()
        value.copy_(kept.flatten().flip(0).view_as(kept))
        changes.append((model(picture())[0] - logits).abs().max().item())
        value.copy_(kept)
    return min(changes)


@torch.no_grad()
def answer(title: str, model: torch.nn.Module, gain: float) -> dict[str, object]:
    """The tensors' digest and the logits of a model that is given our weights."""
    shapes = {key: list(value.shape) for key, value in model.eval().state_dict().items()}
    for key, value in model.state_dict().items():
        value.copy_(tensor(key, shapes[key], gain))
    logits = model(picture())[0]
    least = sensitivity(model, logits)
    print(f"{title}: logits {logits.min():.3f} to {logits.max():.3f}, changed by {least:.4f} or more", flush=True)
    assert least > 1e-3
    return {"gain": gain, "tensors": digest(shapes), "logits": logits.tolist()}


def make_of_strings(strings: Sequence[Sequence[str]], stem: int, head: int, activation: str) -> torch.nn.Module:
    """timm's network of its strings."""
    from timm.layers import get_act_layer
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet

    blocks = decode_arch_def(strings)
    widths = {"stem_size": stem, "num_features": head, "num_classes": CLASSES}
    return EfficientNet(blocks, act_layer=get_act_layer(activation), **widths)  # type: ignore[no-any-return]


def main() -> None:
    """Write the file."""
    import timm
    import torchvision

    found = []
    for source, name, ours, needs, gain in NETWORKS:
        make = timm.create_model if source == "timm" else torchvision.models.get_model
        more = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
        facts = {"source": source, "name": name, "ours": ours, "needs": needs}
        found.append(facts | answer(f"{source} {name}", make(name, num_classes=CLASSES, **more), gain))
    strings = []
    for rows, stem, head, activation, gain in STRINGS:
        model = make_of_strings(rows, stem, head, activation)
        facts = {"strings": rows, "stem": stem, "head": head, "activation": activation}
        strings.append(facts | answer(rows[0][0], model, gain))
    versions = {"timm": timm.__version__, "torchvision": torchvision.__version__, "torch": torch.__version__}
    made = {"made by": f"tests/golden/{Path(__file__).name}", "versions": versions}
    text = json.dumps({**made, "networks": found, "strings": strings}, indent=1)
    Path(__file__).with_name("foreign_logits.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

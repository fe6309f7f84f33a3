"""Makes torchvision_zoo.json: costs and answers of torchvision's (and timm's SE-) networks that the zoo builds.

Run where they can be imported (they cannot beside the CPU build of torch that the suite uses); a minute or two:

    pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31
    python tests/golden/make_torchvision_zoo.py

``architectures`` are those with fused blocks, which the zoo has as Architectures.

Costs are at 1,000 classes and the side given: MACs are half of what torch.utils.flop_counter.FlopCounterMode counts,
activations the elements in the outputs of convolutions and linear layers. Answers are to make_foreign_logits.py's
picture at 12 classes, with weights that follow from the place of each tensor in the state dict (:func:`fill`), so that
networks whose layers are in the same order answer alike whatever these are called.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from make_foreign_logits import CLASSES, picture, sensitivity, tensor

#: name and the gain of its convolutions in :func:`fill`, such that what goes in is seen at the end; none: costs alone
NETWORKS = {
    "resnet18": 1.0,
    "resnet34": None,
    "resnet50": 1.0,
    "resnet101": None,
    "resnet152": None,
    "wide_resnet50_2": None,
    "wide_resnet101_2": None,
    "seresnet50": 1.5,
    "mobilenet_v3_large": 1.9,
    "mobilenet_v3_small": 2.5,
    "shufflenet_v2_x0_5": 2.0,
    "shufflenet_v2_x1_0": 2.0,
    "shufflenet_v2_x1_5": None,
    "shufflenet_v2_x2_0": None,
    "squeezenet1_0": 2.0,
    "squeezenet1_1": 2.0,
    "googlenet": 2.0,
}
#: ours, whose, its name there, and the side
ARCHITECTURES = (
    ("efficientnet_v2_b0", "timm", "tf_efficientnetv2_b0", 224),
    ("efficientnet_v2_b1", "timm", "tf_efficientnetv2_b1", 240),
    ("efficientnet_v2_b2", "timm", "tf_efficientnetv2_b2", 260),
    ("efficientnet_v2_b3", "timm", "tf_efficientnetv2_b3", 300),
    ("efficientnet_v2_s", "torchvision", "efficientnet_v2_s", 384),
    ("efficientnet_v2_m", "torchvision", "efficientnet_v2_m", 480),
    ("efficientnet_v2_l", "torchvision", "efficientnet_v2_l", 480),
    ("efficientnet_v2_xl", "timm", "tf_efficientnetv2_xl", 512),
    ("efficientnet_es", "timm", "efficientnet_es", 224),
)
#: widths of torchvision's MobileNetV3 that are costed too
MOBILE_WIDTHS = (0.35, 0.75, 1.25, 2.0)


@torch.no_grad()
def fill(model: nn.Module, gain: float) -> None:
    """Overwrite every tensor of the state dict with one that its place, last name and shape decide."""
    for place, (key, value) in enumerate(model.state_dict().items()):
        value.copy_(tensor(f"{place}.{key.rpartition('.')[2]}", list(value.shape), gain))


def make(name: str, num_classes: int = 1000) -> nn.Module:
    """torchvision's network, or timm's ``seresnet50``, with fresh weights."""
    import timm
    import torchvision

    if name == "seresnet50":
        return timm.create_model(name, num_classes=num_classes)
    needs = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return torchvision.models.get_model(name, num_classes=num_classes, **needs)


def costs(model: nn.Module, side: int) -> dict[str, int]:
    """Parameters, MACs and activations at one image (1, 3, side, side); of a model on the meta device."""
    elements = []
    for layer in model.eval().modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _layer, _inputs, output: elements.append(output.numel()))
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(torch.empty(1, 3, side, side, device="meta"))
    return {
        "side": side,
        "params": sum(p.numel() for p in model.parameters()),
        "macs": flops.get_total_flops() // 2,
        "activations": sum(elements),
    }


def scaled() -> dict[str, dict[str, int]]:
    """torchvision's own scaled networks: MobileNetV3's width_mult, ResNet-50 with four times the blocks."""
    from torchvision.models import mobilenetv3, resnet

    found = {}
    with torch.device("meta"):
        for name in ("mobilenet_v3_large", "mobilenet_v3_small"):
            for width in MOBILE_WIDTHS:
                setting, last = mobilenetv3._mobilenet_v3_conf(name, width_mult=width)
                found[f"{name} width={width}"] = costs(mobilenetv3.MobileNetV3(setting, last), 224)
        found["resnet50 depth=4"] = costs(resnet.ResNet(resnet.Bottleneck, [12, 16, 24, 12]), 224)
    return found


def with_fused_blocks() -> dict[str, dict[str, object]]:
    """Costs of the EfficientNets with fused blocks."""
    import timm
    import torchvision

    found: dict[str, dict[str, object]] = {}
    for ours, source, name, side in ARCHITECTURES:
        with torch.device("meta"):
            model = timm.create_model(name) if source == "timm" else torchvision.models.get_model(name)
            found[ours] = {"source": source, "name": name, **costs(model, side)}
        print(ours, found[ours], flush=True)
    return found


def main() -> None:
    """Write the file."""
    import timm
    import torchvision

    found = {}
    for name, gain in NETWORKS.items():
        with torch.device("meta"):
            found[name] = facts = costs(make(name), 224)
        print(name, facts, flush=True)
        if gain is None:
            continue
        model = make(name, CLASSES).eval()
        fill(model, gain)
        with torch.no_grad():
            logits = model(picture())[0]
        least = sensitivity(model, logits)
        print(f"logits {logits.min():.3f} to {logits.max():.3f}, changed by {least:.4f} or more", flush=True)
        assert least > 1e-3
        facts |= {"gain": gain, "logits": logits.tolist()}
    versions = {"timm": timm.__version__, "torchvision": torchvision.__version__, "torch": torch.__version__}
    data = {
        "made by": f"tests/golden/{Path(__file__).name}",
        "versions": versions,
        "networks": found,
        "scaled": scaled(),
        "architectures": with_fused_blocks(),
    }
    Path(__file__).with_name("torchvision_zoo.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

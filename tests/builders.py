"""What the tests of the zoo's builders share: torchvision's costs and answers, and checks against them."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make_foreign_logits import CLASSES, picture  # noqa: E402
from make_torchvision_zoo import costs, fill  # noqa: E402

_FACTS = json.loads((GOLDEN / "torchvision_zoo.json").read_text(encoding="utf-8"))
NETWORKS, SCALED = _FACTS["networks"], _FACTS["scaled"]

Builder = Callable[..., nn.Module]


def cost_of(
    builder: Builder, depth: float = 1.0, width: float = 1.0, resolution: int = 224, **options: Any
) -> dict[str, int]:
    """``side params macs activations`` of one image, without computing anything."""
    with torch.device("meta"):
        return costs(builder(depth, width, resolution, **options), resolution)


def check_costs(case: dict[str, Any], found: dict[str, int]) -> None:
    assert found == {name: case[name] for name in ("side", "params", "macs", "activations")}


def check_answers(name: str, builder: Builder, **options: Any) -> None:
    """The same logits as the published implementation's from the same weights, and features that lead to them."""
    model = builder(1.0, 1.0, 224, num_classes=CLASSES, **options).eval()
    fill(model, NETWORKS[name]["gain"])
    with torch.no_grad():
        logits = model(picture())[0]
    torch.testing.assert_close(logits, torch.tensor(NETWORKS[name]["logits"]), atol=1e-4, rtol=1e-4)


def check_parts(builder: Builder, classifier: type[nn.Module] = nn.Linear, **options: Any) -> None:
    """What class activation maps and fine-tuning need: features, a classifier, a fresh one; and a step of training."""
    torch.manual_seed(0)
    model: Any = builder(0.5, 0.25, 64, num_classes=5, in_channels=1, **options)
    images = torch.randn(4, 1, 64, 64)
    features = model.forward_features(images)
    assert features.shape[:2] == (4, model.num_features)
    assert isinstance(model.classifier, classifier)
    before = [p.detach().clone() for p in model.parameters()]
    loss = functional.cross_entropy(model(images), torch.arange(4))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    model.eval()
    torch.testing.assert_close(model.forward_head(model.forward_features(images)), model(images))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript; it is still used
        torch.testing.assert_close(torch.jit.script(model)(images), model(images))
    model.reset_classifier(7)
    assert model(images).shape == (4, 7)
    assert isinstance(model.classifier, classifier)
    model.reset_classifier(0)
    assert model(images).ndim == 2
    torch.testing.assert_close(model(images), model.forward_head(model.forward_features(images), pre_logits=True))


def check_multipliers(builder: Builder, **options: Any) -> None:
    """Each of the three costs more where it is more, and wrong ones are refused."""
    base = cost_of(builder, resolution=64, **options)["macs"]
    for changes in ({"depth": 2.0}, {"width": 2.0}, {"resolution": 128}):
        larger = cost_of(builder, **{"resolution": 64, **changes}, **options)["macs"]
        assert larger > 1.3 * base, changes
    for name in ("depth", "width"):
        for wrong in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match=f"{name} multiplier must be"):
                cost_of(builder, **{name: wrong}, **options)

"""Networks made ready for inference: the same answers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effnas.evaluate.machine.inference import fold_batch_norms, prepare_for_inference
from effnas.evaluate.machine.settings import Settings
from effnas.space.architecture import Architecture
from effnas.space.network import build
from effnas.space.space import load_space
from effnas.space.zoo import zoo


def trained(architecture: Architecture) -> nn.Module:
    """A network whose BatchNorms are not the neutral ones."""
    torch.manual_seed(0)
    model = build(architecture)
    generator = torch.Generator().manual_seed(1)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None
            assert m.running_var is not None
            m.running_mean.normal_(0, 0.1, generator=generator)
            m.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.uniform_(m.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(m.bias, 0, 0.1, generator=generator)
    return model


def images(n: int, side: int) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(2))


def architectures() -> list[Architecture]:
    space, rng = load_space("mobile_cifar"), np.random.default_rng(0)
    b0 = zoo("efficientnet_b0")
    return [
        space.build(space.sample(rng)),
        space.build(space.sample(rng)),
        Architecture.from_dict({**b0.to_dict(), "num_classes": 10}),
        Architecture.from_dict({**b0.to_dict(), "num_classes": 10, "padding": "same"}),
        zoo("efficientnet_lite0"),
    ]


@pytest.mark.parametrize("architecture", architectures(), ids=lambda a: a.name or a.digest[:6])
@torch.inference_mode()
def test_a_folded_network_says_the_same_within_1e_5(architecture: Architecture) -> None:
    model = trained(architecture).eval()
    x = images(4, 48)
    expected = model(x)
    scale = expected.abs().max()
    assert (fold_batch_norms(model)(x) - expected).abs().max() < 1e-5 * max(1, scale)
    for memory_format in ("channels_last", "contiguous"):
        ready = prepare_for_inference(model, Settings(memory_format=memory_format))
        assert (ready(x) - expected).abs().max() < 1e-5 * max(1, scale)


@torch.inference_mode()
def test_no_batch_norm_is_left_and_the_model_is_as_it_was() -> None:
    model = trained(zoo("efficientnet_b0")).train()
    before = copy.deepcopy(model.state_dict())
    fast = fold_batch_norms(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    assert not any(p.requires_grad for p in fast.parameters())
    assert not any(m.training for m in fast.modules())
    assert all(m.training for m in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert [type(m) for m in model.modules()] == [type(m) for m in trained(zoo("efficientnet_b0")).modules()]


def test_folding_keeps_the_memory_format() -> None:
    model = trained(zoo("efficientnet_b0")).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = [p for p in fold_batch_norms(model).parameters() if p.ndim == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


@torch.inference_mode()
def test_in_bf16_the_answers_are_close_and_come_in_fp32() -> None:
    model = trained(Architecture.from_dict({**zoo("efficientnet_b0").to_dict(), "num_classes": 10})).eval()
    x = images(8, 64)
    ready = prepare_for_inference(model, Settings(precision="bf16"))
    assert {p.dtype for p in ready.parameters()} == {torch.bfloat16}
    expected, found = model(x), ready(x)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999


def test_another_module_is_only_set_to_evaluation() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4, 2))
    fast = fold_batch_norms(model.train())
    x = images(5, 3)
    assert not fast.training
    assert model.training
    assert torch.equal(fast(x), copy.deepcopy(model).eval()(x))

"""Faster layers: the same outputs and gradients as PyTorch's, and gone afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from effnas.evaluate.machine.depthwise import DepthwiseConv
from effnas.evaluate.machine.fast_layers import fast_layers
from effnas.evaluate.machine.inference import fold_batch_norms
from effnas.space.architecture import Architecture
from effnas.space.network import build
from effnas.space.stage import Stage
from effnas.space.zoo import load_architecture

CPU = torch.device("cpu")


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return made.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_depthwise_convolution_and_its_gradients_are_torchs(size: int, stride: int, padded: bool) -> None:
    padding = 0 if padded else size // 2
    for height, width in [(1, 1), (2, 2), (1, 4), (3, 3), (4, 2), (5, 6), (8, 7), (13, 12)]:
        if padded:
            height, width = height + size - 1, width + size - 1
        for channels in (16, 24):
            x = images(3, channels, height, width)
            weight = images(channels, 1, size, size)
            expected = functional.conv2d(x, weight, None, stride, padding, 1, channels)
            found = DepthwiseConv.apply(x, weight, stride, padding)  # type: ignore[no-untyped-call]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
            seed = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
            for a, b in zip(
                torch.autograd.grad(found, (x, weight), seed),
                torch.autograd.grad(expected, (x, weight), seed),
                strict=True,
            ):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_in_bf16_its_gradients_are_those_of_fp32_within_bf16s_precision(size: int, stride: int) -> None:
    x, weight = images(4, 16, 9, 9), images(16, 1, size, size)
    expected = functional.conv2d(x, weight, None, stride, size // 2, 1, 16)
    seed = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    exact = torch.autograd.grad(expected, (x, weight), seed)
    rough = DepthwiseConv.apply(x.bfloat16(), weight.bfloat16(), stride, size // 2)  # type: ignore[no-untyped-call]
    assert rough.dtype == torch.bfloat16
    for a, b in zip(torch.autograd.grad(rough, (x, weight), seed.bfloat16()), exact, strict=True):
        assert (a - b).abs().max() < 0.02 * b.abs().max()


MIXED = Architecture(
    (
        Stage("ds", 8, 1, 3, se_ratio=0.25),
        Stage("mbconv", 12, 2, 5, 2, 3, 0.25),
        Stage("mbconv", 12, 2, 3, 2, 3, 0.5, "pool"),
        Stage("mbconv", 16, 1, 7, 2, 2, skip="none"),
        Stage("conv", 16, 1, 3),
    ),
    stem=8,
    head=24,
    resolution=20,
    num_classes=5,
    dropout=0.0,
    drop_path=0.4,
)


def gradients(model: nn.Module, x: Tensor, autocast: bool = False) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(x).float()
    return logits.detach(), list(torch.autograd.grad(logits.square().mean(), list(model.parameters())))


@pytest.mark.parametrize("activation", ["silu", "relu", "hardswish", "mish"])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_a_network_trains_alike(padding: str, activation: str) -> None:
    torch.manual_seed(0)
    model = build(Architecture.from_dict({**MIXED.to_dict(), "padding": padding, "activation": activation}))
    model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    other = copy.deepcopy(model)
    x = images(6, 3, 20, 20)
    logits, expected = gradients(other, x)
    with fast_layers(model, CPU):
        found, fast = gradients(model, x)
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)
    for (name, _), a, b in zip(model.named_parameters(), fast, expected, strict=True):
        assert (a - b).abs().max() <= 1e-3 * b.abs().max() + 1e-6, name
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4, msg=name)


def test_under_autocast_too() -> None:
    torch.manual_seed(0)
    model = build(MIXED).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    other = copy.deepcopy(model)
    x = images(6, 3, 20, 20)
    logits, expected = gradients(other, x, autocast=True)
    with fast_layers(model, CPU):
        found, fast = gradients(model, x, autocast=True)
    assert (found - logits).abs().max() < 0.1 * logits.abs().max()
    flat, other_flat = torch.cat([g.flatten() for g in fast]), torch.cat([g.flatten() for g in expected])
    assert torch.nn.functional.cosine_similarity(flat, other_flat, dim=0) > 0.98
    assert all(g.dtype == torch.float32 for g in fast)


def test_the_layers_are_what_they_were_afterwards_even_after_an_error() -> None:
    model = build(MIXED)
    before = [(type(m), getattr(m, "inplace", None)) for m in model.modules()]
    with fast_layers(model, CPU):
        assert [type(m) for m in model.modules()] != [kind for kind, _ in before]
    assert [(type(m), getattr(m, "inplace", None)) for m in model.modules()] == before
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 2 channels"), fast_layers(model, CPU):
        model(torch.zeros(1, 2, 3, 4))
    assert [(type(m), getattr(m, "inplace", None)) for m in model.modules()] == before


def test_on_a_gpu_depthwise_convolutions_stay() -> None:
    model = build(MIXED)
    with fast_layers(model, torch.device("cuda")):
        kinds = {type(m) for m in model.modules() if isinstance(m, nn.Conv2d)}
    assert kinds == {nn.Conv2d}


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_a_folded_copy_of_exchanged_layers_answers_the_same(padding: str) -> None:
    """What is measured in the middle of a training is such a copy."""
    torch.manual_seed(0)
    model = build(load_architecture("efficientnet_b0").with_(num_classes=5, padding=padding)).eval()
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "bn.bias")):
            value.normal_(0, 0.3)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        with fast_layers(model, torch.device("cpu")):
            assert torch.allclose(fold_batch_norms(model)(x), expected, atol=1e-4 * float(expected.abs().max()))

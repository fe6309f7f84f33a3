"""Scores of networks so small that they can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effnas import Architecture, Stage, build, load_architecture
from effnas.evaluate.zero_cost.az_nas import measure_entropy, measure_gain
from effnas.evaluate.zero_cost.conditions import BATCH, draw_images, draw_labels, prepare_network
from effnas.evaluate.zero_cost.counts import COUNTS, count_batch, count_network
from effnas.evaluate.zero_cost.gradients import sum_ratios
from effnas.evaluate.zero_cost.naswot import sum_agreements
from effnas.evaluate.zero_cost.proxies import PROXIES, expand_parts, score_network
from effnas.evaluate.zero_cost.zen_score import strip
from effnas.space.blocks import Block, SqueezeExcite
from effnas.space.built import BuiltNetwork
from effnas.space.cost import ArchitectureBatch, cost_batch

SIDE = 3


def network(builder: Callable[..., nn.Module]) -> BuiltNetwork:
    return BuiltNetwork(builder, resolution=SIDE, in_channels=2, num_classes=4)


def linear(depth: float, width: float, resolution: int) -> nn.Module:
    layers = (nn.Conv2d(2, 3, 1, bias=False), nn.Flatten(), nn.Linear(3 * SIDE**2, 4, bias=False))
    return nn.Sequential(*layers)


def gated(depth: float, width: float, resolution: int) -> nn.Module:
    """As ``linear`` where activations and BatchNorm do nothing."""
    layers = [nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.SiLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(3 * SIDE**2, 4, bias=False))


def single(depth: float, width: float, resolution: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * SIDE**2, 4))


class Featured(nn.Sequential):
    def forward_features(self, x: Tensor) -> Tensor:
        return self[1](self[0](x))  # type: ignore[no-any-return]


def normalised(depth: float, width: float, resolution: int) -> nn.Module:
    return Featured(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * SIDE**2, 4))


@pytest.mark.parametrize("builder", [linear, gated])
def test_synflow_of_a_linear_network_is_the_sum_of_the_products_along_its_paths(builder: Any) -> None:
    module = prepare_network(network(builder))
    first, last = module[0].weight.detach().double(), module[-1].weight.detach().double()  # type: ignore[index]
    paths = 0.0
    for out in range(4):
        for middle in range(3):
            for pixel in range(SIDE**2):
                for channel in range(2):
                    product = last[out, middle * SIDE**2 + pixel] * first[middle, channel, 0, 0]
                    paths += abs(float(product))
    # each of the two layers carries the whole flow
    assert score_network(network(builder), ["synflow"])["synflow"] == pytest.approx(math.log(2 * paths), rel=1e-9)


def test_naswot_counts_the_signs_in_common() -> None:
    images = torch.tensor([[1.0, -1.0, 2.0], [1.0, 1.0, -1.0], [-1.0, -2.0, -3.0]])
    module = nn.Sequential(nn.ReLU(), nn.Sigmoid())  # a gate does not count
    kernel = sum_agreements(module, images)
    assert kernel.tolist() == [[3, 1, 1], [1, 3, 1], [1, 1, 3]]
    assert float(torch.linalg.slogdet(kernel)[1]) == pytest.approx(math.log(20))
    twice = sum_agreements(nn.Sequential(nn.Identity(), nn.SiLU(inplace=True), nn.Tanh()), images.clone())
    assert (twice.diagonal() == 6).all()


def softmax_gradients(batches: int) -> tuple[Any, list[Any]]:
    """The weight of ``single``, and its gradient for each batch by the formula (softmax − one-hot)ᵀ x / n."""
    spec = network(single)
    layer: Any = prepare_network(spec)[1]  # type: ignore[index]
    weight, found = layer.weight.detach().double().numpy(), []
    for images, labels in zip(draw_images(spec, batches), draw_labels(spec, batches), strict=True):
        x = images.flatten(1).double().numpy()
        logits = x @ weight.T + layer.bias.detach().double().numpy()
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        share[np.arange(BATCH), labels.numpy()] -= 1
        found.append(share.T @ x / BATCH)
    return weight, found


def test_gradients_of_one_layer_by_the_formula() -> None:
    weight, (first, second) = softmax_gradients(2)
    scores = score_network(network(single), ["grad_norm", "snip", "zico"])
    assert scores["grad_norm"] == pytest.approx(np.sqrt((first**2).sum()), rel=1e-5)
    assert scores["snip"] == pytest.approx(np.abs(weight * first).sum(), rel=1e-5)
    assert score_network(network(single), ["snip"]) == {"snip": scores["snip"]}  # of the first batch, alone too
    ratios = (np.abs(first) + np.abs(second)) / np.abs(first - second)  # mean over deviation, of two
    assert scores["zico"] == pytest.approx(np.log(ratios.sum()), rel=1e-3)


def test_zico_leaves_out_what_does_not_differ() -> None:
    first = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([1.0])}
    second = {"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([1.0])}
    assert sum_ratios([first, second]) == pytest.approx(math.log(3))


def test_zen_score_by_the_formula() -> None:
    spec = network(normalised)
    rng = torch.random.get_rng_state()
    score = score_network(spec, ["zen_score"])["zen_score"]
    assert torch.equal(rng, torch.random.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight = torch.empty(3, 2).normal_()  # the first module's that has any
    images, moves = draw_images(spec, 2)

    def features(x: Tensor) -> tuple[Tensor, Tensor]:
        mixed = torch.einsum("oc,nchw->nohw", weight, x)
        mean, variance = mixed.mean((0, 2, 3), keepdim=True), mixed.var((0, 2, 3), keepdim=True, correction=0)
        unbiased = variance.flatten() * (BATCH * SIDE**2) / (BATCH * SIDE**2 - 1)
        return (mixed - mean) / torch.sqrt(variance + 1e-5), unbiased

    still, variance = features(images)
    distance = (still - features(images + moves)[0]).abs().sum((1, 2, 3)).mean()
    assert score == pytest.approx(float(torch.log(distance) + torch.log(variance.mean()) / 2), rel=1e-5)


def test_zen_score_is_of_the_network_without_shortcuts_and_gates() -> None:
    module = strip(build(load_architecture("efficientnet_b0").with_(resolution=32)))
    blocks = [part for part in module.modules() if isinstance(part, Block)]
    assert len(blocks) == 16
    assert {block.shortcut for block in blocks} == {"none"}
    assert not any(isinstance(part, SqueezeExcite) for part in module.modules())


def test_entropy_of_equal_independent_channels_is_the_logarithm_of_their_number() -> None:
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert measure_entropy(square.reshape(4, 2, 1, 1)) == pytest.approx(math.log(2), abs=1e-6)
    same = square[:, :1].repeat(1, 2)
    assert measure_entropy(same.reshape(4, 2, 1, 1)) == pytest.approx(0, abs=1e-6)


def test_the_gain_of_a_scaling_is_its_factor() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(4, 1, 6, 6, requires_grad=True)
    assert measure_gain(before, 3 * before, generator) == pytest.approx(3)
    # every second pixel, as a convolution of stride 2 may take it: one of the four unshuffled channels answers
    assert measure_gain(before, 2 * before[:, :, ::2, ::2], generator) == pytest.approx(2)
    odd = torch.randn(4, 1, 5, 5, requires_grad=True)
    assert measure_gain(odd, 2 * odd[:, :, ::2, ::2], generator) == pytest.approx(2)


STAGES = (
    Stage("mbconv", 16, repeats=2, expand_ratio=3, stride=2, se_ratio=0.25),
    Stage("conv", 24, repeats=1, stride=2),
    Stage("ds", 24, repeats=3),
)
SMALL = Architecture(stages=STAGES, resolution=16, in_channels=1, num_classes=10, stem=8, head=32, stem_stride=1)


def test_counts() -> None:
    costs = SMALL.cost
    assert count_network(SMALL) == {
        "log_macs": math.log(costs.macs),
        "log_params": math.log(costs.params),
        "activations": costs.activations,
        "depth": 6,
        "expansion_layers": 2 * 3 + 1 + 3,
    }
    batch = ArchitectureBatch.of([SMALL, SMALL.with_(stages=STAGES[:2])])
    table = count_batch(batch, cost_batch(batch))
    for i, one in enumerate([SMALL, SMALL.with_(stages=STAGES[:2])]):
        assert {name: table[name][i] for name in COUNTS} == pytest.approx(count_network(one))


def test_all_proxies_are_finite_and_depend_on_nothing_but_the_network() -> None:
    first = score_network(SMALL, PROXIES)
    assert set(first) == set(expand_parts(PROXIES))
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    again = score_network(SMALL.with_(dropout=0.9, drop_path=0.5, name="other"), PROXIES)
    assert torch.equal(state, torch.random.get_rng_state())
    assert again == pytest.approx(first, rel=1e-6)
    larger = score_network(SMALL.with_(stages=(*STAGES, Stage("mbconv", 48, repeats=2, expand_ratio=6))), PROXIES)
    more = ("synflow", "naswot", "zen_score", "zico", "az_expressivity", *COUNTS)  # of what they are said to measure
    assert all(larger[name] > first[name] for name in more)

"""Networks that have no score, and names that are no proxies."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effnas import UserError
from effnas.evaluate.evaluation import EvaluationError
from effnas.evaluate.zero_cost import conditions
from effnas.evaluate.zero_cost.az_nas import run_blocks
from effnas.evaluate.zero_cost.proxies import PROXIES, check_proxies, score_network
from effnas.space.built import BuiltNetwork

WEIGHTED = ("synflow", "grad_norm", "snip", "zico")


class Staged(nn.Module):
    """Two stages; ``broken`` says what is wrong with the second or with the logits."""

    def __init__(self, broken: str) -> None:
        super().__init__()
        self.broken = broken
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)
        second: dict[str, nn.Module] = {"empty": nn.ReLU(), "unchanged": nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh())}
        blocks = second.get(broken, nn.Conv2d(4, 4, 1))
        self.stages = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1)), nn.Sequential(blocks))
        self.classifier = nn.Linear(4, 3)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward_features(self, x: Tensor) -> Tensor:
        return self.stages(self.stem(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        x = self.forward_features(x)
        x = self.classifier(x.mean((2, 3)))
        if self.broken == "nan":
            return x.sqrt()  # of negative numbers too
        if self.broken == "cut":
            return x.detach() + self.bias
        return x


def spec(make: Callable[..., nn.Module]) -> BuiltNetwork:
    return BuiltNetwork(make, resolution=8, in_channels=1, num_classes=3)


def empty(depth: float, width: float, resolution: int) -> nn.Module:
    return Staged("empty")


def nan(depth: float, width: float, resolution: int) -> nn.Module:
    return Staged("nan")


def cut(depth: float, width: float, resolution: int) -> nn.Module:
    return Staged("cut")


def weightless(depth: float, width: float, resolution: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU(), Widen())


class Widen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(1, 3)


def infinite(depth: float, width: float, resolution: int) -> nn.Module:
    module = Staged("")
    with torch.no_grad():
        module.stem.weight.fill_(1e300 if module.stem.weight.dtype == torch.float64 else 3e38)
    return module


@pytest.mark.parametrize("proxy", WEIGHTED)
def test_a_stage_without_parameters(proxy: str) -> None:
    with pytest.raises(EvaluationError, match=rf"{proxy}: stage 1 has no parameters \(Sequential\)"):
        score_network(spec(empty), [proxy])


def test_a_stage_without_parameters_does_not_matter_to_what_does_not_look_at_weights() -> None:
    assert set(score_network(spec(empty), ["zen_score", "log_macs"])) == {"zen_score", "log_macs"}


@pytest.mark.parametrize("proxy", ["grad_norm", "snip", "zico"])
def test_gradients_that_are_not_finite(proxy: str) -> None:
    with pytest.raises(EvaluationError, match=rf"{proxy}: the gradient of stem.weight is not finite"):
        score_network(spec(nan), [proxy])


@pytest.mark.parametrize("proxy", WEIGHTED)
def test_an_output_that_does_not_depend_on_the_weights(proxy: str) -> None:
    with pytest.raises(EvaluationError, match=rf"{proxy}: no weight has a gradient"):
        score_network(spec(cut), [proxy])


@pytest.mark.parametrize("proxy", WEIGHTED)
def test_no_weights_at_all(proxy: str) -> None:
    with pytest.raises(EvaluationError, match="neither convolutions nor linear layers: there are no weights to score"):
        score_network(spec(weightless), [proxy])


def test_feature_maps_that_are_not_finite() -> None:
    with pytest.raises(EvaluationError, match=r"grad_norm: the gradient of .* is not finite"):
        score_network(spec(infinite), ["grad_norm"])


def test_naswot_needs_activations_that_tell_images_apart() -> None:
    with pytest.raises(EvaluationError, match=r"naswot: the network has no activation layers of torch.nn"):
        score_network(spec(nan), ["naswot"])
    with pytest.raises(EvaluationError, match="naswot: the kernel is singular: the network gives different images"):
        score_network(spec(weightless), ["naswot"])


def test_what_only_a_builder_knows() -> None:
    with pytest.raises(EvaluationError, match=r"zen_score: the module of builder .* must have forward_features"):
        score_network(spec(weightless), ["zen_score"])
    with pytest.raises(EvaluationError, match=r"depth: only builder .*nan knows its blocks; choose log_macs, log_par"):
        score_network(spec(nan), ["depth"])
    with pytest.raises(EvaluationError, match="only the builder knows its blocks: choose another proxy"):
        run_blocks(nn.Sequential(nn.Linear(1, 1)), torch.zeros(1, 1), "the builder")


def test_memory_that_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(conditions, "build", fail)
    with pytest.raises(EvaluationError, match="synflow: out of memory at batch size 16"):
        score_network(spec(nan), ["synflow"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("synflo", "where: unknown 'synflo'. Did you mean 'synflow'?"),
        ([], "where must be one or more of synflow, naswot, .*activations, got []"),
        (3, "where must be one or more of synflow, .*, got 3"),
        (["depth", "depth"], "where must differ, got depth, depth"),
        (["az_expressivity"], "where: unknown 'az_expressivity'. .*Choose one of: synflow, naswot"),
    ],
)
def test_names(names: Any, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[]", re.escape("[]"))):
        check_proxies("where", names)


def test_good_names() -> None:
    assert check_proxies("where", "depth") == ("depth",)
    assert check_proxies("where", list(PROXIES)) == PROXIES

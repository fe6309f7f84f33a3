"""MACs of a builder's network beyond convolutions and matrices, and what is said of what is not counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effnas import cost
from effnas.space.built import BuiltNetwork

Forward = Callable[[Any, Tensor], Tensor]
N = 6  # features, and classes


class Tail(nn.Module):
    """The mean of every channel, (1, 6), and then what is counted."""

    def __init__(self, layers: dict[str, Any], forward: Forward) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, nn.Parameter(torch.zeros(layer)) if isinstance(layer, tuple) else layer)
        self.then = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self, x.mean((2, 3)))


def found(layers: Callable[[], dict[str, Any]], forward: Forward) -> Any:
    """Its cost: parameters, MACs, elements of outputs."""

    def tail(depth: float, width: float, resolution: int) -> nn.Module:
        return Tail(layers(), forward)

    tail.__qualname__ = f"tail{id(forward)}"
    return cost(BuiltNetwork(tail, resolution=4, in_channels=N, num_classes=N))


CASES: dict[str, tuple[Callable[[], dict[str, Any]], Forward, int]] = {
    "Bilinear": (lambda: {"a": nn.Bilinear(6, 6, 6)}, lambda m, x: m.a(x, x), 216),
    "F.bilinear": (lambda: {"w": (6, 6, 6)}, lambda m, x: F.bilinear(x, x, m.w), 216),
    "mv": (lambda: {"w": (6, 6)}, lambda m, x: torch.mv(m.w, x[0])[None], 36),
    "matrix @ vector": (lambda: {"w": (6, 6)}, lambda m, x: (m.w @ x[0])[None], 36),
    "vector @ matrix": (lambda: {"w": (6, 6)}, lambda m, x: (x[0] @ m.w)[None], 36),
    "batch @ vector": (lambda: {"w": (6,)}, lambda m, x: x.expand(1, 6, 6) @ m.w, 36),
    "linear of a vector": (lambda: {"a": nn.Linear(6, 6)}, lambda m, x: m.a(x[0])[None], 36),
    "linear to a number": (lambda: {"w": (6,)}, lambda m, x: F.linear(x, m.w)[:, None].expand(1, 6), 6),
    "dot": (lambda: {"w": (6,)}, lambda m, x: torch.dot(m.w, x[0]).expand(1, 6), 6),
    "vector @ vector": (lambda: {"w": (6,)}, lambda m, x: (x[0] @ m.w).expand(1, 6), 6),
    "addmv": (lambda: {"b": (6,), "w": (6, 6)}, lambda m, x: torch.addmv(m.b, m.w, x[0])[None], 36),
    "addr": (lambda: {"b": (6, 6), "w": (6,)}, lambda m, x: torch.addr(m.b, m.w, x[0])[:1], 36),
    "outer": (lambda: {"w": (6,)}, lambda m, x: torch.outer(m.w, x[0])[:1], 36),
    "einsum i,j->ij": (lambda: {"w": (6,)}, lambda m, x: torch.einsum("i,j->ij", m.w, x[0])[:1], 36),
    "einsum bi,oi->bo": (lambda: {"w": (6, 6)}, lambda m, x: torch.einsum("bi,oi->bo", x, m.w), 36),
    "einsum bi,i->b": (lambda: {"w": (6,)}, lambda m, x: torch.einsum("bi,i->b", x, m.w)[:, None].expand(1, 6), 6),
    "baddbmm": (lambda: {"w": (1, 6, 6)}, lambda m, x: torch.baddbmm(m.w[..., :1], m.w, x[..., None])[..., 0], 36),
    "addbmm": (lambda: {"w": (1, 6, 6)}, lambda m, x: torch.addbmm(m.w[0], m.w, m.w)[:1], 216),
    "RNNCell": (lambda: {"a": nn.RNNCell(6, 6)}, lambda m, x: m.a(x), 72),
    "GRUCell": (lambda: {"a": nn.GRUCell(6, 6)}, lambda m, x: m.a(x), 216),
    "LSTMCell": (lambda: {"a": nn.LSTMCell(6, 6)}, lambda m, x: m.a(x)[0], 288),
    "GRUCell of a vector": (lambda: {"a": nn.GRUCell(6, 6)}, lambda m, x: m.a(x[0])[None], 216),
    "weight norm": (
        lambda: {"a": nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))},
        lambda m, x: m.a(x),
        36,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_products_are_counted(name: str, caplog: pytest.LogCaptureFixture) -> None:
    layers, forward, macs = CASES[name]
    assert found(layers, forward).macs == macs
    assert not caplog.records


@pytest.mark.parametrize(
    ("layers", "forward"),
    [
        (lambda: {"a": nn.LayerNorm(6), "b": nn.BatchNorm1d(6)}, lambda m, x: m.b(m.a(x))),
        (lambda: {"a": nn.GroupNorm(2, 6), "b": nn.PReLU(6)}, lambda m, x: m.b(m.a(x))),
        (lambda: {"a": nn.Embedding(6, 6)}, lambda m, x: x + m.a(torch.zeros(1, dtype=torch.long, device=x.device))),
        (lambda: {"w": (1, 6)}, lambda m, x: torch.cat([m.w.expand(1, 6), x])[:1] * m.w + m.w.roll(1)),
        (lambda: {"w": (6, 6)}, lambda m, x: x + F.pad(m.w.flip(0), (1, 1))[:1, :6].softmax(-1)),
        (lambda: {"a": nn.RMSNorm(6)}, lambda m, x: m.a(x)),
    ],
)
def test_what_costs_nothing_is_neither_counted_nor_told(
    layers: Callable[[], dict[str, Any]], forward: Forward, caplog: pytest.LogCaptureFixture
) -> None:
    assert found(layers, forward).macs == 0
    assert not caplog.records


@pytest.mark.parametrize(
    ("layers", "forward", "name"),
    [
        (lambda: {"w": (6, 6)}, lambda m, x: -torch.cdist(x, m.w), "aten._cdist_forward"),
        (lambda: {"w": (6, 6)}, lambda m, x: torch.linalg.solve(m.w, x[0])[None], "aten._linalg_solve_ex"),
        (
            lambda: {"w": (1, 6)},
            lambda m, x: torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(m.w), n=6),
            "aten._fft_r2c",
        ),
    ],
)
def test_what_is_not_counted_is_told_once_by_name(
    layers: Callable[[], dict[str, Any]], forward: Forward, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def same(depth: float, width: float, resolution: int) -> nn.Module:
        return Tail(layers(), forward)

    same.__qualname__ = f"same{id(forward)}"
    with caplog.at_level(logging.WARNING):
        for resolution in (4, 5):
            assert cost(BuiltNetwork(same, resolution=resolution, in_channels=N, num_classes=N)).macs == 0
    assert [name in record.getMessage() for record in caplog.records] == [True]
    assert "MACs and activations lack what aten." in caplog.text
    assert "does with weights: it is not counted" in caplog.text


def test_elements_are_counted_too() -> None:
    one = found(lambda: {"w": (6, 6)}, lambda m, x: torch.mv(m.w, x[0])[None])
    assert (one.params, one.activations) == (36, 6)

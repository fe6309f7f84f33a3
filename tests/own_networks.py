"""Builders as a user writes them, right and wrong ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from effnas.space.multipliers import round_filters, round_repeats


def plain(
    depth: float,
    width: float,
    resolution: int,
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    kernel_size: int = 3,
    channels: tuple[int, ...] = (8, 16),
) -> nn.Sequential:
    """Convolutions with ReLU, half the side at the beginning of each stage."""
    layers: list[nn.Module] = []
    before = in_channels
    for base in channels:
        after = round_filters(base, width)
        for i in range(round_repeats(1, depth)):
            layers += [nn.Conv2d(before, after, kernel_size, 1 if i else 2, kernel_size // 2), nn.ReLU()]
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))


class Attention(nn.Module):
    """Patches of 4 pixels that look at each other; ``kind`` says by which of PyTorch's means."""

    def __init__(
        self,
        depth: float,
        width: float,
        resolution: int,
        num_classes: int = 7,
        in_channels: int = 3,
        kind: str = "matmul",
    ) -> None:
        super().__init__()
        channels, layers = 4 * round(8 * width), round(2 * depth)
        self.kind = kind
        self.stem = nn.Conv2d(in_channels, channels, 4, 4)
        self.layers = nn.ModuleList()
        for _ in range(layers):
            attend, project = nn.MultiheadAttention(channels, 4, batch_first=True), nn.Linear(channels, 3 * channels)
            self.layers.append(attend if kind == "module" else project)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            if self.kind == "module":
                x = x + layer(x, x, x, need_weights=False)[0]
                continue
            q, k, v = layer(x).chunk(3, -1)
            if self.kind == "matmul":
                x = x + torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, -1) @ v
            else:
                x = x + functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return self.classifier(x.mean(1))  # type: ignore[no-any-return]


def patchy(depth: float, width: float, resolution: int, num_classes: int = 10) -> nn.Sequential:
    """Of a total stride of 8, without padding: smaller images have no pixel left."""
    body = nn.Conv2d(1, 8, 4, 4), nn.Conv2d(8, 8, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(8, num_classes))


def lazy(depth: float, width: float, resolution: int) -> nn.Sequential:
    """Its last layer learns at the first image how wide it is."""
    return nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.Flatten(), nn.LazyLinear(10))


def scheduled(depth: float, width: float, resolution: int, **options: Any) -> nn.Module:
    """Reads numbers out of a tensor while it is built, which no tensor of the device meta has."""
    rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
    assert rates[0] == 0
    return plain(depth, width, resolution, **options)


def no_module(depth: float, width: float, resolution: int) -> Any:
    return {"a": "module"}


def two_arguments(depth: float, width: float) -> nn.Module:
    return plain(depth, width, 8)


def failing(depth: float, width: float, resolution: int) -> nn.Module:
    raise RuntimeError("no such depth")


def frail(depth: float, width: float, resolution: int, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    if depth > 1:
        raise RuntimeError("too deep")
    return plain(depth, width, resolution, num_classes=num_classes, in_channels=in_channels)


def no_depth(depth: float, width: float, resolution: int) -> nn.Module:
    return plain(1.0, width, resolution)


def no_width(depth: float, width: float, resolution: int) -> nn.Module:
    return plain(depth, 1.0, resolution)


class _Fixed(nn.Module):
    """Brings every image to 8 pixels."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(functional.adaptive_avg_pool2d(x, 8))  # type: ignore[no-any-return]


def no_resolution(depth: float, width: float, resolution: int) -> nn.Module:
    return _Fixed(plain(depth, width, resolution))


def features(depth: float, width: float, resolution: int) -> nn.Module:
    return nn.Conv2d(1, 4, 3, padding=1)


def pairs(depth: float, width: float, resolution: int) -> nn.Module:
    return nn.LSTM(8, 8)


class Builder:
    """A builder with a state."""

    def __init__(self, kernel_size: int) -> None:
        self.kernel_size = kernel_size

    def __call__(self, depth: float, width: float, resolution: int) -> nn.Module:
        return plain(depth, width, resolution, kernel_size=self.kernel_size)

    def build(self, depth: float, width: float, resolution: int) -> nn.Module:
        return self(depth, width, resolution)


class Tied(nn.Module):
    """One tensor under two names, all of them below ``model.``, where wrappers put theirs."""

    def __init__(
        self, depth: float, width: float, resolution: int, num_classes: int = 10, in_channels: int = 1
    ) -> None:
        super().__init__()
        self.model = plain(depth, width, resolution, num_classes=num_classes, in_channels=in_channels)
        self.model.append(nn.Linear(num_classes, num_classes, bias=False))
        self.model.append(nn.Linear(num_classes, num_classes, bias=False))
        self.model[-1].weight = self.model[-2].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


class Parted(nn.Module):
    """In the parts that our networks have."""

    def __init__(
        self, depth: float, width: float, resolution: int, num_classes: int = 10, in_channels: int = 1
    ) -> None:
        super().__init__()
        channels = round_filters(8, width)
        self.stem = nn.Conv2d(in_channels, channels, 3, 2, 1)
        blocks = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(round_repeats(2, depth)))
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Conv2d(channels, channels, 1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(functional.relu(self.stages(functional.relu(self.stem(x)))))
        return self.classifier(x.mean((2, 3)))  # type: ignore[no-any-return]

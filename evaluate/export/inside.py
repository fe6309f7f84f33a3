"""What graphs do to images themselves, before the network: the normalisation, or all that follows the decoding.

Exporters have rules of their own for a resize, or none for an antialiased one, and cannot crop by the smaller of two
sides that they do not know yet. So the resize is written as what it is: a product with a matrix of weights from the
left and one from the right, which are computed from the image's size. That is arithmetic that every format has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .preprocessing import Preprocessing

#: What is inside, where it is more than the normalisation.
RESIZE = "resize"


def put_inside(network: nn.Module, preprocessing: Preprocessing, inside: bool | str) -> nn.Module:
    """The network, in evaluation mode, with around it what a graph is to do itself."""
    if not inside:
        return network.eval()
    return (Resized if inside == RESIZE else Normalized)(network, preprocessing).eval()


class Normalized(nn.Module):
    """A network that takes images in units of 0 to 255."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(preprocessing, name)).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(n, channels, size, size) to logits (n, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


class Resized(Normalized):
    """A network that takes decoded images as they are: uint8 (n, channels, height, width), of any size.

    The centre square is resized to ``stored_size`` pixels with Pillow's antialiased filter and its centre crop taken.
    As Pillow does, a filter sees beyond the square where the image goes on, and values are rounded to whole ones after
    each of the two passes.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__(network, preprocessing)
        self.stored, self.bicubic = preprocessing.stored_size, preprocessing.interpolation == "bicubic"
        at = (self.stored - preprocessing.size) // 2
        self.centres: Tensor
        self.register_buffer("centres", (torch.arange(preprocessing.size) + at + 0.5)[:, None])

    def forward(self, images: Tensor) -> Tensor:
        """Uint8 (n, channels, height, width) to logits (n, classes)."""
        return super().forward(self.resize(images))

    def resize(self, images: Tensor) -> Tensor:
        """To whole numbers as float32 (n, channels, size, size), in units of 0 to 255."""
        rows, columns = (torch.arange(images.shape[axis], dtype=torch.float32, device=images.device) for axis in (2, 3))
        height, width = rows[-1] + 1, columns[-1] + 1  # as tensors: a graph does not know them yet
        side = torch.minimum(height, width)
        images = _to_bytes(images.float() @ self._weights(columns, width, side).T)
        return _to_bytes(self._weights(rows, height, side) @ images)

    def _weights(self, pixels: Tensor, length: Tensor, side: Tensor) -> Tensor:
        """Of each pixel along an axis for each pixel of the result: (size, length); each row adds up to one."""
        ratio = side / self.stored
        centres = torch.floor((length - side) / 2) + self.centres * ratio
        distance = (pixels + 0.5 - centres).abs() / ratio.clamp(min=1)  # antialiased: the filter grows as pixels do
        if self.bicubic:
            near = (1.5 * distance - 2.5) * distance * distance + 1
            far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
            weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
        else:
            weights = (1 - distance).clamp(min=0)
        return weights / weights.sum(1, keepdim=True)


def _to_bytes(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255)

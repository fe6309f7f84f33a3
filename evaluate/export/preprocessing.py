"""How images become a network's input, as plain data that travels with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...space.errors import check_choice, check_int, check_number
from ...space.files import make_from_mapping
from ..data.labelled_images import INTERPOLATIONS

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.pixels import Pixels


@dataclass(frozen=True)
class Preprocessing:
    """What was done to the images that a network was measured on.

    The centre square of an image is resized so that its centre crop has the network's resolution, antialiased; then
    mean and standard deviation are taken off, channel by channel.

    Args:
        size: side of the network's square input in pixels.
        channels: of the images: 1 (grey), 3 (RGB), or as many as they have.
        mean, std: of each channel, in units of 0 to 255.
        center_crop: side of the centre square that is seen, as a fraction of the image's shorter side.
        interpolation: ``bilinear`` or ``bicubic``.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    center_crop: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_int("preprocessing: size", self.size, 1, 100_000)
        check_int("preprocessing: channels", self.channels, 1, 100_000)
        check_number("preprocessing: center_crop", self.center_crop, 0, 1, open_low=True)
        check_choice("preprocessing: interpolation", self.interpolation, INTERPOLATIONS)
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            check_int(f"preprocessing: numbers of {name}", len(getattr(self, name)), self.channels, self.channels)
            for number in getattr(self, name):
                check_number(f"preprocessing: {name}", number, 0 if name == "std" else -1e9, open_low=True)

    @property
    def stored_size(self) -> int:
        """Side in pixels that the centre square is resized to, whose centre crop has ``size``."""
        return round(self.size / self.center_crop)

    def pixels(self) -> Pixels:
        """The same as the data sets of this package have it."""
        from ..data.pixels import Pixels  # torch

        return Pixels(
            self.channels,
            self.stored_size,
            self.mean,
            self.std,
            center_crop=self.center_crop,
            interpolation=self.interpolation,
        )

    def __call__(self, image: Any) -> Tensor:
        """One image, a path, the bytes of a file or a PIL image, as a batch (1, channels, size, size) of float32.

        Raises:
            Exception: whatever Pillow says of a broken file.
        """
        import io

        import torch

        from ..data.decode import decode_image

        if hasattr(image, "save"):  # PIL's
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            image = buffer.getvalue()
        stored = decode_image(image, self.channels, self.stored_size, self.interpolation)
        return self.pixels().prepare(torch.from_numpy(stored)[None], self.size)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str) -> Preprocessing:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: not such data; ``source`` opens the message.
        """
        return make_from_mapping(cls, data, f"{source}: preprocessing")

"""A run of equal blocks, the unit that architectures are made of."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UserError, check_choice, check_int, check_number
from .quantity import keep_plain

#: New ones are added at the end: models of latency are kept by these names, and batches by these places.
BLOCKS = ("conv", "ds", "mbconv", "fused_mbconv")
#: Blocks whose ``expand_ratio`` says something.
EXPANDING = ("mbconv", "fused_mbconv")
#: Their places in ``BLOCKS``.
EXPANDING_CODES = tuple(BLOCKS.index(block) for block in EXPANDING)
SKIPS = ("none", "identity", "pool")
#: Names as in ``torch.nn.functional``; parameter-free, so that the cost does not depend on them.
ACTIVATIONS = (
    "relu",
    "relu6",
    "silu",
    "hardswish",
    "gelu",
    "elu",
    "celu",
    "selu",
    "mish",
    "leaky_relu",
    "softplus",
    "tanh",
)
PADDINGS = ("symmetric", "same")


@dataclass(frozen=True, slots=True)
class Stage:
    """``repeats`` equal blocks; the first one has the stride and changes the width.

    Blocks, with BN after every convolution and the activation after every BN but the last of the two MBConvs:

    - ``mbconv``: 1×1 expansion (none at ratio 1), k×k depthwise, SE, linear 1×1 (MobileNetV2, MnasNet)
    - ``fused_mbconv``: k×k convolution that expands, SE, linear 1×1 (EfficientNetV2; timm's EdgeResidual)
    - ``ds``: k×k depthwise, SE, 1×1 with activation (MobileNetV1)
    - ``conv``: k×k convolution, SE

    At ratio 1 ``fused_mbconv`` keeps its two convolutions, as in timm; the one that EfficientNetV2 has there is
    ``conv``.

    ``skip``: ``identity`` adds a block's input where stride is 1 and widths agree (MobileNetV2); ``pool``
    always adds it, 3×3 average-pooled with the block's stride, channels cut or zero-padded; ``none`` never.
    SE squeezes to ``max(1, ⌊se_ratio × input channels of the block⌋)``; 0 means no SE.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    block: str
    channels: int
    repeats: int = 1
    kernel_size: int = 3
    stride: int = 1
    expand_ratio: int = 1
    se_ratio: float = 0.0
    skip: str = "identity"

    def __post_init__(self) -> None:
        keep_plain(self, self.__slots__)
        check_choice("block", self.block, BLOCKS)
        check_choice("skip", self.skip, SKIPS)
        check_int("channels", self.channels, 1, 1_000_000)
        check_int("repeats", self.repeats, 1, 10_000)
        check_int("kernel_size", self.kernel_size, 1, 31)
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size must be odd, got {self.kernel_size}")
        check_int("stride", self.stride, 1, 8)
        check_int("expand_ratio", self.expand_ratio, 1, 64)
        if self.block not in EXPANDING and self.expand_ratio != 1:
            expanding = " and ".join(EXPANDING)
            raise UserError(f"expand_ratio belongs to {expanding}: a {self.block} block has 1, got {self.expand_ratio}")
        check_number("se_ratio", self.se_ratio, 0, 1)
        object.__setattr__(self, "se_ratio", float(self.se_ratio))  # 0 and 0.0 are one network: one digest

    def effective_skip(self, in_channels: int) -> str:
        """``skip``, but ``none`` where ``identity`` finds no block of equal width and stride 1."""
        idle = self.skip == "identity" and self.repeats == 1 and (self.stride != 1 or in_channels != self.channels)
        return "none" if idle else self.skip

"""What the builders of the zoo return: a classifier in named parts, as :class:`~effnas.space.network.Network` is."""

from __future__ import annotations

from torch import Tensor, nn

from ..blocks import init_weights


class ConvNet(nn.Module):
    """Stem, stages, head, mean over the map, neck, dropout, classifier.

    Input (n, in_channels, h, w), any side that the strides leave something of: the weights do not depend on it.

    Args:
        stem, stages, head: from the image to the last feature map; no ``head``: the last stage's.
        num_features: channels of the last feature map.
        num_classes: of the logits.
        dropout: rate before the classifier.
        neck: what the pooled features pass before the classifier, and the number of its outputs.

    Attributes:
        num_features: as given.
        classifier: the last layer with weights, linear.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: nn.Sequential,
        head: nn.Module | None,
        num_features: int,
        num_classes: int,
        *,
        dropout: float = 0.0,
        neck: tuple[nn.Module, int] | None = None,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.head = head if head is not None else nn.Identity()
        self.num_features = num_features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.neck, self._pre_logits = neck if neck is not None else (nn.Identity(), num_features)
        self.dropout = nn.Dropout(dropout)
        self.classifier = self._make_classifier(num_classes)
        init_weights(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to the last feature map, (n, num_features, rows, columns)."""
        return self.head(self.stages(self.stem(x)))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A feature map to logits (n, num_classes), or with ``pre_logits`` to what the classifier sees."""
        x = self.dropout(self.neck(self.pool(x).flatten(1)))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to logits (n, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh classifier for another number of classes; 0 leaves what it would see as the output."""
        weight = next(self.parameters())
        self.classifier = self._make_classifier(num_classes) if num_classes else nn.Identity()
        init_weights(self.classifier)
        self.classifier.to(weight.device, weight.dtype)

    def _make_classifier(self, num_classes: int) -> nn.Module:
        return nn.Linear(self._pre_logits, num_classes)

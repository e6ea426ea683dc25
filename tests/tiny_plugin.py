"""A plugin as a user would write it: a backbone small enough for tests, registered from outside."""

from __future__ import annotations

from torch import Tensor, nn

from igfiqa_head.registry import BACKBONES


@BACKBONES.register("tiny")
class Tiny(nn.Module):
    """One convolution, batch normalisation, pooling, dropout and a linear layer."""

    def __init__(self, dropout: float, fp16: bool, num_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=7),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AvgPool2d(4),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(8 * 16, num_features),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@BACKBONES.register("tiny_group_norm")
class TinyGroupNorm(Tiny):
    """The same without statistics of the batch, in the precision of its parameters."""

    def __init__(self, dropout: float, fp16: bool, num_features: int) -> None:
        super().__init__(dropout, fp16, num_features)
        self.layers[1] = nn.GroupNorm(2, 8)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.to(self.layers[0].weight.dtype))

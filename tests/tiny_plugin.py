"""A plugin as a user would write it: small backbones and a margin, registered from outside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from igfiqa_head.margin import MarginOutput
from igfiqa_head.registry import BACKBONES, MARGINS


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


@MARGINS.register("tiny_adaptive")
class TinyAdaptive(nn.Module):
    """A cosine margin that is larger for embeddings longer than the running mean, which is its state."""

    mean: Tensor

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope
        self.register_buffer("mean", torch.ones(()))

    def forward(self, target: Tensor, norms: Tensor, labels: Tensor) -> MarginOutput:
        constant = norms.detach()
        if self.training:
            self.mean.lerp_(constant.mean().to(self.mean), 0.1)
        return MarginOutput(target - self.slope * constant / self.mean)

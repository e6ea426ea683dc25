"""MobileFaceNet in the two widths of arcface_torch, with its names and state dicts.

MobileFaceNet: https://arxiv.org/abs/1804.07573. Inverted residuals as in MobileNetV2, PReLU throughout, and
a global depthwise convolution instead of average pooling, so that each position of the face keeps its own
weight. arcface_torch's form is wider than the paper's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from igfiqa_head.registry import BACKBONES
from plugins.backbones._common import Backbone

FINAL_CHANNELS = 512
MAP_SIZE = 7


class Layers(nn.Module):
    """Modules in sequence, added to their input if ``residual``; its attribute ``layers`` names the state."""

    def __init__(self, *modules: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*modules)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileFaceNet(Backbone):
    """Images [B, 3, 112, 112] -> embeddings [B, num_features].

    Args:
        width: channels of the first two stages; the last two have twice as many.
        second: the layer between the stem and the first stage, at 56 x 56.
        blocks: number of inverted residuals in each of the three stages.
        dropout: probability before the embedding layer.
        fp16: half precision in everything before the 1x1 convolution to 512 channels.
        num_features: size of the embedding.
    """

    def __init__(
        self,
        width: int,
        second: nn.Module,
        blocks: tuple[int, int, int],
        *,
        dropout: float = 0.0,
        fp16: bool = False,
        num_features: int = 512,
    ) -> None:
        super().__init__(fp16)
        wide = 2 * width
        self.layers = nn.Sequential(
            _convolution(3, width, 3, stride=2),
            second,
            _bottleneck(width, width, 128, stride=2),
            _residuals(width, 128, blocks[0]),
            _bottleneck(width, wide, 256, stride=2),
            _residuals(wide, 256, blocks[1]),
            _bottleneck(wide, wide, 512, stride=2),
            _residuals(wide, 256, blocks[2]),
        )
        self.conv_sep = _convolution(wide, FINAL_CHANNELS, 1)
        global_depthwise = Layers(
            nn.Conv2d(FINAL_CHANNELS, FINAL_CHANNELS, MAP_SIZE, groups=FINAL_CHANNELS, bias=False),
            nn.BatchNorm2d(FINAL_CHANNELS),
        )
        self.features = Layers(
            global_depthwise,
            nn.Sequential(nn.Flatten(), nn.Dropout(dropout)),  # one place, as the state dict counts them
            nn.Linear(FINAL_CHANNELS, num_features, bias=False),
            nn.BatchNorm1d(num_features),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return self.features(self.conv_sep(features))


def _convolution(in_channels: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> Layers:
    """Convolution - BN - PReLU."""
    return Layers(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.PReLU(channels),
    )


def _bottleneck(
    in_channels: int, channels: int, hidden: int, *, stride: int = 1, residual: bool = False
) -> Layers:
    """1x1 to ``hidden`` channels - depthwise 3x3 - linear 1x1 to ``channels``."""
    return Layers(
        _convolution(in_channels, hidden, 1),
        _convolution(hidden, hidden, 3, stride=stride, groups=hidden),
        Layers(nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)),
        residual=residual,
    )


def _residuals(channels: int, hidden: int, count: int) -> Layers:
    return Layers(*(_bottleneck(channels, channels, hidden, residual=True) for _ in range(count)))


@BACKBONES.register("mbf")
def mbf(**options: Any) -> MobileFaceNet:
    """MobileFaceNet, 128 channels: 0.44 GMAC."""
    # 64 groups of two channels: between a depthwise convolution, the paper's, and a grouped one.
    return MobileFaceNet(128, _convolution(128, 128, 3, groups=64), (4, 6, 2), **options)


@BACKBONES.register("mbf_large")
def mbf_large(**options: Any) -> MobileFaceNet:
    """MobileFaceNet, 256 channels and twice the depth."""
    return MobileFaceNet(256, _residuals(256, 128, 2), (8, 12, 4), **options)

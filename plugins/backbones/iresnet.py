"""IResNet, the residual networks of ArcFace, with arcface_torch's names and state dicts.

ArcFace: https://arxiv.org/abs/1801.07698. Against ResNet: no pooling in the stem, so a 7 x 7 map is left,
which BN - dropout - FC - BN turn into the embedding; and a block that starts with a BN and has its only
activation, a PReLU, between its two convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from igfiqa_head.registry import BACKBONES
from plugins.backbones._common import Backbone, embedding_norm

STAGE_CHANNELS = (64, 128, 256, 512)
MAP_SIZE = 7


class ResidualBlock(nn.Module):
    """BN - conv 3x3 - BN - PReLU - conv 3x3 (stride) - BN, added to the (projected) input."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        residual = self.bn3(self.conv2(residual))
        shortcut = x if self.downsample is None else self.downsample(x)
        return residual + shortcut


class CheckpointedBlocks(nn.Sequential):
    """Blocks in sequence that keep only every ``segment``-th activation for the backward pass.

    The others are computed again. Running statistics are updated in the first computation only.
    """

    def __init__(self, *blocks: nn.Module, segment: int) -> None:
        super().__init__(*blocks)
        self.segment = segment

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        for start in range(0, len(self), self.segment):
            blocks = nn.Sequential(*list(self)[start : start + self.segment])
            x = checkpoint(blocks, x, use_reentrant=False, context_fn=partial(_contexts, blocks))
        return x


class IResNet(Backbone):
    """Images [B, 3, 112, 112] -> embeddings [B, num_features].

    Args:
        blocks: number of residual blocks in each of the four stages.
        dropout: probability before the embedding layer.
        fp16: half precision in everything before the embedding layer.
        num_features: size of the embedding.
        segment: recompute activations in the two middle stages, this many blocks at a time; 0 keeps all.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        dropout: float = 0.0,
        fp16: bool = False,
        num_features: int = 512,
        segment: int = 0,
    ) -> None:
        super().__init__(fp16)
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = _stage(64, STAGE_CHANNELS[0], blocks[0])
        self.layer2 = _stage(STAGE_CHANNELS[0], STAGE_CHANNELS[1], blocks[1], segment)
        self.layer3 = _stage(STAGE_CHANNELS[1], STAGE_CHANNELS[2], blocks[2], segment)
        self.layer4 = _stage(STAGE_CHANNELS[2], STAGE_CHANNELS[3], blocks[3])
        self.bn2 = nn.BatchNorm2d(STAGE_CHANNELS[3])
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(STAGE_CHANNELS[3] * MAP_SIZE**2, num_features)
        self.features = embedding_norm(num_features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.bn2(x)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return self.features(self.fc(self.dropout(features.flatten(1))))


def _stage(in_channels: int, channels: int, count: int, segment: int = 0) -> nn.Sequential:
    """``count`` blocks, the first of which halves the map."""
    first = ResidualBlock(in_channels, channels, stride=2)
    blocks = [first, *(ResidualBlock(channels, channels, stride=1) for _ in range(count - 1))]
    return CheckpointedBlocks(*blocks, segment=segment) if segment else nn.Sequential(*blocks)


def _contexts(blocks: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the first computation of ``blocks`` and of the second one."""
    norms = [module for module in blocks.modules() if isinstance(module, _BatchNorm)]
    return nullcontext(), _frozen_statistics(norms, [norm.track_running_stats for norm in norms])


@contextmanager
def _frozen_statistics(norms: Sequence[_BatchNorm], tracked: Sequence[bool]) -> Iterator[None]:
    """``tracked`` is whether each norm read its running statistics in the first computation."""
    # Momentum 0 rather than track_running_stats = False: checkpointing checks that both computations save
    # the same tensors, and the running statistics are among them, where they were tracked.
    saved = [(norm.momentum, norm.num_batches_tracked, norm.track_running_stats) for norm in norms]
    for norm, was_tracked in zip(norms, tracked, strict=True):
        norm.momentum, norm.num_batches_tracked, norm.track_running_stats = 0.0, None, was_tracked
    try:
        yield
    finally:
        for norm, (momentum, num_batches, is_tracked) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches
            norm.track_running_stats = is_tracked


@BACKBONES.register("r18")
def r18(**options: Any) -> IResNet:
    """IResNet-18: 2.61 GMAC."""
    return IResNet((2, 2, 2, 2), **options)


@BACKBONES.register("r34")
def r34(**options: Any) -> IResNet:
    """IResNet-34."""
    return IResNet((3, 4, 6, 3), **options)


@BACKBONES.register("r50")
def r50(**options: Any) -> IResNet:
    """IResNet-50, the network of IG-FIQA(S): 6.31 GMAC."""
    return IResNet((3, 4, 14, 3), **options)


@BACKBONES.register("r100")
def r100(**options: Any) -> IResNet:
    """IResNet-100, the network of IG-FIQA(L): 12.09 GMAC."""
    return IResNet((3, 13, 30, 3), **options)


@BACKBONES.register("r200")
def r200(**options: Any) -> IResNet:
    """IResNet-200."""
    return IResNet((6, 26, 60, 6), **options)


@BACKBONES.register("r2060")
def r2060(**options: Any) -> IResNet:
    """IResNet-2060; trains with recomputed activations."""
    return IResNet((3, 128, 896, 3), segment=8, **options)

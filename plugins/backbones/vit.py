"""Vision transformers in the form of arcface_torch, with its names and state dicts.

ViT: https://arxiv.org/abs/2010.11929. Two things differ for faces. There is no class token: all 144 tokens,
flattened, form the embedding, so each position of the face keeps its own weights. And in training a share of
the tokens skips the network and is replaced by a learnt token at the end (the masking of MAE,
https://arxiv.org/abs/2111.06377, as a regulariser).

Drop path and masking draw from torch's global generator, as ``nn.Dropout`` does: recomputation of activations
restores that one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from igfiqa_head.registry import BACKBONES
from plugins.backbones._common import IMAGE_SHAPE, Backbone, autocast

PATCH_SIZE = 9
NUM_TOKENS = (IMAGE_SHAPE[1] // PATCH_SIZE) ** 2  # the last 4 rows and columns belong to no patch
NUM_HEADS = 8
MLP_RATIO = 4
HEAD_NORM_EPS = 2e-5


class PatchEmbedding(nn.Module):
    """Images [B, 3, 112, 112] -> one token of ``width`` per 9 x 9 patch, [B, 144, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH_SIZE, PATCH_SIZE)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention; the products and the softmax stay in full precision under autocast."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, NUM_HEADS, -1))
        qkv = qkv.to(torch.promote_types(qkv.dtype, torch.float32)).permute(2, 0, 3, 1, 4)
        with autocast(x.device, enabled=False):
            attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(attended.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear - ReLU6 - linear, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu6(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP, each left out for a sample with probability ``drop_path`` in training."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.attn = Attention(width)
        self.mlp = Mlp(width)
        self.drop_path = drop_path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self._drop_path(self.attn(self.norm1(x)))
        return x + self._drop_path(self.mlp(self.norm2(x)))

    def _drop_path(self, x: torch.Tensor) -> torch.Tensor:
        """Stochastic depth (https://arxiv.org/abs/1603.09382), with its expected value kept."""
        if not self.training or self.drop_path == 0:
            return x
        keep = 1 - self.drop_path
        return x * x.new_empty(len(x), 1, 1).bernoulli_(keep).div_(keep)


class VisionTransformer(Backbone):
    """Images [B, 3, 112, 112] -> embeddings [B, num_features].

    Args:
        width: size of a token.
        depth: number of blocks.
        drop_path: probability of leaving out the last block in training; it rises linearly from 0.
        mask_ratio: share of the tokens that is masked in training.
        recompute: keep only the input of every block for the backward pass and compute the rest again.
        dropout: probability before the embedding layers.
        fp16: half precision in the blocks, except for attention itself and the normalisations.
        num_features: size of the embedding.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        *,
        drop_path: float = 0.1,
        mask_ratio: float = 0.1,
        recompute: bool = False,
        dropout: float = 0.0,
        fp16: bool = False,
        num_features: int = 512,
    ) -> None:
        super().__init__(fp16)
        self.mask_ratio = mask_ratio
        self.recompute = recompute
        self.pos_embed = nn.Parameter(torch.empty(1, NUM_TOKENS, width))
        # Never used without masking, and distributed training fails on trainable parameters without a use.
        self.mask_token = nn.Parameter(torch.empty(1, 1, width), requires_grad=mask_ratio > 0)
        self.patch_embed = PatchEmbedding(width)
        rates = [drop_path * i / (depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(TransformerBlock(width, rate) for rate in rates)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.feature = nn.Sequential(
            nn.Linear(NUM_TOKENS * width, width, bias=False),
            nn.BatchNorm1d(width, eps=HEAD_NORM_EPS),
            nn.Linear(width, num_features, bias=False),
            nn.BatchNorm1d(num_features, eps=HEAD_NORM_EPS),
        )
        self._init_weights()

    def _init_weights(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        with autocast(images.device, enabled=False):
            tokens = self.patch_embed(images) + self.pos_embed
        if not self.training or self.mask_ratio == 0:
            return self.norm(self._run_blocks(tokens))
        kept = _random_positions(tokens, self.mask_ratio)
        visible = self.norm(self._run_blocks(tokens.gather(1, kept)))
        return self.mask_token.expand_as(tokens).scatter(1, kept, visible)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return self.feature(self.dropout(features.flatten(1)))

    def _run_blocks(self, tokens: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            if self.recompute and self.training and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return tokens


def _random_positions(tokens: torch.Tensor, mask_ratio: float) -> torch.Tensor:
    """Positions to keep, per sample and without replacement, as an index [B, K, D] into [B, N, D]."""
    batch, count, width = tokens.shape
    order = torch.rand(batch, count, device=tokens.device).argsort(dim=1)
    kept = order[:, : int(count * (1 - mask_ratio))]
    return kept.unsqueeze(-1).expand(-1, -1, width)


@BACKBONES.register("vit_t")
def vit_t(**options: Any) -> VisionTransformer:
    """ViT-T: 256 x 12."""
    return VisionTransformer(256, 12, **options)


@BACKBONES.register("vit_t_dp005_mask0")
def vit_t_dp005_mask0(**options: Any) -> VisionTransformer:
    """ViT-T, drop path 0.05, no masking."""
    return VisionTransformer(256, 12, drop_path=0.05, mask_ratio=0.0, **options)


@BACKBONES.register("vit_s")
def vit_s(**options: Any) -> VisionTransformer:
    """ViT-S: 512 x 12."""
    return VisionTransformer(512, 12, **options)


@BACKBONES.register("vit_s_dp005_mask_0")
def vit_s_dp005_mask_0(**options: Any) -> VisionTransformer:
    """ViT-S, drop path 0.05, no masking."""
    return VisionTransformer(512, 12, drop_path=0.05, mask_ratio=0.0, **options)


@BACKBONES.register("vit_b")
def vit_b(**options: Any) -> VisionTransformer:
    """ViT-B: 512 x 24."""
    return VisionTransformer(512, 24, recompute=True, **options)


@BACKBONES.register("vit_b_dp005_mask_005")
def vit_b_dp005_mask_005(**options: Any) -> VisionTransformer:
    """ViT-B, drop path 0.05, masking 0.05."""
    return VisionTransformer(512, 24, drop_path=0.05, mask_ratio=0.05, recompute=True, **options)


@BACKBONES.register("vit_l_dp005_mask_005")
def vit_l_dp005_mask_005(**options: Any) -> VisionTransformer:
    """ViT-L: 768 x 24, drop path 0.05, masking 0.05."""
    return VisionTransformer(768, 24, drop_path=0.05, mask_ratio=0.05, recompute=True, **options)


@BACKBONES.register("vit_h")
def vit_h(**options: Any) -> VisionTransformer:
    """ViT-H: 1024 x 48, no masking."""
    return VisionTransformer(1024, 48, mask_ratio=0.0, recompute=True, **options)

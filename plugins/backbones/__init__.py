"""Backbones: networks from aligned faces [B, 3, 112, 112] to un-normalised embeddings [B, num_features]."""

from __future__ import annotations

import inspect

from torch import nn

from igfiqa_head.registry import BACKBONES, import_submodules
from plugins.backbones.timm_models import TimmBackbone

TIMM_PREFIX = "timm:"

import_submodules(__name__)


def get_model(name: str, *, dropout: float = 0.0, fp16: bool = False, num_features: int = 512) -> nn.Module:
    """A randomly initialised backbone.

    Its input is RGB in [-1, 1], its output float32. arcface_torch's names give arcface_torch's networks, with
    the same parameter names and shapes, so ``model.pt`` files go both ways.

    Args:
        name: a registered name ("r50"), or "timm:NAME" for a network of timm ("timm:mobilenetv3_small_050").
        dropout: probability before the embedding layer.
        fp16: run all but the last layers under autocast, in the type of an autocast context around it;
            without one in float16, or bfloat16 on a CPU.
        num_features: size of the embedding.

    Raises:
        ValueError: no such network (the message has the closest names), or a value out of range.
    """
    if num_features < 1:
        raise ValueError(f"num_features must be at least 1, received {num_features}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), received {dropout}")
    if name.startswith(TIMM_PREFIX):
        name = name.removeprefix(TIMM_PREFIX)
        return TimmBackbone(name, dropout=dropout, fp16=fp16, num_features=num_features)
    entry, settings = BACKBONES.get(name), {"dropout": dropout, "fp16": fp16, "num_features": num_features}
    try:
        inspect.signature(entry).bind(**settings)
    except TypeError as error:
        raise ValueError(
            f"{BACKBONES.described(name)} must take the arguments {', '.join(settings)}: {error}"
        ) from error
    backbone = entry(**settings)
    BACKBONES.check(name, backbone)
    return backbone

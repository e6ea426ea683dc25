"""CCS, NNCCS and the certainty ratio: how classifiable a face is, relative to the nearest other class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, widened to float32 if narrower: similarity statistics are never kept in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def checked_labels(labels: Tensor, num_classes: int) -> Tensor:
    """``labels`` [B] as int64, which torch needs to index with.

    Raises:
        ValueError: they are no vector of integers in [0, num_classes).
    """
    if labels.ndim != 1 or labels.dtype not in _INTEGERS:
        raise ValueError(
            f"labels must be a vector of integers, got shape {tuple(labels.shape)}, {labels.dtype}"
        )
    if labels.numel() and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"labels must lie in [0, {num_classes}), got {labels.min().item()} .. {labels.max().item()}"
        )
    return labels.long()


@torch.no_grad()
def class_center_similarities(
    embeddings: Tensor, prototypes: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosines of each embedding to its own class centre and to the nearest other one (Eq. 1).

    Args:
        embeddings: [B, D], un-normalised.
        prototypes: [C, D], un-normalised, C >= 2.
        labels: [B] integers in [0, C).

    Returns:
        (CCS [B], NNCCS [B]), float32 or wider, in [-1, 1], without gradient.

    Raises:
        ValueError: fewer than two classes, labels out of range, or shapes that do not fit.

    Source: https://arxiv.org/abs/2403.08256, Eq. 1.
    """
    if prototypes.ndim != 2 or prototypes.shape[0] < 2:
        raise ValueError(
            f"NNCCS needs prototypes [C, D] of at least 2 classes, got shape {tuple(prototypes.shape)}"
        )
    if embeddings.ndim != 2 or embeddings.shape[1] != prototypes.shape[1]:
        raise ValueError(
            f"embeddings must be [B, {prototypes.shape[1]}] to fit the prototypes, "
            f"got shape {tuple(embeddings.shape)}"
        )
    labels = checked_labels(labels, prototypes.shape[0])
    if labels.shape[0] != embeddings.shape[0]:
        raise ValueError(f"{embeddings.shape[0]} embeddings came with {labels.shape[0]} labels")
    cosines = cosine_similarities(embeddings, prototypes)
    own = labels[:, None]
    ccs = cosines.gather(1, own).squeeze(1)
    # -inf, not a small number: with all similarities negative any finite mask could win the maximum.
    nnccs = cosines.scatter_(1, own, -torch.inf).amax(dim=1)
    return ccs, nnccs


def cosine_similarities(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """Cosines [B, C] between the rows of two matrices, clamped to [-1, 1], in float32 or wider."""
    with torch.autocast(embeddings.device.type, enabled=False):
        unit_embeddings = F.normalize(at_least_float32(embeddings))
        unit_prototypes = F.normalize(at_least_float32(prototypes))
        return F.linear(unit_embeddings, unit_prototypes).clamp(-1, 1)


def certainty_ratio(ccs: Tensor, nnccs: Tensor, eps: float = 1e-9) -> Tensor:
    """CR = CCS / ((NNCCS + 1) + eps), the quality label of CR-FIQA and IG-FIQA (Eq. 2).

    Args:
        ccs, nnccs: [B] cosines; clamped to [-1, 1] here.
        eps: keeps the ratio finite for NNCCS = -1, which happens with very few classes.

    Returns:
        [B], float32 or wider, without gradient: it is a label.
    """
    ccs, nnccs = (at_least_float32(x.detach()).clamp(-1, 1) for x in (ccs, nnccs))
    # (NNCCS + 1) first: 1 + 1e-9 rounds to 1 in float32 and the guard would be gone.
    return ccs / ((nnccs + 1) + eps)

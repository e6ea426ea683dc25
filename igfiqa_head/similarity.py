"""CCS, NNCCS and the certainty ratio: how classifiable a face is, relative to the nearest other class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from igfiqa_head.class_chunks import at_least_float32, cosine_chunks

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def checked_labels(labels: Tensor, num_classes: int) -> Tensor:
    """``labels`` [B] as int64, which torch needs to index with.

    Raises:
        ValueError: they are no vector of integers in [0, num_classes). On CUDA, those outside are found by an
            assertion on the device.
    """
    if labels.ndim != 1 or labels.dtype not in _INTEGERS:
        raise ValueError(
            f"labels must be a vector of integers, got shape {tuple(labels.shape)}, {labels.dtype}"
        )
    if labels.is_cuda:  # without waiting for the device
        torch._assert_async(((labels >= 0) & (labels < num_classes)).all())
    elif labels.numel() and (labels.min() < 0 or labels.max() >= num_classes):
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
    return own_and_nearest(F.normalize(at_least_float32(embeddings)), prototypes, labels)


@torch.no_grad()
def own_and_nearest(unit_embeddings: Tensor, prototypes: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`class_center_similarities` of unit vectors to a part of all prototypes.

    Over all parts, CCS is the sum of the parts' and NNCCS the largest of theirs.

    Args:
        unit_embeddings: [B, D] of length 1, float32 or wider.
        prototypes: [C, D], un-normalised.
        own: [B] row of the own class; outside of the rows where it is missing.

    Returns:
        The cosine to the own class [B], 0 where it is missing, and the largest one to the others [B], -inf
        where there are none. Memory does not grow with C.
    """
    ccs = torch.zeros_like(unit_embeddings[:, 0])
    nnccs = torch.full_like(ccs, -torch.inf)
    for chunk in cosine_chunks(unit_embeddings, prototypes, own):
        ccs += chunk.own_values(chunk.cosines)
        # -inf, not a small number: with all similarities negative any finite mask could win the maximum.
        nnccs = nnccs.maximum(chunk.fill_own(chunk.cosines, -torch.inf).amax(dim=1))
    return ccs, nnccs


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

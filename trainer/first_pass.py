"""One look at all images before the first step: where prototypes and running variances start.

The mean of a class's unit-length embeddings says both. Its direction is the prototype with the highest mean
CCS, and the mean CCS to any prototype is its length times its cosine to that one, so no embedding is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igfiqa_head.class_chunks import at_least_float32
from igfiqa_head.quality_head import QualityHead
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.sub_batches import Batch
from trainer.precision import mixed_precision


class ClassMeans(NamedTuple):
    """Of each class with images: its index [K] and the mean [K, D] of its L2-normalised embeddings.

    A mean is shorter than 1 the more the images of its class differ.
    """

    classes: Tensor
    means: Tensor


@torch.no_grad()
def class_means(
    backbone: nn.Module,
    batches: Iterable[Batch],
    num_classes: int,
    ranks: Ranks = ALONE,
    *,
    half: torch.dtype | None = None,
) -> ClassMeans:
    """The means of all images of all ranks, of the classes that this rank holds.

    While it lasts, each rank keeps the sums [C, D] of all classes: its images are of any of them.

    Args:
        backbone: images [B, 3, H, W] -> embeddings [B, D]; its mode is the caller's to choose.
        batches: this rank's share of the images, at least one batch.
        num_classes: C.
        ranks: the processes that look at the images together.
        half: the type of mixed precision in the backbone, None for none.

    Raises:
        ValueError: an embedding is not finite.
    """
    sums: Tensor | None = None
    for batch in batches:
        with mixed_precision(batch.images.device, half):
            embeddings = at_least_float32(backbone(batch.images))
        broken = ~torch.isfinite(embeddings).all(dim=1)
        if broken.any():
            raise ValueError(
                f"the embedding of image {batch.indices[broken.cpu()][0]} is not finite: the training of the "
                "backbone diverged, or fp16=True is too coarse for it"
            )
        if sums is None:
            sums = embeddings.new_zeros(num_classes, embeddings.shape[1])
            counts = embeddings.new_zeros(num_classes)
        sums.index_add_(0, batch.labels, F.normalize(embeddings))
        counts.index_add_(0, batch.labels, torch.ones_like(counts[batch.labels]))
    if sums is None:
        raise ValueError("there are no images to take class means of")
    held = ranks.classes(num_classes)
    sums, counts = (ranks.total(x)[held.start : held.stop] for x in (sums, counts))
    seen = counts.nonzero().squeeze(1)
    return ClassMeans(seen + held.start, sums[seen] / counts[seen, None])


def start_from_means(
    found: ClassMeans,
    classifier: nn.Module,
    head: QualityHead | None,
    *,
    prototypes: bool,
    first_class: int = 0,
) -> Tensor:
    """Turn the prototypes to the class means if wanted, and give the CCS to a head that needs them.

    ``first_class`` is that of the classifier's first prototype.

    Returns:
        The mean CCS [K] of each class, to the prototypes as they then are.
    """
    if prototypes:
        classifier.start_from(found.classes, found.means)  # type: ignore[operator]
    own = classifier.weight[found.classes - first_class]  # type: ignore[index]
    ccs = mean_similarities(found.means, own)
    if head is not None and head.needs_first_pass:
        head.start_from(found.classes, ccs)
    return ccs


@torch.no_grad()
def mean_similarities(means: Tensor, prototypes: Tensor) -> Tensor:
    """Mean CCS [K] of the images of each class (Eq. 1), from its mean and its prototype [K, D]."""
    return (means * F.normalize(at_least_float32(prototypes)).to(means.dtype)).sum(dim=1).clamp(-1, 1)

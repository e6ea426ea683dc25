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
from igfiqa_head.quality_head import Prototypes
from igfiqa_head.sub_batches import Batch

_CLASSES_AT_ONCE = 256  # as many as a batch: with more rows, the chunks of prototypes get short


class ClassMeans(NamedTuple):
    """Of each class with images: its index [K] and the mean [K, D] of its L2-normalised embeddings.

    A mean is shorter than 1 the more the images of its class differ.
    """

    classes: Tensor
    means: Tensor


@torch.no_grad()
def class_means(backbone: nn.Module, batches: Iterable[Batch], prototypes: Tensor) -> ClassMeans:
    """The means of all images in ``batches``; the backbone's mode is the caller's to choose.

    Args:
        backbone: images [B, 3, H, W] -> embeddings [B, D].
        batches: what is to be averaged over.
        prototypes: [C, D]; gives the number of classes, the precision and the device of the sums.

    Raises:
        ValueError: an embedding is not finite.
    """
    sums = torch.zeros_like(prototypes)
    counts = sums.new_zeros(len(sums))
    for batch in batches:
        embeddings = at_least_float32(backbone(batch.images))
        broken = ~torch.isfinite(embeddings).all(dim=1)
        if broken.any():
            raise ValueError(
                f"the embedding of image {batch.indices[broken.cpu()][0]} is not finite: the training of the "
                "backbone diverged, or fp16=True is too coarse for it"
            )
        sums.index_add_(0, batch.labels, F.normalize(embeddings).to(sums.dtype))
        counts.index_add_(0, batch.labels, torch.ones_like(counts[batch.labels]))
    classes = counts.nonzero().squeeze(1)
    return ClassMeans(classes, sums[classes] / counts[classes, None])


def mean_similarities(found: ClassMeans, classifier: Prototypes) -> Tensor:
    """Mean CCS [K] of the images of each class (Eq. 1)."""
    parts = zip(found.means.split(_CLASSES_AT_ONCE), found.classes.split(_CLASSES_AT_ONCE), strict=True)
    cosines = [classifier.class_center_similarities(means, classes)[0] for means, classes in parts]
    return found.means.norm(dim=1) * torch.cat(cosines)

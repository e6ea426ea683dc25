"""The mini-batch separation of IG-FIQA: one part for the recogniser, one for the quality head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from igfiqa_head.degradations import NUM_DRAWS, Degradations
from igfiqa_head.draws import keyed_uniforms

DEGRADATION_STREAM = 1  # keeps these draws apart from the loader's flips, which have the same keys


class Batch(NamedTuple):
    """What the loader hands to a step.

    Attributes:
        images: [N, 3, H, W] in [-1, 1], RGB.
        labels: [N] class indices.
        indices: [N] positions of the images in the data set, on the CPU: they key the random draws.
        epoch: 0-based epoch that the draws belong to.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    epoch: int = 0

    def part(self, rows: slice) -> Batch:
        """The given rows, as views."""
        return self._replace(images=self.images[rows], labels=self.labels[rows], indices=self.indices[rows])


class SubBatches(NamedTuple):
    """A step's images: ``clean`` for L_Arc, ``quality`` for L_IG.

    Where both losses see the same images (CR-FIQA) the two are the same object and one forward pass does.
    """

    clean: Batch
    quality: Batch


def halves(batch: Batch) -> SubBatches:
    """Two disjoint halves of a batch (of even size).

    Raises:
        ValueError: the batch cannot be halved.
    """
    size = len(batch.labels)
    if size < 2 or size % 2:
        raise ValueError(f"a batch is split into two halves, so its size must be even and > 0, got {size}")
    return SubBatches(batch.part(slice(size // 2)), batch.part(slice(size // 2, None)))


def degraded(batch: Batch, degradations: Degradations, seed: int) -> Batch:
    """The batch with degraded images; the draw depends on (seed, epoch, sample index) only."""
    if degradations.p == degradations.further_p == 0:
        return batch._replace()  # a batch of its own all the same: it gets its own forward pass
    key = (seed, DEGRADATION_STREAM, batch.epoch, batch.indices.numpy())
    draws = torch.from_numpy(keyed_uniforms(*key, count=NUM_DRAWS))
    return batch._replace(images=degradations(batch.images, draws))

"""The quality head of IG-FIQA: labels, weights from intra-class variance, and the loss L_IG."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from igfiqa_head.degradations import Degradations, Range
from igfiqa_head.quality_head import (
    Prototypes,
    QualityHead,
    QualityOutput,
    check_choice,
    quality_regression_loss,
    similarity_statistics,
)
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.similarity import certainty_ratio
from igfiqa_head.sub_batches import Batch, SubBatches, degraded, halves
from igfiqa_head.variance import IntraClassVariance, momentum_at

_LOGGER = logging.getLogger(__name__)


class IGFIQAHead(QualityHead):
    """Learns a face's relative classifiability beside an ArcFace-like recogniser.

    Args:
        embedding_size: D.
        num_classes: C, at least 2.
        num_epoch: length of the training; the momentum rises over it.
        loss_weight: lambda of Eq. 11.
        beta: of Eq. 3.
        momentum_start, momentum_end: alpha of Eq. 8 at both ends of the training.
        fractional_momentum: let alpha rise within an epoch as well.
        variance_weights: False gives every sample weight 1 (the ablation towards CR-FIQA).
        variance_init: "ones" (the paper), "seen" (mean and std of Eq. 9 over classes seen so far) or
            "first_pass" (the trainer fills v from one pass over the data before the first step). Classes
            without images take no part in Eq. 9: with "ones", unless ``has_images_of_all_classes`` is set,
            those are taken to have none that no step of the first epoch has seen, until one is.
        sub_batch: "split" (two disjoint halves; the paper's text) or "mirror" (the quality half is a
            degraded copy of the clean one; the paper's Fig. 2).
        detach_backbone: stop L_IG at the embedding.
        quality_bn: "shared" (both passes update running statistics) or "clean" (only the clean pass does).
        degradation_p, rescale, jitter, erase_area, erase_aspect, further_p: see :class:`Degradations`.
        seed: of the degradations.
        ranks: the processes over which the images and v are spread.

    Raises:
        ValueError: a setting outside its range.

    Source: https://arxiv.org/abs/2403.08256.
    """

    class_sharded = ("variance.variance", "variance.seen")
    _ddp_params_and_buffers_to_ignore = class_sharded  # DistributedDataParallel would make all ranks' v equal

    def __init__(
        self,
        embedding_size: int,
        num_classes: int,
        *,
        num_epoch: int = 20,
        loss_weight: float = 10.0,
        beta: float = 0.5,
        momentum_start: float = 0.9,
        momentum_end: float = 1.0,
        fractional_momentum: bool = False,
        variance_weights: bool = True,
        variance_init: str = "ones",
        sub_batch: str = "split",
        detach_backbone: bool = False,
        quality_bn: str = "shared",
        degradation_p: float = 0.3,
        rescale: Range = Degradations.rescale,
        jitter: Range = Degradations.jitter,
        erase_area: Range = Degradations.erase_area,
        erase_aspect: Range = Degradations.erase_aspect,
        further_p: float = Degradations.further_p,
        seed: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(embedding_size, num_classes, ranks=ranks)
        check_choice("variance_init", variance_init, ("ones", "seen", "first_pass"))
        check_choice("sub_batch", sub_batch, ("split", "mirror"))
        check_choice("quality_bn", quality_bn, ("shared", "clean"))
        if num_epoch < 1 or beta <= 0 or loss_weight < 0:
            raise ValueError(
                "expected num_epoch >= 1, beta > 0 and loss_weight >= 0, "
                f"got {num_epoch}, {beta} and {loss_weight}"
            )
        if not (0 <= momentum_start <= 1 and 0 <= momentum_end <= 1):
            raise ValueError(
                f"momentum_start and momentum_end must lie in [0, 1], got {momentum_start} and {momentum_end}"
            )
        self.num_epoch = num_epoch
        self.loss_weight = loss_weight
        self.beta = beta
        self.momentum_range = (momentum_start, momentum_end)
        self.fractional_momentum = fractional_momentum
        self.variance_weights = variance_weights
        self.needs_first_pass = variance_init == "first_pass"
        self.sub_batch = sub_batch
        self.detach_backbone = detach_backbone
        self.quality_bn = quality_bn
        self.seed = seed
        self.degradations = Degradations(degradation_p, rescale, jitter, erase_area, erase_aspect, further_p)
        held = ranks.classes(num_classes)
        self.variance = IntraClassVariance(
            num_classes,
            class_start=held.start,
            num_local=len(held),
            group=ranks.group,
            only_seen=variance_init != "ones",
        )

    def images_drawn(self, batch_size: int) -> int:
        if batch_size < 2 or batch_size % 2:
            raise ValueError(f"ig_fiqa halves the batch: batch_size must be even and > 0, got {batch_size}")
        return batch_size if self.sub_batch == "split" else batch_size // 2

    def split(self, batch: Batch) -> SubBatches:
        """The clean sub-batch for L_Arc and the degraded one for L_IG."""
        clean, quality = halves(batch) if self.sub_batch == "split" else (batch, batch)
        return SubBatches(clean, degraded(quality, self.degradations, self.seed))

    def start_from(self, labels: Tensor, ccs: Tensor) -> None:
        self.variance.update(labels, ccs, momentum=0.0)

    def class_weights(self) -> Tensor:
        if not self.variance_weights:
            return super().class_weights()
        return self.variance.weights(torch.arange(self.num_classes, device=self.variance.variance.device))

    def forward(
        self, embeddings: Tensor, labels: Tensor, classifier: Prototypes, *, epoch: float
    ) -> QualityOutput:
        """L_IG of the quality sub-batch (Eq. 10); updates v.

        Args:
            embeddings: [B, D], un-normalised; the gradient reaches the backbone through R only.
            labels: [B] class indices.
            classifier: gives CCS and NNCCS over all classes.
            epoch: 0-based, possibly fractional, position in the training.
        """
        if epoch >= 1 and not (self.variance.only_seen or self.has_images_of_all_classes):
            self._leave_out_unseen_classes()
        ccs, nnccs = classifier.class_center_similarities(embeddings.detach(), labels)
        certainty = certainty_ratio(ccs, nnccs)
        momentum = self.momentum(epoch)
        all_labels = self.ranks.gather(labels)
        self.variance.update(all_labels, self.ranks.gather(ccs), momentum)
        spread = self.variance.mean_and_std()
        weights = torch.ones_like(ccs)
        if self.variance_weights:
            weights = self.ranks.own_rows(self.variance.weights(all_labels, spread))
        predicted = self.regressor(embeddings.detach() if self.detach_backbone else embeddings)
        loss = quality_regression_loss(predicted, certainty, weights.to(certainty.dtype), self.beta)
        return QualityOutput(loss, _statistics(ccs, nnccs, certainty, weights, spread, momentum))

    def _leave_out_unseen_classes(self) -> None:
        """Take the classes that a whole epoch has not shown to have no images, and tell of them once."""
        self.variance.only_seen = True
        unseen = int(self.ranks.sum((~self.variance.seen).sum()))
        if unseen and self.ranks.rank == 0:
            _LOGGER.warning(
                "no image of %d of %d classes in the first epoch: they are left out of the mean and standard "
                "deviation of Eq. 9 until one is seen. Is num_classes too large, or do labels have holes?",
                unseen, self.num_classes,
            )  # fmt: skip

    def momentum(self, epoch: float) -> float:
        """alpha of Eq. 8 at a position of the training."""
        position = epoch if self.fractional_momentum else math.floor(epoch)
        return momentum_at(position, self.num_epoch, *self.momentum_range)


def _statistics(
    ccs: Tensor,
    nnccs: Tensor,
    certainty: Tensor,
    weights: Tensor,
    spread: tuple[Tensor, Tensor],
    momentum: float,
) -> dict[str, Tensor]:
    mean, std = spread
    return similarity_statistics(ccs, nnccs, certainty) | {
        "variance_mean": mean,
        "variance_std": std,
        "weight_mean": weights.mean(),
        "zero_weights": (weights == 0).float().mean(),
        "momentum": ccs.new_full((), momentum),
    }

"""CR-FIQA, the predecessor and baseline: one pass, the whole batch feeds both losses, equal weights."""

from __future__ import annotations

from torch import Tensor

from igfiqa_head.degradations import Degradations
from igfiqa_head.quality_head import (
    Prototypes,
    QualityHead,
    QualityOutput,
    quality_regression_loss,
    similarity_statistics,
)
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.registry import QUALITY_HEADS
from igfiqa_head.similarity import certainty_ratio
from igfiqa_head.sub_batches import Batch, SubBatches, degraded


@QUALITY_HEADS.register("cr_fiqa")
class CRFIQAHead(QualityHead):
    """Regresses the certainty ratio of Eq. 2 with equal weights (Eq. 3-5).

    The label is IG-FIQA's Eq. 2; CR-FIQA's public code regresses CCS / NNCCS without the + 1.

    Args:
        embedding_size: D.
        num_classes: C, at least 2.
        loss_weight: lambda of Eq. 5.
        beta: of Eq. 3.
        detach_backbone: stop the quality loss at the embedding.
        degradation_p: with this probability each, the three degradations hit the images of *both* losses
            (the form "with augmentation" of the paper's Tab. 1b, which harms the recogniser).
        seed: of the degradations.
        ranks: the processes over which the images are spread.

    Source: https://arxiv.org/abs/2112.06592; equation numbers of https://arxiv.org/abs/2403.08256.
    """

    def __init__(
        self,
        embedding_size: int,
        num_classes: int,
        *,
        loss_weight: float = 10.0,
        beta: float = 0.5,
        detach_backbone: bool = False,
        degradation_p: float = 0.0,
        seed: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(embedding_size, num_classes, ranks=ranks)
        self.loss_weight = loss_weight
        self.beta = beta
        self.detach_backbone = detach_backbone
        self.seed = seed
        self.degradations = Degradations(degradation_p)

    def split(self, batch: Batch) -> SubBatches:
        both = degraded(batch, self.degradations, self.seed)
        return SubBatches(both, both)

    def forward(
        self, embeddings: Tensor, labels: Tensor, classifier: Prototypes, *, epoch: float
    ) -> QualityOutput:
        """L_CR of the batch (Eq. 4, as a mean); see :class:`QualityHead` for the arguments."""
        ccs, nnccs = classifier.class_center_similarities(embeddings.detach(), labels)
        certainty = certainty_ratio(ccs, nnccs)
        predicted = self.regressor(embeddings.detach() if self.detach_backbone else embeddings)
        loss = quality_regression_loss(predicted, certainty, beta=self.beta)
        return QualityOutput(loss, similarity_statistics(ccs, nnccs, certainty))

"""Class prototypes and the margin softmax over them, compatible with arcface_torch's PartialFC."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igfiqa_head.draws import keyed_uniforms
from igfiqa_head.margin import Margin
from igfiqa_head.registry import CLASSIFIERS
from igfiqa_head.similarity import at_least_float32, checked_labels, class_center_similarities

NEGATIVE_STREAM = 3  # keeps the sampling of negatives apart from the other draws of the same seed


@CLASSIFIERS.register("partial_fc")
class PartialFC(nn.Module):
    """L_Arc: cross-entropy over the scaled cosines to all class prototypes, with a margin on the own class.

    State: ``weight`` [C, D], the prototypes W, drawn from N(0, 0.01) as upstream does.

    Args:
        embedding_size: D.
        num_classes: C.
        margin: see :class:`igfiqa_head.margin.Margin`.
        scale: s, the inverse temperature of the softmax.
        sample_rate: share of the other classes that enter a step's softmax (1: all of them, 0: only the
            batch's own). The draw depends on (seed, step, class). CCS and NNCCS always see every class.
        interclass_filtering_threshold: cosines above it to a class that is not the own one count as 0
            (conflicting labels); 0 switches this off.
        seed: of the sampling of negatives.

    Source: https://arxiv.org/abs/2203.15565.
    """

    def __init__(
        self,
        embedding_size: int,
        num_classes: int,
        margin: Margin,
        *,
        scale: float = 64.0,
        sample_rate: float = 1.0,
        interclass_filtering_threshold: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if scale <= 0 or not 0 <= sample_rate <= 1 or interclass_filtering_threshold < 0:
            raise ValueError(
                "expected scale > 0, sample_rate in [0, 1] and interclass_filtering_threshold >= 0, "
                f"got {scale}, {sample_rate} and {interclass_filtering_threshold}"
            )
        self.weight = nn.Parameter(torch.normal(0, 0.01, (num_classes, embedding_size)))
        self.margin = margin
        self.scale = scale
        self.sample_rate = sample_rate
        self.interclass_filtering_threshold = interclass_filtering_threshold
        self.seed = seed

    def forward(self, embeddings: Tensor, labels: Tensor, *, step: int = 0) -> Tensor:
        """The mean loss of a batch.

        Args:
            embeddings: [B, D], un-normalised.
            labels: [B] class indices.
            step: global step; keys the draw of negatives.

        Raises:
            ValueError: labels out of range, or shapes that do not fit.
        """
        labels = checked_labels(labels, len(self.weight))
        if embeddings.shape != (len(labels), self.weight.shape[1]):
            raise ValueError(
                f"embeddings must be [{len(labels)}, {self.weight.shape[1]}] to fit labels and prototypes, "
                f"got shape {tuple(embeddings.shape)}"
            )
        prototypes, positions = self._sampled(labels, step)
        embeddings = at_least_float32(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = F.linear(F.normalize(embeddings), F.normalize(prototypes)).clamp(-1, 1)
        own = positions[:, None]
        target = cosines.gather(1, own).squeeze(1)
        output = self.margin(target, embeddings.norm(dim=1), labels)
        negatives = self._without_conflicts(cosines)
        if output.negatives is not None:
            negatives = output.negatives(negatives)
        logits = negatives.scatter(1, own, output.target[:, None])
        loss = F.cross_entropy(self.scale * logits, positions)
        return loss if output.regulariser is None else loss + output.regulariser

    def class_center_similarities(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(CCS [B], NNCCS [B]) over all classes, whatever the sample rate, without gradient (Eq. 1)."""
        return class_center_similarities(embeddings, self.weight, labels)

    @torch.no_grad()
    def start_from(self, classes: Tensor, means: Tensor) -> None:
        """Turn the prototypes of ``classes`` [K] towards ``means`` [K, D], at unit length.

        A gradient step turns a prototype by lr / |W|^2 times the slope of the loss over the unit sphere. The
        short random ones (|W| of about 0.2) are meant to find their places quickly; these are in place, and
        at unit length lr itself says how far they may turn. A mean of length 0 has no direction and is
        skipped.
        """
        lengths = means.norm(dim=1, keepdim=True)
        known = lengths.squeeze(1) > 0
        self.weight[classes[known]] = (means / lengths)[known].to(self.weight.dtype)

    def _sampled(self, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """This step's prototypes and the labels as positions among them."""
        if self.sample_rate >= 1:
            return self.weight, labels
        draws = keyed_uniforms(self.seed, NEGATIVE_STREAM, step, range(len(self.weight)), count=1)
        chosen = torch.from_numpy(draws[:, 0] < self.sample_rate).to(labels.device)
        chosen[labels] = True
        return self.weight[chosen], (chosen.cumsum(0) - 1)[labels]

    def _without_conflicts(self, cosines: Tensor) -> Tensor:
        if self.interclass_filtering_threshold <= 0:
            return cosines
        return cosines.masked_fill(cosines > self.interclass_filtering_threshold, 0)

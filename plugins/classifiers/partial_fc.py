"""Class prototypes and the margin softmax over them, compatible with arcface_torch's PartialFC."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igfiqa_head.class_chunks import at_least_float32
from igfiqa_head.draws import keyed_uniforms
from igfiqa_head.margin import Margin
from igfiqa_head.margin_softmax import Transform, other_classes, own_cosines
from igfiqa_head.registry import CLASSIFIERS
from igfiqa_head.similarity import checked_labels, class_center_similarities

NEGATIVE_STREAM = 3  # keeps the sampling of negatives apart from the other draws of the same seed


class _Seen(NamedTuple):
    """What the last loss found out about its batch, and what this depends on."""

    embeddings: Tensor
    labels: Tensor
    weight_version: int
    similarities: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, weight: Tensor, embeddings: Tensor, labels: Tensor, ccs: Tensor, nnccs: Tensor) -> _Seen:
        return cls(embeddings.detach().clone(), labels.clone(), weight._version, (ccs, nnccs))

    def answers(self, weight: Tensor, embeddings: Tensor, labels: Tensor) -> bool:
        """Whether the question is the same: these values, and prototypes that nothing has changed since."""
        known = self.embeddings
        return (
            self.weight_version == weight._version
            and (embeddings.dtype, embeddings.device) == (known.dtype, known.device)
            and torch.equal(embeddings, known)
            and torch.equal(labels, self.labels)
        )


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
        self._seen: _Seen | None = None

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
        classes, own = self._sampled(labels, step)
        wide = at_least_float32(embeddings)
        unit = F.normalize(wide)
        target, weight = own_cosines(unit, self.weight, labels)
        output = self.margin(target, wide.norm(dim=1), labels)
        others = other_classes(
            unit, weight, own, scale=self.scale, negatives=self._negatives(output.negatives), classes=classes
        )
        if classes is None and len(self.weight) > 1:
            self._seen = _Seen.of(self.weight, embeddings, labels, target.detach(), others.nearest)
        loss = -F.logsigmoid(self.scale * output.target - others.log_sum_exp).mean()
        return loss if output.regulariser is None else loss + output.regulariser

    def class_center_similarities(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(CCS [B], NNCCS [B]) over all classes, whatever the sample rate, without gradient (Eq. 1).

        The loss of the same batch has found them on its way: asked after it, they cost nothing.
        """
        labels = checked_labels(labels, len(self.weight))
        if self._seen is not None and self._seen.answers(self.weight, embeddings, labels):
            return self._seen.similarities
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

    def _sampled(self, labels: Tensor, step: int) -> tuple[Tensor | None, Tensor]:
        """The classes of this step's softmax, None for all, and the labels as positions among them."""
        if self.sample_rate >= 1:
            return None, labels
        draws = keyed_uniforms(self.seed, NEGATIVE_STREAM, step, np.arange(len(self.weight)), count=1)
        chosen = torch.from_numpy(draws[:, 0] < self.sample_rate).to(labels.device)
        chosen[labels] = True
        return chosen.nonzero().squeeze(1), (chosen.cumsum(0) - 1)[labels]

    def _negatives(self, of_margin: Transform | None) -> Transform | None:
        """What becomes of the cosines to other classes: conflicts count as 0, the margin's part follows."""
        threshold = self.interclass_filtering_threshold
        if threshold <= 0:
            return of_margin

        def without_conflicts(cosines: Tensor) -> Tensor:
            kept = cosines.masked_fill(cosines > threshold, 0)
            return kept if of_margin is None else of_margin(kept)

        return without_conflicts

"""Class prototypes and the margin softmax over them, spread over ranks as arcface_torch's PartialFC is."""

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
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.registry import CLASSIFIERS
from igfiqa_head.similarity import checked_labels, own_and_nearest
from igfiqa_head.transfer import sent

NEGATIVE_STREAM = 3  # keeps the sampling of negatives apart from the other draws of the same seed
_DRAWN_AT_ONCE = 8192


class _Seen(NamedTuple):
    """What the last loss found out about its batch, and what this depends on.

    The question is known again by the very tensors, not by their values: so all ranks, which have to agree on
    whether it must be worked out, do so without asking each other.
    """

    question: tuple[Tensor, Tensor, Tensor]
    versions: tuple[int, ...]
    similarities: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, *question: Tensor, similarities: tuple[Tensor, Tensor]) -> _Seen:
        prototypes, embeddings, labels = (x.detach() for x in question)
        return cls((prototypes, embeddings, labels), tuple(x._version for x in question), similarities)

    def answers(self, *question: Tensor) -> bool:
        """Whether these are the same tensors, and nothing has written to them since."""
        return all(
            asked.is_set_to(known) and asked._version == version
            for asked, known, version in zip(question, self.question, self.versions, strict=True)
        )


@CLASSIFIERS.register("partial_fc")
class PartialFC(nn.Module):
    """L_Arc: cross-entropy over the scaled cosines to all class prototypes, with a margin on the own class.

    On several ranks each holds some of the classes. Forward then takes the rank's own images, together they
    make the batch, and the loss is that of the whole batch on every rank. The gradient of the embeddings is
    meant for a backbone in DistributedDataParallel, that of the prototypes for the optimiser as it is.

    State: ``weight`` [classes held here, D], the prototypes W, drawn from N(0, 0.01) as upstream does; the
    same ones for any number of ranks.

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
        ranks: the processes over which classes and batch are spread.

    Attributes:
        classes: those whose prototypes are held here.
        class_sharded: entries of the state with a row for each of these.

    Source: https://arxiv.org/abs/2203.15565.
    """

    class_sharded = ("weight",)
    _ddp_params_and_buffers_to_ignore = class_sharded  # DistributedDataParallel would make all shards equal

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
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        if scale <= 0 or not 0 <= sample_rate <= 1 or interclass_filtering_threshold < 0:
            raise ValueError(
                "expected scale > 0, sample_rate in [0, 1] and interclass_filtering_threshold >= 0, "
                f"got {scale}, {sample_rate} and {interclass_filtering_threshold}"
            )
        self.num_classes, self.ranks = num_classes, ranks
        self.classes = ranks.classes(num_classes)
        self.weight = nn.Parameter(_random_prototypes(self.classes, num_classes, embedding_size))
        self.margin = margin
        self.scale = scale
        self.sample_rate = sample_rate
        self.interclass_filtering_threshold = interclass_filtering_threshold
        self.seed = seed
        self._seen: _Seen | None = None

    def forward(self, embeddings: Tensor, labels: Tensor, *, step: int = 0) -> Tensor:
        """The mean loss of the batch of all ranks.

        Args:
            embeddings: [B, D], un-normalised; of this rank's images.
            labels: [B] class indices.
            step: global step; keys the draw of negatives.

        Raises:
            ValueError: labels out of range, or shapes that do not fit.
        """
        wide = self.ranks.counted_once_each(at_least_float32(embeddings))
        unit, all_labels = self._gathered(wide, labels)
        classes, own = self._sampled(all_labels, step)
        cosines, weight = own_cosines(unit, self.weight, all_labels - self.classes.start)
        target = self.ranks.sum(cosines)
        output = self.margin(target, self.ranks.gather(wide.norm(dim=1)), all_labels)
        others = other_classes(
            unit, weight, own, scale=self.scale, negatives=self._negatives(output.negatives), classes=classes
        )
        log_sum_exp, nearest = self._of_all_classes(*others)
        is_trained = not (embeddings.is_inference() or labels.is_inference())
        if is_trained and classes is None and self.num_classes > 1:
            found = self.ranks.own_rows(target.detach()), self.ranks.own_rows(nearest)
            self._seen = _Seen.of(self.weight, embeddings, labels, similarities=found)
        loss = -F.logsigmoid(self.scale * output.target - log_sum_exp).mean()
        if output.regulariser is not None:
            loss = loss + output.regulariser
        if loss.requires_grad:
            # A fused optimiser writes to W without counting it as a change, but after the gradient is made.
            loss.register_hook(self._forget)
        return loss

    @torch.no_grad()
    def class_center_similarities(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(CCS [B], NNCCS [B]) over all classes, whatever the sample rate, without gradient (Eq. 1).

        The loss of the same tensors has found them on its way: asked between it and its backward pass, they
        cost nothing.
        """
        if self._seen is not None and self._seen.answers(self.weight, embeddings, labels):
            return self._seen.similarities
        if self.num_classes < 2:
            raise ValueError("NNCCS needs at least 2 classes, got 1")
        unit, all_labels = self._gathered(at_least_float32(embeddings), labels)
        ccs, nnccs = own_and_nearest(unit, self.weight, all_labels - self.classes.start)
        found = self.ranks.sum(ccs), torch.stack(self.ranks.parts(nnccs)).amax(dim=0)
        return self.ranks.own_rows(found[0]), self.ranks.own_rows(found[1])

    @torch.no_grad()
    def start_from(self, classes: Tensor, means: Tensor) -> None:
        """Turn the prototypes of ``classes`` [K] towards ``means`` [K, D], at unit length.

        A gradient step turns a prototype by lr / |W|^2 times the slope of the loss over the unit sphere. The
        short random ones (|W| of about 0.2) are meant to find their places quickly; these are in place, and
        at unit length lr itself says how far they may turn. A mean of length 0 has no direction and is
        skipped. ``classes`` are some of those held here.
        """
        lengths = means.norm(dim=1, keepdim=True)
        known = lengths.squeeze(1) > 0
        self.weight[classes[known] - self.classes.start] = (means / lengths)[known].to(self.weight.dtype)

    def _forget(self, _: Tensor) -> None:
        self._seen = None

    def _gathered(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embeddings and labels of all ranks."""
        labels = checked_labels(labels, self.num_classes)
        if embeddings.shape != (len(labels), self.weight.shape[1]):
            raise ValueError(
                f"embeddings must be [{len(labels)}, {self.weight.shape[1]}] to fit labels and prototypes, "
                f"got shape {tuple(embeddings.shape)}"
            )
        return self.ranks.gather_for_shards(F.normalize(embeddings)), self.ranks.gather(labels)

    def _of_all_classes(self, log_sum_exp: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
        """What the ranks found among the classes that each holds, put together."""
        if self.ranks.size == 1:
            return log_sum_exp, nearest
        found = torch.stack(self.ranks.parts(torch.stack([log_sum_exp, nearest])))
        # A rank without any negative has -inf, whose derivative would not be a number.
        sums = found[:, 0].clamp_min(torch.finfo(found.dtype).min)
        return sums.logsumexp(dim=0), found[:, 1].detach().amax(dim=0)

    def _sampled(self, labels: Tensor, step: int) -> tuple[Tensor | None, Tensor]:
        """Rows of this step's softmax, None for all, and each label's place among them, if it has one."""
        own = labels - self.classes.start
        if self.sample_rate >= 1:
            return None, own
        held = np.arange(self.classes.start, self.classes.stop)
        draws = keyed_uniforms(self.seed, NEGATIVE_STREAM, step, held, count=1)
        spare = len(held)  # stands for the classes of other ranks: to leave those out, one would have to wait
        chosen = sent(torch.from_numpy(np.append(draws[:, 0] < self.sample_rate, False)), labels.device)
        row = torch.where((own >= 0) & (own < spare), own, spare)
        chosen.index_fill_(0, row, True)
        place = (chosen.cumsum(0) - 1)[row].where(row < spare, -1)
        return chosen[:spare].nonzero().squeeze(1), place

    def _negatives(self, of_margin: Transform | None) -> Transform | None:
        """What becomes of the cosines to other classes: conflicts count as 0, the margin's part follows."""
        threshold = self.interclass_filtering_threshold
        if threshold <= 0:
            return of_margin

        def without_conflicts(cosines: Tensor) -> Tensor:
            kept = cosines.masked_fill(cosines > threshold, 0)
            return kept if of_margin is None else of_margin(kept)

        return without_conflicts


def _random_prototypes(classes: range, num_classes: int, embedding_size: int) -> Tensor:
    """Each rank draws the prototypes of all classes, some at a time, and keeps its own."""
    kept = torch.empty(len(classes), embedding_size)
    for start in range(0, num_classes, _DRAWN_AT_ONCE):
        drawn = torch.normal(0, 0.01, (min(_DRAWN_AT_ONCE, num_classes - start), embedding_size))
        first, last = max(classes.start, start), min(classes.stop, start + len(drawn))
        if first < last:
            kept[first - classes.start : last - classes.start] = drawn[first - start : last - start]
    return kept

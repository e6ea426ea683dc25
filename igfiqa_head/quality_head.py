"""What every quality head has: the regressor R, its loss, and what the trainer may ask of a head."""

from __future__ import annotations

import warnings
from typing import NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from igfiqa_head.class_chunks import at_least_float32
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.sub_batches import Batch, SubBatches


class Prototypes(Protocol):
    """What a classifier must offer to a quality head."""

    def class_center_similarities(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(CCS [B], NNCCS [B]) over all classes, without gradient."""


class QualityOutput(NamedTuple):
    """A quality loss (scalar, before the factor lambda) and what to log about it (detached scalars)."""

    loss: Tensor
    statistics: dict[str, Tensor]


class QualityRegressor(nn.Linear):
    """R of Eq. 3: one linear layer from the un-normalised embedding [B, D] to the raw quality [B].

    Args:
        embedding_size: D.
        ranks: the processes that train together: R is the same on all of them, so the gradient of its
            parameters is the mean over all of their images, whether or not something else averages it too.
    """

    def __init__(self, embedding_size: int = 512, *, ranks: Ranks = ALONE) -> None:
        super().__init__(embedding_size, 1)
        self._ranks = ranks

    def forward(self, embeddings: Tensor) -> Tensor:
        weight, bias = self._ranks.averaged(self.weight), self._ranks.averaged(self.bias)
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.linear(at_least_float32(embeddings), weight, bias).squeeze(1)


def quality_regression_loss(
    predicted: Tensor, certainty: Tensor, weights: Tensor | None = None, beta: float = 0.5
) -> Tensor:
    """Weighted smooth L1 between R(f(x)) and CR, divided by the number of samples (Eq. 3, 4 and 10).

    Args:
        predicted: [B] outputs of R.
        certainty: [B] labels CR; no gradient flows into them.
        weights: [B] from Eq. 9, or None for Eq. 4's equal weights; no gradient flows into them.
        beta: where the loss turns from quadratic to linear.

    Raises:
        ValueError: the shapes differ; [B, 1] against [B] would broadcast silently to [B, B].
    """
    shapes = {tuple(x.shape) for x in (predicted, certainty, weights) if x is not None}
    if len(shapes) != 1 or predicted.ndim != 1:
        raise ValueError(f"predictions, labels and weights must all be [B], got shapes {sorted(shapes)}")
    loss = F.smooth_l1_loss(predicted, certainty.detach(), beta=beta, reduction="none")
    return loss.mean() if weights is None else (weights.detach() * loss).mean()


class QualityHead(nn.Module):
    """Base of the registered heads. Its defaults describe a head that sees the recogniser's own images.

    A training step reads::

        clean, quality = head.split(batch)
        loss = classifier(backbone(clean.images), clean.labels)
        output = head(backbone(quality.images), quality.labels, classifier, epoch=epoch)
        (loss + head.loss_weight * output.loss).backward()

    On several ranks each passes its own images. The loss is the mean over these; R averages the gradient of
    its parameters over the ranks by itself. A head with further parameters takes them through
    :meth:`Ranks.averaged`.

    Args:
        embedding_size: D.
        num_classes: C.
        ranks: the processes over which the images and the statistics of the classes are spread.

    Attributes:
        regressor: R, from embeddings [B, D] to qualities [B]; what is exported.
        loss_weight: lambda of Eq. 5 and 11.
        quality_bn: "shared" (the quality pass updates the running statistics of the backbone's batch
            normalisations too) or "clean" (it leaves them alone).
        detach_backbone: the quality loss stops at the embedding, so its pass needs no gradient.
        needs_first_pass: the trainer must call :meth:`start_from` before the first step.
        class_sharded: entries of the state with a row for each class that this rank holds.
        has_images_of_all_classes: whether each of the C classes is known to have images, as the trainer of
            this project makes sure; a head that is not told finds out.
    """

    loss_weight: float
    quality_bn: str = "shared"
    detach_backbone: bool = False
    needs_first_pass: bool = False
    class_sharded: tuple[str, ...] = ()
    has_images_of_all_classes: bool = False

    def __init__(self, embedding_size: int, num_classes: int, *, ranks: Ranks = ALONE) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"relative classifiability needs at least 2 classes, got {num_classes}")
        _warn_if_others_are_unknown(ranks)
        self.num_classes, self.ranks = num_classes, ranks
        self.regressor = QualityRegressor(embedding_size, ranks=ranks)

    def images_drawn(self, batch_size: int) -> int:
        """How many images a step with ``batch_size`` images in its forward passes draws from the data set."""
        return batch_size

    def split(self, batch: Batch) -> SubBatches:
        """The images of L_Arc and those of the quality loss."""
        return SubBatches(batch, batch)

    def start_from(self, labels: Tensor, ccs: Tensor) -> None:
        """Take in the CCS [N] of all images, or the mean of each class, before the first step.

        Of several ranks each needs those of the classes it holds.
        """
        raise ValueError(f"{type(self).__name__} keeps no statistics of the data set")

    def class_weights(self) -> Tensor:
        """[C]: the weight that a sample of each class has in the quality loss now; every rank must ask."""
        return torch.ones(self.num_classes)


def _warn_if_others_are_unknown(ranks: Ranks) -> None:
    if ranks.size == 1 and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        warnings.warn(
            f"a quality head for one process was made in one of {dist.get_world_size()}: its statistics and "
            "the gradient of R will be those of this process's images alone. Pass "
            "ranks=Ranks(dist.get_rank(), dist.get_world_size()) of igfiqa_head.ranks",
            stacklevel=4,
        )


def similarity_statistics(ccs: Tensor, nnccs: Tensor, certainty: Tensor) -> dict[str, Tensor]:
    """Batch means of CCS, NNCCS and CR, for the log."""
    return {"ccs": ccs.mean(), "nnccs": nnccs.mean(), "cr": certainty.mean()}


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")

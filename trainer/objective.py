"""What is minimised: L = L_Arc + lambda * L_IG of one batch (Eq. 11)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from igfiqa_head.quality_head import QualityHead
from igfiqa_head.sub_batches import Batch
from trainer.precision import mixed_precision


class Losses(NamedTuple):
    """The loss of a batch.

    Attributes:
        total: scalar, to be differentiated.
        statistics: its parts and what else is to be logged, detached scalars.
        images: how many passed the backbone.
    """

    total: Tensor
    statistics: dict[str, Tensor]
    images: int


class Objective:
    """Eq. 11 for a backbone, its class prototypes and, if there is one, a quality head.

    Args:
        training_pass: the backbone as it is called in training.
        backbone: the same without what was wrapped around it.
        classifier: (embeddings, labels, step=) -> L_Arc; also gives CCS and NNCCS.
        quality_head: None leaves plain recognition.
        half: the type of mixed precision in the backbone, None for none.
    """

    def __init__(
        self,
        training_pass: nn.Module,
        backbone: nn.Module,
        classifier: nn.Module,
        quality_head: QualityHead | None,
        half: torch.dtype | None = None,
    ) -> None:
        self._training_pass, self._backbone = training_pass, backbone
        self._classifier, self._quality_head, self._half = classifier, quality_head, half

    def __call__(self, batch: Batch, *, step: int, epoch: float) -> Losses:
        """The loss of ``batch`` in a global step and at a, possibly fractional, 0-based epoch."""
        head = self._quality_head
        if head is None:
            loss = self._classifier(self._embed(batch), batch.labels, step=step)
            return Losses(loss, {"loss": loss.detach()}, len(batch.labels))

        clean, quality = head.split(batch)
        images = len(clean.labels)
        embeddings = self._embed(clean)
        recognition = self._classifier(embeddings, clean.labels, step=step)
        if quality is not clean:
            images += len(quality.labels)
            with self._of_quality_pass(head):
                embeddings = self._embed(quality)
        output = head(embeddings, quality.labels, self._classifier, epoch=epoch)
        loss = recognition + head.loss_weight * output.loss
        parts = {"loss": loss, "loss_recognition": recognition, "loss_quality": output.loss}
        return Losses(loss, {name: x.detach() for name, x in parts.items()} | output.statistics, images)

    @contextmanager
    def _of_quality_pass(self, head: QualityHead) -> Iterator[None]:
        clean_only = head.quality_bn == "clean"
        with (
            frozen_running_statistics(self._backbone) if clean_only else nullcontext(),
            torch.no_grad() if head.detach_backbone else nullcontext(),
        ):
            yield

    def _embed(self, batch: Batch) -> Tensor:
        with mixed_precision(batch.images.device, self._half):
            return self._training_pass(batch.images)


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Within the block, batch normalisations use the batch's statistics and leave the running ones alone."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True

"""A quality head on top of a recogniser that is not trained: IG-FIQA where the network has converged.

What the method follows with running averages during a training stands still here and is computed once:
prototypes are class means, v is that of one pass over the images as they are, and so the labels and weights
are fixed. Only R learns. It reads features that are computed once, too, and kept on the disk.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eval_tools.cache import apply_cached
from igfiqa_head.quality_head import quality_regression_loss
from igfiqa_head.recogniser_graph import RecogniserGraph
from igfiqa_head.runtime import FaceNetwork
from igfiqa_head.similarity import certainty_ratio, class_center_similarities
from igfiqa_head.variance import IntraClassVariance
from trainer.log import LOGGER, RunLog
from trainer.loop import TrainingDivergedError
from trainer.one_thread import one_thread
from trainer.replicas import Replicas

REPAIR = "repair it or take it out of the data"
_COSINES_AT_ONCE = 2**25  # 134 MB


class Features:
    """The features of a recogniser, as what :func:`eval_tools.cache.apply_cached` applies to images.

    Attributes:
        computed: number of images that it was applied to so far; the others were in a cache.
    """

    image_size: tuple[int, int] | None = (112, 112)

    def __init__(self, recogniser: RecogniserGraph) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "features.onnx"
            recogniser.write_features(path)
            self._network = FaceNetwork(path)
        self.embedding_size = recogniser.embedding_size
        self.row_shape: tuple[int, ...] = (recogniser.num_features,)
        self.fingerprint = self._network.fingerprint
        self.computed = 0

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """RGB uint8 [B, 112, 112, 3] -> [B, F]."""
        self.computed += len(images)
        return self._network.run(images)["features"]


class Lessons(NamedTuple):
    """What R learns from.

    Attributes:
        features: [N, F] of clean and degraded images.
        certainty: [N], their labels CR (Eq. 2).
        weights: [N] of Eq. 9, or ones.
        class_weights: [C] of Eq. 9, or ones.
    """

    features: Tensor
    certainty: Tensor
    weights: Tensor
    class_weights: Tensor


def compute_features(features_of: Features, replicas: Replicas, cache: Path | None) -> Tensor:
    """Features [N, F] of all replicas, from the cache where they are known; the embedding comes first.

    Raises:
        ValueError: an image cannot be read, or the cache cannot be used.
    """
    LOGGER.info("features of %d images, kept in %s", len(replicas), cache or "memory alone")
    start, before = time.monotonic(), features_of.computed
    found, _ = apply_cached({"features": features_of}, replicas, cache, title="features", advice=REPAIR)
    features = torch.from_numpy(np.asarray(found["features"]))
    computed, seconds = features_of.computed - before, time.monotonic() - start
    LOGGER.info("features: %.0f s; %d were in the cache", seconds, len(features) - computed)
    return features


def make_lessons(
    features: Tensor, embeddings: Tensor, labels: Tensor, *, variance_weights: bool = True
) -> Lessons:
    """Labels and weights of the paper for a recogniser that has converged.

    Args:
        features: [R * N, F] of R replicas of N images, the first of them the images as they are.
        embeddings: [R * N, D].
        labels: [N] in [0, C), C >= 2.
        variance_weights: False gives every sample the weight 1.
    """
    num_classes = int(labels.max()) + 1
    clean, every = embeddings[: len(labels)], labels.repeat(len(embeddings) // len(labels))
    prototypes = class_means(clean, labels, num_classes)
    ccs, nnccs = _similarities(embeddings, prototypes, every)
    variance = IntraClassVariance(num_classes, only_seen=True)
    # Degraded copies of one image differ, so that with them a class of near-copies would pass for diverse.
    variance.update(labels, ccs[: len(labels)], momentum=0.0)
    classes = torch.arange(num_classes)
    weights = variance.weights(classes) if variance_weights else torch.ones(num_classes)
    return Lessons(features, certainty_ratio(ccs, nnccs), weights[every], weights)


def _similarities(embeddings: Tensor, prototypes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """CCS and NNCCS, in blocks of rows: many images of many classes have more cosines than memory holds."""
    size = max(1, _COSINES_AT_ONCE // len(prototypes))
    blocks = zip(embeddings.split(size), labels.split(size), strict=True)
    parts = [class_center_similarities(rows, prototypes, own) for rows, own in blocks]
    ccs, nnccs = zip(*parts, strict=True)
    return torch.cat(ccs), torch.cat(nnccs)


def class_means(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Prototypes [C, D]: the sum of the directions of the embeddings [N, D] of each class."""
    means = embeddings.new_zeros(num_classes, embeddings.shape[1])
    return means.index_add_(0, labels, F.normalize(embeddings))


def fit(
    regressor: nn.Module,
    lessons: Lessons,
    *,
    optimizer: Optimizer,
    schedule: LRScheduler,
    log: RunLog,
    batch_size: int,
    num_epoch: int,
    beta: float,
    seed: int,
) -> None:
    """Train R with L_IG (Eq. 10) alone.

    Raises:
        TrainingDivergedError: the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    size = len(lessons.certainty)
    steps = size // batch_size
    for epoch in range(num_epoch):
        order = torch.randperm(size, generator=generator)[: steps * batch_size]
        with one_thread(), log.epoch(epoch, num_epoch, steps, 0):
            for step, rows in enumerate(order.split(batch_size), start=epoch * steps + 1):
                start = time.perf_counter()
                loss = _update(regressor, lessons, rows, beta, optimizer)
                statistics = {
                    "loss_quality": loss,
                    "learning_rate": torch.tensor(schedule.get_last_lr()[0]),
                }
                schedule.step()
                log.step(step, statistics, len(rows), time.perf_counter() - start)
        if not loss.isfinite():  # nor will it ever be again
            raise TrainingDivergedError(
                f"L_IG is {loss.item()} after epoch {epoch + 1}: lower lr, or add warmup_epoch"
            )


def _update(
    regressor: nn.Module, lessons: Lessons, rows: Tensor, beta: float, optimizer: Optimizer
) -> Tensor:
    """One step on these rows; the loss before it."""
    predicted = regressor(lessons.features[rows])
    loss = quality_regression_loss(predicted, lessons.certainty[rows], lessons.weights[rows], beta)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()

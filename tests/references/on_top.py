"""Slow float64 oracle of IG-FIQA on a network that does not change: all of it from one pass over the images.

Written from the equations (arXiv 2403.08256, Eq. 1, 2, 8 and 9) with prototypes as class means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tests.references.method import (
    certainty_ratio,
    class_center_similarities,
    update_variance,
    variance_weights,
)


class Lessons(NamedTuple):
    """Labels CR and weights [R N] of all replicas, and v and weights [C] of the classes."""

    certainty: np.ndarray
    weights: np.ndarray
    variance: np.ndarray
    class_weights: np.ndarray


def class_means(embeddings: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Mean direction [C, D] of the embeddings [N, D] of each class."""
    means = np.zeros((max(labels) + 1, embeddings.shape[1]))
    for label in range(len(means)):
        own = [embedding for embedding, other in zip(embeddings, labels, strict=True) if other == label]
        for embedding in own:
            means[label] += embedding / math.sqrt(sum(float(x) ** 2 for x in embedding)) / len(own)
    return means


def lessons(replicas: Sequence[np.ndarray], labels: Sequence[int]) -> Lessons:
    """From the embeddings [N, D] of each replica, the first of them the images as they are."""
    prototypes = class_means(replicas[0], labels)
    similarities = [class_center_similarities(embeddings, prototypes, labels) for embeddings in replicas]
    certainty = np.concatenate([certainty_ratio(ccs, nnccs) for ccs, nnccs in similarities])
    variance = update_variance(np.ones(len(prototypes)), labels, similarities[0][0], momentum=0.0)
    of_images = variance_weights(variance, labels)
    of_classes = variance_weights(variance, range(len(prototypes)))
    return Lessons(certainty, np.tile(of_images, len(replicas)), variance, of_classes)

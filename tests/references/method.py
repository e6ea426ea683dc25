"""Slow float64 oracles of the method (arXiv 2403.08256, Eq. 1-11): plain loops, written from the equations.

They share nothing with `igfiqa_head`; clarity outranks speed. Degradations are written for one image whose
draws are given, with `torch.nn.functional.interpolate` as the authority on resampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

Floats = Sequence[float] | np.ndarray
ITU_R_601_LUMA = (0.299, 0.587, 0.114)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors, summed one component at a time."""
    dot = squared_a = squared_b = 0.0
    for x, y in zip(a, b, strict=True):
        dot += float(x) * float(y)
        squared_a += float(x) ** 2
        squared_b += float(y) ** 2
    return max(-1.0, min(1.0, dot / math.sqrt(squared_a * squared_b)))


def class_center_similarities(
    embeddings: np.ndarray, prototypes: np.ndarray, labels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """CCS and NNCCS (Eq. 1) of every sample."""
    ccs, nnccs = [], []
    for embedding, label in zip(embeddings, labels, strict=True):
        cosines = [cosine(embedding, prototype) for prototype in prototypes]
        ccs.append(cosines[label])
        nnccs.append(max(value for j, value in enumerate(cosines) if j != label))
    return np.array(ccs), np.array(nnccs)


def certainty_ratio(ccs: Floats, nnccs: Floats, eps: float = 1e-9) -> np.ndarray:
    """CR (Eq. 2)."""
    return np.array([c / ((n + 1.0) + eps) for c, n in zip(ccs, nnccs, strict=True)])


def smooth_l1(difference: float, beta: float = 0.5) -> float:
    """l_CR (Eq. 3) of d = CR - R(f(x))."""
    if abs(difference) < beta:
        return 0.5 / beta * difference**2
    return abs(difference) - 0.5 * beta


def smooth_l1_derivative(difference: float, beta: float = 0.5) -> float:
    """Derivative of Eq. 3 with respect to d."""
    if abs(difference) < beta:
        return difference / beta
    return math.copysign(1.0, difference)


def update_variance(
    variance: np.ndarray, labels: Sequence[int], ccs: Sequence[float], momentum: float
) -> np.ndarray:
    """Eq. 8, once per class present, with the mean of its 1 - CCS in this step."""
    updated = np.array(variance, dtype=np.float64)
    for label in set(labels):
        distances = [1.0 - float(c) for c, other in zip(ccs, labels, strict=True) if other == label]
        mean = math.fsum(distances) / len(distances)
        updated[label] = momentum * float(variance[label]) + (1.0 - momentum) * mean
    return updated


def variance_weights(
    variance: Sequence[float], labels: Sequence[int], seen: Sequence[bool] | None = None
) -> np.ndarray:
    """Eq. 9 with the two-pass population mean and standard deviation over all classes, or over those seen."""
    over = [float(v) for k, v in enumerate(variance) if seen is None or seen[k]]
    mean = math.fsum(over) / len(over)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in over) / len(over))
    return np.array([1.0 + max(-1.0, min(0.0, (float(variance[y]) - mean) / (std + 1e-6))) for y in labels])


def ig_loss(
    ratio: Sequence[float], predicted: Sequence[float], weights: Sequence[float], beta: float = 0.5
) -> float:
    """L_IG (Eq. 10) divided by the number of samples."""
    terms = [w * smooth_l1(c - r, beta) for c, r, w in zip(ratio, predicted, weights, strict=True)]
    return math.fsum(terms) / len(terms)


def ig_loss_gradients(
    embeddings: np.ndarray,
    regressor: np.ndarray,
    bias: float,
    ratio: np.ndarray,
    weights: np.ndarray,
    beta: float,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Gradients of L_IG by the embeddings [B,D], the regressor [D] and its bias; CR is a label."""
    by_embedding, by_regressor, by_bias = np.zeros_like(embeddings), np.zeros_like(regressor), 0.0
    for i, embedding in enumerate(embeddings):
        difference = ratio[i] - (float(np.dot(regressor, embedding)) + bias)
        slope = -weights[i] * smooth_l1_derivative(difference, beta) / len(embeddings)
        by_embedding[i] = slope * regressor
        by_regressor += slope * embedding
        by_bias += slope
    return by_embedding, by_regressor, by_bias


def momentum_at(epoch: float, num_epoch: int, start: float = 0.9, end: float = 1.0) -> float:
    """alpha grows linearly from start at epoch 0 towards end."""
    return start + (end - start) * epoch / num_epoch


def arcface(target: float, margin: float) -> float:
    """cos(theta + m)."""
    return math.cos(math.acos(max(-1.0, min(1.0, target))) + margin)


def arcface_derivative(target: float, margin: float) -> float:
    """d cos(acos(t) + m) / dt = sin(theta + m) / sin(theta)."""
    theta = math.acos(target)
    return math.sin(theta + margin) / math.sin(theta)


def cosface(target: float, margin: float) -> float:
    """cos(theta) - m."""
    return target - margin


def margin_softmax_loss(
    embeddings: np.ndarray,
    prototypes: np.ndarray,
    labels: Sequence[int],
    margin: Callable[[float], float],
    scale: float = 64.0,
    keep: Callable[[int, int, float], bool] | None = None,
) -> float:
    """Mean cross entropy of scaled cosines with a margin on the true class.

    keep(sample, class, cosine) tells which negatives take part (sampling, inter-class filtering).
    """
    losses = []
    for i, (embedding, label) in enumerate(zip(embeddings, labels, strict=True)):
        target, others = 0.0, []
        for j, prototype in enumerate(prototypes):
            similarity = cosine(embedding, prototype)
            if j == label:
                target = scale * margin(similarity)
            elif keep is None or keep(i, j, similarity):
                others.append(scale * similarity)
        largest = max([target, *others])
        total = math.fsum(math.exp(logit - largest) for logit in [target, *others])
        losses.append(largest + math.log(total) - target)
    return math.fsum(losses) / len(losses)


def finite_differences(
    function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-6
) -> np.ndarray:
    """Central differences of a scalar function, entry by entry."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        above, below = at.copy(), at.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient


def rescale(image: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    """One image [3,H,W] shrunk to height x width by area averaging and enlarged again, clamped to [-1, 1]."""
    shrunk = F.interpolate(image[None].double(), size=(height, width), mode="area")
    enlarged = F.interpolate(shrunk, size=tuple(image.shape[1:]), mode=mode, align_corners=False)
    return enlarged[0].clamp(-1.0, 1.0)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Grey values [H,W] of an RGB image [3,H,W]."""
    return sum(weight * channel for weight, channel in zip(ITU_R_601_LUMA, rgb, strict=True))


def color_jitter(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Brightness, contrast, saturation of one image [3,H,W], in [0, 1] space, clamped after each."""
    rgb = (np.asarray(image, dtype=np.float64) + 1.0) / 2.0
    rgb = np.clip(brightness * rgb, 0.0, 1.0)
    rgb = np.clip(contrast * rgb + (1.0 - contrast) * luma(rgb).mean(), 0.0, 1.0)
    rgb = np.clip(saturation * rgb + (1.0 - saturation) * luma(rgb), 0.0, 1.0)
    return rgb * 2.0 - 1.0


def erase(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A rectangle of one image [3,H,W] set to black, -1."""
    erased = np.array(image, dtype=np.float64)
    for row in range(top, top + height):
        for column in range(left, left + width):
            erased[:, row, column] = -1.0
    return erased

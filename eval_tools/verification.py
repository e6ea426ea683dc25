"""Verification: 10-fold accuracy, TAR at an FMR, EER and ROC/DET data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.operating_points import (
    OperatingPoint,
    all_pairs_operating_points,
    operating_point,
    point_at_fmr,
    warned,
)
from eval_tools.scores import (
    BoolArray,
    FloatArray,
    IntArray,
    check_count,
    check_genuine,
    check_scores,
    normalised,
)

__all__ = [
    "OperatingPoint",
    "RocCurve",
    "VerificationResult",
    "all_pairs_operating_points",
    "operating_point",
    "roc_curve",
    "verify",
    "verify_similarities",
]

# arcface_torch's grid of squared distances between unit vectors.
DISTANCE_THRESHOLDS = np.arange(0, 4, 0.01)
# Cosines of float16 embeddings may lie this far outside of [-1, 1].
COSINE_ROUNDING = 1e-3


@dataclass(frozen=True)
class RocCurve:
    """One point per distinct score from strict to lax; the first point accepts nothing.

    ``fmr`` and ``fnmr`` [T] are the DET curve, ``fmr`` and ``tar`` the ROC; ``threshold`` [T] falls from inf.
    """

    threshold: FloatArray
    fmr: FloatArray
    fnmr: FloatArray

    @property
    def tar(self) -> FloatArray:
        return 1.0 - self.fnmr

    @property
    def eer(self) -> float:
        """Equal error rate: where the linearly interpolated DET curve meets ``FMR = FNMR``."""
        gap = self.fmr - self.fnmr  # ascends from -1 to 1
        right = int(np.argmax(gap >= 0))
        left = right - 1
        share = gap[left] / (gap[left] - gap[right])
        return float(self.fmr[left] + share * (self.fmr[right] - self.fmr[left]))


@dataclass(frozen=True)
class VerificationResult:
    """What :func:`verify` measures.

    Attributes:
        accuracy, accuracy_std: mean and population standard deviation of the accuracy over the folds.
        fold_accuracy [folds], fold_threshold [folds]: per fold; thresholds are squared distances.
        similarity [P]: cosine similarity of every pair.
        is_genuine [P]: whether a pair shows one person.
    """

    fold_accuracy: FloatArray
    fold_threshold: FloatArray
    similarity: FloatArray
    is_genuine: BoolArray

    @property
    def n_genuine(self) -> int:
        return int(np.count_nonzero(self.is_genuine))

    @property
    def n_impostor(self) -> int:
        return self.is_genuine.size - self.n_genuine

    @property
    def accuracy(self) -> float:
        return float(self.fold_accuracy.mean())

    @property
    def accuracy_std(self) -> float:
        return float(self.fold_accuracy.std())

    @cached_property
    def roc(self) -> RocCurve:
        """ROC and DET data over all pairs."""
        return roc_curve(self.similarity, self.is_genuine)

    @property
    def eer(self) -> float:
        """Equal error rate over all pairs."""
        return self.roc.eer

    def operating_point(self, fmr: float) -> OperatingPoint:
        """Threshold, rates and counts at a target FMR; warns if the impostor pairs cannot resolve it."""
        return warned(self._operating_point(fmr))

    def tar_at_fmr(self, fmr: float) -> float:
        """True accept rate at a target FMR; an ``UnresolvedFMRWarning`` says if it cannot be resolved."""
        return warned(self._operating_point(fmr)).tar

    def _operating_point(self, fmr: float) -> OperatingPoint:
        return point_at_fmr(self.similarity[self.is_genuine], self.similarity[~self.is_genuine], fmr)


def verify(embeddings: ArrayLike, is_genuine: ArrayLike, folds: int = 10) -> VerificationResult:
    """Verification accuracy by arcface_torch's protocol (LFW's "unrestricted, labelled outside data").

    The squared Euclidean distance of the normalised embeddings is thresholded; the threshold, from 0 to 4 in
    steps of 0.01, is the first that is most accurate on the other folds and is tested on the held-out one.
    Folds are contiguous and unshuffled.

    Args:
        embeddings: [2P, D], pair i in rows 2i and 2i + 1; normalised here. Test-time flipping is the
            caller's: pass the embedding of an image plus that of its mirror image, as arcface_torch does.
        is_genuine: [P], whether pair i shows one person.
        folds: number of folds, at least 2 and at most P.

    Raises:
        ValueError: lengths do not match, an embedding is not finite or is zero, or genuine or impostor pairs
            are missing.
    """
    genuine = check_genuine(is_genuine)
    unit = normalised(embeddings).astype(np.float64, copy=False)
    if len(unit) != 2 * genuine.size:
        raise ValueError(
            f"{genuine.size} pairs need {2 * genuine.size} embeddings (two rows each), got {len(unit)}"
        )
    difference = unit[0::2] - unit[1::2]
    distance = np.einsum("pd,pd->p", difference, difference)
    return _verified(distance, 1.0 - distance / 2.0, genuine, folds)


def verify_similarities(similarity: ArrayLike, is_genuine: ArrayLike, folds: int = 10) -> VerificationResult:
    """:func:`verify` for pairs that are compared already.

    Args:
        similarity: [P], cosine of the two embeddings of each pair.
        is_genuine: [P], whether a pair shows one person.
        folds: number of folds, at least 2 and at most P.

    Raises:
        ValueError: lengths differ, a similarity is no cosine, or genuine or impostor pairs are missing.
    """
    genuine = check_genuine(is_genuine)
    cosine = check_scores("similarity", similarity, genuine.size)
    if np.abs(cosine).max() > 1 + COSINE_ROUNDING:
        raise ValueError(
            f"similarity must be a cosine, from -1 to 1, got {cosine[np.abs(cosine).argmax()]:g}: the "
            "protocol thresholds distances of normalised embeddings"
        )
    return _verified(np.maximum(2.0 - 2.0 * cosine, 0.0), cosine, genuine, folds)


def _verified(
    distance: FloatArray, similarity: FloatArray, genuine: BoolArray, folds: int
) -> VerificationResult:
    check_count("folds", folds, 2, genuine.size)
    correct, sizes = _correct_decisions(distance, genuine, folds)
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    return VerificationResult(
        fold_accuracy=correct[np.arange(folds), best] / sizes,
        fold_threshold=DISTANCE_THRESHOLDS[best],
        similarity=similarity,
        is_genuine=genuine,
    )


def _correct_decisions(distance: FloatArray, genuine: BoolArray, folds: int) -> tuple[IntArray, IntArray]:
    """Right decisions [folds, thresholds] (genuine below the threshold, impostor not), fold sizes [folds]."""
    count = DISTANCE_THRESHOLDS.size
    # A distance lies below threshold k exactly if at most k thresholds do not exceed it.
    first_accepting = np.searchsorted(DISTANCE_THRESHOLDS, distance, side="right")
    parts = np.array_split(np.arange(distance.size), folds)
    correct = np.empty((folds, count), dtype=np.int64)
    for row, part in zip(correct, parts, strict=True):
        is_pair = genuine[part]
        accepted_genuine = np.bincount(first_accepting[part][is_pair], minlength=count + 1)[:count].cumsum()
        accepted_impostor = np.bincount(first_accepting[part][~is_pair], minlength=count + 1)[:count].cumsum()
        row[:] = accepted_genuine + np.count_nonzero(~is_pair) - accepted_impostor
    return correct, np.array([part.size for part in parts])


def roc_curve(similarity: ArrayLike, is_genuine: ArrayLike) -> RocCurve:
    """ROC and DET data of scored pairs.

    Args:
        similarity: [P], higher is more alike.
        is_genuine: [P].

    Raises:
        ValueError: lengths differ, a score is not finite, or genuine or impostor pairs are missing.
    """
    genuine = check_genuine(is_genuine)
    score = check_scores("similarity", similarity, genuine.size)
    order = np.argsort(-score, kind="stable")
    score, genuine = score[order], genuine[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(score)), score.size - 1)
    accepted_genuine = np.append(0, np.cumsum(genuine)[last_of_tie])
    accepted_impostor = np.append(0, last_of_tie + 1) - accepted_genuine
    return RocCurve(
        threshold=np.append(np.inf, score[last_of_tie]),
        fmr=accepted_impostor / accepted_impostor[-1],
        fnmr=(accepted_genuine[-1] - accepted_genuine) / accepted_genuine[-1],
    )

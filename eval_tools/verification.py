"""Verification: 10-fold accuracy, TAR at an FMR, EER and ROC/DET data, of given pairs or of all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.scores import (
    BoolArray,
    FloatArray,
    HighestScores,
    IntArray,
    allowed_false_matches,
    check_genuine,
    check_identities,
    check_scores,
    normalised,
    pair_blocks,
    threshold_at_fmr,
    warn_unresolved,
)

# arcface_torch's grid of squared distances between unit vectors.
DISTANCE_THRESHOLDS = np.arange(0, 4, 0.01)


@dataclass(frozen=True)
class OperatingPoint:
    """Error rates at the threshold that a target FMR gives."""

    target_fmr: float
    threshold: float
    n_false_match: int
    n_false_non_match: int
    n_genuine: int
    n_impostor: int

    @property
    def fmr(self) -> float:
        """The FMR in effect, at most the target."""
        return self.n_false_match / self.n_impostor

    @property
    def fnmr(self) -> float:
        return self.n_false_non_match / self.n_genuine

    @property
    def tar(self) -> float:
        """True accept rate, ``1 - FNMR``."""
        return (self.n_genuine - self.n_false_non_match) / self.n_genuine

    @property
    def resolved(self) -> bool:
        """Whether the target allows at least one false match and the scores let one happen."""
        return self.n_false_match > 0


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
        impostor = self.similarity[~self.is_genuine]
        return _operating_point(self.similarity[self.is_genuine], impostor, impostor.size, fmr)

    def tar_at_fmr(self, fmr: float) -> float:
        """True accept rate at a target FMR; an ``UnresolvedFMRWarning`` says if it cannot be resolved."""
        return self.operating_point(fmr).tar


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
    if not 2 <= folds <= genuine.size:
        raise ValueError(f"folds must be from 2 to the number of pairs ({genuine.size}), got {folds}")
    difference = unit[0::2] - unit[1::2]
    distance = np.einsum("pd,pd->p", difference, difference)
    correct, sizes = _correct_decisions(distance, genuine, folds)
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    return VerificationResult(
        fold_accuracy=correct[np.arange(folds), best] / sizes,
        fold_threshold=DISTANCE_THRESHOLDS[best],
        similarity=1.0 - distance / 2.0,
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


def all_pairs_operating_points(
    embeddings: ArrayLike, identities: ArrayLike, fmrs: Sequence[float], *, block: int = 512
) -> list[OperatingPoint]:
    """TAR at each target FMR over all N (N - 1) / 2 pairs of a set, where low FMRs can be resolved.

    Only genuine scores and the highest impostor scores are kept, so memory is O(block N + max(fmrs) N^2).

    Args:
        embeddings: [N, D]; normalised here.
        identities: [N], any labels; equal labels make a genuine pair.
        fmrs: target FMRs, each in (0, 1).
        block: images compared with all earlier ones at a time.

    Raises:
        ValueError: bad embeddings, lengths that differ, no genuine or no impostor pair, or no FMR in (0, 1).
    """
    unit = normalised(embeddings)
    labels, _, n_impostor = check_identities(identities, len(unit))
    highest = HighestScores(1 + max(allowed_false_matches(fmr, n_impostor) for fmr in fmrs))
    genuine_scores = []
    for start, scores, same in pair_blocks(unit, labels, block):
        earlier = np.tri(len(scores), scores.shape[1], k=start - 1, dtype=bool)
        genuine_scores.append(scores[same & earlier])
        highest.add(scores[~same & earlier])
    genuine = np.concatenate(genuine_scores).astype(np.float64)
    return [_operating_point(genuine, highest.values, n_impostor, fmr) for fmr in fmrs]


def _operating_point(
    genuine: FloatArray, impostor: FloatArray, n_impostor: int, fmr: float
) -> OperatingPoint:
    threshold, n_false_match = threshold_at_fmr(impostor, fmr, n_impostor=n_impostor)
    n_false_non_match = int(np.count_nonzero(genuine < threshold))
    point = OperatingPoint(fmr, threshold, n_false_match, n_false_non_match, genuine.size, n_impostor)
    if not point.resolved:
        warn_unresolved(fmr, n_impostor)
    return point

"""TAR at a target FMR, of scored pairs or of all pairs of a set, where low FMRs can be resolved."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.scores import (
    FloatArray,
    HighestScores,
    UnresolvedFMRWarning,
    allowed_false_matches,
    check_fmrs,
    check_genuine,
    check_identities,
    check_scores,
    is_resolved,
    normalised,
    pair_blocks,
    threshold_at_fmr,
    unresolved_text,
)


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
        """Whether the target can be told from 0, see :func:`eval_tools.scores.is_resolved`."""
        return bool(is_resolved(self.target_fmr, self.n_impostor, self.fmr))


def operating_point(similarity: ArrayLike, is_genuine: ArrayLike, fmr: float) -> OperatingPoint:
    """Threshold, rates and counts of scored pairs at a target FMR.

    Args:
        similarity: [P], higher is more alike.
        is_genuine: [P].
        fmr: target FMR in (0, 1).

    Raises:
        ValueError: lengths differ, a score is not finite, genuine or impostor pairs are missing, or the FMR
            is out of range.

    Warns:
        UnresolvedFMRWarning: the impostor pairs cannot resolve the target FMR.
    """
    genuine = check_genuine(is_genuine)
    score = check_scores("similarity", similarity, genuine.size)
    return warned(point_at_fmr(score[genuine], score[~genuine], fmr))


def all_pairs_operating_points(
    embeddings: ArrayLike, identities: ArrayLike, fmrs: Iterable[float], *, block: int = 512
) -> list[OperatingPoint]:
    """TAR at each target FMR over all N (N - 1) / 2 pairs of a set.

    Only genuine scores and the highest impostor scores are kept, so memory is O(block N + max(fmrs) N^2).

    Args:
        embeddings: [N, D]; normalised here.
        identities: [N], any labels; equal labels make a genuine pair.
        fmrs: target FMRs, each in (0, 1).
        block: images compared with all earlier ones at a time.

    Raises:
        ValueError: bad embeddings, lengths that differ, no genuine or no impostor pair, no FMR or one outside
            (0, 1), or a block without images.

    Warns:
        UnresolvedFMRWarning: for each target that the impostor pairs cannot resolve.
    """
    targets, unit = check_fmrs(fmrs), normalised(embeddings)
    labels, _, n_impostor = check_identities(identities, len(unit))
    highest = HighestScores(1 + max(allowed_false_matches(fmr, n_impostor) for fmr in targets))
    genuine_scores = []
    for start, scores, same in pair_blocks(unit, labels, block):
        earlier = np.tri(len(scores), scores.shape[1], k=start - 1, dtype=bool)
        genuine_scores.append(scores[same & earlier])
        highest.add(scores[~same & earlier])
    genuine = np.concatenate(genuine_scores).astype(np.float64)
    points = []
    for fmr in targets:
        points.append(warned(point_at_fmr(genuine, highest.values, fmr, n_impostor)))
    return points


def point_at_fmr(
    genuine: FloatArray, impostor: FloatArray, fmr: float, n_impostor: int | None = None
) -> OperatingPoint:
    """The point without a warning; ``n_impostor`` is needed if ``impostor`` holds only the highest."""
    count = impostor.size if n_impostor is None else n_impostor
    threshold, n_false_match = threshold_at_fmr(impostor, fmr, n_impostor=count)
    n_false_non_match = int(np.count_nonzero(genuine < threshold))
    return OperatingPoint(fmr, threshold, n_false_match, n_false_non_match, genuine.size, count)


def warned(point: OperatingPoint) -> OperatingPoint:
    """Pass the point on to the caller's caller, who is warned if its target is not resolved."""
    if not point.resolved:
        text = unresolved_text(point.target_fmr, point.n_impostor, point.fmr)
        warnings.warn(text, UnresolvedFMRWarning, stacklevel=3)
    return point

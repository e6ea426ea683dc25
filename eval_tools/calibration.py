"""What a quality score means: its percentage in a reference set, and the error rate to expect.

The result is an :class:`igfiqa_head.calibration.Calibration`. Error rates hold for one recogniser at one
comparison threshold, fixed on all impostor pairs as in the ``fixed`` protocol of :mod:`eval_tools.erc`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_tools.operating_points import OperatingPoint, point_at_fmr, warned
from eval_tools.scores import (
    RULE_OF_THIRTY,
    BoolArray,
    FloatArray,
    IntArray,
    check_count,
    check_genuine,
    check_scores,
)
from igfiqa_head.calibration import MAX_KNOTS, Calibration, ExpectedFNMR, PercentScale, short_decimals


class FewErrorsWarning(UserWarning):
    """The error rates rest on so few errors that another sample of pairs may give others."""


@dataclass(frozen=True)
class GenuinePairs:
    """Genuine pairs at one comparison threshold: what an FNMR is made of.

    Attributes:
        recogniser: what compared them.
        point: the threshold, its target and effective FMR, and the counts.
        quality [G]: of each pair, the lower of its two scores.
        is_error [G]: whether it is a false non-match.
    """

    recogniser: str
    point: OperatingPoint
    quality: FloatArray
    is_error: BoolArray

    @cached_property
    def _ascending(self) -> tuple[FloatArray, IntArray]:
        order = np.argsort(self.quality)
        errors_from = np.append(np.cumsum(self.is_error[order][::-1])[::-1], 0)
        return self.quality[order], errors_from

    def surviving(self, score: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of pairs and of false non-matches among the pairs of quality ``score`` and higher."""
        quality, errors_from = self._ascending
        first = np.searchsorted(quality, score)
        return quality.size - first, errors_from[first]


def genuine_pairs_at_fmr(
    similarity: ArrayLike, is_genuine: ArrayLike, quality: ArrayLike, *, recogniser: str, fmr: float = 1e-3
) -> GenuinePairs:
    """The genuine pairs among scored pairs, judged at the lowest threshold whose FMR does not exceed ``fmr``.

    Args:
        similarity: [P], higher is more alike.
        is_genuine: [P], whether a pair shows one person.
        quality: [P], the lower of the scores of the pair's images, see :func:`eval_tools.erc.pair_quality`.
        recogniser: name of what made the similarities.
        fmr: target false match rate, in (0, 1).

    Raises:
        ValueError: lengths differ, a value is NaN or infinite, or genuine or impostor pairs are missing.

    Warns:
        UnresolvedFMRWarning: the impostor pairs cannot resolve the target FMR.
    """
    genuine = check_genuine(is_genuine)
    scores = check_scores("similarity", similarity, genuine.size)
    pair_quality = check_scores("quality", quality, genuine.size)[genuine]
    point = warned(point_at_fmr(scores[genuine], scores[~genuine], fmr))
    return GenuinePairs(recogniser, point, pair_quality, scores[genuine] < point.threshold)


def calibrate(
    scores: ArrayLike,
    pairs: GenuinePairs | None = None,
    *,
    method: str,
    reference: str,
    knots: int = 101,
    min_pairs: int = 30,
) -> Calibration:
    """Learn from a reference set what the scores of a quality method mean.

    The percentage of a score is its mid-rank in the reference. With more distinct scores than knots, the
    table leaves some out; their percentages are off by less than the step from knot to knot, which is
    ``100 / (knots - 1)`` for smooth scores and up to about twice that where many tie.

    The expected FNMR is the isotonic (never rising) regression of the false non-matches on the pair quality.
    Neighbouring qualities are first pooled to ``min_pairs`` pairs: a single failure at the lower end would
    read as an FNMR of 1.

    Args:
        scores: [N] of the reference images, higher is better.
        pairs: genuine pairs of these images, see :func:`genuine_pairs_at_fmr`; without them the calibration
            has percentages only.
        method: name of the quality method.
        reference: name of the reference set.
        knots: length of each table at most, 2 to 1001.
        min_pairs: pairs behind every expected FNMR, at least 1; all of them if there are fewer.

    Raises:
        ValueError: no score, a score that is not finite as float32, or an argument out of range.

    Warns:
        FewErrorsWarning: fewer than 30 false non-matches to learn from.
    """
    check_knots(knots)
    check_count("min_pairs", min_pairs, 1)
    percentile = _percent_scale(check_reference(scores), knots)
    if pairs is None:
        return Calibration(method, reference, percentile)
    if pairs.point.n_false_non_match < RULE_OF_THIRTY:
        warnings.warn(
            f"the expected FNMR of {method!r} rests on {pairs.point.n_false_non_match} false non-matches "
            f"among {pairs.point.n_genuine} genuine pairs; it takes {RULE_OF_THIRTY} for a rate known to "
            "about 30 %: use more genuine pairs or a lower FMR",
            FewErrorsWarning,
            stacklevel=2,
        )
    return Calibration(method, reference, percentile, _expected_fnmr(pairs, knots, min_pairs))


def check_knots(knots: int) -> None:
    """Refuse a length that no table of a calibration can have."""
    check_count("knots", knots, 2, MAX_KNOTS)


def check_reference(scores: ArrayLike) -> FloatArray:
    """Scores of a reference set as float64 [N], at least one, all finite."""
    values = check_scores("scores", scores)
    if not values.size:
        raise ValueError("there are no scores: give those of the images of a reference set")
    return values


def _as_float32(name: str, values: FloatArray) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise ValueError(f"{name} must fit into float32, got {values[~np.isfinite(narrow)][0]:g}: rescale")
    return narrow


def _percent_scale(scores: FloatArray, knots: int) -> PercentScale:
    values, counts = np.unique(_as_float32("scores", scores), return_counts=True)
    percents = 100 * (np.cumsum(counts) - counts / 2) / scores.size
    chosen = _evenly_spaced(percents, knots)
    return PercentScale(scores.size, short_decimals(values[chosen]), short_decimals(percents[chosen]))


def _evenly_spaced(percents: FloatArray, knots: int) -> IntArray:
    """Positions of at most ``knots`` of the ascending percents, first and last among them.

    Neighbours are either at most one step apart or had nothing between them to leave out, so a score that
    many images share keeps its jump. Ranks alone decide, so the choice survives any monotone transform.
    """
    step, chosen = 100 / (knots - 1), [0]
    while chosen[-1] < percents.size - 1:
        reachable = int(np.searchsorted(percents, percents[chosen[-1]] + step, side="right")) - 1
        chosen.append(max(reachable, chosen[-1] + 1))
        if len(chosen) > knots:
            step, chosen = 1.05 * step, [0]
    return np.array(chosen)


def _expected_fnmr(pairs: GenuinePairs, knots: int, min_pairs: int) -> ExpectedFNMR:
    from sklearn.isotonic import isotonic_regression  # two seconds, which no other command should wait for

    values, tie, counts = np.unique(
        _as_float32("pair qualities", pairs.quality), return_inverse=True, return_counts=True
    )
    group = _pooled(counts, min_pairs)
    sizes = np.bincount(group, weights=counts)
    errors = np.bincount(group, weights=np.bincount(tie, weights=pairs.is_error))
    fitted = isotonic_regression(errors / sizes, sample_weight=sizes, y_min=0, y_max=1, increasing=False)
    rates = fitted[group]
    bends = rates[1:] != rates[:-1]
    ends = np.flatnonzero(np.append(True, bends) | np.append(bends, True))
    if ends.size > knots:
        ends = ends[np.round(np.linspace(0, ends.size - 1, knots)).astype(np.int64)]
    point = pairs.point
    return ExpectedFNMR(
        recogniser=pairs.recogniser,
        target_fmr=point.target_fmr,
        effective_fmr=point.fmr,
        threshold=point.threshold,
        n_genuine=point.n_genuine,
        n_impostor=point.n_impostor,
        n_errors=point.n_false_non_match,
        scores=short_decimals(values[ends]),
        rates=short_decimals(rates[ends]),
    )


def _pooled(counts: IntArray, min_pairs: int) -> IntArray:
    """Group of each quality, so that every group has ``min_pairs`` pairs if there are as many."""
    groups, group, size = np.empty(counts.size, dtype=np.int64), 0, 0
    for index, count in enumerate(counts.tolist()):
        groups[index] = group
        size += count
        if size >= min_pairs:
            group, size = group + 1, 0
    return np.minimum(groups, max(group - 1, 0))  # an unfinished last group joins the one before

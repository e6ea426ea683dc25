"""Error-versus-reject curves (ERC; ISO/IEC 29794-1 calls them error-versus-discard, EDC).

How much does a quality measure help recognition? Discard the lowest qualities and watch the error rate of
what is left. The protocols in use differ in what they discard and in whether the threshold moves, and give
different numbers, so each has a name here:

=============  ===================================  ======================  ==============================
protocol       threshold                            discarded               points; area
=============  ===================================  ======================  ==============================
``fixed``      once, on all impostor pairs          genuine pairs; ties     every distinct quality; steps
                                                    leave together          from 0 to 1
``crfiqa``     at each point, on surviving pairs    all pairs together      0, 0.05, ..., 0.95; trapezoids
                                                                            from 0 to 0.95
``fixed-all``  once, on all impostor pairs          all pairs together      as ``crfiqa``
``image``      at each point, on surviving pairs    images; ties leave      every distinct quality; steps
                                                    together                from 0 to 1
=============  ===================================  ======================  ==============================

``fixed`` is the practice of ISO/IEC 29794-1 and NIST FATE Quality, ``crfiqa`` that of CR-FIQA (arXiv
2112.06592) and of the AUC tables that follow it, ``image`` that of SER-FIQ (arXiv 2003.09373). Areas are not
normalised. Higher quality is better and higher similarity is more alike, everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.crfiqa_erc import nearest_fmr_steps
from eval_tools.curve import ErrorRejectionCurve, ErrorType, Protocol, lowest_errors, with_warnings
from eval_tools.image_erc import image_rejection_curve
from eval_tools.scores import (
    BoolArray,
    FloatArray,
    IntArray,
    UnresolvedFMRWarning,
    check_genuine,
    check_scores,
    threshold_at_fmr,
)

__all__ = [
    "ErrorRejectionCurve",
    "UnresolvedFMRWarning",
    "error_rejection_curve",
    "error_rejection_curves",
    "image_rejection_curve",
    "pair_quality",
]

PAIR_PROTOCOLS = ("fixed", "crfiqa", "fixed-all")
# This very expression: others that look the same round int(u * n) differently.
DISCARD_GRID = np.arange(0, 0.98, 0.05)


def pair_quality(
    quality_a: ArrayLike, quality_b: ArrayLike, how: Literal["min", "max", "mean", "product"] = "min"
) -> FloatArray:
    """Quality of pairs [P] from the qualities [P] of their two images.

    ``min``, the usual choice, says that a comparison is as good as its worse image. ``product`` orders pairs
    sensibly only if all qualities are positive.

    Raises:
        ValueError: lengths differ, a quality is not finite, or ``how`` is unknown.
    """
    first = np.atleast_1d(np.asarray(quality_a))
    a, b = check_scores("quality_a", first, first.size), check_scores("quality_b", quality_b, first.size)
    if how == "min":
        return np.minimum(a, b)
    if how == "max":
        return np.maximum(a, b)
    if how == "mean":
        return (a + b) / 2
    if how == "product":
        return a * b
    raise ValueError(f"unknown pair quality {how!r}: choose 'min', 'max', 'mean' or 'product'")


def error_rejection_curve(
    similarity: ArrayLike,
    is_genuine: ArrayLike,
    quality: ArrayLike,
    *,
    fmr: float = 1e-3,
    protocol: Protocol = "fixed",
    threshold: float | None = None,
    error: ErrorType = "fnmr",
) -> ErrorRejectionCurve:
    """Error-versus-reject curve of scored pairs.

    ``fixed`` and ``fixed-all`` accept a pair at ``similarity >= threshold``, with the lowest threshold whose
    FMR does not exceed the target. ``crfiqa`` takes the threshold of :mod:`eval_tools.crfiqa_erc`: a score
    that occurs, whose FMR is nearest to the target and which a genuine pair must exceed.

    Args:
        similarity: [P], higher is more alike.
        is_genuine: [P], whether a pair shows one person.
        quality: [P], see :func:`pair_quality`; higher is better.
        fmr: target false match rate, in (0, 1).
        protocol: "fixed", "crfiqa" or "fixed-all", see the module's table.
        threshold: similarity to use in place of a target FMR (not for ``crfiqa``, which chooses its own).
        error: "fnmr", or "fmr" to follow the false match rate at the fixed threshold; ``fixed`` then discards
            impostor pairs (not for ``crfiqa``, which holds the FMR).

    Raises:
        ValueError: lengths differ, a value is NaN or infinite, genuine or impostor pairs are missing, or the
            arguments contradict the protocol.

    Warns:
        UnresolvedFMRWarning: the impostor pairs cannot resolve the target FMR.
        RuntimeWarning: no pair of a needed kind survives at some point; the error is NaN there.
    """
    pairs = _Pairs.checked(similarity, is_genuine, quality)
    return with_warnings(_curve(pairs, protocol, fmr, threshold, error))


def error_rejection_curves(
    similarity: ArrayLike,
    is_genuine: ArrayLike,
    quality: ArrayLike,
    *,
    fmrs: Iterable[float] = (1e-3, 1e-4),
    protocols: Iterable[Protocol] = ("fixed", "crfiqa"),
) -> dict[tuple[Protocol, float], ErrorRejectionCurve]:
    """FNMR curves under several protocols and target FMRs, keyed ``(protocol, fmr)``.

    The same curves as :func:`error_rejection_curve` gives one by one, but sharing the sort by quality.
    """
    pairs, fmrs = _Pairs.checked(similarity, is_genuine, quality), tuple(fmrs)
    curves = {}
    for protocol in protocols:
        for fmr in fmrs:
            curves[protocol, fmr] = with_warnings(_curve(pairs, protocol, fmr, None, "fnmr"))
    return curves


@dataclass(frozen=True)
class _ByQuality:
    """Scores of each kind in ascending order of quality, cut by the discard grid.

    At grid point k ``n_discarded[k]`` pairs are gone and ``genuine[genuine_cuts[k]:]`` and
    ``impostor[impostor_cuts[k]:]`` survive.
    """

    genuine: FloatArray
    impostor: FloatArray
    n_discarded: IntArray
    genuine_cuts: IntArray
    impostor_cuts: IntArray


@dataclass(frozen=True)
class _Pairs:
    """Checked pairs and what several curves of them share."""

    similarity: FloatArray
    is_genuine: BoolArray
    quality: FloatArray

    @classmethod
    def checked(cls, similarity: ArrayLike, is_genuine: ArrayLike, quality: ArrayLike) -> _Pairs:
        genuine = check_genuine(is_genuine)
        return cls(
            check_scores("similarity", similarity, genuine.size),
            genuine,
            check_scores("quality", quality, genuine.size),
        )

    @cached_property
    def impostor(self) -> FloatArray:
        return self.similarity[~self.is_genuine]

    @cached_property
    def by_quality(self) -> _ByQuality:
        order = np.argsort(self.quality, kind="stable")
        similarity, genuine = self.similarity.take(order), self.is_genuine.take(order)
        n_discarded = np.array([int(u * order.size) for u in DISCARD_GRID])
        genuine_cuts = np.searchsorted(np.flatnonzero(genuine), n_discarded)
        return _ByQuality(
            similarity[genuine], similarity[~genuine], n_discarded, genuine_cuts, n_discarded - genuine_cuts
        )


@dataclass(frozen=True)
class _Threshold:
    value: float
    effective_fmr: float
    target_fmr: float | None


def _curve(
    pairs: _Pairs, protocol: Protocol, fmr: float, threshold: float | None, error: ErrorType
) -> ErrorRejectionCurve:
    if protocol not in PAIR_PROTOCOLS:
        hint = " (call image_rejection_curve)" if protocol == "image" else ""
        raise ValueError(
            f"unknown pair protocol {protocol!r}{hint}: choose one of {', '.join(PAIR_PROTOCOLS)}"
        )
    if error not in get_args(ErrorType):
        raise ValueError(f"unknown error {error!r}: choose 'fnmr' or 'fmr'")
    if protocol != "crfiqa":
        build = _fixed_curve if protocol == "fixed" else _fixed_all_curve
        return build(pairs, _fixed_threshold(pairs, fmr, threshold), error)
    if threshold is not None or error != "fnmr":
        raise ValueError(
            "protocol 'crfiqa' chooses its thresholds to hold the FMR: it takes no threshold and has no FMR "
            "curve; use 'fixed-all' for these"
        )
    return _crfiqa_curve(pairs.by_quality, fmr)


def _fixed_threshold(pairs: _Pairs, fmr: float, threshold: float | None) -> _Threshold:
    impostor = pairs.impostor
    if threshold is None:
        value, n_false_match = threshold_at_fmr(impostor, fmr)
        return _Threshold(value, n_false_match / impostor.size, fmr)
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be a finite similarity, got {threshold}")
    return _Threshold(float(threshold), np.count_nonzero(impostor >= threshold) / impostor.size, None)


def _is_error(similarity: FloatArray, threshold: _Threshold, error: ErrorType) -> BoolArray:
    return similarity < threshold.value if error == "fnmr" else similarity >= threshold.value


def _suffix_sums(flags: BoolArray) -> IntArray:
    """Number of set flags from each index to the end, and 0 for beyond the end."""
    return np.append(np.cumsum(flags[::-1])[::-1], 0)


def _fixed_curve(pairs: _Pairs, threshold: _Threshold, error: ErrorType) -> ErrorRejectionCurve:
    kind = pairs.is_genuine if error == "fnmr" else ~pairs.is_genuine
    quality = pairs.quality[kind]
    order = np.argsort(quality)
    quality = quality[order]
    is_error = _is_error(pairs.similarity[kind][order], threshold, error)
    n_discarded = np.append(0, np.flatnonzero(quality[1:] != quality[:-1]) + 1)
    n_left = order.size - n_discarded
    n_other = np.full_like(n_left, kind.size - order.size)
    n_errors = _suffix_sums(is_error)[n_discarded]
    return ErrorRejectionCurve(
        protocol="fixed",
        error_type=error,
        target_fmr=threshold.target_fmr,
        discard=n_discarded / order.size,
        n_discarded=n_discarded,
        n_discardable=order.size,
        n_errors=n_errors,
        n_genuine=n_left if error == "fnmr" else n_other,
        n_impostor=n_other if error == "fnmr" else n_left,
        threshold=threshold.value,
        effective_fmr=threshold.effective_fmr,
        best_errors=_lowest_pair_errors(n_errors[0], order.size),
    )


def _fixed_all_curve(pairs: _Pairs, threshold: _Threshold, error: ErrorType) -> ErrorRejectionCurve:
    survivors = pairs.by_quality
    scores, cuts = survivors.genuine, survivors.genuine_cuts
    if error == "fmr":
        scores, cuts = survivors.impostor, survivors.impostor_cuts
    n_errors = _suffix_sums(_is_error(scores, threshold, error))[cuts]
    best = _lowest_pair_errors(n_errors[0], scores.size)
    return _grid_curve(
        survivors,
        "fixed-all",
        error,
        threshold.target_fmr,
        n_errors,
        threshold.value,
        threshold.effective_fmr,
        best,
    )


def _crfiqa_curve(survivors: _ByQuality, fmr: float) -> ErrorRejectionCurve:
    threshold, effective_fmr, n_errors = nearest_fmr_steps(
        survivors.genuine, survivors.genuine_cuts, survivors.impostor, survivors.impostor_cuts, fmr
    )
    best = _lowest_pair_errors(n_errors[0], survivors.genuine.size)
    return _grid_curve(survivors, "crfiqa", "fnmr", fmr, n_errors, threshold, effective_fmr, best)


def _lowest_pair_errors(n_errors: int, n_compared: int) -> FloatArray:
    return lowest_errors(n_errors, n_compared, np.ones(n_errors, dtype=np.int64))


def _grid_curve(
    survivors: _ByQuality,
    protocol: Protocol,
    error: ErrorType,
    target_fmr: float | None,
    n_errors: IntArray,
    threshold: float | FloatArray,
    effective_fmr: float | FloatArray,
    best: FloatArray,
) -> ErrorRejectionCurve:
    return ErrorRejectionCurve(
        protocol=protocol,
        error_type=error,
        target_fmr=target_fmr,
        discard=DISCARD_GRID,
        n_discarded=survivors.n_discarded,
        n_discardable=survivors.genuine.size + survivors.impostor.size,
        n_errors=n_errors,
        n_genuine=survivors.genuine.size - survivors.genuine_cuts,
        n_impostor=survivors.impostor.size - survivors.impostor_cuts,
        threshold=threshold,
        effective_fmr=effective_fmr,
        best_errors=best,
    )

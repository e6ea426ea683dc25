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

Where ``crfiqa`` and ``fixed-all`` cut through equal qualities, the pairs that are listed first leave first.
CR-FIQA's public code has there the order that NumPy's unstable sort happens to leave, so only where no
qualities tie are its exact numbers to be expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.curve import ErrorRejectionCurve, ErrorType, Protocol, with_warnings
from eval_tools.image_erc import image_rejection_curve
from eval_tools.pair_erc import (
    GriddedPairs,
    Threshold,
    crfiqa_curve,
    fixed_all_curve,
    fixed_curve,
    fixed_threshold,
    order_for_grid,
)
from eval_tools.scores import (
    BoolArray,
    FloatArray,
    UnresolvedFMRWarning,
    check_fmr,
    check_fmrs,
    check_genuine,
    check_scores,
    is_number,
)

__all__ = [
    "ErrorRejectionCurve",
    "UnresolvedFMRWarning",
    "error_rejection_curve",
    "error_rejection_curves",
    "image_rejection_curve",
    "pair_quality",
]

PAIR_PROTOCOLS: tuple[Protocol, ...] = ("fixed", "crfiqa", "fixed-all")


def pair_quality(
    quality_a: ArrayLike, quality_b: ArrayLike, how: Literal["min", "max", "mean", "product"] = "min"
) -> FloatArray:
    """Quality of pairs [P] from the qualities [P] of their two images.

    ``min``, the usual choice, says that a comparison is as good as its worse image.

    Raises:
        ValueError: lengths differ, a quality is not finite, ``how`` is unknown, or "product" of
            negative qualities.
    """
    a = check_scores("quality_a", quality_a)
    b = check_scores("quality_b", quality_b, a.size)
    if how == "min":
        return np.minimum(a, b)
    if how == "max":
        return np.maximum(a, b)
    if how == "mean":
        return (a + b) / 2
    if how == "product":
        if min(a.min(initial=0), b.min(initial=0)) < 0:
            raise ValueError("a product orders pairs only where no quality is negative: choose 'min'")
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

    Raises:
        ValueError: as there, or no FMR or no protocol is given.
    """
    pairs, fmrs = _Pairs.checked(similarity, is_genuine, quality), check_fmrs(fmrs)
    names = () if isinstance(protocols, str) else tuple(protocols)
    if not names:
        raise ValueError(f"protocols must be one or more of {', '.join(PAIR_PROTOCOLS)}, got {protocols!r}")
    curves = {}
    for protocol in names:
        for fmr in fmrs:
            curves[protocol, fmr] = with_warnings(_curve(pairs, protocol, fmr, None, "fnmr"))
    return curves


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
    def gridded(self) -> GriddedPairs:
        order = order_for_grid(self.quality)
        return GriddedPairs.cut(self.similarity.take(order), self.is_genuine.take(order))


def check_protocol(protocol: str) -> None:
    """Refuse what is no protocol of pairs."""
    if protocol not in PAIR_PROTOCOLS:
        hint = " (call image_rejection_curve)" if protocol == "image" else ""
        raise ValueError(
            f"unknown pair protocol {protocol!r}{hint}: choose one of {', '.join(PAIR_PROTOCOLS)}"
        )


def _curve(
    pairs: _Pairs, protocol: Protocol, fmr: float, threshold: float | None, error: ErrorType
) -> ErrorRejectionCurve:
    check_protocol(protocol)
    check_fmr(fmr)
    if error not in get_args(ErrorType):
        raise ValueError(f"unknown error {error!r}: choose 'fnmr' or 'fmr'")
    if protocol == "fixed":
        return _fixed_curve(pairs, _threshold(pairs, fmr, threshold), error)
    if protocol == "fixed-all":
        return fixed_all_curve(pairs.gridded, _threshold(pairs, fmr, threshold), error)
    if threshold is not None or error != "fnmr":
        raise ValueError(
            "protocol 'crfiqa' chooses its thresholds to hold the FMR: it takes no threshold and has no FMR "
            "curve; use 'fixed-all' for these"
        )
    return crfiqa_curve(pairs.gridded, fmr)


def _threshold(pairs: _Pairs, fmr: float, threshold: float | None) -> Threshold:
    if threshold is None:
        return fixed_threshold(pairs.impostor, fmr)
    if not is_number(threshold) or not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite similarity, got {threshold!r}")
    n_false_match = np.count_nonzero(pairs.impostor >= threshold)
    return Threshold(float(threshold), n_false_match / pairs.impostor.size, None)


def _fixed_curve(pairs: _Pairs, threshold: Threshold, error: ErrorType) -> ErrorRejectionCurve:
    followed = pairs.is_genuine if error == "fnmr" else ~pairs.is_genuine
    similarity, quality = pairs.similarity[followed], pairs.quality[followed]
    order = np.argsort(quality)
    return fixed_curve(similarity[order], quality[order], followed.size - order.size, threshold, error)

"""Comparison scores: their checks, the threshold at a target FMR, and all pairs of a set block by block.

One convention throughout: a pair is accepted if its similarity is at least the threshold, so
``FMR(t) = share of impostors >= t`` and ``FNMR(t) = share of genuine pairs < t`` (ISO/IEC 19795-1), and
the threshold at a target FMR is the lowest one whose FMR does not exceed the target.

One rule, too, for what n comparisons can *resolve* (:func:`resolves`): a rate r takes ``n >= 1 / r`` of them,
so that one error is expected. Below that a threshold "at" r is that of no error at all. The rule is the
weakest in use: after no error in n comparisons the true rate may still be ``3 / n`` (rule of 3), and a rate
known to about 30 % takes 30 errors (:data:`RULE_OF_THIRTY`).
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.arrays import plain_array

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


# With 30 errors the true rate is within 30 % of the measured one with 90 % confidence (ISO/IEC 19795-1, after
# G. Doddington et al., The NIST speaker recognition evaluation, Speech Communication 31, 2000).
RULE_OF_THIRTY = 30
MIN_FMR = 1e-15


class UnresolvedFMRWarning(UserWarning):
    """The impostor pairs are too few, or their scores too tied, for the target FMR to mean anything."""


def is_number(value: object) -> bool:
    """Whether it is one real number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_fmr(fmr: float) -> None:
    """Refuse what is no target false match rate."""
    if not is_number(fmr) or not 0.0 < fmr < 1.0:
        raise ValueError(f"fmr must lie strictly between 0 and 1, got {fmr!r}")
    if fmr < MIN_FMR:
        raise ValueError(f"fmr must be at least {MIN_FMR:g}, got {fmr!r}: no set has pairs that resolve it")


def check_fmrs(fmrs: Iterable[float]) -> tuple[float, ...]:
    """``fmrs`` as a tuple of at least one target false match rate."""
    targets = tuple(fmrs) if isinstance(fmrs, Iterable) and not isinstance(fmrs, str) else ()
    if not targets:
        raise ValueError(f"fmrs must be one or more target FMRs such as (1e-3, 1e-4), got {fmrs!r}")
    for fmr in targets:
        check_fmr(fmr)
    return targets


def check_count(name: str, count: int, lowest: int, highest: int | None = None) -> None:
    """Refuse what is no whole number from ``lowest`` on, or up to ``highest``."""
    whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
    if not whole or count < lowest or (highest is not None and count > highest):
        upper = "on" if highest is None else f"to {highest}"
        raise ValueError(f"{name} must be a whole number from {lowest} {upper}, got {count!r}")


def real_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """``values`` as an array of real numbers or booleans; nothing is read from text."""
    array = plain_array(name, values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}: convert them first")
    return array


def check_genuine(is_genuine: ArrayLike) -> BoolArray:
    """``is_genuine`` as booleans [P], with at least one genuine and one impostor pair."""
    flags = real_array("is_genuine", is_genuine)
    if flags.ndim != 1 or flags.size == 0:
        raise ValueError(f"is_genuine must be a non-empty array [P], got shape {flags.shape}")
    if flags.dtype != np.bool_:
        if not np.isin(flags, (0, 1)).all():
            raise ValueError("is_genuine must hold booleans or 0 and 1 only (1 = same person)")
        flags = flags.astype(bool)
    n_genuine = int(np.count_nonzero(flags))
    if n_genuine in (0, flags.size):
        missing = "impostor" if n_genuine else "genuine"
        raise ValueError(f"no {missing} pair among {flags.size} pairs: error rates need both kinds")
    return flags


def check_scores(name: str, values: ArrayLike, size: int | None = None) -> FloatArray:
    """``values`` as float64 [size], or of any length, all finite."""
    scores = real_array(name, values)
    if size is None and scores.ndim != 1:
        raise ValueError(f"{name} must be an array with one value for each item, got shape {scores.shape}")
    if size is not None and scores.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), one value for each item, got {scores.shape}")
    scores = scores.astype(np.float64, copy=False)
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise ValueError(
            f"{name} has {bad.size} NaN or infinite values, the first at index {bad[0]}: exclude them first"
        )
    return scores


def check_identities(identities: ArrayLike, size: int) -> tuple[IntArray, int, int]:
    """``identities`` [size] as labels 0 .. C - 1, and how many genuine and impostor pairs all images make."""
    names = plain_array("identities", identities)
    if names.shape != (size,):
        raise ValueError(f"identities must have shape ({size},), one for each embedding, got {names.shape}")
    if names.dtype.kind not in "biuSU":
        raise ValueError(f"identities must be whole numbers or names, got dtype {names.dtype}")
    _, labels, images = np.unique(names, return_inverse=True, return_counts=True)
    n_genuine = int((images * (images - 1) // 2).sum())
    n_impostor = size * (size - 1) // 2 - n_genuine
    if not n_genuine or not n_impostor:
        raise ValueError(
            f"{size} images of {images.size} identities make {n_genuine} genuine and {n_impostor} impostor "
            "pairs: error rates need both kinds"
        )
    return labels, n_genuine, n_impostor


def normalised(embeddings: ArrayLike) -> NDArray[np.floating]:
    """Embeddings [N, D] at unit length; float32 stays float32, everything else becomes float64."""
    rows = real_array("embeddings", embeddings)
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"embeddings must be a non-empty array [N, D], got shape {rows.shape}")
    rows = rows.astype(np.float32 if rows.dtype == np.float32 else np.float64, copy=False)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    usable = np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)
    if not usable.all():
        bad = np.flatnonzero(~usable)
        raise ValueError(
            f"{bad.size} embeddings are zero or not finite, the first at row {bad[0]}: exclude them first"
        )
    return rows / norms


def pair_blocks(
    unit: NDArray[np.floating], labels: IntArray, block: int = 512
) -> Iterator[tuple[int, NDArray[np.floating], BoolArray]]:
    """Cosine similarities of each image with all images before it, ``block`` images at a time.

    Yields ``(start, similarity [B, start + B], is_genuine [B, start + B])`` for the images from start on; the
    first ``start + r`` columns of row r compare with an earlier image, the rest repeat pairs.
    """
    check_count("block", block, 1)
    for start in range(0, len(unit), block):
        stop = min(start + block, len(unit))
        yield start, unit[start:stop] @ unit[:stop].T, labels[start:stop, None] == labels[None, :stop]


def threshold_at_fmr(impostor: FloatArray, fmr: float, *, n_impostor: int | None = None) -> tuple[float, int]:
    """Lowest threshold whose FMR does not exceed the target, and the number of false matches there.

    Args:
        impostor: [I] similarities of the impostor pairs, or at least the ``fmr * n_impostor + 1`` highest.
        fmr: target FMR in (0, 1).
        n_impostor: number of impostor pairs if ``impostor`` holds only the highest.
    """
    allowed = allowed_false_matches(fmr, impostor.size if n_impostor is None else n_impostor)
    highest_rejected = np.partition(impostor, -(allowed + 1))[-(allowed + 1)]
    n_false_match = int(np.count_nonzero(impostor > highest_rejected))
    return float(np.nextafter(highest_rejected, np.inf)), n_false_match


def allowed_false_matches(fmr: float, n_impostor: int) -> int:
    """The largest k with ``k / n_impostor <= fmr``."""
    check_fmr(fmr)
    nearest = round(fmr * n_impostor)
    return nearest if nearest / n_impostor <= fmr else nearest - 1


def comparisons_needed(rate: float) -> int:
    """The smallest number of comparisons of which a rate in (0, 1) allows one to fail, ``1 / n <= rate``."""
    nearest = round(1 / rate)
    return nearest if 1 / nearest <= rate else nearest + 1


def resolves(n_comparisons: ArrayLike, rate: float) -> BoolArray:
    """Whether so many comparisons can tell a rate from 0: one error among them is expected.

    This is the one rule, see the module; it holds for a target FMR and its impostor pairs as for any measured
    error rate and the pairs behind it. No number of them resolves a rate of 0.
    """
    counts = np.asarray(n_comparisons)
    return counts >= comparisons_needed(rate) if rate > 0 else np.zeros(counts.shape, np.bool_)


def is_resolved(fmr: float, n_impostor: ArrayLike, effective_fmr: ArrayLike) -> BoolArray:
    """Whether a target FMR can be told from 0: it allows a false match, and the scores let one happen."""
    return resolves(n_impostor, fmr) & (np.asarray(effective_fmr) > 0)


def unresolved_text(fmr: float, n_impostor: int, effective_fmr: float) -> str:
    """Why a target FMR is not resolved, see :func:`is_resolved`."""
    reason = f"it takes at least {comparisons_needed(fmr)}"
    if resolves(n_impostor, fmr):
        allowed = allowed_false_matches(fmr, n_impostor)
        reason = f"it allows {allowed} false matches, but more impostor pairs than that tie at the top score"
    return (
        f"FMR {fmr:g} cannot be resolved with {n_impostor} impostor pairs: {reason}; the effective FMR is "
        f"{effective_fmr:.3g}"
    )


def resolvable_fmrs(fmrs: Iterable[float], n_impostor: int) -> tuple[float, ...]:
    """Those of the target FMRs that so many impostor pairs resolve; if none, the lowest power of ten.

    Fewer than ten impostor pairs resolve no power of ten: then it is 0.1, unresolved.
    """
    kept = tuple(fmr for fmr in fmrs if resolves(n_impostor, fmr))
    decades = (10.0**-exponent for exponent in range(1, len(str(n_impostor))))
    return kept or (min(decades, default=0.1),)


class HighestScores:
    """The ``count`` highest of a stream of scores, kept within twice that memory."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._floor = -np.inf
        self._values = np.empty(0)

    def add(self, scores: NDArray[np.floating]) -> None:
        self._values = np.concatenate([self._values, scores[scores > self._floor]])
        if self._values.size > 2 * self._count:
            self._trim()

    def _trim(self) -> None:
        self._values = np.partition(self._values, -self._count)[-self._count :]
        self._floor = float(self._values.min())

    @property
    def values(self) -> FloatArray:
        """All scores so far that are among the ``count`` highest, and possibly some below; unordered."""
        return self._values

"""Comparison scores: their checks, the threshold at a target FMR, and all pairs of a set block by block.

One convention throughout: a pair is accepted if its similarity is at least the threshold, so
``FMR(t) = share of impostors >= t`` and ``FNMR(t) = share of genuine pairs < t`` (ISO/IEC 19795-1), and
the threshold at a target FMR is the lowest one whose FMR does not exceed the target.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


class UnresolvedFMRWarning(UserWarning):
    """The impostor pairs are too few, or their scores too tied, for the target FMR to mean anything."""


def check_genuine(is_genuine: ArrayLike) -> BoolArray:
    """``is_genuine`` as booleans [P], with at least one genuine and one impostor pair."""
    flags = np.asarray(is_genuine)
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


def check_scores(name: str, values: ArrayLike, size: int) -> FloatArray:
    """``values`` as float64 [size], all finite."""
    scores = np.asarray(values)
    if scores.shape != (size,):
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
    names = np.asarray(identities)
    if names.shape != (size,):
        raise ValueError(f"identities must have shape ({size},), one for each embedding, got {names.shape}")
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
    rows = np.asarray(embeddings)
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
    if not 0.0 < fmr < 1.0:
        raise ValueError(f"fmr must lie strictly between 0 and 1, got {fmr}")
    nearest = round(fmr * n_impostor)
    return nearest if nearest / n_impostor <= fmr else nearest - 1


def warn_unresolved(fmr: float, n_impostor: int, stacklevel: int = 4) -> None:
    """Warn that ``n_impostor`` pairs cannot resolve the target."""
    text = (
        f"FMR {fmr:g} cannot be resolved with {n_impostor} impostor pairs: it takes at least "
        f"{int(np.ceil(1 / fmr))}, not tied at the top. See the effective FMR, which is what was measured."
    )
    warnings.warn(text, UnresolvedFMRWarning, stacklevel=stacklevel)


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

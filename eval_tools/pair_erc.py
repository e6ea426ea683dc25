"""Error-versus-reject curves of scored pairs that are sorted by quality already.

The one place where they are counted: :mod:`eval_tools.erc` calls it with the pairs as they are,
:mod:`eval_tools.resampling` with pairs repeated by a resample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eval_tools.crfiqa_erc import nearest_fmr_steps
from eval_tools.curve import ErrorRejectionCurve, ErrorType, Protocol, lowest_errors
from eval_tools.scores import BoolArray, FloatArray, IntArray, threshold_at_fmr

# This very expression: others that look the same round int(u * n) differently.
DISCARD_GRID = np.arange(0, 0.98, 0.05)


@dataclass(frozen=True)
class Threshold:
    """A similarity, its FMR on all impostor pairs and the target it was chosen for, None if it was given."""

    value: float
    effective_fmr: float
    target_fmr: float | None


def fixed_threshold(impostor: FloatArray, fmr: float, *, n_impostor: int | None = None) -> Threshold:
    """The threshold at a target FMR; arguments as for :func:`eval_tools.scores.threshold_at_fmr`."""
    value, n_false_match = threshold_at_fmr(impostor, fmr, n_impostor=n_impostor)
    return Threshold(value, n_false_match / (n_impostor or impostor.size), fmr)


@dataclass(frozen=True)
class GriddedPairs:
    """Scores of each kind in the order in which they leave, cut by the discard grid.

    At grid point k ``n_discarded[k]`` pairs are gone and ``genuine[genuine_cuts[k]:]`` and
    ``impostor[impostor_cuts[k]:]`` survive.
    """

    genuine: FloatArray
    impostor: FloatArray
    n_discarded: IntArray
    genuine_cuts: IntArray
    impostor_cuts: IntArray

    @classmethod
    def cut(cls, similarity: FloatArray, is_genuine: BoolArray) -> GriddedPairs:
        """Cut pairs [P] that are in the order in which they leave."""
        n_discarded = _grid_cuts(similarity.size)
        genuine_cuts = np.searchsorted(np.flatnonzero(is_genuine), n_discarded)
        return cls(
            similarity[is_genuine],
            similarity[~is_genuine],
            n_discarded,
            genuine_cuts,
            n_discarded - genuine_cuts,
        )


def order_for_grid(quality: FloatArray) -> IntArray:
    """Order of ascending quality [P] in which the same pairs lie between two cuts as in a stable sort.

    A stable sort of many pairs takes much longer, and only ties across a cut need one.
    """
    order = np.argsort(quality)
    for start, stop in _ties_cut_through(quality[order]):
        order[start:stop].sort()
    return order


def share_cut_through(quality: FloatArray) -> float:
    """Largest share of pairs [P] of one equal quality that a cut of the grid divides, 0 where none does.

    Among them the order in which the pairs are given decides which leave.
    """
    sizes = (stop - start for start, stop in _ties_cut_through(np.sort(quality)))
    return max(sizes, default=0) / quality.size


def _ties_cut_through(ascending: FloatArray) -> Iterator[tuple[int, int]]:
    """First index of each run of equal qualities that a cut divides, and the index behind its last."""
    for cut in _grid_cuts(ascending.size):
        start, stop = (int(np.searchsorted(ascending, ascending[cut], side)) for side in ("left", "right"))
        if start < cut:
            yield start, stop


def _grid_cuts(n_pairs: int) -> IntArray:
    return np.array([int(u * n_pairs) for u in DISCARD_GRID])


def fixed_curve(
    similarity: FloatArray, quality: FloatArray, n_other: int, threshold: Threshold, error: ErrorType
) -> ErrorRejectionCurve:
    """Curve of protocol ``fixed``.

    Args:
        similarity [D], quality [D]: of the pairs of the followed kind (genuine for the FNMR, impostor for the
            FMR), in ascending order of quality.
        n_other: number of pairs of the other kind.
        threshold: from all impostor pairs.
        error: the followed error.
    """
    n_discarded = np.append(0, np.flatnonzero(quality[1:] != quality[:-1]) + 1)
    n_left = quality.size - n_discarded
    n_others = np.full_like(n_left, n_other)
    n_errors = _suffix_sums(_is_error(similarity, threshold, error))[n_discarded]
    return ErrorRejectionCurve(
        protocol="fixed",
        error_type=error,
        target_fmr=threshold.target_fmr,
        discard=n_discarded / quality.size,
        n_discarded=n_discarded,
        n_discardable=quality.size,
        n_errors=n_errors,
        n_genuine=n_left if error == "fnmr" else n_others,
        n_impostor=n_others if error == "fnmr" else n_left,
        threshold=threshold.value,
        effective_fmr=threshold.effective_fmr,
        best_errors=_lowest_pair_errors(n_errors[0], quality.size),
    )


def fixed_all_curve(pairs: GriddedPairs, threshold: Threshold, error: ErrorType) -> ErrorRejectionCurve:
    """Curve of protocol ``fixed-all``."""
    scores, cuts = pairs.genuine, pairs.genuine_cuts
    if error == "fmr":
        scores, cuts = pairs.impostor, pairs.impostor_cuts
    n_errors = _suffix_sums(_is_error(scores, threshold, error))[cuts]
    best = _lowest_pair_errors(n_errors[0], scores.size)
    return _grid_curve(
        pairs,
        "fixed-all",
        error,
        threshold.target_fmr,
        n_errors,
        threshold.value,
        threshold.effective_fmr,
        best,
    )


def crfiqa_curve(pairs: GriddedPairs, fmr: float) -> ErrorRejectionCurve:
    """Curve of protocol ``crfiqa``."""
    threshold, effective_fmr, n_errors = nearest_fmr_steps(
        pairs.genuine, pairs.genuine_cuts, pairs.impostor, pairs.impostor_cuts, fmr
    )
    best = _lowest_pair_errors(n_errors[0], pairs.genuine.size)
    return _grid_curve(pairs, "crfiqa", "fnmr", fmr, n_errors, threshold, effective_fmr, best)


def _is_error(similarity: FloatArray, threshold: Threshold, error: ErrorType) -> BoolArray:
    return similarity < threshold.value if error == "fnmr" else similarity >= threshold.value


def _suffix_sums(flags: BoolArray) -> IntArray:
    """Number of set flags from each index to the end, and 0 for beyond the end."""
    return np.append(np.cumsum(flags[::-1])[::-1], 0)


def _lowest_pair_errors(n_errors: int, n_compared: int) -> FloatArray:
    return lowest_errors(n_errors, n_compared, np.ones(n_errors, dtype=np.int64))


def _grid_curve(
    pairs: GriddedPairs,
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
        n_discarded=pairs.n_discarded,
        n_discardable=pairs.genuine.size + pairs.impostor.size,
        n_errors=n_errors,
        n_genuine=pairs.genuine.size - pairs.genuine_cuts,
        n_impostor=pairs.impostor.size - pairs.impostor_cuts,
        threshold=threshold,
        effective_fmr=effective_fmr,
        best_errors=best,
    )

"""The moving threshold of CR-FIQA's error-versus-reject curve (arXiv 2112.06592).

At every step the candidates are the distinct scores of all surviving pairs. The lowest one whose FMR (share
of surviving impostors at or above it) is nearest to the target is taken, and a genuine pair is accepted only
if it lies strictly above. Most published AUC tables rest on this.
"""

from __future__ import annotations

import numpy as np

from eval_tools.scores import FloatArray, IntArray, allowed_false_matches


def nearest_fmr_steps(
    genuine: FloatArray, genuine_cuts: IntArray, impostor: FloatArray, impostor_cuts: IntArray, fmr: float
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Threshold, effective FMR and number of false non-matches at every step, [K] each.

    Args:
        genuine, impostor: scores in the order in which the pairs leave.
        genuine_cuts, impostor_cuts: [K], numbers of pairs that have left at each step, ascending from 0.
        fmr: target FMR, in (0, 1).

    From the first step on at which no impostor pair is left, threshold and FMR are NaN and the errors 0.
    """
    needed = allowed_false_matches(fmr, impostor.size) + 1
    # Only the highest impostor scores decide, so each slice of leaving pairs is searched for them just once.
    highest = [_highest_with_ties(leaving, needed) for leaving in np.split(impostor, impostor_cuts[1:])]
    steps = impostor_cuts.size
    threshold, effective_fmr = np.full(steps, np.nan), np.full(steps, np.nan)
    n_errors = np.zeros(steps, dtype=np.int64)
    for k in range(steps):
        n_impostor = impostor.size - impostor_cuts[k]
        if n_impostor == 0:
            break
        left = genuine[genuine_cuts[k] :]
        threshold[k], effective_fmr[k] = _nearest_threshold(
            np.concatenate(highest[k:]), n_impostor, left, fmr
        )
        n_errors[k] = np.count_nonzero(left <= threshold[k])
    return threshold, effective_fmr, n_errors


def _highest_with_ties(scores: FloatArray, count: int) -> FloatArray:
    """At least the ``count`` highest scores, with all ties of the lowest of them and of the value below."""
    if count >= scores.size:
        return scores
    lowest = np.partition(scores, -count)[-count]
    return scores[scores >= np.max(scores, where=scores < lowest, initial=-np.inf)]


def _nearest_threshold(
    impostor: FloatArray, n_impostor: int, genuine: FloatArray, fmr: float
) -> tuple[float, float]:
    """The threshold and its FMR; ``impostor`` holds the highest scores of ``n_impostor`` pairs.

    The FMR changes at impostor scores only. ``pivot`` is the one at which it passes the target, so just two
    levels compete: the FMR at the pivot and the FMR above it.
    """
    rank = allowed_false_matches(fmr, n_impostor) + 1
    pivot = np.partition(impostor, -rank)[-rank]
    fmr_at_pivot = np.count_nonzero(impostor >= pivot) / n_impostor
    fmr_above = np.count_nonzero(impostor > pivot) / n_impostor
    first_above = _lowest_above(pivot, impostor, genuine)
    if np.isfinite(first_above) and abs(fmr_above - fmr) < abs(fmr_at_pivot - fmr):
        return first_above, fmr_above
    next_lower = np.max(impostor, where=impostor < pivot, initial=-np.inf)
    return _lowest_above(next_lower, impostor, genuine), fmr_at_pivot


def _lowest_above(bound: float, impostor: FloatArray, genuine: FloatArray) -> float:
    """Lowest score of either kind above ``bound``, +inf if there is none."""
    return float(min(np.min(scores, where=scores > bound, initial=np.inf) for scores in (impostor, genuine)))

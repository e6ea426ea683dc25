"""Calibration by counting, in float64: one Python loop each, straight from the definitions."""

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[Any]
Flags = Sequence[bool] | NDArray[Any]


def mid_rank_percent(score: float, reference: Numbers) -> float:
    """Per cent of the reference below the score, equal ones counted half."""
    below = sum(1 for value in reference if value < score)
    equal = sum(1 for value in reference if value == score)
    return 100 * (below + equal / 2) / len(reference)


def percent(score: float, reference: Numbers) -> float:
    """The straight line between the mid-ranks of the nearest reference scores; 0 and 100 outside of them."""
    lower = [float(value) for value in reference if value <= score]
    upper = [float(value) for value in reference if value >= score]
    if not lower or not upper:
        return 100.0 if lower else 0.0
    left, right = max(lower), min(upper)
    start = mid_rank_percent(left, reference)
    if left == right:
        return start
    return start + (mid_rank_percent(right, reference) - start) * (score - left) / (right - left)


def pools(quality: Numbers, min_pairs: int) -> list[list[int]]:
    """Indices in ascending order of quality, in pools of at least `min_pairs`; ties share a pool."""
    result: list[list[int]] = [[]]
    for level in sorted({float(q) for q in quality}):
        if len(result[-1]) >= min_pairs:
            result.append([])
        result[-1] += [i for i, q in enumerate(quality) if q == level]
    if len(result) > 1 and len(result[-1]) < min_pairs:
        rest = result.pop()
        result[-1] += rest
    return result


def falling_fit(means: Numbers, weights: Numbers) -> list[float]:
    """Non-increasing least squares fit by the min-max formula (Robertson, Wright, Dykstra 1988, 1.4)."""

    def average(start: int, stop: int) -> float:
        total = sum(weights[k] for k in range(start, stop + 1))
        return sum(means[k] * weights[k] for k in range(start, stop + 1)) / total

    last = len(means) - 1
    return [
        min(max(average(j, k) for k in range(i, last + 1)) for j in range(i + 1)) for i in range(len(means))
    ]


def expected_fnmr(scores: Numbers, quality: Numbers, is_error: Flags, min_pairs: int) -> list[float]:
    """Isotonic rate of the pool a score lies in, the straight line between pools, the end rate beyond."""
    groups = pools(quality, min_pairs)
    rates = falling_fit(
        [sum(bool(is_error[i]) for i in group) / len(group) for group in groups],
        [len(group) for group in groups],
    )
    spans = [(min(quality[i] for i in group), max(quality[i] for i in group)) for group in groups]
    return [_rate_at(float(score), spans, rates) for score in scores]


def _rate_at(score: float, spans: Sequence[tuple[float, float]], rates: Numbers) -> float:
    if score < spans[0][0]:
        return rates[0]
    end, last = spans[0][0], rates[0]
    for (low, high), rate in zip(spans, rates, strict=True):
        if score < low:
            return last + (rate - last) * (score - end) / (low - end)
        if score <= high:
            return rate
        end, last = high, rate
    return last


def survivors(score: float, quality: Numbers, is_error: Flags) -> tuple[int, int]:
    """Pairs of at least this quality, and the errors among them."""
    kept = [bool(error) for q, error in zip(quality, is_error, strict=True) if q >= score]
    return len(kept), sum(kept)


def lowest_score_for_fnmr(scores: Numbers, quality: Numbers, is_error: Flags, wanted: float) -> float | None:
    """The first of all scores that occur, in ascending order, whose survivors fail at most so often."""
    for score in sorted({*map(float, scores), *map(float, quality)}):
        n_left, n_errors = survivors(score, quality, is_error)
        if n_left and n_errors / n_left <= wanted:
            return score
    return None


def highest_score_discarding(values: Numbers, share: float) -> float:
    """The highest value that has at most this share of the values below it."""
    return max(float(score) for score in values if sum(1 for v in values if v < score) / len(values) <= share)


def wilson_bound(n_errors: int, n_trials: int, z: float, *, upper: bool) -> float:
    """The rate farthest from the measured one that a score test does not reject, by bisection."""
    measured = n_errors / n_trials
    inside, outside = measured, 1.0 if upper else 0.0
    for _ in range(200):
        middle = (inside + outside) / 2
        deviation = math.sqrt(middle * (1 - middle) / n_trials)
        if abs(measured - middle) <= z * deviation:
            inside = middle
        else:
            outside = middle
    return inside

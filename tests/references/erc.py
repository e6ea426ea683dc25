"""Error versus discard curves by counting, in float64: one Python loop per step, nothing vectorised.

Every function is written from the definition of its protocol, counts afresh at every step, and returns
`Point`s in order of discarding. A missing rate (no genuine, or no impostor, pairs left) is `nan`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tests.references.verification import Numbers, all_pairs, unit_row

Flags = Sequence[bool] | NDArray[Any]
CRFIQA_GRID = tuple(step * 0.05 for step in range(20))


@dataclass(frozen=True)
class Point:
    """One step of a curve: what was discarded, what is left, and the rates of what is left."""

    discard: float
    fnmr: float
    fmr: float
    threshold: float
    n_genuine: int
    n_impostor: int


def fmr_at(threshold: float, impostor: Numbers) -> float:
    """Share of impostor scores at or above the threshold."""
    return share(impostor, lambda score: score >= threshold)


def fnmr_at(threshold: float, genuine: Numbers) -> float:
    """Share of genuine scores below the threshold."""
    return share(genuine, lambda score: score < threshold)


def share(values: Numbers, accepted: Callable[[float], bool]) -> float:
    """Share of the values for which `accepted` holds; nan without values."""
    return sum(1 for value in values if accepted(value)) / len(values) if len(values) else math.nan


def split(similarity: Numbers, is_genuine: Flags) -> tuple[list[float], list[float]]:
    genuine = [float(s) for s, same in zip(similarity, is_genuine, strict=True) if same]
    impostor = [float(s) for s, same in zip(similarity, is_genuine, strict=True) if not same]
    return genuine, impostor


def iso_threshold(impostor: Numbers, fmr: float) -> float:
    """Lowest threshold (accepted: similarity >= threshold) whose FMR is the largest one not above the target.

    Candidates are the impostor scores themselves and, for every one of them, the next number above it: the
    rate changes nowhere else.
    """
    candidates = sorted({c for s in impostor for c in (s, math.nextafter(s, math.inf))})
    rates = [fmr_at(t, impostor) for t in candidates]
    largest = max(rate for rate in rates if rate <= fmr)
    return next(t for t, rate in zip(candidates, rates, strict=True) if rate == largest)


def nearest_threshold(genuine: Numbers, impostor: Numbers, fmr: float) -> float:
    """CR-FIQA: the lowest of all distinct scores whose FMR is nearest to the target."""
    best, best_gap = math.nan, math.inf
    for candidate in sorted({*genuine, *impostor}):
        gap = abs(fmr_at(candidate, impostor) - fmr)
        if gap < best_gap:
            best, best_gap = candidate, gap
    return best


def lowest_first(quality: Numbers) -> list[int]:
    """Indices by quality, lowest first, equal ones in their given order."""
    return sorted(range(len(quality)), key=lambda i: (float(quality[i]), i))


def fixed_curve(
    similarity: Numbers,
    is_genuine: Flags,
    quality: Numbers,
    threshold: float,
    *,
    error: str = "fnmr",
) -> list[Point]:
    """Threshold given, pairs of one kind discarded, one point per distinct quality of that kind."""
    wanted = error == "fnmr"
    rows = list(zip(map(float, similarity), map(bool, is_genuine), map(float, quality), strict=True))
    concerned = [(s, q) for s, same, q in rows if same == wanted]
    others = [s for s, same, _ in rows if same != wanted]
    points = []
    for level in sorted({q for _, q in concerned}):
        kept = [s for s, q in concerned if q >= level]
        genuine, impostor = (kept, others) if wanted else (others, kept)
        points.append(
            Point(
                1 - len(kept) / len(concerned),
                fnmr_at(threshold, genuine),
                fmr_at(threshold, impostor),
                threshold,
                len(genuine),
                len(impostor),
            )
        )
    return points


def gridded_curve(
    similarity: Numbers, is_genuine: Flags, quality: Numbers, *, fmr: float, threshold: float | None
) -> list[Point]:
    """All pairs discarded together, `int(u * n)` of them at each u of the grid.

    A given threshold stays and accepts at or above it (`fixed-all`); without one it is chosen anew from the
    survivors, CR-FIQA's way, and a genuine pair has to lie strictly above it (`crfiqa`).
    """
    order = lowest_first(quality)
    points = []
    for u in CRFIQA_GRID:
        kept = order[int(u * len(order)) :]
        genuine, impostor = split([similarity[i] for i in kept], [is_genuine[i] for i in kept])
        if threshold is None:
            t = nearest_threshold(genuine, impostor, fmr)
            rejected = sum(1 for score in genuine if not score > t)
            fnmr = rejected / len(genuine) if genuine and impostor else math.nan
        else:
            t = threshold
            fnmr = fnmr_at(t, genuine)
        points.append(Point(u, fnmr, fmr_at(t, impostor), t, len(genuine), len(impostor)))
    return points


def image_curve(
    embeddings: Sequence[Numbers], identities: Sequence[int], quality: Numbers, fmr: float
) -> list[Point]:
    """Images discarded, then every pair of the remaining images, with a threshold of their own.

    One point per distinct quality, as long as both kinds of pairs remain.
    """
    unit = [unit_row(row) for row in embeddings]
    points = []
    for level in sorted({float(q) for q in quality}):
        kept = [i for i in range(len(unit)) if float(quality[i]) >= level]
        similarity, is_genuine = all_pairs([unit[i] for i in kept], [identities[i] for i in kept])
        genuine, impostor = split(similarity, is_genuine)
        if not genuine or not impostor:
            break
        t = iso_threshold(impostor, fmr)
        points.append(
            Point(
                1 - len(kept) / len(unit),
                fnmr_at(t, genuine),
                fmr_at(t, impostor),
                t,
                len(genuine),
                len(impostor),
            )
        )
    return points


def step_area(points: Sequence[tuple[float, float]], limit: float) -> float:
    """Area under (x, y) up to `limit`, each y holding until the next x."""
    total = 0.0
    for k, (x, y) in enumerate(points):
        until = points[k + 1][0] if k + 1 < len(points) else limit
        total += y * max(0.0, min(until, limit) - x)
    return total


def trapezoid_area(points: Sequence[tuple[float, float]], limit: float) -> float:
    """Area under the straight lines between the points, up to `limit`."""
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        width = min(x1, limit) - x0
        y_end = y0 + (y1 - y0) * width / (x1 - x0)
        total += width * (y0 + y_end) / 2
    return total


def lowest_rate(is_error: Flags, n_discarded: int) -> float:
    """Lowest share of errors that any choice of `n_discarded` pairs leaves (tried one by one)."""
    kept = len(is_error) - n_discarded
    return min(sum(left) / kept for left in itertools.combinations(map(bool, is_error), kept))

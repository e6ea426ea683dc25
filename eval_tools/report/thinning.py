"""How many points does a curve need on a screen? Step curves have one for each distinct quality."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval_tools.curve import ErrorRejectionCurve
from eval_tools.scores import FloatArray, IntArray

MOST_CORNERS = 130_000  # of all curves of a page
FINE_ENOUGH = 0.002  # relative to the rate, less than can be seen
_ANCHORS = 41  # corners drawn in any case, so that there is always one near to hover over


class Corners(NamedTuple):
    """A curve as a line.

    Attributes:
        n_discarded [V]: how much is discarded at each corner.
        points [V]: index of the curve's point whose rate holds there.
        deviation: how far the line is from the rates of the corners left out, relative to the rate, at most.
    """

    n_discarded: IntArray
    points: IntArray
    deviation: float


def thinned(curves: Sequence[ErrorRejectionCurve]) -> tuple[float, list[Corners]]:
    """Corners to draw of each curve, and their largest deviation, rounded up to a tenth of a per cent."""
    share = MOST_CORNERS // max(sum(curve.is_step for curve in curves), 1)
    drawn = [line_corners(curve, share) for curve in curves]
    deviation = max([FINE_ENOUGH, *(corners.deviation for corners in drawn)])
    return math.ceil(1000 * deviation - 1e-9) / 1000, drawn


def line_corners(curve: ErrorRejectionCurve, most: int) -> Corners:
    """Every point of a grid curve, and up to about ``most`` corners of a step curve.

    Deviations are relative to the rate, so the shape is right on a logarithmic axis as well.
    """
    points = np.arange(curve.discard.size)
    if not curve.is_step:
        return Corners(curve.n_discarded, points, 0.0)
    points = points.repeat(2)
    n_discarded = np.append(curve.n_discarded.repeat(2)[1:], curve.n_discardable)
    # NaN needs corners of its own; no rate is negative.
    kept, deviation = _simplified(n_discarded, np.nan_to_num(curve.error, nan=-1.0)[points], most)
    return Corners(n_discarded[kept], points[kept], deviation)


def _simplified(x: IntArray, y: FloatArray, most: int) -> tuple[IntArray, float]:
    """Indices of the corners to keep, and the relative deviation of the others from the line through these.

    The farthest corner is added to the line, again and again, as in D. Douglas and T. Peucker, Algorithms for
    the reduction of the number of points required to represent a digitized line or its caricature,
    Cartographica 10 (1973).
    """
    anchors = np.searchsorted(x, np.linspace(x[0], x[-1], _ANCHORS))
    kept = sorted({0, x.size - 1, *anchors.tolist()})
    stretches = [_farthest(x, y, start, end) for start, end in itertools.pairwise(kept)]
    heapq.heapify(stretches)
    while -stretches[0][0] > FINE_ENOUGH and len(kept) < most:
        _, start, middle, end = heapq.heappop(stretches)
        kept.append(middle)
        for half in ((start, middle), (middle, end)):
            heapq.heappush(stretches, _farthest(x, y, *half))
    return np.sort(np.array(kept)), -stretches[0][0]


def _farthest(x: IntArray, y: FloatArray, start: int, end: int) -> tuple[float, int, int, int]:
    """(- relative deviation, start, corner that deviates most from a line from start to end, end)."""
    inner = slice(start + 1, end)
    if end - start < 2:
        return 0.0, start, start, end
    slope = (y[end] - y[start]) / max(x[end] - x[start], 1)
    distance = np.abs(y[start] + slope * (x[inner] - x[start]) - y[inner])
    distance[distance < 1e-12] = 0.0  # rounding
    relative = np.divide(distance, np.abs(y[inner]), out=np.full_like(distance, np.inf), where=y[inner] != 0)
    relative[distance == 0.0] = 0.0
    farthest = int(np.argmax(relative))
    return -float(relative[farthest]), start, start + 1 + farthest, end

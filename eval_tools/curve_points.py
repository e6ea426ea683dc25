"""Error-versus-reject curves as CSV, to draw them elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from eval_tools.results import Comparison, CurveKey, MeasuredCurve
from eval_tools.scores import IntArray
from igfiqa_head.io.csv_lines import csv_line
from igfiqa_head.text import printable

MOST_POINTS = 1001
COLUMNS = (
    *("test_set", "recogniser", "quality", "fmr", "discard", "error", "low", "high"),
    *("n_discarded", "n_errors", "n_genuine", "n_impostor", "threshold", "effective_fmr", "resolved"),
)


def curve_points(comparison: Comparison, protocol: str) -> str:
    """The curves of one protocol as CSV, a line for each point, with the counts behind it.

    ``low`` and ``high`` are the confidence band, empty where there is none. Of a longer curve
    :data:`MOST_POINTS` points are given, evenly spaced along the discard axis; a step curve holds its rate
    from one to the next.
    """
    lines = [csv_line(COLUMNS)]
    for key, measured in comparison.curves.items():
        if key.protocol == protocol:
            lines += map(csv_line, _rows(key, measured))
    return "\n".join([*lines, ""])


def _rows(key: CurveKey, measured: MeasuredCurve) -> Iterator[list[object]]:
    curve, band = measured.curve, measured.band
    names: list[object] = [*map(printable, (key.test_set, key.recogniser, key.method)), key.fmr]
    low = high = np.full(curve.discard.size, np.nan)
    if band is not None:
        low, high = (np.interp(curve.discard, band.discard, b, right=np.nan) for b in (band.low, band.high))
    threshold, effective = (np.resize(v, curve.discard.size) for v in (curve.threshold, curve.effective_fmr))
    rates = (curve.discard, curve.error, low, high)
    counts = (curve.n_discarded, curve.n_errors, curve.n_genuine, curve.n_impostor)
    unresolved = set(curve.unresolved_at.tolist() if np.ndim(curve.effective_fmr) else ())
    for k in _shown(measured):
        yield [
            *names,
            *(rate[k] for rate in rates),
            *(count[k] for count in counts),
            threshold[k],
            effective[k],
            int(k not in unresolved),
        ]


def _shown(measured: MeasuredCurve) -> IntArray:
    """Indices of the points that are given."""
    discard = measured.curve.discard
    if discard.size <= MOST_POINTS:
        return np.arange(discard.size)
    return np.unique(np.searchsorted(discard, np.linspace(0, discard[-1], MOST_POINTS)))

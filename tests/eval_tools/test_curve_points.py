"""Curves as CSV: the points are those of the curve, with their counts."""

from __future__ import annotations

import csv
import io

import numpy as np

from eval_tools.compare import compare_scored_pairs
from eval_tools.curve_points import MOST_POINTS, curve_points
from eval_tools.measure import Settings
from eval_tools.precomputed import ScoredPairs
from eval_tools.results import Comparison


def _compared(n_pairs: int, **settings: object) -> Comparison:
    rng = np.random.default_rng(0)
    is_genuine = np.arange(n_pairs) % 2 == 0
    quality = rng.random(n_pairs)
    similarity = np.where(is_genuine, quality, 0.6 * rng.random(n_pairs))
    pairs = ScoredPairs(similarity, is_genuine, {"q": quality, "r": rng.random(n_pairs)}, None, ())
    return compare_scored_pairs({"set": pairs}, Settings(fmrs=(0.02,), **settings), progress=False)  # type: ignore[arg-type]


def test_every_point_of_a_curve_is_a_line_with_its_counts_and_band() -> None:
    comparison = _compared(400, n_resamples=40)
    for protocol in ("fixed", "crfiqa"):
        rows = list(csv.DictReader(io.StringIO(curve_points(comparison, protocol))))
        for key, measured in comparison.curves.items():
            if key.protocol != protocol:
                continue
            curve, of_curve = measured.curve, [row for row in rows if row["quality"] == key.method]
            for name in ("discard", "error"):
                found = [float(row[name]) for row in of_curve]
                np.testing.assert_array_equal(found, getattr(curve, name))
            for name in ("n_discarded", "n_errors", "n_genuine", "n_impostor"):
                assert [int(row[name]) for row in of_curve] == getattr(curve, name).tolist()
            assert measured.band is not None
            low = np.interp(curve.discard, measured.band.discard, measured.band.low, right=np.nan)
            np.testing.assert_array_equal([float(row["low"] or "nan") for row in of_curve], low)
            resolved = np.ones(curve.discard.size, bool)
            resolved[curve.unresolved_at] = False
            assert [row["resolved"] == "1" for row in of_curve] == resolved.tolist()


def test_a_long_curve_is_thinned_to_points_that_it_has() -> None:
    comparison = _compared(6000, n_resamples=0, protocols=("fixed",))
    rows = [r for r in csv.DictReader(io.StringIO(curve_points(comparison, "fixed"))) if r["quality"] == "q"]
    (curve, _) = (measured.curve for measured in comparison.curves.values())
    assert 0.9 * MOST_POINTS < len(rows) <= MOST_POINTS
    found = np.array([float(row["discard"]) for row in rows])
    np.testing.assert_array_equal([float(row["error"]) for row in rows], curve.at(found))
    assert np.diff(found).max() < 2 / MOST_POINTS
    assert found[-1] == curve.discard[-1]

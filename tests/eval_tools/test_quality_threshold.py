"""Thresholds on the quality: against trying every score, and what they say about themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.calibration import GenuinePairs
from eval_tools.operating_points import OperatingPoint
from eval_tools.quality_threshold import (
    PERCENTILES,
    QualityThreshold,
    quality_threshold_for_discard,
    quality_threshold_for_fnmr,
    wilson_interval,
)
from tests.references import calibration as reference

NAMES = {"method": "IG-FIQA", "reference": "simulated"}


def _pairs(quality: Any, is_error: Any) -> GenuinePairs:
    errors = np.asarray(is_error, dtype=bool)
    point = OperatingPoint(1e-3, 0.25, 2, int(errors.sum()), errors.size, 2500)
    return GenuinePairs("r50", point, np.asarray(quality, dtype=float), errors)


small_pairs = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=25)
small_scores = st.lists(st.integers(-2, 10), min_size=1, max_size=25)


@settings(deadline=None, max_examples=150)
@given(small_scores, small_pairs, st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.9]))
def test_fnmr(scores: list[int], pairs: list[tuple[int, bool]], wanted: float) -> None:
    quality, is_error = [q for q, _ in pairs], [e for _, e in pairs]
    expected = reference.lowest_score_for_fnmr(scores, quality, is_error, wanted)
    if expected is None:
        with pytest.raises(ValueError, match="no score of 'IG-FIQA' reaches FNMR"):
            quality_threshold_for_fnmr(scores, _pairs(quality, is_error), wanted, **NAMES)
        return
    threshold = quality_threshold_for_fnmr(scores, _pairs(quality, is_error), wanted, **NAMES)
    assert threshold.score == expected
    assert threshold.kept.fnmr is not None
    assert threshold.kept.fnmr <= wanted
    _check_rows(threshold, scores, quality, is_error)


def _check_rows(threshold: QualityThreshold, scores: Any, quality: Any, is_error: Any) -> None:
    assert tuple(threshold.table) == PERCENTILES
    for percentile, row in threshold.table.items():
        assert row.score == reference.highest_score_discarding(scores, percentile / 100)
    for row in (threshold.kept, *threshold.table.values()):
        n_left, n_errors = reference.survivors(row.score, quality, is_error)
        assert (row.n_genuine_left, row.n_errors, row.n_genuine) == (n_left, n_errors, len(quality))
        assert row.n_images_left == sum(score >= row.score for score in scores)
        assert row.image_discard == pytest.approx(sum(s < row.score for s in scores) / len(scores))
        assert row.pair_discard == pytest.approx(1 - n_left / len(quality))
        assert row.fnmr == (n_errors / n_left if n_left else None)


@settings(deadline=None, max_examples=100)
@given(small_scores, small_pairs, st.sampled_from([0.0, 0.01, 0.1, 1 / 3, 0.5, 0.7, 0.999]))
def test_discard(scores: list[int], pairs: list[tuple[int, bool]], wanted: float) -> None:
    quality, is_error = [q for q, _ in pairs], [e for _, e in pairs]
    given_pairs = _pairs(quality, is_error)
    of_images = quality_threshold_for_discard(scores, wanted, given_pairs, **NAMES)
    assert of_images.score == reference.highest_score_discarding(scores, wanted)
    assert of_images.kept.image_discard <= wanted + 1e-12
    of_pairs = quality_threshold_for_discard(scores, wanted, given_pairs, of="genuine pairs", **NAMES)
    assert of_pairs.score == reference.highest_score_discarding(quality, wanted)
    assert (of_images.goal, of_pairs.goal) == ("discard of images", "discard of genuine pairs")
    for threshold in (of_images, of_pairs):
        _check_rows(threshold, scores, quality, is_error)


@settings(deadline=None, max_examples=60)
@given(small_scores, small_pairs)
def test_lower_targets_need_higher_scores(scores: list[int], pairs: list[tuple[int, bool]]) -> None:
    quality, is_error = [q for q, _ in pairs], [e for _, e in pairs]
    reached = []
    for wanted in (0.9, 0.5, 0.2, 0.0):
        try:
            threshold = quality_threshold_for_fnmr(scores, _pairs(quality, is_error), wanted, **NAMES)
        except ValueError:
            break
        reached.append(threshold.score)
    assert reached == sorted(reached)


def test_a_target_that_holds_already_discards_nothing() -> None:
    threshold = quality_threshold_for_fnmr([1, 2, 3], _pairs([2, 3], [0, 0]), 0.1, **NAMES)
    assert threshold.score == 1
    assert threshold.kept.image_discard == threshold.kept.pair_discard == 0


def test_the_first_dip_counts_even_if_the_rate_rises_again() -> None:
    pairs = _pairs([1, 2, 3, 4, 5], [1, 0, 0, 1, 0])
    assert quality_threshold_for_fnmr([1, 2, 3, 4, 5], pairs, 0.25, **NAMES).score == 2


def test_out_of_reach_says_how_low_it_gets() -> None:
    pairs = _pairs([1, 2, 3, 3], [1, 1, 1, 0])
    message = "lowest is 0.5 at score 3, with 1 errors among the 2 of 4 genuine pairs left"
    with pytest.raises(ValueError, match=message):
        quality_threshold_for_fnmr([1, 2, 3], pairs, 0.1, **NAMES)


def test_constant_scores_are_all_kept() -> None:
    pairs = _pairs([7, 7, 7, 7], [1, 0, 0, 0])
    assert quality_threshold_for_discard(np.full(9, 7.0), 0.5, pairs, **NAMES).kept.n_images_left == 9
    assert quality_threshold_for_fnmr(np.full(9, 7.0), pairs, 0.25, **NAMES).kept.n_genuine_left == 4
    with pytest.raises(ValueError, match="the lowest is 0.25 at score 7"):
        quality_threshold_for_fnmr(np.full(9, 7.0), pairs, 0.2, **NAMES)


def test_images_alone() -> None:
    threshold = quality_threshold_for_discard(np.arange(100.0), 0.05, **NAMES)
    assert (threshold.score, threshold.kept.n_images_left) == (5.0, 95)
    assert threshold.kept.fnmr is threshold.kept.fnmr_interval is threshold.kept.pair_discard is None
    assert threshold.statement == "Keep scores of at least 5: of 100 images 5 % are discarded."
    assert json.loads(threshold.to_json())["point"] is None


def test_the_statement_says_how_sure_it_is() -> None:
    is_error = np.arange(100) < 6
    threshold = quality_threshold_for_fnmr(np.arange(100), _pairs(np.arange(100), is_error), 0.01, **NAMES)
    assert threshold.score == 6  # one error among 95 pairs is more than 0.01
    assert "94 of 100 genuine pairs are left, 0 of them false non-matches of r50" in threshold.statement
    assert "at FMR 0.001 (effective 0.0008): FNMR 0, 95 % interval 0 to 0.0393" in threshold.statement
    assert "too few to show that the FNMR is at most 0.01" in threshold.statement
    lax = quality_threshold_for_fnmr(np.arange(100), _pairs(np.arange(100), is_error), 0.2, **NAMES)
    assert "too few" not in lax.statement


def test_nothing_left_is_said() -> None:
    """An image without a genuine partner can score above all pairs."""
    threshold = quality_threshold_for_discard([1, 2, 9], 0.7, _pairs([1, 2], [1, 0]), **NAMES)
    assert threshold.score == 9
    assert threshold.kept.n_genuine_left == 0
    assert threshold.statement.endswith("0 of 2 genuine pairs are left: no FNMR can be measured.")


def test_json(tmp_path: Path) -> None:
    threshold = quality_threshold_for_fnmr(
        np.arange(50), _pairs(np.arange(40), np.arange(40) < 4), 0.01, **NAMES
    )
    path = tmp_path / "threshold.json"
    threshold.save(path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    document = json.loads(path.read_text(), parse_constant=refuse)
    assert document["statement"] == threshold.statement
    assert document["goal"] == "fnmr"
    assert document["wanted"] == 0.01
    assert document["kept"]["score"] == threshold.score == 4
    assert document["kept"]["fnmr_interval"] == list(wilson_interval(0, 36))
    assert [row["percentile"] for row in document["table"]] == list(PERCENTILES)
    assert document["table"][-1]["fnmr"] is None
    assert document["point"]["effective_fmr"] == 2 / 2500


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize(("n_errors", "n_trials"), [(0, 1), (1, 1), (0, 30), (3, 40), (20, 40), (999, 1000)])
def test_wilson(n_errors: int, n_trials: int, level: float) -> None:
    z = NormalDist().inv_cdf((1 + level) / 2)
    low, high = wilson_interval(n_errors, n_trials, level)
    assert low == pytest.approx(reference.wilson_bound(n_errors, n_trials, z, upper=False), abs=1e-9)
    assert high == pytest.approx(reference.wilson_bound(n_errors, n_trials, z, upper=True), abs=1e-9)


@pytest.mark.parametrize("arguments", [(0, 0), (2, 1), (-1, 5), (1, 5, 1.0), (1, 5, math.nan)])
def test_intervals_that_do_not_exist(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="no interval exists"):
        wilson_interval(*arguments)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"scores": []}, "there are no scores"),
    ({"scores": [1.0, np.nan]}, "scores has 1 NaN"),
    ({"discard": 1.0}, r"discard must be a share in \[0, 1\), got 1.0"),
    ({"discard": -0.1}, "discard must be a share"),
    ({"discard": np.nan}, "discard must be a share"),
    ({"discard": "5%"}, "discard must be a share in .*got '5%'"),
    ({"of": "pairs"}, "of must be 'images' or 'genuine pairs', got 'pairs'"),
    ({"of": "genuine pairs"}, "give the pairs"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quality_threshold_for_discard(**{"scores": [1.0, 2.0], "discard": 0.1, **NAMES, **change})


@pytest.mark.parametrize("fnmr", [-0.1, 1.0, np.nan, True])
def test_bad_target(fnmr: float) -> None:
    with pytest.raises(ValueError, match="fnmr must be a share"):
        quality_threshold_for_fnmr([1.0], _pairs([1.0], [0]), fnmr, **NAMES)


def test_a_threshold_at_an_fmr_that_is_not_resolved_says_so() -> None:
    few = GenuinePairs("r50", OperatingPoint(1e-4, 0.25, 0, 4, 40, 300), np.arange(40.0), np.arange(40) < 4)
    threshold = quality_threshold_for_fnmr(np.arange(50), few, 0.01, **NAMES)
    assert "FMR 0.0001 cannot be resolved with 300 impostor pairs: it takes at least 10000" in (
        threshold.statement
    )
    assert json.loads(threshold.to_json())["point"]["resolved"] is False
    fine = quality_threshold_for_fnmr(np.arange(50), _pairs(np.arange(40), np.arange(40) < 4), 0.01, **NAMES)
    assert "cannot be resolved" not in fine.statement
    assert json.loads(fine.to_json())["point"]["resolved"] is True

"""Fitting calibrations: against counting, over ties and tiny sets, and what must hold for any scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval_tools.calibration import FewErrorsWarning, GenuinePairs, calibrate, genuine_pairs_at_fmr
from eval_tools.scores import UnresolvedFMRWarning
from igfiqa_head.calibration import Calibration
from tests.references import calibration as reference
from tests.references import erc as erc_reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning"),
    pytest.mark.filterwarnings("ignore::eval_tools.calibration.FewErrorsWarning"),
]

Array = NDArray[Any]
NAMES = {"method": "IG-FIQA", "reference": "simulated"}

SCORES: dict[str, Callable[[np.random.Generator], Array]] = {
    "continuous": lambda rng: rng.normal(size=57).astype(np.float32),
    "tied": lambda rng: rng.integers(0, 6, 80) / 4,
    "one value in half of the images": lambda rng: np.append(np.zeros(40), rng.normal(size=40)).astype("f4"),
    "constant": lambda rng: np.full(30, -0.1, dtype=np.float32),
    "one": lambda rng: np.array([3.5]),
    "two": lambda rng: np.array([1.0, 2.0]),
    "all negative": lambda rng: (-1e6 - 1e5 * rng.random(40)).astype(np.float32),
    "integers": lambda rng: rng.integers(0, 1000, 50),
}


def _scores(kind: str, seed: int = 0) -> Array:
    return SCORES[kind](np.random.default_rng([seed, len(kind)]))


def _pairs(quality: Array, seed: int = 0, fmr: float = 0.1) -> GenuinePairs:
    """Genuine pairs that fail the more often the lower their quality, beside 60 impostors."""
    rng = np.random.default_rng(seed)
    ranks = np.searchsorted(np.unique(quality), quality) / np.unique(quality).size
    similarity = np.append(rng.normal(2 * ranks, 1.0), rng.normal(-1, 1, 60))
    is_genuine = np.arange(similarity.size) < quality.size
    return genuine_pairs_at_fmr(
        similarity, is_genuine, np.append(quality, np.zeros(60)), recogniser="r50", fmr=fmr
    )


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("seed", range(3))
def test_percent(kind: str, seed: int) -> None:
    scores = _scores(kind, seed)
    calibration = calibrate(scores, **NAMES)
    between = (np.sort(scores)[:-1] + np.sort(scores)[1:]) / 2
    for at in (scores, between.astype(np.float32), [scores.min() - 1, scores.max() + 1]):
        expected = [reference.percent(float(score), scores.astype(float)) for score in at]
        np.testing.assert_allclose(calibration.percent(at), expected, rtol=1e-6, atol=1e-6)


def test_outside_of_the_reference() -> None:
    calibration = calibrate([1.0, 2.0, 3.0, 4.0], **NAMES)
    np.testing.assert_array_equal(calibration.percent([-np.inf, 0.99, 4.01, 1e38]), [0, 0, 100, 100])
    np.testing.assert_allclose(calibration.percent([1, 2, 3, 4]), [12.5, 37.5, 62.5, 87.5])


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=120),
    st.integers(2, 30),
    st.sampled_from([np.arctan, np.cbrt, lambda x: np.exp(x / 10), lambda x: 3 * x - 7]),
)
def test_compact_table(values: list[int], knots: int, transform: Callable[[Array], Array]) -> None:
    """However few knots: in range, never falling, near the truth, and blind to monotone transforms."""
    scores = np.array(values, dtype=float)
    calibration = calibrate(scores, knots=knots, **NAMES)
    table = calibration.percentile
    assert len(table.scores) <= knots
    levels = np.unique(scores)
    percent = calibration.percent(levels)
    exact = np.array([reference.mid_rank_percent(level, scores) for level in levels])
    assert np.all((percent >= 0) & (percent <= 100))
    assert np.all(np.diff(percent) >= -1e-9)
    # Knots are exact. What was left out lies between two of them, at most about two steps apart.
    np.testing.assert_allclose(
        table.percents, [reference.mid_rank_percent(s, scores) for s in table.scores], rtol=1e-6
    )
    assert np.all(np.abs(percent - exact) <= 2.2 * 100 / (knots - 1))
    other = calibrate(transform(scores), knots=knots, **NAMES)
    np.testing.assert_array_equal(other.percentile.percents, table.percents)
    np.testing.assert_allclose(
        other.percent(transform(np.array(table.scores))), table.percents, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("knots", [101, 1001])
def test_a_large_smooth_set_fits_the_table(knots: int) -> None:
    scores = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    calibration = calibrate(scores, knots=knots, **NAMES)
    exact = 100 * (np.argsort(np.argsort(scores)) + 0.5) / scores.size
    assert len(calibration.percentile.scores) <= knots
    assert np.abs(calibration.percent(scores) - exact).max() < 100 / (knots - 1)
    assert len(calibration.to_json()) < 25 * knots + 400


def test_a_score_that_many_share_keeps_its_jump() -> None:
    """Half of the images share a score: just above it, the percentage is that of the next image."""
    rng = np.random.default_rng(1)
    scores = np.concatenate([np.zeros(5000), rng.uniform(-1, 0, 2500), rng.uniform(0.001, 1, 2500)])
    percent = calibrate(scores, knots=101, **NAMES).percent([-0.0005, 0.0, 0.01])
    np.testing.assert_allclose(percent, [25, 50, 75], atol=1.1)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("min_pairs", [1, 7, 30, 1000])
def test_expected_fnmr(kind: str, min_pairs: int) -> None:
    quality = _scores(kind)
    pairs = _pairs(quality)
    calibration = calibrate(quality, pairs, min_pairs=min_pairs, knots=1001, **NAMES)
    between = (np.sort(quality)[:-1] + np.sort(quality)[1:]) / 2
    at = np.concatenate([quality, between, [quality.min() - 1, quality.max() + 1]]).astype(np.float32)
    expected = reference.expected_fnmr(at, quality.astype(float), pairs.is_error, min_pairs)
    np.testing.assert_allclose(calibration.expected_fnmr(at), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fmr", [0.02, 0.1, 0.5])
def test_what_is_carried_along(fmr: float) -> None:
    rng = np.random.default_rng(3)
    is_genuine = rng.random(400) < 0.5
    similarity, quality = rng.normal(1.0 * is_genuine), rng.random(400)
    pairs = genuine_pairs_at_fmr(similarity, is_genuine, quality, recogniser="r50", fmr=fmr)
    genuine, impostor = erc_reference.split(similarity, is_genuine)
    threshold = erc_reference.iso_threshold(impostor, fmr)
    np.testing.assert_array_equal(pairs.is_error, np.array(genuine) < threshold)
    np.testing.assert_array_equal(pairs.quality, quality[is_genuine])
    fnmr = calibrate(quality, pairs, **NAMES).fnmr
    assert fnmr is not None
    assert (fnmr.recogniser, fnmr.target_fmr, fnmr.threshold) == ("r50", fmr, threshold)
    assert fnmr.effective_fmr == erc_reference.fmr_at(threshold, impostor)
    assert (fnmr.n_genuine, fnmr.n_impostor) == (len(genuine), len(impostor))
    assert fnmr.n_errors == sum(score < threshold for score in genuine)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.booleans()), min_size=1, max_size=80),
    st.integers(2, 12),
    st.integers(1, 20),
)
def test_expected_fnmr_never_rises(pairs: list[tuple[int, bool]], knots: int, min_pairs: int) -> None:
    quality, is_error = np.array([q for q, _ in pairs], float), np.array([e for _, e in pairs])
    point = _pairs(quality).point
    calibration = calibrate(
        quality,
        GenuinePairs("r50", point, quality, is_error),
        knots=knots,
        min_pairs=min_pairs,
        **NAMES,
    )
    rates = calibration.expected_fnmr(np.linspace(-12, 12, 97))
    assert np.all((rates >= 0) & (rates <= 1))
    assert np.all(np.diff(rates) <= 1e-9)
    assert calibration.fnmr is not None
    assert len(calibration.fnmr.scores) <= knots


def test_the_regression_keeps_the_number_of_errors() -> None:
    """Isotonic rates, added up over the pairs, are the errors that were seen."""
    quality = np.random.default_rng(5).normal(size=4000).astype(np.float32)
    pairs = _pairs(quality)
    rates = calibrate(quality, pairs, knots=1001, **NAMES).expected_fnmr(quality)
    assert rates.sum() == pytest.approx(pairs.is_error.sum(), rel=1e-5)


def test_one_failure_at_the_lower_end_is_no_rate_of_one() -> None:
    quality = np.arange(100.0)
    pairs = GenuinePairs("r50", _pairs(quality).point, quality, quality == 0)
    assert calibrate(quality, pairs, **NAMES).expected_fnmr(0.0) == pytest.approx(1 / 30)
    assert calibrate(quality, pairs, min_pairs=1, **NAMES).expected_fnmr(0.0) == 1


def test_one_genuine_pair() -> None:
    for is_error in (False, True):
        pairs = GenuinePairs("r50", _pairs(np.zeros(1)).point, np.array([0.5]), np.array([is_error]))
        rates = calibrate([0.5, 0.7], pairs, **NAMES).expected_fnmr([0.0, 0.5, 1.0])
        np.testing.assert_array_equal(rates, float(is_error))


def test_order_of_scores_and_pairs_changes_nothing() -> None:
    quality = _scores("tied")
    pairs, order = _pairs(quality), np.random.default_rng(2).permutation(quality.size)
    shuffled = GenuinePairs("r50", pairs.point, quality[order], pairs.is_error[order])
    assert calibrate(quality, pairs, **NAMES) == calibrate(quality[order], shuffled, **NAMES)


def test_the_file_is_a_few_kilobytes_and_says_the_same(tmp_path: Path) -> None:
    quality = np.random.default_rng(7).normal(size=20_000).astype(np.float32)
    calibration = calibrate(quality, _pairs(quality), **NAMES)
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert path.stat().st_size < 6000
    loaded = Calibration.load(path)
    assert loaded == calibration
    np.testing.assert_array_equal(loaded.percent(quality), calibration.percent(quality))
    np.testing.assert_array_equal(loaded.expected_fnmr(quality), calibration.expected_fnmr(quality))


def test_unresolved_fmr_warns_at_the_caller() -> None:
    with pytest.warns(UnresolvedFMRWarning, match="FMR 0.001 cannot be resolved with 2 impostor") as record:
        pairs = genuine_pairs_at_fmr([1, 0, 0.5], [1, 0, 0], [1, 1, 1], recogniser="r50")
    assert record[0].filename == __file__
    assert pairs.point.fmr == 0


def test_few_errors_warn_at_the_caller() -> None:
    quality = np.arange(100.0)
    few = GenuinePairs("r50", _pairs(quality, fmr=0.5).point, quality, quality < 3)
    assert few.point.n_false_non_match < 30
    with pytest.warns(FewErrorsWarning, match="false non-matches among 100 genuine pairs") as record:
        calibrate(quality, few, **NAMES)
    assert record[0].filename == __file__


def test_enough_of_everything_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quality = np.random.default_rng(0).normal(size=500)
        calibrate(quality, _pairs(quality), **NAMES)


PAIRS: dict[str, Any] = {
    "similarity": [0.9, 0.1, 0.2],
    "is_genuine": [1, 0, 0],
    "quality": [1.0, 2.0, 3.0],
    "recogniser": "r50",
}
BAD_PAIRS: list[tuple[dict[str, Any], str]] = [
    ({"similarity": [0.9, np.nan, 0.2]}, "similarity has 1 NaN or infinite values, the first at index 1"),
    ({"quality": [np.inf, 1, 1]}, "quality has 1 NaN or infinite values"),
    ({"quality": [1, 1]}, r"quality must have shape \(3,\)"),
    ({"is_genuine": [0, 0, 0]}, "no genuine pair"),
    ({"is_genuine": [1, 1, 1]}, "no impostor pair"),
    ({"is_genuine": []}, "non-empty"),
    ({"fmr": 0.0}, "fmr must lie strictly between 0 and 1"),
]


@pytest.mark.parametrize(("change", "message"), BAD_PAIRS)
def test_bad_pairs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        genuine_pairs_at_fmr(**{**PAIRS, **change})


BAD: list[tuple[dict[str, Any], str]] = [
    ({"scores": []}, "there are no scores"),
    ({"scores": [1.0, np.nan]}, "scores has 1 NaN or infinite values, the first at index 1"),
    ({"scores": [[1.0, 2.0]]}, "scores must be an array with one value for each item"),
    ({"scores": ["0.5"]}, "scores must hold real numbers"),
    ({"scores": [1.0, 1e39]}, r"scores must fit into float32, got 1e\+39"),
    ({"knots": 1}, "knots must be a whole number from 2 to 1001, got 1"),
    ({"knots": 1002}, "knots must be a whole number from 2 to 1001, got 1002"),
    ({"min_pairs": 0}, "min_pairs must be a whole number from 1 on, got 0"),
    ({"method": ""}, "method must be text of 1 to 200 characters"),
    ({"reference": None}, "reference must be text of 1 to 200 characters, got None"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(**{"scores": [1.0, 2.0], **NAMES, **change})

"""Error-versus-reject curves of pairs: every protocol against its slow reference, and what always holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval_tools.curve import ErrorRejectionCurve, Protocol
from eval_tools.erc import (
    DISCARD_GRID,
    PAIR_PROTOCOLS,
    UnresolvedFMRWarning,
    error_rejection_curve,
    error_rejection_curves,
    pair_quality,
)
from eval_tools.scores import HighestScores, allowed_false_matches, threshold_at_fmr
from tests.references import erc as reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning"),
    pytest.mark.filterwarnings("ignore:.*survives and the error rate is NaN:RuntimeWarning"),
]

Array = NDArray[Any]
Pairs = tuple[Array, Array, Array]
FMRS = (1e-3, 0.02, 0.1, 0.35, 0.9)


def _kinds(rng: np.random.Generator, size: int, share: float) -> Array:
    is_genuine = rng.random(size) < share
    is_genuine[rng.permutation(size)[:2]] = True, False
    return is_genuine


def _continuous(rng: np.random.Generator) -> Pairs:
    is_genuine = _kinds(rng, 150, 0.4)
    return rng.normal(is_genuine * 1.5, 1.0), is_genuine, rng.normal(size=150)


def _tied(rng: np.random.Generator) -> Pairs:
    is_genuine = _kinds(rng, 120, 0.5)
    return rng.integers(0, 6, 120) + 2.0 * is_genuine, is_genuine, rng.integers(0, 5, 120).astype(float)


def _all_equal(rng: np.random.Generator) -> Pairs:
    return np.full(30, 0.5), np.arange(30) % 2 == rng.integers(2), np.full(30, 7.0)


def _tiny(rng: np.random.Generator) -> Pairs:
    size = int(rng.integers(2, 7))
    return rng.integers(-2, 3, size) / 4, _kinds(rng, size, 0.5), rng.integers(0, 3, size).astype(float)


def _negative(rng: np.random.Generator) -> Pairs:
    is_genuine = _kinds(rng, 80, 0.3)
    return -5 + rng.random(80) * 0.5 + 0.3 * is_genuine, is_genuine, -1e6 - rng.random(80)


def _impostors_leave_first(rng: np.random.Generator) -> Pairs:
    is_genuine = _kinds(rng, 60, 0.5)
    return rng.normal(is_genuine, 1.0), is_genuine, is_genuine + 0.5 * rng.random(60)


def _genuine_leave_first(rng: np.random.Generator) -> Pairs:
    is_genuine = _kinds(rng, 60, 0.5)
    return rng.normal(is_genuine, 1.0), is_genuine, rng.random(60) - is_genuine


def _single_impostor(rng: np.random.Generator) -> Pairs:
    is_genuine = np.arange(25) != 11
    return rng.integers(0, 9, 25) / 8, is_genuine, rng.random(25)


INPUTS: dict[str, Callable[[np.random.Generator], Pairs]] = {
    "continuous": _continuous,
    "tied": _tied,
    "all equal": _all_equal,
    "tiny": _tiny,
    "negative": _negative,
    "impostors leave first": _impostors_leave_first,
    "genuine leave first": _genuine_leave_first,
    "single impostor": _single_impostor,
}
every_input = pytest.mark.parametrize("kind", INPUTS)
every_fmr = pytest.mark.parametrize("fmr", FMRS)


def _pairs(kind: str, seed: int = 0) -> Pairs:
    return INPUTS[kind](np.random.default_rng([seed, len(kind)]))


def _impostors(pairs: Pairs) -> list[float]:
    return [float(score) for score in pairs[0][~pairs[1]]]


def assert_matches(
    curve: ErrorRejectionCurve, points: list[reference.Point], effective_fmr: float | list[float]
) -> None:
    """The curve is what counting gave: rates, counts, thresholds and effective FMRs."""
    rates = [point.fnmr if curve.error_type == "fnmr" else point.fmr for point in points]
    np.testing.assert_allclose(curve.discard, [point.discard for point in points], rtol=0, atol=1e-12)
    np.testing.assert_allclose(curve.error, rates, rtol=1e-12)
    np.testing.assert_array_equal(curve.n_genuine, [point.n_genuine for point in points])
    np.testing.assert_array_equal(curve.n_impostor, [point.n_impostor for point in points])
    np.testing.assert_array_equal(
        np.broadcast_to(curve.threshold, len(points)), [point.threshold for point in points]
    )
    np.testing.assert_allclose(curve.effective_fmr, effective_fmr, rtol=1e-12)


def _check_fixed(pairs: Pairs, threshold: float, curve: ErrorRejectionCurve, error: str) -> None:
    points = reference.fixed_curve(*pairs, threshold, error=error)
    impostors = _impostors(pairs)
    assert_matches(curve, points, reference.fmr_at(threshold, impostors))


@every_input
@every_fmr
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("error", ["fnmr", "fmr"])
def test_fixed(kind: str, fmr: float, seed: int, error: Any) -> None:
    pairs = _pairs(kind, seed)
    curve = error_rejection_curve(*pairs, fmr=fmr, protocol="fixed", error=error)
    _check_fixed(pairs, reference.iso_threshold(_impostors(pairs), fmr), curve, error)
    assert curve.target_fmr == fmr
    assert np.all(np.asarray(curve.effective_fmr) <= fmr)


@every_input
@every_fmr
@pytest.mark.parametrize("seed", range(3))
def test_crfiqa(kind: str, fmr: float, seed: int) -> None:
    pairs = _pairs(kind, seed)
    points = reference.gridded_curve(*pairs, fmr=fmr, threshold=None)
    curve = error_rejection_curve(*pairs, fmr=fmr, protocol="crfiqa")
    assert_matches(curve, points, [point.fmr for point in points])


@every_input
@every_fmr
@pytest.mark.parametrize("error", ["fnmr", "fmr"])
def test_fixed_all(kind: str, fmr: float, error: Any) -> None:
    pairs = _pairs(kind)
    threshold = reference.iso_threshold(_impostors(pairs), fmr)
    points = reference.gridded_curve(*pairs, fmr=fmr, threshold=threshold)
    curve = error_rejection_curve(*pairs, fmr=fmr, protocol="fixed-all", error=error)
    assert_matches(curve, points, points[0].fmr)


@every_input
@pytest.mark.parametrize("error", ["fnmr", "fmr"])
@pytest.mark.parametrize("place", ["below all", "at a score", "above all"])
def test_given_threshold(kind: str, error: Any, place: str) -> None:
    pairs = _pairs(kind)
    scores = np.sort(pairs[0])
    threshold = {
        "below all": scores[0] - 1,
        "at a score": scores[scores.size // 2],
        "above all": scores[-1] + 1,
    }[place]
    fixed = error_rejection_curve(*pairs, threshold=threshold, error=error)
    _check_fixed(pairs, threshold, fixed, error)
    assert fixed.target_fmr is None
    assert fixed.resolved
    everything = error_rejection_curve(*pairs, threshold=threshold, protocol="fixed-all", error=error)
    points = reference.gridded_curve(*pairs, fmr=0.1, threshold=threshold)
    assert_matches(everything, points, points[0].fmr)


def test_crfiqa_with_many_more_pairs_than_false_matches() -> None:
    """Only the highest impostor scores of each slice are kept: ties at their edge must not be lost."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        is_genuine = _kinds(rng, 400, 0.3)
        scores = rng.integers(0, 12 if seed % 2 else 200, 400) + 3.0 * is_genuine
        pairs = scores, is_genuine, rng.integers(0, 60, 400).astype(float)
        for fmr in (0.01, 0.05):
            points = reference.gridded_curve(*pairs, fmr=fmr, threshold=None)
            curve = error_rejection_curve(*pairs, fmr=fmr, protocol="crfiqa")
            assert_matches(curve, points, [point.fmr for point in points])


def test_crfiqa_by_hand() -> None:
    """Target 0.25 of 4 impostors: only 0.6 may pass; the lowest candidate above 0.5 is 0.55."""
    similarity = [0.2, 0.3, 0.5, 0.6, 0.55, 0.58, 0.9]
    curve = error_rejection_curve(
        similarity, [0, 0, 0, 0, 1, 1, 1], np.arange(7.0), fmr=0.25, protocol="crfiqa"
    )
    thresholds = np.broadcast_to(curve.threshold, curve.discard.shape)
    assert thresholds[0] == 0.55
    assert curve.fnmr[0] == pytest.approx(1 / 3)  # 0.55 itself is rejected, 0.58 lies strictly above


def test_crfiqa_grid_discards_whole_numbers_of_pairs() -> None:
    pairs = _pairs("continuous")
    curve = error_rejection_curve(*pairs, fmr=0.1, protocol="crfiqa")
    assert DISCARD_GRID.size == 20
    np.testing.assert_array_equal(curve.discard, np.arange(0, 0.98, 0.05))
    np.testing.assert_array_equal(curve.n_discarded, [int(u * 150) for u in np.arange(0, 0.98, 0.05)])


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_order_of_pairs_does_not_matter(protocol: Protocol) -> None:
    similarity, is_genuine, quality = _pairs("continuous")
    order = np.random.default_rng(5).permutation(similarity.size)
    curve = error_rejection_curve(similarity, is_genuine, quality, fmr=0.1, protocol=protocol)
    shuffled = error_rejection_curve(
        similarity[order], is_genuine[order], quality[order], fmr=0.1, protocol=protocol
    )
    np.testing.assert_array_equal(curve.error, shuffled.error)
    np.testing.assert_array_equal(curve.threshold, shuffled.threshold)


def test_crfiqa_is_the_same_for_angles() -> None:
    rng = np.random.default_rng(1)
    is_genuine = _kinds(rng, 200, 0.4)
    cosine = np.clip((rng.integers(-50, 40, 200) + 24 * is_genuine) / 64, -1, 1)
    quality = rng.random(200)
    curve = error_rejection_curve(cosine, is_genuine, quality, fmr=0.05, protocol="crfiqa")
    angles = -np.arccos(cosine) / np.pi
    other = error_rejection_curve(angles, is_genuine, quality, fmr=0.05, protocol="crfiqa")
    np.testing.assert_array_equal(curve.fnmr, other.fnmr)
    np.testing.assert_array_equal(curve.effective_fmr, other.effective_fmr)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_inputs_of_any_dtype(dtype: Any) -> None:
    similarity, is_genuine, quality = _pairs("tied")
    expected = error_rejection_curve(similarity, is_genuine, quality, fmr=0.1)
    curve = error_rejection_curve(
        similarity.astype(dtype), is_genuine.astype(int), list(quality.astype(dtype)), fmr=0.1
    )
    np.testing.assert_array_equal(curve.error, expected.error)
    assert curve.threshold == expected.threshold


# Areas


def _reference_area(curve: ErrorRejectionCurve, limit: float) -> float:
    points = list(zip(curve.discard.tolist(), curve.error.tolist(), strict=True))
    area = reference.step_area if curve.protocol == "fixed" else reference.trapezoid_area
    return area(points, limit)


@pytest.mark.parametrize("kind", ["continuous", "tied", "all equal", "negative"])
@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
@pytest.mark.parametrize("limit", [0.013, 0.2, 0.3, 0.62, 0.95])
def test_partial_area(kind: str, protocol: Protocol, limit: float) -> None:
    curve = error_rejection_curve(*_pairs(kind), fmr=0.1, protocol=protocol)
    area = _reference_area(curve, limit)
    start = float(curve.error[0])
    best = curve.pauc_best(limit)
    assert curve.pauc(limit) == pytest.approx(area, abs=1e-12)
    assert curve.pauc(limit, above_best=True) == pytest.approx(area - best, abs=1e-12)
    assert curve.pauc(limit, relative=True) == pytest.approx(area / start, abs=1e-12)
    both = curve.pauc(limit, above_best=True, relative=True)
    assert both == pytest.approx((area - best) / start, abs=1e-12)
    assert curve.pauc_random(limit) == pytest.approx(start * limit, abs=1e-12)


@pytest.mark.parametrize(("protocol", "end"), [("fixed", 1.0), ("crfiqa", 0.95), ("fixed-all", 0.95)])
def test_whole_area(protocol: Protocol, end: float) -> None:
    curve = error_rejection_curve(*_pairs("continuous"), fmr=0.1, protocol=protocol)
    assert curve.end == pytest.approx(end)
    assert curve.auc == pytest.approx(_reference_area(curve, curve.end))
    assert curve.auc == pytest.approx(curve.pauc(end))
    assert curve.auc_best == pytest.approx(curve.pauc_best(end))
    assert curve.auc_random == pytest.approx(end * curve.error[0])


def test_area_by_hand() -> None:
    """Five genuine pairs, two below the threshold: one leaves with the first tie, one stays to the end."""
    similarity = [0.1, 0.9, 0.9, 0.2, 0.9, 0.0]
    curve = error_rejection_curve(similarity, [1, 1, 1, 1, 1, 0], [1, 1, 2, 3, 3, 0], threshold=0.5)
    np.testing.assert_allclose(curve.discard, [0, 0.4, 0.6])
    np.testing.assert_allclose(curve.fnmr, [0.4, 1 / 3, 0.5])
    assert curve.auc == pytest.approx(0.4 * 0.4 + 0.2 / 3 + 0.4 * 0.5)
    assert curve.pauc(0.5) == pytest.approx(0.4 * 0.4 + 0.1 / 3)
    assert curve.auc_best == pytest.approx(0.2 * 0.4 + 0.2 * 0.25)


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
@pytest.mark.parametrize("limit", [0.0, -0.1, 1.01, float("nan")])
def test_area_limit_out_of_range(protocol: Protocol, limit: float) -> None:
    curve = error_rejection_curve(*_pairs("continuous"), fmr=0.1, protocol=protocol)
    with pytest.raises(ValueError, match="limit must lie in"):
        curve.pauc(limit)


def test_relative_area_needs_errors() -> None:
    curve = error_rejection_curve([0.9, 0.1], [1, 0], [1.0, 2.0], threshold=0.5)
    with pytest.raises(ValueError, match="relative area does not exist"):
        curve.pauc(0.3, relative=True)


# Theoretical best and random level


@pytest.mark.parametrize("errors", range(8))
@pytest.mark.parametrize("error", ["fnmr", "fmr"])
def test_theoretical_best_is_the_lowest_of_all_choices(errors: int, error: Any) -> None:
    wrong, right = (0.0, 1.0) if error == "fnmr" else (1.0, 0.0)
    followed = [wrong] * errors + [right] * (7 - errors)
    is_genuine = np.array([error == "fnmr"] * 7 + [error != "fnmr"] * 3)
    curve = error_rejection_curve(
        [*followed, 0.3, 0.3, 0.8], is_genuine, np.arange(10.0), threshold=0.5, error=error
    )
    discard, best = curve.best_curve()
    for left_out in range(7):
        lowest = reference.lowest_rate([score == wrong for score in followed], left_out)
        held = np.flatnonzero(discard <= left_out / 7 + 1e-12)[-1]
        assert best[held] == pytest.approx(lowest)


def test_theoretical_best_on_the_grid() -> None:
    pairs = _pairs("continuous")
    for protocol in ("fixed-all", "crfiqa"):
        curve = error_rejection_curve(*pairs, fmr=0.1, protocol=protocol)
        discard, best = curve.best_curve()
        errors, genuine = int(curve.n_errors[0]), int(curve.n_genuine[0])
        np.testing.assert_array_equal(discard, curve.discard)
        for step, count in zip(best, curve.n_discarded, strict=True):
            gone = min(int(count), errors)
            assert step == pytest.approx((errors - gone) / (genuine - gone))


def _oracle_quality(similarity: Array) -> Array:
    """Distinct qualities in the order of the scores, so that rejected genuine pairs leave first."""
    return np.argsort(np.argsort(similarity, kind="stable"), kind="stable").astype(float)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-8, 8), min_size=1, max_size=40), st.lists(st.integers(-8, 4), min_size=1))
def test_oracle_reaches_the_theoretical_best(genuine: list[int], impostor: list[int]) -> None:
    similarity = np.array([*genuine, *impostor], float)
    is_genuine = np.arange(similarity.size) < len(genuine)
    curve = error_rejection_curve(similarity, is_genuine, _oracle_quality(similarity), fmr=0.2)
    best = np.minimum(np.arange(len(genuine)), curve.best_errors.size - 1)
    np.testing.assert_allclose(curve.error, curve.best_errors[best], rtol=1e-12)
    assert curve.auc == pytest.approx(curve.auc_best)
    assert curve.pauc(0.3, above_best=True) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_random_qualities_stay_near_the_random_level(protocol: Protocol) -> None:
    rng = np.random.default_rng(3)
    is_genuine = np.arange(1200) < 400
    similarity = rng.normal(1.2 * is_genuine, 1.0)
    areas = []
    for _ in range(150):
        curve = error_rejection_curve(similarity, is_genuine, rng.random(1200), fmr=0.1, protocol=protocol)
        areas.append(curve.pauc(0.8))
    level, spread = curve.pauc_random(0.8), np.std(areas) / np.sqrt(len(areas))
    # Only the moving threshold has a bias of its own: it follows a quantile of ever fewer impostors.
    bias = 0.01 * level if protocol == "crfiqa" else 0.0
    assert abs(np.mean(areas) - level) < 4 * spread + bias
    assert curve.pauc_best(0.8) < min(areas)


# Properties

pair_lists = st.lists(
    st.tuples(st.integers(-20, 20), st.booleans(), st.integers(-6, 6), st.integers(-6, 6)), max_size=50
).map(lambda rows: [*rows, (3, True, 0, 1), (-2, False, 1, 0)])


def _columns(rows: list[tuple[int, bool, int, int]]) -> tuple[Array, Array, Array, Array]:
    scores, kinds, first, second = (np.array(column) for column in zip(*rows, strict=True))
    return scores.astype(float), kinds, first.astype(float), second.astype(float)


def _same_curve(a: ErrorRejectionCurve, b: ErrorRejectionCurve) -> None:
    for name in ("discard", "error", "n_errors", "n_genuine", "n_impostor", "effective_fmr"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.auc == pytest.approx(b.auc, nan_ok=True)


MONOTONE: list[Callable[[Array], Array]] = [np.exp, lambda x: x**3, lambda x: 5 * x - 100, np.arctan]
every_monotone = st.sampled_from(MONOTONE)


@settings(deadline=None, max_examples=200)
@given(pair_lists, every_monotone, st.sampled_from(PAIR_PROTOCOLS))
def test_monotone_transform_of_quality_changes_nothing(
    rows: list[tuple[int, bool, int, int]], transform: Callable[[Array], Array], protocol: Protocol
) -> None:
    similarity, is_genuine, a, b = _columns(rows)
    curve = error_rejection_curve(similarity, is_genuine, pair_quality(a, b), fmr=0.1, protocol=protocol)
    quality = pair_quality(transform(a), transform(b))
    _same_curve(curve, error_rejection_curve(similarity, is_genuine, quality, fmr=0.1, protocol=protocol))


@settings(deadline=None, max_examples=200)
@given(
    pair_lists, every_monotone, st.one_of(st.none(), st.integers(-21, 21)), st.sampled_from(["fnmr", "fmr"])
)
def test_monotone_transform_of_score_and_threshold_changes_nothing(
    rows: list[tuple[int, bool, int, int]],
    transform: Callable[[Array], Array],
    threshold: int | None,
    error: Any,
) -> None:
    similarity, is_genuine, a, b = _columns(rows)
    quality = pair_quality(a, b)
    moved = None if threshold is None else float(transform(np.array([threshold], float))[0])
    curve = error_rejection_curve(similarity, is_genuine, quality, fmr=0.1, threshold=threshold, error=error)
    other = error_rejection_curve(
        transform(similarity), is_genuine, quality, fmr=0.1, threshold=moved, error=error
    )
    _same_curve(curve, other)


@settings(deadline=None, max_examples=200)
@given(pair_lists, st.sampled_from(FMRS), st.sampled_from(PAIR_PROTOCOLS))
def test_curve_is_well_formed(rows: list[tuple[int, bool, int, int]], fmr: float, protocol: Protocol) -> None:
    similarity, is_genuine, a, b = _columns(rows)
    quality = pair_quality(a, b)
    curve = error_rejection_curve(similarity, is_genuine, quality, fmr=fmr, protocol=protocol)
    assert curve.discard[0] == 0
    assert np.all(np.diff(curve.discard) > 0)
    assert curve.n_genuine[0] == is_genuine.sum()
    assert curve.n_impostor[0] == (~is_genuine).sum()
    assert np.nanmin(curve.error) >= 0
    assert np.nanmax(curve.error) <= 1
    np.testing.assert_array_equal(curve.discard < 1, True)
    if protocol == "fixed":
        assert curve.discard.size == np.unique(quality[is_genuine]).size
        assert curve.auc >= curve.auc_best - 1e-12


def test_constant_quality_has_one_point() -> None:
    similarity, is_genuine, _ = _pairs("continuous")
    curve = error_rejection_curve(similarity, is_genuine, np.full(150, -3.0), fmr=0.1)
    np.testing.assert_array_equal(curve.discard, [0.0])
    assert curve.auc == pytest.approx(curve.auc_random)


# Thresholds


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 400), st.floats(1e-4, 0.9999))
def test_allowed_false_matches(n_impostor: int, fmr: float) -> None:
    expected = max(k for k in range(n_impostor + 1) if k / n_impostor <= fmr)
    assert allowed_false_matches(fmr, n_impostor) == expected
    exact = expected / n_impostor  # a target that is itself a share of the impostors is reached, not missed
    if 0 < exact < 1:
        assert allowed_false_matches(exact, n_impostor) == expected


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=40), st.floats(1e-3, 0.999))
def test_threshold_at_fmr(impostor: list[float], fmr: float) -> None:
    threshold, n_false_match = threshold_at_fmr(np.array(impostor), fmr)
    assert threshold == reference.iso_threshold(impostor, fmr)
    assert n_false_match == sum(score >= threshold for score in impostor)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(st.integers(-5, 5), max_size=12), max_size=12), st.integers(1, 9))
def test_highest_scores_of_a_stream(stream: list[list[int]], count: int) -> None:
    highest = HighestScores(count)
    for scores in stream:
        highest.add(np.array(scores, float))
    expected = sorted((score for scores in stream for score in scores), reverse=True)[:count]
    assert sorted(highest.values, reverse=True)[:count] == expected
    assert highest.values.size <= 2 * count


@pytest.mark.parametrize("fmr", [0.0, 1.0, -0.1, 2.0, float("nan")])
@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_fmr_out_of_range(fmr: float, protocol: Protocol) -> None:
    with pytest.raises(ValueError, match="fmr must lie strictly between 0 and 1"):
        error_rejection_curve(*_pairs("continuous"), fmr=fmr, protocol=protocol)


# Warnings


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_unresolved_fmr_warns_at_the_caller(protocol: Protocol) -> None:
    with pytest.warns(UnresolvedFMRWarning, match="FMR 0.0001 cannot be resolved") as record:
        curve = error_rejection_curve(*_pairs("continuous"), fmr=1e-4, protocol=protocol)
    assert record[0].filename == __file__
    assert not curve.resolved


def test_tied_impostors_do_not_resolve_the_fmr() -> None:
    similarity = np.append(np.full(100, 0.5), 0.9)
    with pytest.warns(UnresolvedFMRWarning, match="effective FMR is 0;"):
        curve = error_rejection_curve(similarity, np.arange(101) == 100, np.arange(101.0), fmr=0.1)
    assert curve.effective_fmr == 0


@pytest.mark.parametrize("protocol", ["fixed", "fixed-all"])
def test_resolved_fmr_is_silent(protocol: Protocol) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = error_rejection_curve(*_pairs("continuous"), fmr=0.1, protocol=protocol)
        assert error_rejection_curve(*_pairs("all equal"), threshold=0.9, protocol=protocol).resolved
    assert curve.resolved


@pytest.mark.parametrize("kind", ["impostors leave first", "genuine leave first"])
def test_rate_of_nothing_is_nan_and_warns(kind: str) -> None:
    with pytest.warns(RuntimeWarning, match="no genuine or no impostor pair survives") as record:
        curve = error_rejection_curve(*_pairs(kind), fmr=0.1, protocol="crfiqa")
    assert any(warning.filename == __file__ for warning in record)
    assert np.isnan(curve.auc)
    undefined = (curve.n_genuine == 0) | (curve.n_impostor == 0)
    np.testing.assert_array_equal(np.isnan(curve.error), undefined)
    assert curve.pauc(0.2) == pytest.approx(_reference_area(curve, 0.2))


# Several curves at once


def test_several_curves_are_those_of_one_by_one() -> None:
    pairs = _pairs("tied")
    protocols: tuple[Protocol, ...] = ("fixed-all", "crfiqa", "fixed")
    curves = error_rejection_curves(*pairs, fmrs=iter((0.3, 0.1)), protocols=iter(protocols))
    assert list(curves) == [(protocol, fmr) for protocol in protocols for fmr in (0.3, 0.1)]
    for (protocol, fmr), curve in curves.items():
        one = error_rejection_curve(*pairs, fmr=fmr, protocol=protocol)
        _same_curve(curve, one)
        np.testing.assert_array_equal(curve.threshold, one.threshold)


# Pair quality


@pytest.mark.parametrize(
    ("how", "expected"),
    [("min", [1, -4]), ("max", [2, 3]), ("mean", [1.5, -0.5]), ("product", [2, -12])],
)
def test_pair_quality(how: Any, expected: list[float]) -> None:
    np.testing.assert_array_equal(pair_quality([1, 3], [2.0, -4.0], how), expected)


def test_pair_quality_is_the_lower_one_unless_told() -> None:
    np.testing.assert_array_equal(pair_quality([5, -1], [4, 0]), [4, -1])


@pytest.mark.parametrize(
    ("a", "b", "how", "message"),
    [
        ([1, 2], [1], "min", r"quality_b must have shape \(2,\)"),
        ([1, np.nan], [1, 2], "min", "quality_a has 1 NaN or infinite values, the first at index 1"),
        ([1, 2], [np.inf, 2], "max", "quality_b has 1 NaN or infinite"),
        ([[1, 2]], [[1, 2]], "min", "quality_a must have shape"),
        ([1, 2], [1, 2], "median", "unknown pair quality 'median'"),
    ],
)
def test_pair_quality_errors(a: Any, b: Any, how: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_quality(a, b, how)


# Bad input

GOOD: dict[str, Any] = {"similarity": [0.1, 0.8, 0.4], "is_genuine": [0, 1, 1], "quality": [1, 2, 3]}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"similarity": [0.1, np.nan, 0.4]}, "similarity has 1 NaN or infinite values, the first at index 1"),
    ({"similarity": [0.1, 0.2, np.inf]}, "similarity has 1 NaN or infinite values"),
    ({"quality": [np.nan, 2, np.nan]}, "quality has 2 NaN or infinite values, the first at index 0"),
    ({"quality": [1, -np.inf, 2]}, "quality has 1 NaN or infinite values"),
    ({"similarity": [0.1, 0.2]}, r"similarity must have shape \(3,\)"),
    ({"quality": [1, 2, 3, 4]}, r"quality must have shape \(3,\).*got \(4,\)"),
    ({"quality": [[1], [2], [3]]}, r"quality must have shape \(3,\)"),
    ({"similarity": [], "is_genuine": [], "quality": []}, r"non-empty array \[P\], got shape \(0,\)"),
    ({"is_genuine": True}, r"non-empty array \[P\], got shape \(\)"),
    ({"is_genuine": [1, 1, 1]}, "no impostor pair among 3 pairs"),
    ({"is_genuine": [False] * 3}, "no genuine pair among 3 pairs"),
    ({"is_genuine": [0, 1, 2]}, "booleans or 0 and 1 only"),
    ({"is_genuine": [0, 1, np.nan]}, "booleans or 0 and 1 only"),
]


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_pairs(change: dict[str, Any], message: str, protocol: Protocol) -> None:
    with pytest.raises(ValueError, match=message):
        error_rejection_curve(**{**GOOD, **change}, fmr=0.5, protocol=protocol)
    with pytest.raises(ValueError, match=message):
        error_rejection_curves(**{**GOOD, **change}, fmrs=(0.5,), protocols=(protocol,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "iso"}, "unknown pair protocol 'iso': choose one of fixed, crfiqa, fixed-all"),
        ({"protocol": "image"}, "call image_rejection_curve"),
        ({"error": "eer"}, "unknown error 'eer'"),
        ({"threshold": np.nan}, "threshold must be a finite similarity, got nan"),
        ({"threshold": np.inf, "protocol": "fixed-all"}, "threshold must be a finite similarity, got inf"),
        ({"threshold": 0.5, "protocol": "crfiqa"}, "takes no threshold"),
        ({"error": "fmr", "protocol": "crfiqa"}, "has no FMR curve"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        error_rejection_curve(**GOOD, **arguments)


def test_curve_of_the_fmr_has_no_fnmr() -> None:
    curve = error_rejection_curve(**GOOD, threshold=0.5, error="fmr")
    with pytest.raises(AttributeError, match="follows the FMR"):
        _ = curve.fnmr

"""What always holds of error-versus-reject curves of pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.curve import Protocol
from eval_tools.erc import PAIR_PROTOCOLS, error_rejection_curve, pair_quality
from eval_tools.pair_erc import DISCARD_GRID, order_for_grid, share_cut_through
from tests.eval_tools.pairs import (
    FMRS,
    Array,
    Rows,
    assert_same_curve,
    columns,
    every_monotone,
    make_pairs,
    pair_lists,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning"),
    pytest.mark.filterwarnings("ignore:.*survives and the error rate is NaN:RuntimeWarning"),
]


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


@settings(deadline=None, max_examples=200)
@given(pair_lists, every_monotone, st.sampled_from(PAIR_PROTOCOLS))
def test_monotone_transform_of_quality_changes_nothing(
    rows: Rows, transform: Callable[[Array], Array], protocol: Protocol
) -> None:
    similarity, is_genuine, a, b = columns(rows)
    curve = error_rejection_curve(similarity, is_genuine, pair_quality(a, b), fmr=0.1, protocol=protocol)
    quality = pair_quality(transform(a), transform(b))
    other = error_rejection_curve(similarity, is_genuine, quality, fmr=0.1, protocol=protocol)
    assert_same_curve(curve, other)


@settings(deadline=None, max_examples=200)
@given(
    pair_lists, every_monotone, st.one_of(st.none(), st.integers(-21, 21)), st.sampled_from(["fnmr", "fmr"])
)
def test_monotone_transform_of_score_and_threshold_changes_nothing(
    rows: Rows,
    transform: Callable[[Array], Array],
    threshold: int | None,
    error: Any,
) -> None:
    similarity, is_genuine, a, b = columns(rows)
    quality = pair_quality(a, b)
    moved = None if threshold is None else float(transform(np.array([threshold], float))[0])
    curve = error_rejection_curve(similarity, is_genuine, quality, fmr=0.1, threshold=threshold, error=error)
    other = error_rejection_curve(
        transform(similarity), is_genuine, quality, fmr=0.1, threshold=moved, error=error
    )
    assert_same_curve(curve, other)


@settings(deadline=None, max_examples=200)
@given(pair_lists, st.sampled_from(FMRS), st.sampled_from(PAIR_PROTOCOLS))
def test_curve_is_well_formed(rows: Rows, fmr: float, protocol: Protocol) -> None:
    similarity, is_genuine, a, b = columns(rows)
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
    similarity, is_genuine, _ = make_pairs("continuous")
    curve = error_rejection_curve(similarity, is_genuine, np.full(150, -3.0), fmr=0.1)
    np.testing.assert_array_equal(curve.discard, [0.0])
    assert curve.auc == pytest.approx(curve.auc_random)


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 3000), st.sampled_from([1, 2, 7, 40, 10**6]), st.integers(0, 10**6))
def test_the_pairs_between_two_cuts_are_those_of_a_stable_sort(size: int, levels: int, seed: int) -> None:
    quality = np.random.default_rng(seed).integers(0, levels, size).astype(float)
    stable = np.argsort(quality, kind="stable")
    cuts = [int(u * size) for u in DISCARD_GRID[1:]]
    for part, expected in zip(np.split(order_for_grid(quality), cuts), np.split(stable, cuts), strict=True):
        np.testing.assert_array_equal(np.sort(part), np.sort(expected))


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 300), st.sampled_from([1, 2, 7, 40, 10**6]), st.integers(0, 10**6))
def test_ties_that_a_cut_divides_are_counted(size: int, levels: int, seed: int) -> None:
    quality = np.random.default_rng(seed).integers(0, levels, size).astype(float)
    ascending = sorted(quality.tolist())
    divided = [
        ascending.count(ascending[cut])
        for cut in (int(u * size) for u in DISCARD_GRID)
        if cut and ascending[cut - 1] == ascending[cut]
    ]
    assert share_cut_through(quality) == max(divided, default=0) / size

"""Thresholds at a target FMR, and whether it is resolved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.scores import (
    HighestScores,
    allowed_false_matches,
    check_count,
    comparisons_needed,
    is_resolved,
    resolvable_fmrs,
    resolves,
    threshold_at_fmr,
)
from tests.references import erc as reference


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


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.floats(1e-6, 0.9999), st.integers(2, 5000).map(lambda n: 1 / n)))
def test_comparisons_needed(fmr: float) -> None:
    needed = comparisons_needed(fmr)
    assert allowed_false_matches(fmr, needed) >= 1
    assert allowed_false_matches(fmr, needed - 1) == 0


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.sampled_from([0.02, 0.1, 0.35, 0.9]))
def test_resolved_is_a_false_match_that_happens(impostor: list[int], fmr: float) -> None:
    """Where the threshold is chosen so that the FMR does not exceed the target, only one of them can fail."""
    _, n_false_match = threshold_at_fmr(np.array(impostor, float), fmr)
    resolved = is_resolved(fmr, len(impostor), n_false_match / len(impostor))
    assert resolved == (n_false_match > 0)
    tied = impostor.count(max(impostor)) > allowed_false_matches(fmr, len(impostor))
    assert resolved == (not tied)


@pytest.mark.parametrize("count", [0, 11, -1, 2.0, "3", True, None])
def test_bad_count(count: Any) -> None:
    with pytest.raises(ValueError, match="block must be a whole number from 1 to 10, got"):
        check_count("block", count, 1, 10)


@pytest.mark.parametrize(("n_comparisons", "rate"), [(300, 1e-4), (7020, 1e-6), (999, 1e-3), (10**6, 0.0)])
def test_fewer_comparisons_than_one_over_the_rate_resolve_nothing(n_comparisons: int, rate: float) -> None:
    assert not resolves(n_comparisons, rate)
    assert rate == 0 or resolves(round(1 / rate), rate)


@pytest.mark.parametrize(
    ("n_impostor", "kept"),
    [
        (15_600_000, (1e-3, 1e-4)),
        (10_000, (1e-3, 1e-4)),
        (9_999, (1e-3,)),
        (300, (1e-2,)),
        (10, (0.1,)),
        (9, (0.1,)),
    ],
)
def test_usual_fmrs_that_are_not_resolved_give_way_to_one_that_is(
    n_impostor: int, kept: tuple[float, ...]
) -> None:
    assert resolvable_fmrs((1e-3, 1e-4), n_impostor) == kept

"""Bootstrap resamples: what occurs how often, and that repeating in place gives the curves of the copies."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from eval_tools.curve import Protocol
from eval_tools.erc import PAIR_PROTOCOLS, error_rejection_curve
from eval_tools.resampling import RepeatedPairs, multiplicities
from tests.eval_tools.pairs import Array, assert_same_curve, every_input, make_pairs
from tests.references import erc as reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning"),
    pytest.mark.filterwarnings("ignore:.*survives and the error rate is NaN:RuntimeWarning"),
]


def _random_times(is_genuine: Array, seed: int) -> Array:
    """How often pairs occur: many not at all, some often, both kinds at least once."""
    rng = np.random.default_rng(seed)
    times = rng.poisson(0.5, is_genuine.size) * rng.integers(1, 4, is_genuine.size)
    times[[np.argmax(is_genuine), np.argmin(is_genuine)]] += 1
    return times


@every_input
@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
@pytest.mark.parametrize("fmr", [1e-3, 0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_curves_are_those_of_explicitly_repeated_pairs(
    kind: str, protocol: Protocol, fmr: float, seed: int
) -> None:
    similarity, is_genuine, quality = make_pairs(kind, seed)
    qualities = {"given": quality, "tied": np.round(quality), "reversed": -quality}
    times = _random_times(is_genuine, seed)
    curves = dict(RepeatedPairs(similarity, is_genuine, qualities, fmr, protocol).curves(times))
    assert list(curves) == list(qualities)
    copies = np.repeat(np.arange(is_genuine.size), times)
    for name, curve in curves.items():
        expected = error_rejection_curve(
            similarity[copies], is_genuine[copies], qualities[name][copies], fmr=fmr, protocol=protocol
        )
        assert_same_curve(curve, expected)
        np.testing.assert_array_equal(curve.threshold, expected.threshold)
        np.testing.assert_array_equal(curve.best_errors, expected.best_errors)
        assert curve.target_fmr == fmr


@pytest.mark.parametrize("kind", ["continuous", "tied", "negative"])
@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_counting(kind: str, seed: int) -> None:
    similarity, is_genuine, quality = make_pairs(kind, seed)
    times = _random_times(is_genuine, seed)
    copies = [i for i, count in enumerate(times) for _ in range(count)]
    pairs = [similarity[i] for i in copies], [is_genuine[i] for i in copies], [quality[i] for i in copies]
    threshold = reference.iso_threshold(reference.split(pairs[0], pairs[1])[1], 0.1)
    areas: dict[Protocol, float] = {
        "fixed": reference.step_area(
            [(point.discard, point.fnmr) for point in reference.fixed_curve(*pairs, threshold)], 0.5
        ),
        "fixed-all": reference.trapezoid_area(
            [(p.discard, p.fnmr) for p in reference.gridded_curve(*pairs, fmr=0.1, threshold=threshold)], 0.5
        ),
        "crfiqa": reference.trapezoid_area(
            [(p.discard, p.fnmr) for p in reference.gridded_curve(*pairs, fmr=0.1, threshold=None)], 0.5
        ),
    }
    for protocol in PAIR_PROTOCOLS:
        repeated = RepeatedPairs(similarity, is_genuine, {"": quality}, 0.1, protocol)
        assert dict(repeated.curves(times))[""].pauc(0.5) == pytest.approx(areas[protocol], abs=1e-12)


def _all_pairs(people: Array) -> Array:
    """The two people of every pair of images, [P, 2]."""
    first, second = np.triu_indices(people.size, 1)
    return np.stack([people[first], people[second]], axis=1)


def test_people_are_resampled_with_all_their_pairs() -> None:
    names = np.array([7, -2, 1000, 5, 6])
    pairs = _all_pairs(np.repeat(names, 2))
    is_genuine = pairs[:, 0] == pairs[:, 1]
    drawn = []
    for times in islice(multiplicities(is_genuine, pairs, np.random.default_rng(0)), 400):
        people = dict(zip(pairs[is_genuine, 0], times[is_genuine], strict=True))
        assert sum(people.values()) == names.size
        expected = [people[a] if a == b else people[a] * people[b] for a, b in pairs]
        np.testing.assert_array_equal(times, expected)
        drawn.append([people[name] for name in names])
    # Redrawing what leaves one person only is rare enough not to show in these.
    np.testing.assert_allclose(np.mean(drawn, axis=0), 1, atol=0.15)
    np.testing.assert_allclose(np.var(drawn, axis=0), 1 - 1 / names.size, atol=0.2)


def test_pairs_are_resampled_within_their_kind() -> None:
    is_genuine = np.arange(90) % 3 == 0
    drawn = np.array(list(islice(multiplicities(is_genuine, None, np.random.default_rng(0)), 500)))
    assert np.all(drawn >= 0)
    np.testing.assert_array_equal(drawn[:, is_genuine].sum(axis=1), 30)
    np.testing.assert_array_equal(drawn[:, ~is_genuine].sum(axis=1), 60)
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.25)
    np.testing.assert_allclose(drawn.var(axis=0).mean(), 1, atol=0.05)


def test_a_draw_without_both_kinds_is_drawn_again() -> None:
    """Of three people, one has the only genuine pair and the others the only impostor pair."""
    pairs = np.array([[1, 1], [2, 3]])
    draws = multiplicities(np.array([True, False]), pairs, np.random.default_rng(0))
    for times in islice(draws, 20):
        np.testing.assert_array_equal(times, [1, 1])


def test_equal_generators_give_equal_resamples() -> None:
    is_genuine = np.arange(40) % 2 == 0
    first, second = (multiplicities(is_genuine, None, np.random.default_rng(5)) for _ in range(2))
    for a, b in islice(zip(first, second, strict=False), 5):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ([[1, 1]], r"pair_identities must be whole numbers of shape \(3, 2\).*got int64 \(1, 2\)"),
        ([1, 2, 3], r"pair_identities must be whole numbers of shape \(3, 2\).*got int64 \(3,\)"),
        ([[1.0, 1.0], [1.0, 2.0], [2.0, 2.0]], "whole numbers .* got float64"),
        ([["a", "a"], ["a", "b"], ["b", "b"]], "whole numbers .* got <U1"),
        (
            [[1, 1], [2, 2], [1, 3]],
            r"contradict is_genuine at 2 pairs, the first at index 1: people 2 and 2, is_genuine False",
        ),
    ],
)
def test_bad_identities(people: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(multiplicities(np.array([True, False, True]), people, np.random.default_rng(0)))

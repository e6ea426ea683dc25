"""Areas and theoretical best of error-versus-reject curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eval_tools.curve import ErrorRejectionCurve, Protocol
from eval_tools.erc import PAIR_PROTOCOLS, error_rejection_curve
from tests.eval_tools.pairs import make_pairs
from tests.references import erc as reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning"),
    pytest.mark.filterwarnings("ignore:.*survives and the error rate is NaN:RuntimeWarning"),
]


def _reference_area(curve: ErrorRejectionCurve, limit: float) -> float:
    points = list(zip(curve.discard.tolist(), curve.error.tolist(), strict=True))
    area = reference.step_area if curve.protocol == "fixed" else reference.trapezoid_area
    return area(points, limit)


@pytest.mark.parametrize("kind", ["continuous", "tied", "all equal", "negative"])
@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
@pytest.mark.parametrize("limit", [0.013, 0.2, 0.3, 0.62, 0.95])
def test_partial_area(kind: str, protocol: Protocol, limit: float) -> None:
    curve = error_rejection_curve(*make_pairs(kind), fmr=0.1, protocol=protocol)
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
    curve = error_rejection_curve(*make_pairs("continuous"), fmr=0.1, protocol=protocol)
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
@pytest.mark.parametrize("limit", [0.0, -0.1, 1.01, float("nan"), "0.3", True])
def test_area_limit_out_of_range(protocol: Protocol, limit: Any) -> None:
    curve = error_rejection_curve(*make_pairs("continuous"), fmr=0.1, protocol=protocol)
    with pytest.raises(ValueError, match="limit must lie in"):
        curve.pauc(limit)


def test_relative_area_needs_errors() -> None:
    curve = error_rejection_curve([0.9, 0.1], [1, 0], [1.0, 2.0], threshold=0.5)
    with pytest.raises(ValueError, match="relative area does not exist"):
        curve.pauc(0.3, relative=True)


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_error_between_the_points(protocol: Protocol) -> None:
    curve = error_rejection_curve(*make_pairs("tied"), fmr=0.1, protocol=protocol)
    middle = (curve.discard[1:] + curve.discard[:-1]) / 2
    step = protocol == "fixed"
    expected = curve.error[:-1] if step else (curve.error[1:] + curve.error[:-1]) / 2
    np.testing.assert_allclose(curve.at(middle), expected, rtol=1e-12)
    np.testing.assert_array_equal(curve.at(curve.discard), curve.error)
    assert curve.at([1.0 if step else 0.95])[0] == pytest.approx(curve.error[-1])


@pytest.mark.parametrize(("protocol", "outside"), [("fixed", -0.1), ("fixed", 1.1), ("crfiqa", 0.96)])
def test_error_beyond_the_curve(protocol: Protocol, outside: float) -> None:
    curve = error_rejection_curve(*make_pairs("tied"), fmr=0.1, protocol=protocol)
    with pytest.raises(ValueError, match=rf"discard must lie in \[0, .*got {outside}"):
        curve.at([0.5, outside])


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
    pairs = make_pairs("continuous")
    for protocol in ("fixed-all", "crfiqa"):
        curve = error_rejection_curve(*pairs, fmr=0.1, protocol=protocol)
        discard, best = curve.best_curve()
        errors, genuine = int(curve.n_errors[0]), int(curve.n_genuine[0])
        np.testing.assert_array_equal(discard, curve.discard)
        for step, count in zip(best, curve.n_discarded, strict=True):
            gone = min(int(count), errors)
            assert step == pytest.approx((errors - gone) / (genuine - gone))


def _running_out(protocol: Protocol) -> ErrorRejectionCurve:
    """600 + 600 pairs in random order at FMR 1/300: beyond a discard of 0.5 the impostors are too few."""
    rng = np.random.default_rng(0)
    is_genuine = rng.permutation(np.arange(1200) % 2 == 0)
    return error_rejection_curve(
        rng.normal(2.0 * is_genuine), is_genuine, rng.random(1200), fmr=1 / 300, protocol=protocol
    )


def test_an_area_is_resolved_as_far_as_the_points_it_rests_on() -> None:
    curve = _running_out("crfiqa")
    needed = [k for k in range(20) if curve.n_impostor[k] >= 300]
    end = curve.resolved_end
    assert end == curve.discard[needed[-1]]
    assert not curve.resolved
    assert curve.resolved_to(end)
    assert curve.resolved_to(end - 0.02)
    assert not curve.resolved_to(end + 0.001)  # the line to the next point counts
    assert not curve.resolved_to(None)


def test_a_threshold_that_stays_is_resolved_everywhere_or_nowhere() -> None:
    curve = _running_out("fixed")
    assert (curve.resolved, curve.resolved_end, curve.resolved_to(None)) == (True, 1.0, True)
    similarity, is_genuine, quality = make_pairs("continuous")
    coarse = error_rejection_curve(similarity, is_genuine, quality, fmr=1e-4)
    assert (coarse.resolved, coarse.resolved_end, coarse.resolved_to(0.01)) == (False, None, False)

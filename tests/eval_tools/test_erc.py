"""Error-versus-reject curves of pairs: every protocol against its slow reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eval_tools.curve import ErrorRejectionCurve, Protocol
from eval_tools.erc import (
    PAIR_PROTOCOLS,
    error_rejection_curve,
    error_rejection_curves,
)
from eval_tools.pair_erc import DISCARD_GRID
from tests.eval_tools.pairs import (
    Pairs,
    assert_same_curve,
    every_fmr,
    every_input,
    make_pairs,
    random_kinds,
)
from tests.references import erc as reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning"),
    pytest.mark.filterwarnings("ignore:.*survives and the error rate is NaN:RuntimeWarning"),
]


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
    pairs = make_pairs(kind, seed)
    curve = error_rejection_curve(*pairs, fmr=fmr, protocol="fixed", error=error)
    _check_fixed(pairs, reference.iso_threshold(_impostors(pairs), fmr), curve, error)
    assert curve.target_fmr == fmr
    assert np.all(np.asarray(curve.effective_fmr) <= fmr)


@every_input
@every_fmr
@pytest.mark.parametrize("seed", range(3))
def test_crfiqa(kind: str, fmr: float, seed: int) -> None:
    pairs = make_pairs(kind, seed)
    points = reference.gridded_curve(*pairs, fmr=fmr, threshold=None)
    curve = error_rejection_curve(*pairs, fmr=fmr, protocol="crfiqa")
    assert_matches(curve, points, [point.fmr for point in points])


@every_input
@every_fmr
@pytest.mark.parametrize("error", ["fnmr", "fmr"])
def test_fixed_all(kind: str, fmr: float, error: Any) -> None:
    pairs = make_pairs(kind)
    threshold = reference.iso_threshold(_impostors(pairs), fmr)
    points = reference.gridded_curve(*pairs, fmr=fmr, threshold=threshold)
    curve = error_rejection_curve(*pairs, fmr=fmr, protocol="fixed-all", error=error)
    assert_matches(curve, points, points[0].fmr)


@every_input
@pytest.mark.parametrize("error", ["fnmr", "fmr"])
@pytest.mark.parametrize("place", ["below all", "at a score", "above all"])
def test_given_threshold(kind: str, error: Any, place: str) -> None:
    pairs = make_pairs(kind)
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
        is_genuine = random_kinds(rng, 400, 0.3)
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
    pairs = make_pairs("continuous")
    curve = error_rejection_curve(*pairs, fmr=0.1, protocol="crfiqa")
    assert DISCARD_GRID.size == 20
    np.testing.assert_array_equal(curve.discard, np.arange(0, 0.98, 0.05))
    np.testing.assert_array_equal(curve.n_discarded, [int(u * 150) for u in np.arange(0, 0.98, 0.05)])


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_order_of_pairs_does_not_matter(protocol: Protocol) -> None:
    similarity, is_genuine, quality = make_pairs("continuous")
    order = np.random.default_rng(5).permutation(similarity.size)
    curve = error_rejection_curve(similarity, is_genuine, quality, fmr=0.1, protocol=protocol)
    shuffled = error_rejection_curve(
        similarity[order], is_genuine[order], quality[order], fmr=0.1, protocol=protocol
    )
    np.testing.assert_array_equal(curve.error, shuffled.error)
    np.testing.assert_array_equal(curve.threshold, shuffled.threshold)


def test_crfiqa_is_the_same_for_angles() -> None:
    rng = np.random.default_rng(1)
    is_genuine = random_kinds(rng, 200, 0.4)
    cosine = np.clip((rng.integers(-50, 40, 200) + 24 * is_genuine) / 64, -1, 1)
    quality = rng.random(200)
    curve = error_rejection_curve(cosine, is_genuine, quality, fmr=0.05, protocol="crfiqa")
    angles = -np.arccos(cosine) / np.pi
    other = error_rejection_curve(angles, is_genuine, quality, fmr=0.05, protocol="crfiqa")
    np.testing.assert_array_equal(curve.fnmr, other.fnmr)
    np.testing.assert_array_equal(curve.effective_fmr, other.effective_fmr)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_inputs_of_any_dtype(dtype: Any) -> None:
    similarity, is_genuine, quality = make_pairs("tied")
    expected = error_rejection_curve(similarity, is_genuine, quality, fmr=0.1)
    curve = error_rejection_curve(
        similarity.astype(dtype), is_genuine.astype(int), list(quality.astype(dtype)), fmr=0.1
    )
    np.testing.assert_array_equal(curve.error, expected.error)
    assert curve.threshold == expected.threshold


def test_several_curves_are_those_of_one_by_one() -> None:
    pairs = make_pairs("tied")
    protocols: tuple[Protocol, ...] = ("fixed-all", "crfiqa", "fixed")
    curves = error_rejection_curves(*pairs, fmrs=iter((0.3, 0.1)), protocols=iter(protocols))
    assert list(curves) == [(protocol, fmr) for protocol in protocols for fmr in (0.3, 0.1)]
    for (protocol, fmr), curve in curves.items():
        one = error_rejection_curve(*pairs, fmr=fmr, protocol=protocol)
        assert_same_curve(curve, one)
        np.testing.assert_array_equal(curve.threshold, one.threshold)

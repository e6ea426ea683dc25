"""Verification: ten folds against a slow reference, operating points by counting, ROC beside sklearn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from eval_tools.scores import UnresolvedFMRWarning
from eval_tools.verification import (
    DISTANCE_THRESHOLDS,
    RocCurve,
    VerificationResult,
    all_pairs_operating_points,
    roc_curve,
    verify,
)
from tests.references import verification as reference

pytestmark = pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning")

Array = NDArray[Any]


def _embedded_pairs(seed: int, pairs: int, spread: float, dim: int = 6) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    is_genuine = rng.random(pairs) < 0.5
    is_genuine[:2] = True, False
    first = rng.normal(size=(pairs, dim))
    second = np.where(is_genuine[:, None], first, rng.normal(size=(pairs, dim)))
    second = second + spread * rng.normal(size=(pairs, dim))
    return np.stack([first, second], axis=1).reshape(2 * pairs, dim), is_genuine


def _assert_folds(result: VerificationResult, embeddings: Array, is_genuine: Array, folds: int) -> None:
    distances = reference.squared_distances(embeddings.tolist())
    accuracies, thresholds = reference.fold_accuracies(distances, is_genuine.tolist(), folds)
    np.testing.assert_allclose(result.fold_accuracy, accuracies, rtol=1e-12)
    np.testing.assert_array_equal(result.fold_threshold, thresholds)
    assert result.accuracy == pytest.approx(np.mean(accuracies))
    assert result.accuracy_std == pytest.approx(np.std(accuracies))


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("pairs", [100, 87, 10])
def test_ten_folds(spread: float, pairs: int) -> None:
    embeddings, is_genuine = _embedded_pairs(pairs, pairs, spread)
    _assert_folds(verify(embeddings, is_genuine), embeddings, is_genuine, 10)


@pytest.mark.parametrize(("pairs", "folds"), [(2, 2), (7, 3), (12, 12)])
def test_other_numbers_of_folds(pairs: int, folds: int) -> None:
    embeddings, is_genuine = _embedded_pairs(pairs, pairs, 1.0)
    _assert_folds(verify(embeddings, is_genuine, folds), embeddings, is_genuine, folds)


@pytest.mark.parametrize("seed", range(4))
def test_distances_on_the_grid_of_thresholds(seed: int) -> None:
    """Squared distances of exactly 0, 2 and 4: a pair lies below a threshold, not at it."""
    rng = np.random.default_rng(seed)
    embeddings = np.eye(3)[rng.integers(0, 3, 80)] * rng.choice([-1.0, 1.0], (80, 1))
    is_genuine = np.append(rng.random(38) < 0.5, [True, False])
    _assert_folds(verify(embeddings, is_genuine), embeddings, is_genuine, 10)


def test_folds_are_not_shuffled() -> None:
    """All errors lie in the last tenth of the pairs, so all of them fall into the last fold."""
    is_genuine = np.tile([True, False], 20)
    second = np.where(is_genuine, 0.0, np.pi / 2)
    second[-4:] = np.pi / 2 - second[-4:]
    angles = np.stack([np.zeros(40), second], axis=1).ravel()
    result = verify(np.stack([np.cos(angles), np.sin(angles)], axis=1), is_genuine)
    np.testing.assert_array_equal(result.fold_accuracy, [1.0] * 9 + [0.0])
    assert result.accuracy == pytest.approx(0.9)
    assert result.accuracy_std == pytest.approx(0.3)
    np.testing.assert_array_equal(result.fold_threshold, 0.01)  # the first of many that are equally good


def test_grid_of_thresholds() -> None:
    np.testing.assert_array_equal(DISTANCE_THRESHOLDS, np.arange(0, 4, 0.01))
    np.testing.assert_array_equal(DISTANCE_THRESHOLDS, reference.THRESHOLDS)


def test_scale_and_type_of_embeddings() -> None:
    embeddings, is_genuine = _embedded_pairs(3, 60, 1.0)
    result = verify(embeddings, is_genuine)
    scales = 2.0 ** np.arange(-60, 60)[:, None]
    np.testing.assert_array_equal(verify(embeddings * scales, is_genuine).similarity, result.similarity)
    single = verify(embeddings.astype(np.float32), is_genuine.astype(int).tolist())
    np.testing.assert_allclose(single.similarity, result.similarity, atol=1e-6)
    cosines = [1 - distance / 2 for distance in reference.squared_distances(embeddings.tolist())]
    np.testing.assert_allclose(result.similarity, cosines, atol=1e-12)
    assert (result.n_genuine, result.n_impostor) == (is_genuine.sum(), (~is_genuine).sum())


@pytest.mark.parametrize("fmr", [1e-3, 0.05, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_tar_at_fmr(fmr: float, seed: int) -> None:
    result = verify(*_embedded_pairs(seed, 60, 1.5))
    expected = reference.tar_at_fmr(result.similarity.tolist(), result.is_genuine.tolist(), fmr)
    point = result.operating_point(fmr)
    assert result.tar_at_fmr(fmr) == pytest.approx(expected)
    assert point.tar == pytest.approx(expected)
    assert point.fnmr == pytest.approx(1 - expected)
    assert point.fmr <= fmr
    accepted = result.similarity >= point.threshold
    assert point.n_false_match == np.count_nonzero(accepted & ~result.is_genuine)
    assert point.n_false_non_match == np.count_nonzero(~accepted & result.is_genuine)
    assert (point.n_genuine, point.n_impostor) == (result.n_genuine, result.n_impostor)


def _scored(scores: list[int], kinds: list[bool]) -> tuple[Array, Array]:
    size = min(len(scores), len(kinds))
    return np.array([*scores[:size], 1, 0]) / 8, np.array([*kinds[:size], True, False])


scored_pairs = st.builds(
    _scored, st.lists(st.integers(-12, 12), max_size=60), st.lists(st.booleans(), max_size=60)
)


@settings(deadline=None, max_examples=100)
@given(scored_pairs)
def test_roc_and_eer_beside_sklearn(pairs: tuple[Array, Array]) -> None:
    similarity, is_genuine = pairs
    roc = roc_curve(similarity, is_genuine)
    fmr, tar, thresholds = metrics.roc_curve(is_genuine, similarity, drop_intermediate=False)
    np.testing.assert_array_equal(roc.threshold, thresholds)
    np.testing.assert_allclose(roc.fmr, fmr, atol=1e-12)
    np.testing.assert_allclose(roc.tar, tar, atol=1e-12)
    np.testing.assert_allclose(roc.fnmr, 1 - tar, atol=1e-12)
    assert roc.eer == pytest.approx(reference.eer(fmr.tolist(), tar.tolist()), abs=1e-9)
    area = metrics.roc_auc_score(is_genuine, similarity)
    assert metrics.auc(roc.fmr, roc.tar) == pytest.approx(area)


def test_roc_of_many_continuous_scores_beside_sklearn() -> None:
    rng = np.random.default_rng(0)
    is_genuine = rng.random(5000) < 0.3
    similarity = rng.normal(1.5 * is_genuine, 1.0)
    roc = roc_curve(similarity, is_genuine)
    fmr, tar, _ = metrics.roc_curve(is_genuine, similarity, drop_intermediate=False)
    np.testing.assert_allclose(roc.fmr, fmr)
    np.testing.assert_allclose(roc.tar, tar, atol=1e-12)
    assert roc.eer == pytest.approx(reference.eer(fmr.tolist(), tar.tolist()), abs=1e-9)


@pytest.mark.parametrize(
    ("similarity", "eer"),
    [([0.9, 0.8, 0.2, 0.1], 0.0), ([0.1, 0.2, 0.8, 0.9], 1.0), ([0.5] * 4, 0.5), ([0.9, 0.2, 0.3, 0.1], 0.5)],
)
def test_eer_by_hand(similarity: list[float], eer: float) -> None:
    roc: RocCurve = roc_curve(similarity, [1, 1, 0, 0])
    assert roc.eer == pytest.approx(eer)


def test_result_carries_its_roc() -> None:
    result = verify(*_embedded_pairs(0, 60, 1.5))
    expected = roc_curve(result.similarity, result.is_genuine)
    np.testing.assert_array_equal(result.roc.fmr, expected.fmr)
    assert result.eer == expected.eer


# All pairs


@pytest.mark.parametrize("block", [1, 4, 512])
@pytest.mark.parametrize("exact", [True, False])
def test_all_pairs_by_brute_force(block: int, exact: bool) -> None:
    rng = np.random.default_rng(block)
    identities = rng.integers(0, 5, 30)
    tied = rng.choice([-1.0, 1.0], (30, 4))  # norms and cosines exact in floating point
    embeddings = tied if exact else rng.normal(size=(5, 4))[identities] + rng.normal(size=(30, 4))
    fmrs = (0.5, 1e-2, 0.1, 0.02)
    points = all_pairs_operating_points(embeddings, identities, fmrs, block=block)
    similarity, same = reference.all_pairs(embeddings.tolist(), identities.tolist())
    assert [point.target_fmr for point in points] == list(fmrs)
    for fmr, point in zip(fmrs, points, strict=True):
        assert point.tar == pytest.approx(reference.tar_at_fmr(similarity, same, fmr))
        assert (point.n_genuine, point.n_impostor) == (sum(same), len(same) - sum(same))
        # Inexact cosines are rounded differently here and there, so the threshold may lie on either side.
        above = sum(
            score > point.threshold + 1e-12 for score, kind in zip(similarity, same, strict=True) if not kind
        )
        at = sum(
            abs(score - point.threshold) <= 1e-12
            for score, kind in zip(similarity, same, strict=True)
            if not kind
        )
        assert above <= point.n_false_match <= above + at
        assert point.fmr <= fmr


def test_all_pairs_takes_names_and_float32() -> None:
    rng = np.random.default_rng(4)
    identities, embeddings = rng.integers(0, 4, 25), rng.choice([-1.0, 1.0], (25, 16))
    names = [f"id {identity}" for identity in identities]
    expected = all_pairs_operating_points(embeddings, identities, [0.1])
    assert (
        all_pairs_operating_points(embeddings.astype(np.float32) * 8, names, [0.1])[0].tar == expected[0].tar
    )


# Warnings and bad input


def test_unresolved_fmr_warns_at_the_caller() -> None:
    result = verify(*_embedded_pairs(0, 40, 1.0))
    with pytest.warns(UnresolvedFMRWarning, match="FMR 0.0001 cannot be resolved") as record:
        point = result.operating_point(1e-4)
    assert record[0].filename == __file__
    assert not point.resolved
    with pytest.warns(UnresolvedFMRWarning, match=f"with {result.n_impostor} impostor pairs"):
        result.tar_at_fmr(1e-4)


def test_unresolved_fmr_of_all_pairs_warns_once_per_target() -> None:
    embeddings, identities = np.eye(4), [0, 0, 1, 1]
    with pytest.warns(UnresolvedFMRWarning, match="with 4 impostor pairs") as record:
        all_pairs_operating_points(embeddings, identities, [1e-3, 1e-4])
    assert len(record) == 2


@pytest.mark.parametrize(
    ("embeddings", "is_genuine", "folds", "message"),
    [
        (np.ones((4, 2)), [1, 0, 1], 2, "3 pairs need 6 embeddings"),
        (np.ones((5, 2)), [1, 0], 2, r"2 pairs need 4 embeddings.*got 5"),
        (np.ones((4, 2)), [1, 0], 3, r"folds must be from 2 to the number of pairs \(2\), got 3"),
        (np.ones((4, 2)), [1, 0], 1, "folds must be from 2"),
        (np.ones((4, 2)), [1, 1], 2, "no impostor pair"),
        (np.ones((4, 2)), [0, 0], 2, "no genuine pair"),
        (np.ones((0, 2)), [], 2, "non-empty"),
        (np.ones(4), [1, 0], 2, r"non-empty array \[N, D\]"),
        (np.array([[1, 0], [0, 0], [1, 1], [1, 1.0]]), [1, 0], 2, "zero or not finite, the first at row 1"),
        (
            np.array([[1, 0], [1, 0], [1, np.nan], [1, 1]]),
            [1, 0],
            2,
            "zero or not finite, the first at row 2",
        ),
        (
            np.array([[1, 0], [1, 0], [1, 1], [np.inf, 1]]),
            [1, 0],
            2,
            "zero or not finite, the first at row 3",
        ),
    ],
)
def test_verify_rejects(embeddings: Array, is_genuine: Any, folds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verify(embeddings, is_genuine, folds)


@pytest.mark.parametrize(
    ("similarity", "is_genuine", "message"),
    [
        ([0.1, np.nan], [0, 1], "similarity has 1 NaN or infinite"),
        ([0.1, -np.inf], [0, 1], "similarity has 1 NaN or infinite"),
        ([0.1], [0, 1], r"similarity must have shape \(2,\)"),
        ([], [], "non-empty"),
        ([0.1, 0.2], [1, 1], "no impostor pair"),
        ([0.1, 0.2], [0, 0], "no genuine pair"),
    ],
)
def test_roc_rejects(similarity: Any, is_genuine: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roc_curve(similarity, is_genuine)


@pytest.mark.parametrize(
    ("embeddings", "identities", "fmrs", "message"),
    [
        (np.eye(3), [0, 0], [0.1], r"identities must have shape \(3,\)"),
        (np.eye(3), [0, 1, 2], [0.1], "0 genuine and 3 impostor pairs"),
        (np.eye(3), [5, 5, 5], [0.1], "3 genuine and 0 impostor pairs"),
        (np.eye(3), [0, 0, 1], [0.1, 1.0], "fmr must lie strictly between 0 and 1, got 1.0"),
        (np.diag([1, 0, 1.0]), [0, 0, 1], [0.1], "zero or not finite"),
        (np.ones(3), [0, 0, 1], [0.1], r"non-empty array \[N, D\]"),
    ],
)
def test_all_pairs_rejects(embeddings: Array, identities: Any, fmrs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        all_pairs_operating_points(embeddings, identities, fmrs)


@pytest.mark.parametrize("fmr", [0.0, 1.0, -1.0, float("nan")])
def test_operating_point_rejects(fmr: float) -> None:
    with pytest.raises(ValueError, match="fmr must lie strictly between 0 and 1"):
        verify(*_embedded_pairs(0, 20, 1.0)).tar_at_fmr(fmr)

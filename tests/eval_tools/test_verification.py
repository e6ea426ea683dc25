"""Verification: ten folds against a slow reference, ROC beside sklearn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from eval_tools.verification import (
    DISTANCE_THRESHOLDS,
    RocCurve,
    VerificationResult,
    roc_curve,
    verify,
    verify_similarities,
)
from tests.eval_tools.pairs import Array, embedded_pairs
from tests.references import verification as reference


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
    embeddings, is_genuine = embedded_pairs(pairs, pairs, spread)
    _assert_folds(verify(embeddings, is_genuine), embeddings, is_genuine, 10)


@pytest.mark.parametrize(("pairs", "folds"), [(2, 2), (7, 3), (12, 12)])
def test_other_numbers_of_folds(pairs: int, folds: int) -> None:
    embeddings, is_genuine = embedded_pairs(pairs, pairs, 1.0)
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
    embeddings, is_genuine = embedded_pairs(3, 60, 1.0)
    result = verify(embeddings, is_genuine)
    scales = 2.0 ** np.arange(-60, 60)[:, None]
    np.testing.assert_array_equal(verify(embeddings * scales, is_genuine).similarity, result.similarity)
    single = verify(embeddings.astype(np.float32), is_genuine.astype(int).tolist())
    np.testing.assert_allclose(single.similarity, result.similarity, atol=1e-6)
    cosines = [1 - distance / 2 for distance in reference.squared_distances(embeddings.tolist())]
    np.testing.assert_allclose(result.similarity, cosines, atol=1e-12)
    assert (result.n_genuine, result.n_impostor) == (is_genuine.sum(), (~is_genuine).sum())


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
    result = verify(*embedded_pairs(0, 60, 1.5))
    expected = roc_curve(result.similarity, result.is_genuine)
    np.testing.assert_array_equal(result.roc.fmr, expected.fmr)
    assert result.eer == expected.eer


# Bad input


@pytest.mark.parametrize(
    ("embeddings", "is_genuine", "folds", "message"),
    [
        (np.ones((4, 2)), [1, 0, 1], 2, "3 pairs need 6 embeddings"),
        (np.ones((5, 2)), [1, 0], 2, r"2 pairs need 4 embeddings.*got 5"),
        (np.ones((4, 2)), [1, 0], 3, "folds must be a whole number from 2 to 2, got 3"),
        (np.ones((4, 2)), [1, 0], 1, "folds must be a whole number from 2 to 2, got 1"),
        (np.ones((4, 2)), [1, 0], 2.0, "folds must be a whole number"),
        (np.ones((4, 2)), [1, 0], True, "folds must be a whole number"),
        (np.full((4, 2), "1"), [1, 0], 2, "embeddings must hold real numbers, got dtype <U1"),
        ([[1, 0], [1]], [1, 0], 2, "embeddings must be an array of numbers, got rows of different lengths"),
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
def test_verify_rejects(embeddings: Any, is_genuine: Any, folds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verify(embeddings, is_genuine, folds)


@pytest.mark.parametrize("folds", [2, 10])
def test_similarities_in_place_of_embeddings(folds: int) -> None:
    embeddings, is_genuine = embedded_pairs(1, 90, 1.0)
    expected = verify(embeddings, is_genuine, folds)
    result = verify_similarities(expected.similarity, is_genuine.astype(int), folds)
    np.testing.assert_array_equal(result.fold_accuracy, expected.fold_accuracy)
    np.testing.assert_array_equal(result.fold_threshold, expected.fold_threshold)
    np.testing.assert_array_equal(result.similarity, expected.similarity)


def test_similarities_rounded_beyond_one() -> None:
    """Like a distance of 0, they are not below the first threshold, which is 0."""
    result = verify_similarities([1 + 1e-7, 0.0, 1 + 1e-7, 0.0], [1, 0, 1, 0], 2)
    np.testing.assert_array_equal(result.fold_threshold, 0.01)


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        ([0.1, 1.2], "similarity must be a cosine, from -1 to 1, got 1.2"),
        ([-40.0, 0.2], "similarity must be a cosine, from -1 to 1, got -40"),
        ([0.1, np.nan], "similarity has 1 NaN or infinite"),
        ([0.1], r"similarity must have shape \(2,\)"),
    ],
)
def test_verify_similarities_rejects(similarity: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verify_similarities(similarity, [0, 1], 2)


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

"""What metrics.json is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval_tools.erc import error_rejection_curve
from eval_tools.test_sets import VerificationSet
from eval_tools.verification import verify
from trainer.evaluation import class_weight_means, embed, judge_networks, severity_correlation

CPU = torch.device("cpu")


class Pixels(nn.Module):
    """The first 8 pixels of the first row as embedding: not symmetric under flips."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :8]


class Sum(nn.Module):
    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings.sum(dim=1)


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (300, 4, 10, 3), dtype=np.uint8)


def test_embeddings_have_two_views_and_quality_is_that_of_the_upright_one(faces: np.ndarray) -> None:
    embeddings, quality = embed(Pixels(), Sum(), faces, CPU)
    rows = faces[:, 0, :, 0].astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(embeddings, np.stack([rows[:, :8], rows[:, :1:-1]], axis=1), atol=1e-5)
    np.testing.assert_allclose(quality, rows[:, :8].sum(1), atol=1e-5)


def test_embed_puts_the_backbone_into_evaluation_mode(faces: np.ndarray) -> None:
    backbone = nn.Sequential(Pixels(), nn.Dropout(0.9))
    first, none = embed(backbone, None, faces, CPU)
    assert none is None
    np.testing.assert_array_equal(first, embed(backbone, None, faces, CPU)[0])


def test_networks_are_judged_by_flip_added_embeddings_and_the_lower_quality(faces: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    pairs, same = rng.integers(0, len(faces), (400, 2)), rng.random(400) < 0.5
    test_set = VerificationSet(faces, pairs, same, folds=10)
    result = judge_networks(Pixels(), Sum(), test_set, CPU, method="sum", fmr=0.1)

    rows = faces[:, 0, :, 0].astype(np.float64) / 127.5 - 1
    unit = rows[:, :8] + rows[:, :1:-1]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    quality = rows[:, :8].sum(1)[pairs].min(axis=1)
    expected = error_rejection_curve((unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1), same, quality, fmr=0.1)
    metrics = result.erc_metrics()
    assert metrics["auc"] == pytest.approx(expected.auc, rel=1e-3)
    assert metrics["area"] == {"sum": pytest.approx(expected.pauc(0.95) / expected.fnmr[0], rel=1e-3)}
    assert metrics["n_impostor"] == (~same).sum()
    assert metrics["resolved"] is True
    verified = result.verification_metrics()
    assert verified["accuracy"] == verify(unit[pairs].reshape(-1, 8), same).accuracy
    assert verified["num_pairs"] == 400


def test_a_rate_that_the_pairs_cannot_resolve_is_marked(faces: np.ndarray) -> None:
    pairs = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])
    test_set = VerificationSet(faces, pairs, np.array([True, False, True, False]))
    metrics = judge_networks(Pixels(), Sum(), test_set, CPU, method="sum", fmr=1e-3).erc_metrics()
    assert metrics["resolved"] is False


def test_without_a_regressor_there_is_verification_alone(faces: np.ndarray) -> None:
    test_set = VerificationSet(faces, np.array([[0, 1], [2, 3]]), np.array([True, False]))
    result = judge_networks(Pixels(), None, test_set, CPU, method="", fmr=0.1)
    assert (result.method, result.curves) == (None, {})
    assert set(result.verification_metrics()) == {"eer", "eer_resolved", "num_pairs"}


def test_severity_correlation_is_one_for_a_perfect_order() -> None:
    severity = np.array([0.0, 0.3, 0.7, 0.9], np.float32)
    assert severity_correlation(np.array([4, 3, 2, 1], np.float32), severity) == pytest.approx(1)
    assert severity_correlation(np.array([1, 2, 3, 4], np.float32), severity) == pytest.approx(-1)


def test_class_weight_means() -> None:
    means = class_weight_means(np.array([0.1, 1.0, 0.3, 0.8], np.float32), [0, 2])
    assert means == {"weight_low_variance": pytest.approx(0.2), "weight_diverse": pytest.approx(0.9)}

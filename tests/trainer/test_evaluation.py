"""What metrics.json is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval_tools.erc import error_rejection_curve
from eval_tools.test_sets import VerificationSet
from eval_tools.verification import verify
from trainer.evaluation import class_weight_means, embed, erc_metrics, evaluate, severity_correlation

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


def test_evaluate_judges_flip_added_embeddings_by_the_lower_quality(faces: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    pairs, same = rng.integers(0, len(faces), (400, 2)), rng.random(400) < 0.5
    result = evaluate(Pixels(), Sum(), VerificationSet(faces, pairs, same), CPU, fmr=0.1)

    rows = faces[:, 0, :, 0].astype(np.float64) / 127.5 - 1
    unit = rows[:, :8] + rows[:, :1:-1]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    quality = rows[:, :8].sum(1)[pairs].min(axis=1)
    expected = error_rejection_curve((unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1), same, quality, fmr=0.1)
    assert result.scored is not None
    assert result.scored.curve.auc == pytest.approx(expected.auc, rel=1e-3)
    assert erc_metrics(result.scored.curve, 0.1)["n_impostor"] == (~same).sum()
    assert result.verification.accuracy == verify(unit[pairs].reshape(-1, 8), same).accuracy


def test_severity_correlation_is_one_for_a_perfect_order() -> None:
    severity = np.array([0.0, 0.3, 0.7, 0.9], np.float32)
    assert severity_correlation(np.array([4, 3, 2, 1], np.float32), severity) == pytest.approx(1)
    assert severity_correlation(np.array([1, 2, 3, 4], np.float32), severity) == pytest.approx(-1)


def test_class_weight_means() -> None:
    means = class_weight_means(np.array([0.1, 1.0, 0.3, 0.8], np.float32), [0, 2])
    assert means == {"weight_low_variance": pytest.approx(0.2), "weight_diverse": pytest.approx(0.9)}

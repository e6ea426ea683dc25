"""Judging the networks of a run on its own test sets, with the run's own quality scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eval_tools.constant_quality import constant_fault
from eval_tools.erc import ErrorRejectionCurve, error_rejection_curve
from eval_tools.test_sets import VerificationSet
from eval_tools.verification import VerificationResult, verify_similarities
from igfiqa_head.class_chunks import at_least_float32
from trainer.loader import to_network_input
from trainer.log import LOGGER, warnings_as_log_lines
from trainer.precision import mixed_precision

BATCH_SIZE = 256
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class QualityEvaluation:
    """The qualities [N] of a test set's images and what discarding by them does."""

    quality: FloatArray
    curve: ErrorRejectionCurve


@dataclass(frozen=True)
class Evaluation:
    """What one test set says of a run; ``scored`` is None without a quality head."""

    verification: VerificationResult
    scored: QualityEvaluation | None


@torch.no_grad()
def embed(
    backbone: nn.Module,
    regressor: nn.Module | None,
    images: Sequence[npt.NDArray[np.uint8]],
    device: torch.device,
    half: torch.dtype | None = None,
) -> tuple[FloatArray, FloatArray | None]:
    """Embeddings [N, 2, D] of the images and of their mirror images, and qualities [N] of the images.

    The backbone is put into evaluation mode and computes in ``half``, the type of mixed precision, if given.
    """

    def embedded(faces: Tensor) -> Tensor:
        with mixed_precision(device, half):
            return at_least_float32(backbone(faces))

    backbone.eval()
    embeddings, qualities = [], []
    for start in range(0, len(images), BATCH_SIZE):
        stop = min(start + BATCH_SIZE, len(images))
        pixels = torch.from_numpy(np.stack([images[i] for i in range(start, stop)]))
        faces = to_network_input(pixels, device)
        upright = embedded(faces)
        embeddings.append(torch.stack([upright, embedded(faces.flip(3))], dim=1).cpu().numpy())
        if regressor is not None:
            qualities.append(regressor(upright).cpu().numpy())
    return np.concatenate(embeddings), np.concatenate(qualities) if qualities else None


def evaluate(
    backbone: nn.Module,
    regressor: nn.Module | None,
    test_set: VerificationSet,
    device: torch.device,
    fmr: float,
    half: torch.dtype | None = None,
) -> Evaluation:
    """Verification accuracy and, with a regressor, the error-versus-reject curve of a test set.

    The curve is of protocol ``fixed``, with the lower quality of the two images as a pair's quality.
    """
    embeddings, quality = embed(backbone, regressor, test_set.images, device, half)
    similarity = test_set.similarity(embeddings)
    verification = verify_similarities(similarity, test_set.is_genuine)
    if quality is None:
        return Evaluation(verification, None)
    warn_if_constant(quality, "a test set")
    worse = test_set.pair_quality(quality)
    with warnings_as_log_lines():
        curve = error_rejection_curve(similarity, test_set.is_genuine, worse, fmr=fmr)
    return Evaluation(verification, QualityEvaluation(quality, curve))


def warn_if_constant(quality: FloatArray, test_set: str) -> None:
    """Tell that R ranks nothing, as where it has learned nothing: its curve is then as good as random."""
    fault = constant_fault(quality)
    if fault is not None:
        LOGGER.warning("%s: the quality cannot rank its faces: %s", test_set, fault)


def verification_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """The part ``verification.<target>`` of metrics.json."""
    result = evaluation.verification
    return {
        "accuracy": result.accuracy,
        "accuracy_std": result.accuracy_std,
        "eer": result.eer,
        "num_pairs": result.n_genuine + result.n_impostor,
    }


def erc_metrics(curve: ErrorRejectionCurve, fmr: float) -> dict[str, Any]:
    """The part ``erc.<target>`` of metrics.json; areas as the protocol defines them."""
    return {
        "protocol": curve.protocol,
        "fmr": fmr,
        "effective_fmr": float(np.atleast_1d(curve.effective_fmr)[0]),
        "threshold": float(np.atleast_1d(curve.threshold)[0]),
        "fnmr_at_0": float(curve.fnmr[0]),
        "auc": curve.auc,
        "auc_random": curve.auc_random,
        "auc_best": curve.auc_best,
        "n_genuine": int(curve.n_genuine[0]),
        "n_impostor": int(curve.n_impostor[0]),
    }


def severity_correlation(quality: FloatArray, severity: FloatArray) -> float:
    """Spearman correlation of the quality with minus the known severity: 1 is a perfect order."""
    from scipy.stats import spearmanr

    return float(spearmanr(quality, -severity).statistic)


def class_weight_means(weights: FloatArray, low_variance_ids: Iterable[int]) -> dict[str, float]:
    """Mean weights of the planted near-duplicate classes and of the ordinary ones."""
    planted = np.zeros(len(weights), dtype=bool)
    planted[list(low_variance_ids)] = True
    return {
        "weight_low_variance": float(weights[planted].mean()),
        "weight_diverse": float(weights[~planted].mean()),
    }

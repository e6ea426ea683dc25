"""Judging a run by a test set: verification, and what its own quality scores are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eval_tools import scores
from eval_tools.calibration import calibrate, genuine_pairs_at_fmr
from eval_tools.constant_quality import constant_fault
from eval_tools.curve import ErrorRejectionCurve
from eval_tools.measure import Settings, measure_curves, summarise
from eval_tools.results import VerificationSummary
from eval_tools.test_sets import VerificationSet
from igfiqa_head.calibration import Calibration
from igfiqa_head.class_chunks import at_least_float32
from trainer.loader import to_network_input
from trainer.log import LOGGER, warnings_as_log_lines
from trainer.precision import mixed_precision

BATCH_SIZE = 256
DISCARD_LIMIT = 0.95
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judgement:
    """The results of a run on one test set.

    Attributes:
        test_set: its images and pairs.
        fmr: target FMR of the curves.
        similarity: [P] of the pairs.
        verification: how well the recogniser does.
        qualities: method -> quality [N] of the images, the run's own first; none without a quality head.
        curves: method -> ERC of protocol ``fixed``, with the worse image as a pair's quality.
    """

    test_set: VerificationSet
    fmr: float
    similarity: scores.FloatArray
    verification: VerificationSummary
    qualities: Mapping[str, npt.NDArray[Any]]
    curves: Mapping[str, ErrorRejectionCurve]

    @property
    def method(self) -> str | None:
        """Name of the run's own quality, None without a quality head."""
        return next(iter(self.qualities), None)

    @property
    def quality(self) -> npt.NDArray[Any]:
        """The run's own quality [N]."""
        return next(iter(self.qualities.values()))

    @property
    def curve(self) -> ErrorRejectionCurve:
        """The curve of the run's own quality."""
        return next(iter(self.curves.values()))

    def verification_metrics(self) -> dict[str, Any]:
        """The part ``verification.<target>`` of metrics.json; an accuracy needs a set with folds."""
        result = self.verification
        accuracy = (
            {}
            if result.accuracy is None
            else {"accuracy": result.accuracy, "accuracy_std": result.accuracy_std}
        )
        eer = {"eer": result.eer, "eer_resolved": result.eer_resolved}
        return accuracy | eer | {"num_pairs": result.n_genuine + result.n_impostor}

    def erc_metrics(self) -> dict[str, Any]:
        """The part ``erc.<target>`` of metrics.json.

        ``auc`` and the like are as the protocol defines them; ``area`` is that of each method up to a
        discarded share of 0.95, as a multiple of the FNMR where nothing is discarded; NaN where that is 0.
        """
        curve = self.curve
        return {
            "protocol": curve.protocol,
            "fmr": self.fmr,
            "effective_fmr": float(np.atleast_1d(curve.effective_fmr)[0]),
            "resolved": curve.resolved,
            "threshold": float(np.atleast_1d(curve.threshold)[0]),
            "fnmr_at_0": float(curve.fnmr[0]),
            "auc": curve.auc,
            "auc_random": curve.auc_random,
            "auc_best": curve.auc_best,
            "n_genuine": int(curve.n_genuine[0]),
            "n_impostor": int(curve.n_impostor[0]),
            "area": {method: relative_area(curve) for method, curve in self.curves.items()},
        }

    def calibration(self, reference: str, recogniser: str) -> Calibration:
        """The meaning of the run's own scores on this set; both names are for those who read it."""
        with warnings_as_log_lines():
            pairs = genuine_pairs_at_fmr(
                self.similarity,
                self.test_set.is_genuine,
                self.test_set.pair_quality(self.quality),
                recogniser=recogniser,
                fmr=self.fmr,
            )
            return calibrate(self.quality, pairs, method=self.method or "", reference=reference)


def relative_area(curve: ErrorRejectionCurve) -> float:
    """Area up to a discarded share of 0.95 over the error where nothing is discarded; NaN without errors."""
    return curve.pauc(DISCARD_LIMIT, relative=True) if curve.fnmr[0] else float("nan")


def judge(
    test_set: VerificationSet,
    similarity: scores.FloatArray,
    qualities: Mapping[str, npt.NDArray[Any]],
    fmr: float,
) -> Judgement:
    """Verification and, for each quality method, the error-versus-reject curve of a test set.

    Args:
        test_set: images and pairs.
        similarity: [P] of the pairs.
        qualities: method -> [N] of the images, the run's own first.
        fmr: target FMR.
    """
    verification = summarise(
        similarity,
        test_set.is_genuine,
        folds=test_set.folds,
        fmrs=(fmr,),
        n_images=len(test_set.images),
        notes=test_set.notes,
    )
    measured = measure_curves(
        similarity,
        test_set.is_genuine,
        {method: test_set.pair_quality(quality) for method, quality in qualities.items()},
        None,
        Settings(fmrs=(fmr,), protocols=("fixed",), n_resamples=0),
    )
    curves = {method: curve.curve for (_, _, method), curve in measured.curves.items()}
    return Judgement(test_set, fmr, similarity, verification, qualities, curves)


def judge_networks(
    backbone: nn.Module,
    regressor: nn.Module | None,
    test_set: VerificationSet,
    device: torch.device,
    *,
    method: str,
    fmr: float,
    half: torch.dtype | None = None,
) -> Judgement:
    """The same with flip-added embeddings and, with a regressor, its qualities, which are of ``method``."""
    embeddings, quality = embed(backbone, regressor, test_set.images, device, half)
    qualities = {} if quality is None else {method: quality}
    return judge(test_set, test_set.similarity(embeddings), qualities, fmr)


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


def warn_if_constant(quality: npt.NDArray[Any], test_set: str) -> None:
    """Tell that R ranks nothing, as where it has learned nothing: its curve is then as good as random."""
    fault = constant_fault(quality)
    if fault is not None:
        LOGGER.warning("%s: the quality cannot rank its faces: %s", test_set, fault)


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

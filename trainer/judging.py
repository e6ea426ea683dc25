"""How much a quality head on top of a recogniser helps that recogniser, on faces of other people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eval_tools.cache import ImageFunction, apply_cached
from eval_tools.calibration import calibrate, genuine_pairs_at_fmr
from eval_tools.constant_quality import length_fault
from eval_tools.curve import ErrorRejectionCurve
from eval_tools.measure import Settings, measure_curves, summarise
from eval_tools.models import EmbeddingNorm, RandomQuality, Sharpness
from eval_tools.results import VerificationSummary
from eval_tools.scores import FloatArray
from eval_tools.test_sets import VerificationSet
from igfiqa_head.calibration import Calibration
from trainer.evaluation import erc_metrics, warn_if_constant
from trainer.log import LOGGER, warnings_as_log_lines
from trainer.on_top import REPAIR, Features

OURS, NORM, SHARPNESS, RANDOM = "IG-FIQA on top", "embedding norm", "sharpness", "random"
DISCARD_LIMIT = 0.95


@dataclass(frozen=True)
class Judgement:
    """One test set, with the frozen recogniser's own similarities.

    Attributes:
        test_set: its images and pairs.
        fmr: target FMR of the curves.
        similarity: [P] of the pairs.
        quality: [N] of the images, by R.
        verification: how well the recogniser does.
        curves: quality method -> ERC of protocol ``fixed``, with the worse image as a pair's quality; without
            the norm if the recogniser gives embeddings of one length.
    """

    test_set: VerificationSet
    fmr: float
    similarity: FloatArray
    quality: FloatArray
    verification: VerificationSummary
    curves: Mapping[str, ErrorRejectionCurve]

    def verification_metrics(self) -> dict[str, Any]:
        """The part ``verification.<target>`` of metrics.json."""
        result = self.verification
        accuracy = (
            {"accuracy": result.accuracy, "accuracy_std": result.accuracy_std} if result.accuracy else {}
        )
        return accuracy | {"eer": result.eer, "num_pairs": result.n_genuine + result.n_impostor}

    def erc_metrics(self) -> dict[str, Any]:
        """The part ``erc.<target>`` of metrics.json.

        ``area`` is that up to a discarded share of 0.95, as a multiple of the FNMR where nothing is
        discarded; NaN where that is 0.
        """
        areas = {method: relative_area(curve) for method, curve in self.curves.items()}
        return erc_metrics(self.curves[OURS], self.fmr) | {"area": areas}

    def calibration(self, reference: str, recogniser: str) -> Calibration:
        """What the scores of R mean on this set; both names are for those who read it."""
        with warnings_as_log_lines():
            pairs = genuine_pairs_at_fmr(
                self.similarity,
                self.test_set.is_genuine,
                self.test_set.pair_quality(self.quality),
                recogniser=recogniser,
                fmr=self.fmr,
            )
            return calibrate(self.quality, pairs, method=OURS, reference=reference)


def relative_area(curve: ErrorRejectionCurve) -> float:
    """Area up to a discarded share of 0.95 over the error where nothing is discarded; NaN without errors."""
    return curve.pauc(DISCARD_LIMIT, relative=True) if curve.fnmr[0] else float("nan")


def judge(
    name: str,
    test_set: VerificationSet,
    features_of: Features,
    regressor: nn.Module,
    *,
    fmr: float,
    cache: Path | None,
) -> Judgement:
    """Embed and score a test set and measure what each quality method is worth to the recogniser.

    Raises:
        ValueError: an image cannot be read.
    """
    functions: dict[str, ImageFunction] = {"features": features_of, SHARPNESS: Sharpness()}
    found, _ = apply_cached(
        functions, test_set.images, cache, names=test_set.names, title=name, advice=REPAIR
    )
    features = np.asarray(found["features"])
    embeddings = features[:, None, : features_of.embedding_size]
    similarity = test_set.similarity(embeddings, "none")
    with torch.inference_mode():
        quality = regressor(torch.from_numpy(features)).numpy()
    warn_if_constant(quality, name)
    qualities = {
        OURS: quality,
        NORM: EmbeddingNorm().score(embeddings),
        SHARPNESS: np.asarray(found[SHARPNESS]),
        RANDOM: RandomQuality().score(len(quality)),
    }
    fault = length_fault(qualities[NORM])
    if fault is not None:
        LOGGER.warning("%s: the %s is left out: %s", name, NORM, fault)
        del qualities[NORM]
    return Judgement(
        test_set,
        fmr,
        similarity,
        quality,
        _verification(test_set, similarity, fmr),
        _curves(test_set, similarity, qualities, fmr),
    )


def _verification(test_set: VerificationSet, similarity: FloatArray, fmr: float) -> VerificationSummary:
    return summarise(
        similarity,
        test_set.is_genuine,
        folds=test_set.folds,
        fmrs=(fmr,),
        n_images=len(test_set.images),
        notes=test_set.notes,
    )


def _curves(
    test_set: VerificationSet, similarity: FloatArray, qualities: Mapping[str, FloatArray], fmr: float
) -> dict[str, ErrorRejectionCurve]:
    measured = measure_curves(
        similarity,
        test_set.is_genuine,
        {method: test_set.pair_quality(values) for method, values in qualities.items()},
        None,
        Settings(fmrs=(fmr,), protocols=("fixed",), n_resamples=0),
    )
    return {method: curve.curve for (_, _, method), curve in measured.curves.items()}

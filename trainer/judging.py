"""Judging a quality head on top of a recogniser, beside other quality methods, on faces of other people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from eval_tools.cache import ImageFunction, apply_cached
from eval_tools.constant_quality import length_fault
from eval_tools.models import EmbeddingNorm, RandomQuality, Sharpness
from eval_tools.test_sets import VerificationSet
from trainer.evaluation import Judgement, judge, warn_if_constant
from trainer.log import LOGGER
from trainer.on_top import REPAIR, Features

OURS, NORM, SHARPNESS, RANDOM = "IG-FIQA on top", "embedding norm", "sharpness", "random"


def judge_on_top(
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
    return judge(test_set, test_set.similarity(embeddings, "none"), qualities, fmr)

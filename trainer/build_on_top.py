"""From a recipe with a ``recognizer`` to objects, beside :mod:`trainer.build`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from numpy.typing import NDArray
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eval_tools.test_sets import VerificationSet, all_pairs, degraded
from eval_tools.test_sets.images import LazyImages, RGBImage
from igfiqa_head.degradations import Degradations
from igfiqa_head.feature_regressor import FeatureRegressor
from igfiqa_head.recogniser_graph import RecogniserGraph
from trainer import build
from trainer.on_top import Lessons
from trainer.replicas import Replicas, choose_identities
from trainer.schedule import build_schedule

HELD_OUT = "held_out"
_MAX_PAIRS = 2_000_000


def split_identities(config: EasyDict, dataset: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the images to learn from and of those to judge by."""
    return choose_identities(
        dataset.labels,
        held_out=config.on_top.held_out,
        max_images=config.on_top.max_images,
        seed=config.seed,
    )


def build_replicas(config: EasyDict, dataset: Any, chosen: NDArray[np.int64]) -> Replicas:
    block = config.ig_fiqa
    degradations = Degradations(
        block.degradation_p, block.rescale, block.jitter, block.erase_area, block.erase_aspect
    )
    return Replicas(dataset, chosen, degradations, config.on_top.replicas, config.seed)


def build_test_sets(
    config: EasyDict, dataset: Any, held_out: NDArray[np.int64]
) -> dict[str, VerificationSet]:
    """The held-out identities and what ``val_targets`` names, with a share of the images degraded.

    A recogniser makes too few errors on good images for a curve, and the kinds of damage are not those that
    R learns from.

    Raises:
        ValueError: a file is missing or damaged, or the held-out images give no genuine or no impostor pair.
    """
    sets = {HELD_OUT: _held_out_set(dataset, held_out)} if len(held_out) else {}
    sets |= build.build_verification_sets(config)
    return {name: degraded(s, config.on_top.degraded_share, config.seed) for name, s in sets.items()}


def _held_out_set(dataset: Any, chosen: NDArray[np.int64]) -> VerificationSet:
    identities = np.asarray(dataset.labels[chosen], np.int64)
    try:
        pairs, is_genuine, notes = all_pairs(identities, _MAX_PAIRS)
    except ValueError as error:
        raise ValueError(
            f"the held-out identities cannot be judged by: {error}. Raise on_top.held_out, or set it to 0"
        ) from error
    images = LazyImages(len(chosen), partial(_image, dataset, chosen))
    return VerificationSet(images, pairs, is_genuine, identities, chosen.astype(str).tolist(), notes=notes)


def _image(dataset: Any, chosen: NDArray[np.int64], index: int) -> RGBImage:
    return np.ascontiguousarray(dataset[int(chosen[index])][0])


def cache(config: EasyDict) -> Path | None:
    return None if config.on_top.cache is None else Path(config.on_top.cache)


def build_regressor(config: EasyDict, recogniser: RecogniserGraph, lessons: Lessons) -> FeatureRegressor:
    """R with its first weights, reading the groups of features that the recipe names."""
    everything = torch.arange(recogniser.num_features)
    groups = recogniser.groups.items()
    columns = torch.cat([everything[part] for name, part in groups if name in config.on_top.reads])
    std, mean = torch.std_mean(lessons.features[:, columns], dim=0)
    torch.manual_seed(config.seed)
    start = float(lessons.certainty.mean())
    return FeatureRegressor(mean, std, columns=columns, hidden=config.on_top.hidden, start=start)


def build_optimiser(
    config: EasyDict, regressor: FeatureRegressor, steps_per_epoch: int
) -> tuple[Optimizer, LRScheduler]:
    optimizer = build.build_optimizer(config, {"quality_head": regressor})
    schedule = build_schedule(
        optimizer,
        kind=config.lr_schedule,
        steps_per_epoch=steps_per_epoch,
        num_epoch=config.num_epoch,
        warmup_epoch=config.warmup_epoch,
        decay_epochs=config.lr_decay_epochs,
        decay=config.lr_decay,
    )
    return optimizer, schedule

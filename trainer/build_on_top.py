"""From a recipe with a ``recognizer`` to objects, beside :mod:`trainer.build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from numpy.typing import NDArray
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eval_tools.test_sets import VerificationSet, degraded
from igfiqa_head.degradations import Degradations
from igfiqa_head.feature_regressor import FeatureRegressor
from igfiqa_head.recogniser_graph import RecogniserGraph
from trainer import build, build_data
from trainer.held_out import Split, choose_identities
from trainer.log import LOGGER
from trainer.on_top import Lessons
from trainer.recipe import changed_keys
from trainer.replicas import Replicas

# Keys that concern the training of a network, its loader and its device.
_NOT_READ = {
    "embedding_size", "backbone_weights", "dropout", "fp16", "bf16", "compile", "sync_bn", "margin",
    "margin_list", "margin_gradient", "scale", "classifier", "prototype_init", "sample_rate",
    "interclass_filtering_threshold", "num_workers", "decoded_cache", "dali", "dali_aug", "device",
    "gradient_acc", "clip_grad_norm", "checkpoint_every", "max_skipped", "rank_timeout",
    "save_all_states", "verbose", "save_artifacts", "cr_fiqa", "held_out",
}  # fmt: skip
_READ_OF_BLOCKS = {
    "ig_fiqa": {
        "beta", "variance_weights", "degradation_p", "rescale", "jitter", "erase_area", "erase_aspect",
        "further_p",
    },
    "lr_factor": {"quality_head"},
}  # fmt: skip


def check_quality_head(config: EasyDict) -> None:
    """Refuse a quality head that cannot be put on top of a recogniser."""
    if config.quality_head != "ig_fiqa":
        raise ValueError(
            f"quality_head={config.quality_head!r} cannot be put on top of a recognizer: expected 'ig_fiqa', "
            "with ig_fiqa.variance_weights=False for every sample to weigh 1 as in CR-FIQA"
        )


def warn_of_ignored_keys(config: EasyDict) -> None:
    """Tell once which keys were set that mean nothing here."""
    ignored = [name for name in changed_keys(config) if not _is_read(name)]
    if ignored:
        LOGGER.warning(
            "%s: without meaning where a recognizer is given, whose network is not trained",
            ", ".join(ignored),
        )


def _is_read(name: str) -> bool:
    block, _, key = name.partition(".")
    return block not in _NOT_READ and (not key or key in _READ_OF_BLOCKS.get(block, {key}))


def keys_read(config: EasyDict) -> EasyDict:
    """The recipe without the keys that mean nothing here."""
    return EasyDict(
        {
            name: {key: x for key, x in value.items() if _is_read(f"{name}.{key}")}
            if isinstance(value, dict)
            else value
            for name, value in config.items()
            if _is_read(name)
        }
    )


def split_identities(config: EasyDict, dataset: Any) -> Split:
    """The images to learn from and those to judge by."""
    parts = choose_identities(
        dataset.labels,
        held_out=config.on_top.held_out,
        max_images=config.on_top.max_images,
        seed=config.seed,
    )
    return Split(dataset, *parts)


def build_replicas(config: EasyDict, dataset: Any, chosen: NDArray[np.int64]) -> Replicas:
    block = config.ig_fiqa
    degradations = Degradations(
        block.degradation_p,
        block.rescale,
        block.jitter,
        block.erase_area,
        block.erase_aspect,
        block.further_p,
    )
    return Replicas(dataset, chosen, degradations, config.on_top.replicas, config.seed)


def build_test_sets(config: EasyDict, split: Split) -> dict[str, VerificationSet]:
    """The held-out identities and what ``val_targets`` names, with a share of the images degraded.

    A recogniser makes too few errors on good images for a curve. The names of the sets tell.

    Raises:
        ValueError: a file is missing or damaged, or the held-out images give no genuine or no impostor pair.
    """
    sets = build_data.build_test_sets(config, split)
    share = config.on_top.degraded_share
    if not share:
        return sets
    return {f"{name}_degraded": degraded(s, share, config.seed) for name, s in sets.items()}


def cache(config: EasyDict) -> Path | None:
    return None if config.on_top.cache is None else Path(config.on_top.cache)


def build_regressor(config: EasyDict, recogniser: RecogniserGraph, lessons: Lessons) -> FeatureRegressor:
    """R with its first weights, reading the groups of features that the recipe names.

    Means and deviations count each sample with its weight: what is to teach nothing moves nothing.

    Raises:
        ValueError: the recogniser has none of these groups.
    """
    columns = torch.from_numpy(recogniser.columns(config.on_top.reads))
    read, share = lessons.features[:, columns], lessons.weights / lessons.weights.sum()
    mean = share @ read
    std = (share @ (read - mean).square()).sqrt()
    torch.manual_seed(config.seed)
    start = float(share @ lessons.certainty)
    return FeatureRegressor(mean, std, columns=columns, hidden=config.on_top.hidden, start=start)


def build_optimiser(
    config: EasyDict, regressor: FeatureRegressor, steps_per_epoch: int
) -> tuple[Optimizer, LRScheduler]:
    optimizer = build.build_optimizer(config, {"quality_head": regressor})
    return optimizer, build.build_lr_schedule(config, optimizer, steps_per_epoch)

"""From a recipe to what is registered under its names, beside :mod:`trainer.build`."""

from __future__ import annotations

import copy
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

import plugins.backbones
import plugins.classifiers
import plugins.margins
import plugins.quality_heads  # importing a folder registers what is in it
from igfiqa_head.margin import Margin, MarginOutput
from igfiqa_head.quality_head import QualityHead
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.registry import BACKBONES, CLASSIFIERS, DATASETS, MARGINS, QUALITY_HEADS
from plugins.backbones import TIMM_PREFIX
from plugins.backbones._common import IMAGE_SHAPE
from trainer import schema
from trainer.parts import build_part, check_block, check_call, room_for
from trainer.precision import mixed_precision

_FOR_CLASSIFIERS = ("scale", "sample_rate", "interclass_filtering_threshold", "seed")
_FOR_HEADS = ("num_epoch", "seed")


def check_parts(config: EasyDict) -> None:
    """Refuse what the recipe's blocks set and their classes do not take, before any data is looked at.

    Raises:
        ValueError: a name that is not registered, or a setting that is unknown, of another type or, of a
            margin, out of range.
    """
    if config.dataset != "auto" and config.dataset not in schema.BLOCKS:
        check_block(DATASETS, config.dataset, block_of(config, config.dataset), given=1, offered={})
    if config.recognizer is not None:
        return
    build_margin(config)
    check_block(
        CLASSIFIERS,
        config.classifier,
        block_of(config, config.classifier),
        given=3,
        offered=_of_run(config, _FOR_CLASSIFIERS),
    )
    if config.quality_head is not None:
        block = block_of(config, config.quality_head)
        check_block(QUALITY_HEADS, config.quality_head, block, given=2, offered=_of_run(config, _FOR_HEADS))


def block_of(config: EasyDict, name: str) -> dict[str, Any]:
    """The settings of what is registered under ``name``."""
    return dict(config.get(name, {}))


def _of_run(config: EasyDict, keys: tuple[str, ...], ranks: Ranks = ALONE) -> dict[str, Any]:
    """The values of the run that a class may ask for, by naming them in its signature."""
    return {key: config[key] for key in keys} | {"ranks": ranks}


def build_margin(config: EasyDict) -> Margin:
    """The margin that ``margin`` names, with the settings of its block, or the one of ``margin_list``."""
    if config.margin is not None:
        margin = build_part(MARGINS, config.margin, settings=block_of(config, config.margin))
        _try_margin(config.margin, margin)
        return margin
    _, angle, cosine = config.margin_list
    if cosine > 0:
        return MARGINS.get("cosface")(cosine)
    return MARGINS.get("arcface")(angle, straight_through=config.margin_gradient == "straight_through")


def _try_margin(name: str, margin: Margin) -> None:
    """Call a copy of a margin from outside once, so that one of another shape is told of before the training.

    Raises:
        ValueError: it cannot be called as a margin is, or returns something else.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            made = copy.deepcopy(margin)(torch.zeros(2), torch.ones(2), torch.zeros(2, dtype=torch.long))
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            f"{MARGINS.described(name)} cannot be called with {MARGINS.contract['__call__']}: {error}"
        ) from error
    if not isinstance(made, MarginOutput) or made.target.shape != (2,):
        raise ValueError(
            f"{MARGINS.described(name)} returns a {type(made).__name__}; expected "
            f"{MARGINS.contract['__call__']} with a target of [B]"
        )


def try_backbone(
    config: EasyDict, backbone: nn.Module, device: torch.device, half: torch.dtype | None
) -> None:
    """Pass two blank images through a backbone from outside, so that what it lacks is told at once.

    Raises:
        ValueError: it fails, or does not return embeddings [B, num_features].
    """
    name = config.network
    if name.startswith(TIMM_PREFIX) or BACKBONES.get(name).__module__.startswith(plugins.backbones.__name__):
        return
    wanted = f"cannot be called with {BACKBONES.contract['forward']}"
    generators = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(generators), mixed_precision(device, half):
            made = backbone.eval()(torch.zeros(2, *IMAGE_SHAPE, device=device))
        backbone.train()
    except Exception as error:  # it is others' code
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{BACKBONES.described(name)} {wanted}: {type(error).__name__}: {reason}") from error
    shape = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
    if shape != [2, config.embedding_size]:
        raise ValueError(
            f"{BACKBONES.described(name)} {wanted}: of 2 images and num_features={config.embedding_size} it "
            f"makes {shape}"
        )


def build_classifier(config: EasyDict, num_classes: int, ranks: Ranks = ALONE) -> nn.Module:
    with room_for(f"{num_classes} prototypes of {config.embedding_size}"):
        classifier = build_part(
            CLASSIFIERS,
            config.classifier,
            config.embedding_size,
            num_classes,
            build_margin(config),
            settings=block_of(config, config.classifier),
            **_of_run(config, _FOR_CLASSIFIERS, ranks),
        )
    check_call(CLASSIFIERS, config.classifier, classifier, "embeddings", "labels", step=0)
    if config.prototype_init == "class_means" and not hasattr(classifier, "start_from"):
        raise ValueError(
            f"prototype_init='class_means' needs a classifier with start_from(classes, means), which "
            f"{config.classifier!r} has not: set prototype_init='random'"
        )
    return classifier


def build_quality_head(config: EasyDict, num_classes: int, ranks: Ranks = ALONE) -> QualityHead | None:
    """The head named by ``quality_head`` with the settings of the block of the same name."""
    if config.quality_head is None:
        return None
    head = build_part(
        QUALITY_HEADS,
        config.quality_head,
        config.embedding_size,
        num_classes,
        settings=block_of(config, config.quality_head),
        **_of_run(config, _FOR_HEADS, ranks),
    )
    head.has_images_of_all_classes = True  # build_train_set sees to it
    check_call(QUALITY_HEADS, config.quality_head, head, "embeddings", "labels", "classifier", epoch=0)
    return head

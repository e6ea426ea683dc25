"""From a recipe to objects. Only this module reads the recipe's keys; the rest takes plain arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

import plugins.classifiers
import plugins.datasets
import plugins.margins
import plugins.quality_heads  # noqa: F401  importing a folder registers what is in it
from eval_tools.test_sets import VerificationSet, balanced_pairs, read_bin_set
from igfiqa_head.margin import Margin
from igfiqa_head.quality_head import QualityHead
from igfiqa_head.registry import (
    CLASSIFIERS,
    DATASETS,
    MARGINS,
    QUALITY_HEADS,
    import_plugin,
    load_entry_points,
)
from plugins.backbones import get_model
from trainer.decoded_cache import open_decoded
from trainer.loader import Loader
from trainer.log import LOGGER, RunLog, TensorBoardWriter, WandbWriter, Writer
from trainer.loop import Trainer
from trainer.schedule import build_schedule
from trainer.sources import State
from trainer.weights import open_weights

SYNTHETIC = "synthetic"
_MAX_PRELOADED = 28_000  # rendered faces, about 1 GiB


def load_plugins(config: EasyDict) -> None:
    """Import what registers further backbones, heads and so on."""
    load_entry_points()
    for plugin in config.plugins:
        import_plugin(plugin)


def warn_of_ignored_keys(config: EasyDict) -> None:
    """Tell once which of arcface_torch's keys mean nothing here."""
    for key in ("dali", "dali_aug"):
        if config[key]:
            LOGGER.warning("%s=True has no meaning here: the loader of this project is used", key)


def build_device(config: EasyDict) -> torch.device:
    """The device that ``device`` names; "auto" takes CUDA, else MPS, else the CPU."""
    if config.device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {config.device!r} cannot be used here: {reason}") from error
    return device


def build_train_set(config: EasyDict) -> Any:
    """The training images, checked against the recipe's num_classes and num_image.

    Raises:
        ValueError: ``rec`` holds no data set, or a label is not below ``num_classes``.
    """
    name = _data_set_name(config)
    arguments = _synthetic_counts(config) if name == SYNTHETIC else {"root": config.rec}
    dataset = DATASETS.get(name)(**arguments)
    if name == SYNTHETIC and len(dataset) <= _MAX_PRELOADED:
        dataset.preload()  # rendering a face again in every epoch would cost more than training on it
    largest = int(dataset.labels.max())
    if config.num_classes is not None and largest >= config.num_classes:
        raise ValueError(
            f"{config.rec} has a label {largest}, but num_classes is {config.num_classes}: "
            f"labels must lie in [0, num_classes). Set num_classes={largest + 1} or leave it out"
        )
    if config.num_image is not None and len(dataset) != config.num_image:
        LOGGER.warning(
            "the recipe says num_image=%d, but %s has %d images: the data decides",
            config.num_image, config.rec, len(dataset),
        )  # fmt: skip
    return dataset


def _data_set_name(config: EasyDict) -> str:
    if config.dataset != "auto":
        return config.dataset
    if config.rec == SYNTHETIC:
        return SYNTHETIC
    root = Path(config.rec)
    if (root / "train.rec").is_file():
        return "recordio"
    if root.is_dir():
        return "image_folder"
    raise ValueError(
        f"rec={config.rec!r} is no folder: expected one with train.rec and train.idx, a folder with one "
        'sub-folder per identity, or "synthetic"'
    )


def _synthetic_counts(config: EasyDict) -> dict[str, Any]:
    """The rendered set's size: the recipe's num_classes and num_image, else those of its own block."""
    block = config.synthetic
    classes = config.num_classes or block.num_identities
    images = config.num_image or classes * block.images_per_identity
    if images < classes:  # arcface_torch's speed tests name more classes than images
        classes = images
    return {
        "num_identities": classes,
        "images_per_identity": images // classes,
        "low_variance_share": block.low_variance_share,
        "clean_share": block.clean_share,
        "seed": config.seed,
    }


def take_weights(config: EasyDict) -> State | None:
    """The state dict that the backbone starts from, or None for a random start.

    Where the recipe leaves ``network`` and ``embedding_size`` to the weights, they are filled in.

    Raises:
        ValueError: ``backbone_weights`` cannot be used, or is of another network than the recipe's.
    """
    if config.backbone_weights is None:
        if config.network is None or config.embedding_size is None:
            raise ValueError(
                "backbone_weights is missing: set backbone_weights=PATH to a run's folder or a torch "
                "checkpoint, or name network and embedding_size for a random start"
            )
        return None
    source = open_weights(
        Path(config.backbone_weights),
        network=config.network,
        embedding_size=config.embedding_size,
        plugins=config.plugins,
    )
    config.network, config.embedding_size = source.recipe["network"], source.recipe["embedding_size"]
    LOGGER.info("starting from the weights of %s", config.backbone_weights)
    return source.backbone.state_dict()


def build_backbone(config: EasyDict) -> nn.Module:
    """The network that the recipe names, with random parameters."""
    return get_model(
        config.network, dropout=config.dropout, fp16=config.fp16, num_features=config.embedding_size
    )


def build_margin(config: EasyDict) -> Margin:
    """ArcFace or CosFace, as ``margin_list`` (m1, m2, m3) says."""
    _, angle, cosine = config.margin_list
    if cosine > 0:
        return MARGINS.get("cosface")(cosine)
    return MARGINS.get("arcface")(angle, straight_through=config.margin_gradient == "straight_through")


def build_classifier(config: EasyDict, num_classes: int) -> nn.Module:
    classifier = CLASSIFIERS.get(config.classifier)(
        config.embedding_size,
        num_classes,
        build_margin(config),
        scale=config.scale,
        sample_rate=config.sample_rate,
        interclass_filtering_threshold=config.interclass_filtering_threshold,
        seed=config.seed,
    )
    if config.prototype_init == "class_means" and not hasattr(classifier, "start_from"):
        raise ValueError(
            f"prototype_init='class_means' needs a classifier with start_from(classes, means), which "
            f"{config.classifier!r} has not: set prototype_init='random'"
        )
    return classifier


def build_quality_head(config: EasyDict, num_classes: int) -> QualityHead | None:
    """The head named by ``quality_head`` with the settings of the block of the same name."""
    if config.quality_head is None:
        return None
    settings = dict(config.get(config.quality_head, {}))
    if config.quality_head == "ig_fiqa":
        settings["num_epoch"] = config.num_epoch
    head = QUALITY_HEADS.get(config.quality_head)
    return head(config.embedding_size, num_classes, seed=config.seed, **settings)


def build_optimizer(config: EasyDict, modules: dict[str, nn.Module]) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters; each module, named as in ``lr_factor``, is a group."""
    groups = [
        {
            "params": [p for p in module.parameters() if p.requires_grad],
            "lr": config.lr * config.lr_factor[name],
        }
        for name, module in modules.items()
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def build_lr_schedule(
    config: EasyDict, optimizer: torch.optim.Optimizer, steps_per_epoch: int
) -> LRScheduler:
    """The recipe's schedule, to be stepped once per optimiser step."""
    return build_schedule(
        optimizer,
        kind=config.lr_schedule,
        steps_per_epoch=steps_per_epoch,
        num_epoch=config.num_epoch,
        warmup_epoch=config.warmup_epoch,
        decay_epochs=config.lr_decay_epochs,
        decay=config.lr_decay,
    )


def build_writers(config: EasyDict, output: Path) -> list[Writer]:
    writers: list[Writer] = [TensorBoardWriter(output / "tensorboard")]
    if config.using_wandb:
        writers.append(
            WandbWriter(
                key=config.wandb_key,
                entity=config.wandb_entity,
                project=config.wandb_project,
                resume=config.wandb_resume,
                suffix=config.suffix_run_name,
                notes=config.notes,
                save_artifacts=config.save_artifacts,
                config=config,
            )
        )
    return writers


def build_verification_sets(config: EasyDict) -> dict[str, VerificationSet]:
    """The test sets that ``val_targets`` names: ``rec/NAME.bin``, or rendered faces for "synthetic".

    Raises:
        ValueError: a file is missing or damaged.
    """
    return {name: _verification_set(config, name) for name in config.val_targets}


def _verification_set(config: EasyDict, name: str) -> VerificationSet:
    if name == SYNTHETIC:
        faces = build_synthetic_test_faces(config)
        pairs, is_genuine = balanced_pairs(faces.labels, np.random.default_rng(config.seed))
        return VerificationSet(faces.render(), pairs, is_genuine, folds=10)
    path = Path(config.rec) / f"{name}.bin"
    if not path.is_file():
        found = sorted(p.stem for p in Path(config.rec).glob("*.bin"))
        raise ValueError(f"val_targets names {name!r}, but {path} does not exist; found: {found or 'none'}")
    return read_bin_set(path)


def build_synthetic_test_faces(config: EasyDict) -> Any:
    """The rendered faces of the target "synthetic": identities that are never trained on."""
    block = config.synthetic
    return DATASETS.get(SYNTHETIC)(
        block.test_identities,
        block.test_images_per_identity,
        split="test",
        low_variance_share=0.0,
        seed=config.seed,
    )


def _decoded(config: EasyDict, dataset: Any) -> Any:
    """The data set, with its images decoded beforehand where ``decoded_cache`` says so."""
    if config.decoded_cache is None:
        return dataset
    source = f"{_data_set_name(config)} {Path(config.rec).resolve()}"
    return open_decoded(dataset, Path(config.decoded_cache), source=source, num_workers=config.num_workers)


def build_trainer(config: EasyDict, dataset: Any, log: RunLog, device: torch.device) -> Trainer:
    """Everything a run needs, on the device, with parameters from the weights or the seed."""
    weights = take_weights(config)
    torch.manual_seed(config.seed)
    num_classes = config.num_classes or dataset.num_classes
    backbone = build_backbone(config).to(device)
    if weights is not None:
        backbone.load_state_dict(weights)
    classifier = build_classifier(config, num_classes).to(device)
    head = build_quality_head(config, num_classes)
    modules = {"backbone": backbone, "classifier": classifier}
    if head is not None:
        modules["quality_head"] = head.to(device)
    loader = Loader(
        _decoded(config, dataset),
        head.images_drawn(config.batch_size) if head is not None else config.batch_size,
        seed=config.seed,
        num_workers=config.num_workers,
        device=device,
    )
    optimizer = build_optimizer(config, modules)
    schedule = build_lr_schedule(config, optimizer, loader.batches_per_epoch // config.gradient_acc)
    return Trainer(
        backbone=backbone,
        classifier=classifier,
        quality_head=head,
        optimizer=optimizer,
        schedule=schedule,
        loader=loader,
        output=Path(config.output),
        log=log,
        num_epoch=config.num_epoch,
        class_mean_prototypes=config.prototype_init == "class_means",
        gradient_acc=config.gradient_acc,
        clip_grad_norm=config.clip_grad_norm,
        fp16=config.fp16,
        after_steps_every=config.verbose,
    )

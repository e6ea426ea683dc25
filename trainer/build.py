"""From a recipe to objects. Only this and its ``build_*`` siblings read the recipe's keys."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any, cast

import torch
from easydict import EasyDict
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from igfiqa_head.quality_head import QualityHead
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.registry import import_plugin, load_entry_points
from igfiqa_head.sub_batches import Batch
from plugins.backbones import get_model
from plugins.backbones._common import IMAGE_SHAPE
from trainer.build_data import with_decoded_images
from trainer.build_parts import build_classifier, build_quality_head, try_backbone
from trainer.loader import Loader
from trainer.log import LOGGER, RunLog, TensorBoardWriter, WandbWriter, Writer
from trainer.loop import Trainer
from trainer.parts import room_for
from trainer.same_run import check_same_network
from trainer.schedule import build_schedule
from trainer.sources import State
from trainer.weights import open_weights


def load_plugins(config: EasyDict) -> None:
    """Import what registers further backbones, heads and so on.

    Raises:
        ValueError: a plugin does not exist, or fails.
    """
    load_entry_points()
    for plugin in config.plugins:
        try:
            import_plugin(plugin)
        except (ValueError, OSError):
            raise
        except Exception as error:  # it is others' code
            raise ValueError(f"plugin {plugin!r} failed: {type(error).__name__}: {error}") from error


def warn_of_ignored_keys(config: EasyDict) -> None:
    """Tell once which of arcface_torch's keys mean nothing here."""
    for key in ("dali", "dali_aug"):
        if config[key]:
            LOGGER.warning("%s=True has no meaning here: the loader of this project is used", key)


def build_device(config: EasyDict, local_rank: int | None = None) -> torch.device:
    """The device that ``device`` names; "auto" takes CUDA, else MPS, else the CPU.

    Args:
        config: the recipe.
        local_rank: of several processes on this machine, each takes the CUDA device of its number.
    """
    name = config.device
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if local_rank is not None and name.startswith("cuda"):
        if name != "cuda":
            raise ValueError(
                f"device {name!r} is one GPU, but each process of torchrun takes its own: set device=cuda"
            )
        name = f"cuda:{local_rank}"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device {name!r} cannot be used here: expected auto, cpu, cuda, cuda:NUMBER or mps")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def build_precision(config: EasyDict, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision in the backbone, None for none; a CPU has no use for float16."""
    if not (config.fp16 or config.bf16):
        return None
    return torch.bfloat16 if config.bf16 or device.type == "cpu" else torch.float16


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
    half, size = config.fp16 or config.bf16, config.embedding_size
    with room_for(f"network={config.network} with embedding_size={size}"):
        return get_model(config.network, dropout=config.dropout, fp16=half, num_features=size)


def build_training_pass(
    config: EasyDict, backbone: nn.Module, device: torch.device, ranks: Ranks
) -> nn.Module:
    """The backbone as it is called in training: compiled and in DistributedDataParallel, where asked for."""
    called = backbone
    if config.compile:
        called = cast(nn.Module, torch.compile(backbone))
    if ranks.size == 1:
        return called
    # Batch normalisation's buffers must not be overwritten between two passes of one step. torch renamed it.
    known = inspect.signature(DistributedDataParallel).parameters
    sync_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {sync_buffers: False}
    return DistributedDataParallel(
        called,
        device_ids=[device] if device.type == "cuda" else None,
        process_group=ranks.group,
        **options,
    )


def build_optimizer(config: EasyDict, modules: dict[str, nn.Module]) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters; each module, named as in ``lr_factor``, is a group."""
    groups = [
        {
            "params": [p for p in module.parameters() if p.requires_grad],
            "lr": config.lr * config.lr_factor[name],
        }
        for name, module in modules.items()
    ]
    # One pass over the memory instead of several; where torch has none, its own choice.
    devices = {p.device.type for group in groups for p in group["params"]}
    common = {
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        "fused": devices <= {"cuda", "cpu"} or None,
    }
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, **common)
    return torch.optim.SGD(groups, momentum=config.momentum, **common)


def build_lr_schedule(config: EasyDict, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> LambdaLR:
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


def build_trainer(
    config: EasyDict, dataset: Any, log: RunLog, device: torch.device, ranks: Ranks = ALONE
) -> Trainer:
    """Everything a run needs, on the device, with parameters from the weights or the seed."""
    weights = take_weights(config)
    check_same_network(config, ranks)
    torch.manual_seed(config.seed)
    num_classes = dataset.num_classes
    backbone = build_backbone(config)
    if weights is not None:
        backbone.load_state_dict(weights)
    backbone = _placed(config, backbone, device)
    half = build_precision(config, device)
    try_backbone(config, backbone, device, half)
    classifier = build_classifier(config, num_classes, ranks).to(device)
    head = build_quality_head(config, num_classes, ranks)
    modules = {"backbone": backbone, "classifier": classifier}
    if head is not None:
        modules["quality_head"] = head.to(device)
    drawn = head.images_drawn(config.batch_size) if head is not None else config.batch_size
    if drawn < 4 and not config.sync_bn:
        _check_single_images(config, backbone, head, drawn)
    with room_for(f"a loader with num_workers={config.num_workers} and batch_size={config.batch_size}"):
        loader = Loader(
            with_decoded_images(config, dataset),
            drawn,
            seed=config.seed,
            num_workers=config.num_workers,
            device=device,
            rank=ranks.rank,
            world_size=ranks.size,
        )
    optimizer = build_optimizer(config, modules)
    schedule = build_lr_schedule(config, optimizer, loader.batches_per_epoch // config.gradient_acc)
    return Trainer(
        backbone=backbone,
        training_pass=build_training_pass(config, backbone, device, ranks),
        classifier=classifier,
        quality_head=head,
        optimizer=optimizer,
        schedule=schedule,
        loader=loader,
        output=Path(config.output),
        log=log,
        num_epoch=config.num_epoch,
        num_classes=num_classes,
        seed=config.seed,
        ranks=ranks,
        images_per_step=drawn * ranks.size * config.gradient_acc,
        class_mean_prototypes=config.prototype_init == "class_means",
        gradient_acc=config.gradient_acc,
        clip_grad_norm=config.clip_grad_norm,
        half=half,
        checkpoint_every=config.checkpoint_every,
        max_skipped=config.max_skipped,
        after_steps_every=config.verbose,
    )


def _check_single_images(config: EasyDict, backbone: nn.Module, head: QualityHead | None, drawn: int) -> None:
    """Refuse a batch that passes a backbone one image at a time which takes statistics over images."""
    batch = Batch(torch.zeros(drawn, *IMAGE_SHAPE), torch.zeros(drawn).long(), torch.arange(drawn))
    parts = (batch,) if head is None else head.split(batch)
    if min(len(part.labels) for part in parts) > 1:
        return
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            copy.deepcopy(backbone).cpu().train()(batch.images[:1])
    except ValueError as error:  # of batch normalisation
        divided = "" if head is None else f", as {config.quality_head} may divide the batch"
        raise ValueError(
            f"batch_size={config.batch_size} passes one image at a time through network={config.network}"
            f"{divided}, and its batch normalisation takes statistics of two or more: set "
            f"batch_size={2 * config.batch_size} or more"
        ) from error


def _placed(config: EasyDict, backbone: nn.Module, device: torch.device) -> nn.Module:
    """The backbone on its device, in the memory layout and with the normalisation that suit this."""
    if config.sync_bn:
        if device.type != "cuda":
            raise ValueError(f"sync_bn=True needs CUDA, got device {device}: set sync_bn=False")
        backbone = with_sync_bn(backbone)
    backbone = backbone.to(device)
    return backbone.to(memory_format=torch.channels_last) if device.type == "cuda" else backbone


def with_sync_bn(backbone: nn.Module) -> nn.Module:
    """The backbone with batch normalisations over the images of all processes.

    timm converts them: torch's own conversion drops the activations that timm joins with normalisations. No
    group is named, which means all processes: one that is would keep the backbone from being copied.
    """
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(backbone)

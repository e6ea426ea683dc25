"""One run: build from the recipe, train, judge, and leave the files that people use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor

from eval_tools.plots import plot_erc
from eval_tools.test_sets import VerificationSet
from igfiqa_head.export import ExportError, export_onnx
from igfiqa_head.io.written_files import read_list, written_together
from igfiqa_head.ranks import Ranks
from trainer import build, build_data, build_parts
from trainer.checkpoint import has_checkpoint
from trainer.earlier_run import check_output, held_output
from trainer.evaluation import (
    Judgement,
    class_weight_means,
    judge_networks,
    severity_correlation,
    warn_if_constant,
)
from trainer.freed_memory import keep_freed_memory
from trainer.held_out import Split
from trainer.loader import to_network_input
from trainer.log import LOGGER, RunLog, Writer, logging_to, only_errors_shown
from trainer.loop import Trainer
from trainer.process_group import local_rank, training_processes, world_size
from trainer.results import (
    announce,
    calibration_metadata,
    judgement_metrics,
    scored,
    tell_of_exports,
    tell_recipe,
    verification_text,
    write_results,
)
from trainer.run_files import resolved
from trainer.run_on_top import run_on_top
from trainer.same_run import check_same_data, check_same_recipe
from trainer.sources import origin
from trainer.weight_files import BACKBONE, QUALITY_HEAD, moment

_COMPARED_IMAGES = 8
_RECOGNISER = "embedding.onnx, of a face and its mirror image together"


def run(config: EasyDict) -> dict[str, Any]:
    """Carry out a recipe from the first to the last file, together with the other processes of torchrun.

    Returns:
        What metrics.json holds; on processes other than the first nothing.

    Raises:
        ValueError: the recipe, the data or a checkpoint cannot be used.
        RankLostError: another process is gone.
        TrainingDivergedError, Stopped: see :meth:`trainer.loop.Trainer.fit`.
    """
    build.load_plugins(config)
    build_parts.check_parts(config)
    if config.recognizer is not None:
        if world_size() > 1:
            raise ValueError(
                f"on top of a recognizer training runs in one process, got WORLD_SIZE={world_size()}: start "
                "train.py with python"
            )
        return run_on_top(config)
    device = build.build_device(config, local_rank())
    if device.type == "cpu":
        keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # all batches are of one size
    with training_processes(device, config.rank_timeout) as ranks:
        check_same_recipe(config, ranks)
        with held_output(Path(config.output), ranks):
            return _run(config, device, ranks)


def _run(config: EasyDict, device: torch.device, ranks: Ranks) -> dict[str, Any]:
    output = Path(config.output)
    earlier = check_output(
        output,
        resume=config.resume,
        overwrite=config.overwrite,
        needed=[config.backbone_weights],
        ranks=ranks,
    )
    if ranks.rank > 0:
        with only_errors_shown():
            return _train(config, device, ranks, list)
    with logging_to(output / "training.log") as begin_log:
        build.warn_of_ignored_keys(config)

        def begin() -> list[Writer]:
            earlier.remove()
            begin_log()
            return build.build_writers(config, output)

        return _train(config, device, ranks, begin)


def _train(
    config: EasyDict, device: torch.device, ranks: Ranks, begin: Callable[[], list[Writer]]
) -> dict[str, Any]:
    """On each rank; the first one alone judges the result and writes what people use.

    ``begin`` is called when all is known to fit, and before anything is written; it gives the log's writers.
    """
    with closing(RunLog(config.frequent, bars=ranks.rank == 0)) as log:
        split = build_data.build_split(config, build_data.build_train_set(config))
        dataset = split.training_set
        check_same_data(dataset, ranks)
        trainer = build.build_trainer(config, dataset, log, device, ranks)
        if ranks.rank == 0:
            test_sets = build_data.build_test_sets(config, split)
            trainer.after_steps = lambda step: _verify(config, trainer, test_sets, step)
            _describe(config, trainer, dataset)
        if config.resume is True or (config.resume == "auto" and ranks.any(has_checkpoint(trainer.output))):
            trainer.resume()
        log.writers = begin()
        if ranks.rank == 0:
            tell_recipe(resolved(config, dataset, device), Path(config.output), log)
        trainer.fit()
        class_weights = None if trainer.quality_head is None else trainer.quality_head.class_weights()
        return _finish(config, trainer, split, test_sets, class_weights) if ranks.rank == 0 else {}


def _describe(config: EasyDict, trainer: Trainer, dataset: Any) -> None:
    several = f" in {trainer.ranks.size} processes" if trainer.ranks.size > 1 else ""
    LOGGER.info(
        "%s: %d images of %d classes; %s on %s%s; %d epochs of %d steps; writing to %s",
        config.rec, len(dataset), dataset.num_classes, config.network,
        trainer.loader.device.type, several, trainer.num_epoch, trainer.steps_per_epoch, config.output,
    )  # fmt: skip


def _judge_all(
    config: EasyDict,
    trainer: Trainer,
    test_sets: Mapping[str, VerificationSet],
    regressor: torch.nn.Module | None,
) -> dict[str, Judgement]:
    return {
        name: judge_networks(
            trainer.backbone,
            regressor,
            test_set,
            trainer.loader.device,
            method=config.quality_head,
            fmr=config.erc_fmr,
            half=trainer.half,
        )
        for name, test_set in test_sets.items()
    }


def _verify(config: EasyDict, trainer: Trainer, test_sets: Mapping[str, VerificationSet], step: int) -> None:
    """Verification in the middle of the training, for the log."""
    for name, judgement in _judge_all(config, trainer, test_sets, None).items():
        result = judgement.verification_metrics()
        LOGGER.info("step %d  %s: %s", step, name, verification_text(result))
        accuracy = {f"verification/{name}": result["accuracy"]} if "accuracy" in result else {}
        trainer.log.scalars(step, accuracy | {f"eer/{name}": result["eer"]})


def _finish(
    config: EasyDict,
    trainer: Trainer,
    split: Split,
    test_sets: Mapping[str, VerificationSet],
    class_weights: Tensor | None,
) -> dict[str, Any]:
    """Judge the trained networks and write metrics.json, the pictures and the ONNX files."""
    output, dataset = Path(config.output), split.training_set
    regressor = None if trainer.quality_head is None else trainer.quality_head.regressor
    judgements = _judge_all(config, trainer, test_sets, regressor)
    for name, judgement in scored(judgements).items():
        warn_if_constant(judgement.quality, name)
    metrics = {"data": split.counts()} | judgement_metrics(judgements)
    metrics |= _known_of_rendered(config, dataset, judgements, class_weights)
    write_results(metrics, judgements, output, trainer.log, trainer.position.global_step, _plot_curves)
    with _weights_are_safe(output):
        _export(config, trainer, dataset, judgements)
    announce(metrics, output)
    return metrics


def _known_of_rendered(
    config: EasyDict, dataset: Any, judgements: Mapping[str, Judgement], class_weights: Tensor | None
) -> dict[str, float]:
    """Metrics that only rendered faces give: their quality and their low-variance classes are known."""
    metrics: dict[str, float] = {}
    rendered = scored(judgements).get(build_data.SYNTHETIC)
    if rendered is not None:
        severity = build_data.build_synthetic_test_faces(config).severity
        metrics["spearman_severity"] = severity_correlation(rendered.quality, severity)
    planted = getattr(dataset, "low_variance_ids", ())
    if class_weights is not None and 0 < len(planted) < len(class_weights):
        metrics |= class_weight_means(class_weights.cpu().numpy(), planted)
    return metrics


def _plot_curves(judgements: Mapping[str, Judgement], path: Path) -> None:
    """The curves of all test sets in one panel."""
    plot_erc({name: judgement.curve for name, judgement in judgements.items()}, path)


@contextmanager
def _weights_are_safe(output: Path) -> Iterator[None]:
    """Tell of an export that fails in the block what is not lost by it."""
    try:
        yield
    except ExportError as error:
        raise ExportError(
            f"{error}. Weights and metrics.json are safe in {output}; to export them again: "
            f"python -m trainer.export {output}"
        ) from error


def _export(config: EasyDict, trainer: Trainer, dataset: Any, judgements: Mapping[str, Judgement]) -> None:
    """quality.onnx and embedding.onnx, compared with torch on training images."""
    output, device = Path(config.output), trainer.loader.device
    pixels = np.stack([dataset[i][0] for i in range(min(_COMPARED_IMAGES, len(dataset)))])
    images = to_network_input(torch.from_numpy(pixels), device)
    recipe = resolved(config, dataset, device)["recipe"]
    head = config.quality_head
    written = read_list(output)
    weights = [written[name].sha256 for name in (BACKBONE, QUALITY_HEAD)[: 1 if head is None else 2]]
    metadata = origin(head or "none", recipe, weights)
    kinds = {"embedding": metadata}
    if head is not None:
        # Where a photograph stands among drawn faces says nothing.
        real = {name: x for name, x in judgements.items() if name != build_data.SYNTHETIC}
        kinds = {"quality": metadata | calibration_metadata(real, _RECOGNISER)} | kinds
    with written_together(output, moment(output)) as new:
        errors = {
            kind: export_onnx(
                trainer.backbone,
                trainer.quality_head,
                new / f"{kind}.onnx",
                kind=kind,
                images=images,
                metadata=content,
            )
            for kind, content in kinds.items()
        }
    tell_of_exports(output, errors)

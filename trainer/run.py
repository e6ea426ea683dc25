"""One run: build from the recipe, train, judge, and leave the files that people use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor

from eval_tools.plots import plot_erc, plot_quality_sheet
from eval_tools.test_sets import VerificationSet
from igfiqa_head.export import export_onnx
from igfiqa_head.ranks import Ranks
from trainer import build, build_data, build_parts
from trainer.checkpoint import has_checkpoint
from trainer.earlier_run import check_output
from trainer.evaluation import (
    Evaluation,
    QualityEvaluation,
    class_weight_means,
    erc_metrics,
    evaluate,
    severity_correlation,
    verification_metrics,
)
from trainer.freed_memory import keep_freed_memory
from trainer.loader import to_network_input
from trainer.log import LOGGER, RunLog, Writer, logging_to, only_errors_shown
from trainer.loop import Trainer
from trainer.process_group import local_rank, training_processes, world_size
from trainer.run_files import resolved, write_json
from trainer.run_on_top import run_on_top
from trainer.sources import origin

_COMPARED_IMAGES = 8


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
    output = Path(config.output)
    with training_processes(device, config.rank_timeout) as ranks:
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
    log = RunLog(config.frequent, bars=ranks.rank == 0)
    try:
        dataset = build_data.build_train_set(config)
        trainer = build.build_trainer(config, dataset, log, device, ranks)
        if ranks.rank == 0:
            test_sets = build_data.build_verification_sets(config)
            trainer.after_steps = lambda step: _verify(trainer, test_sets, config.erc_fmr, step)
            _describe(config, trainer, dataset)
        if config.resume is True or (config.resume == "auto" and ranks.any(has_checkpoint(trainer.output))):
            trainer.resume()
        log.writers = begin()
        if ranks.rank == 0:
            write_json(resolved(config, dataset, device), Path(config.output) / "recipe.json")
        trainer.fit()
        class_weights = None if trainer.quality_head is None else trainer.quality_head.class_weights()
        return _finish(config, trainer, dataset, test_sets, class_weights) if ranks.rank == 0 else {}
    finally:
        log.close()


def _describe(config: EasyDict, trainer: Trainer, dataset: Any) -> None:
    several = f" in {trainer.ranks.size} processes" if trainer.ranks.size > 1 else ""
    LOGGER.info(
        "%s: %d images of %d classes; %s on %s%s; %d epochs of %d steps; writing to %s",
        config.rec, len(dataset), config.num_classes or dataset.num_classes, config.network,
        trainer.loader.device.type, several, trainer.num_epoch, trainer.steps_per_epoch, config.output,
    )  # fmt: skip


def _evaluate_all(
    trainer: Trainer, test_sets: Mapping[str, VerificationSet], fmr: float
) -> dict[str, Evaluation]:
    regressor = None if trainer.quality_head is None else trainer.quality_head.regressor
    return {
        name: evaluate(trainer.backbone, regressor, test_set, trainer.loader.device, fmr, trainer.half)
        for name, test_set in test_sets.items()
    }


def _verify(trainer: Trainer, test_sets: Mapping[str, VerificationSet], fmr: float, step: int) -> None:
    """Verification in the middle of the training, for the log."""
    for name, evaluation in _evaluate_all(trainer, test_sets, fmr).items():
        accuracy = evaluation.verification.accuracy
        LOGGER.info("step %d  %s: verification accuracy %.4f", step, name, accuracy)
        trainer.log.scalars(step, {f"verification/{name}": accuracy})


def _finish(
    config: EasyDict,
    trainer: Trainer,
    dataset: Any,
    test_sets: Mapping[str, VerificationSet],
    class_weights: Tensor | None,
) -> dict[str, Any]:
    """Judge the trained networks and write metrics.json, the pictures and the ONNX files."""
    output = Path(config.output)
    evaluations = _evaluate_all(trainer, test_sets, config.erc_fmr)
    metrics = _metrics(config, dataset, evaluations, class_weights)
    write_json(metrics, output / "metrics.json")
    _draw(output, test_sets, evaluations)
    _export(config, trainer, dataset)
    _announce(metrics, output)
    return metrics


def _metrics(
    config: EasyDict, dataset: Any, evaluations: Mapping[str, Evaluation], class_weights: Tensor | None
) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "verification": {name: verification_metrics(e) for name, e in evaluations.items()},
        "erc": {name: erc_metrics(scored.curve, config.erc_fmr) for name, scored in _scored(evaluations)},
    }
    for name, scored in _scored(evaluations):
        if name == build_data.SYNTHETIC:
            severity = build_data.build_synthetic_test_faces(config).severity
            metrics["spearman_severity"] = severity_correlation(scored.quality, severity)
    planted = getattr(dataset, "low_variance_ids", ())
    if class_weights is not None and 0 < len(planted) < len(class_weights):
        metrics |= class_weight_means(class_weights.cpu().numpy(), planted)
    return metrics


def _scored(evaluations: Mapping[str, Evaluation]) -> list[tuple[str, QualityEvaluation]]:
    return [(name, e.scored) for name, e in evaluations.items() if e.scored is not None]


def _draw(
    output: Path, test_sets: Mapping[str, VerificationSet], evaluations: Mapping[str, Evaluation]
) -> None:
    """One panel with the curves of all test sets, and the faces of the first one from bad to good."""
    scored = _scored(evaluations)
    if not scored:
        return
    plot_erc({name: result.curve for name, result in scored}, output / "erc.png")
    name, first = scored[0]
    plot_quality_sheet(test_sets[name].images, first.quality, output / "quality_sheet.png")


def _export(config: EasyDict, trainer: Trainer, dataset: Any) -> None:
    """quality.onnx and embedding.onnx, compared with torch on training images."""
    device = trainer.loader.device
    pixels = np.stack([dataset[i][0] for i in range(min(_COMPARED_IMAGES, len(dataset)))])
    images = to_network_input(torch.from_numpy(pixels), device)
    kinds, weights = ["embedding"], ["model.pt"]
    if trainer.quality_head is not None:
        kinds, weights = ["quality", *kinds], [*weights, "quality_head.pt"]
    recipe = resolved(config, dataset, trainer.loader.device)["recipe"]
    metadata = origin(config.quality_head or "none", recipe, [Path(config.output) / name for name in weights])
    for kind in kinds:
        path = Path(config.output) / f"{kind}.onnx"
        error = export_onnx(
            trainer.backbone, trainer.quality_head, path, kind=kind, images=images, metadata=metadata
        )
        LOGGER.info("wrote %s (relative error against torch %.1e)", path, error)


def _announce(metrics: Mapping[str, Any], output: Path) -> None:
    """The figures that a user wants to see at the end."""
    for name, result in metrics["verification"].items():
        LOGGER.info(
            "%s: verification accuracy %.4f +- %.4f", name, result["accuracy"], result["accuracy_std"]
        )
    for name, result in metrics["erc"].items():
        ratio = result["auc"] / result["auc_random"] if result["auc_random"] else float("nan")
        LOGGER.info(
            "%s: ERC area %.4f at FMR %.0e, %.2f of a random score's",
            name,
            result["auc"],
            result["fmr"],
            ratio,
        )
    for key in ("spearman_severity", "weight_low_variance", "weight_diverse"):
        if key in metrics:
            LOGGER.info("%s: %.3f", key, metrics[key])
    LOGGER.info("done; everything is in %s", output)

"""One run: build from the recipe, train, judge, and leave the files that people use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict

from eval_tools.plots import plot_erc, plot_quality_sheet
from eval_tools.test_sets import VerificationSet
from igfiqa_head.export import export_onnx
from trainer import build
from trainer.evaluation import (
    Evaluation,
    QualityEvaluation,
    class_weight_means,
    erc_metrics,
    evaluate,
    severity_correlation,
    verification_metrics,
)
from trainer.loader import to_network_input
from trainer.log import LOGGER, RunLog, logging_to
from trainer.loop import Trainer
from trainer.run_files import resolved, write_json
from trainer.run_on_top import run_on_top
from trainer.sources import origin

_COMPARED_IMAGES = 8


def run(config: EasyDict) -> dict[str, Any]:
    """Carry out a recipe from the first to the last file; returns what metrics.json holds.

    Raises:
        ValueError: the recipe, the data or a checkpoint cannot be used.
        TrainingDivergedError, Stopped: see :meth:`trainer.loop.Trainer.fit`.
    """
    _refuse_several_processes()
    if config.recognizer is not None:
        return run_on_top(config)
    build.load_plugins(config)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    with logging_to(output / "training.log"):
        build.warn_of_ignored_keys(config)
        device = build.build_device(config)
        dataset = build.build_train_set(config)
        test_sets = build.build_verification_sets(config)
        log = RunLog(config.frequent, build.build_writers(config, output))
        trainer = build.build_trainer(config, dataset, log, device)
        trainer.after_steps = lambda step: _verify(trainer, test_sets, config.erc_fmr, step)
        write_json(resolved(config, dataset, trainer.loader.device), output / "recipe.json")
        _describe(config, trainer, dataset)
        if config.resume:
            trainer.resume()
        try:
            trainer.fit()
            metrics = _finish(config, trainer, dataset, test_sets)
        finally:
            log.close()
    return metrics


def _refuse_several_processes() -> None:
    """Under torchrun every process would train for itself and write over the others' files."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise ValueError(
            f"training runs in one process, got WORLD_SIZE={processes}: start train.py with python"
        )


def _describe(config: EasyDict, trainer: Trainer, dataset: Any) -> None:
    LOGGER.info(
        "%s: %d images of %d classes; %s on %s; %d epochs of %d steps; writing to %s",
        config.rec, len(dataset), config.num_classes or dataset.num_classes, config.network,
        trainer.loader.device, trainer.num_epoch, trainer.steps_per_epoch, config.output,
    )  # fmt: skip


def _evaluate_all(
    trainer: Trainer, test_sets: Mapping[str, VerificationSet], fmr: float
) -> dict[str, Evaluation]:
    regressor = None if trainer.quality_head is None else trainer.quality_head.regressor
    return {
        name: evaluate(trainer.backbone, regressor, test_set, trainer.loader.device, fmr)
        for name, test_set in test_sets.items()
    }


def _verify(trainer: Trainer, test_sets: Mapping[str, VerificationSet], fmr: float, step: int) -> None:
    """Verification in the middle of the training, for the log."""
    for name, evaluation in _evaluate_all(trainer, test_sets, fmr).items():
        accuracy = evaluation.verification.accuracy
        LOGGER.info("step %d  %s: verification accuracy %.4f", step, name, accuracy)
        trainer.log.scalars(step, {f"verification/{name}": accuracy})


def _finish(
    config: EasyDict, trainer: Trainer, dataset: Any, test_sets: Mapping[str, VerificationSet]
) -> dict[str, Any]:
    """Judge the trained networks and write metrics.json, the pictures and the ONNX files."""
    output = Path(config.output)
    evaluations = _evaluate_all(trainer, test_sets, config.erc_fmr)
    metrics = _metrics(config, trainer, dataset, evaluations)
    write_json(metrics, output / "metrics.json")
    _draw(output, test_sets, evaluations)
    _export(config, trainer, dataset)
    _announce(metrics, output)
    return metrics


def _metrics(
    config: EasyDict, trainer: Trainer, dataset: Any, evaluations: Mapping[str, Evaluation]
) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "verification": {name: verification_metrics(e) for name, e in evaluations.items()},
        "erc": {name: erc_metrics(scored.curve, config.erc_fmr) for name, scored in _scored(evaluations)},
    }
    for name, scored in _scored(evaluations):
        if name == build.SYNTHETIC:
            severity = build.build_synthetic_test_faces(config).severity
            metrics["spearman_severity"] = severity_correlation(scored.quality, severity)
    planted = getattr(dataset, "low_variance_ids", ())
    if trainer.quality_head is not None and 0 < len(planted) < trainer.quality_head.num_classes:
        metrics |= class_weight_means(trainer.quality_head.class_weights().cpu().numpy(), planted)
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

"""One run on top of a frozen recogniser: features, lessons, R, how good it is, and the files people use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from numpy.typing import NDArray

from eval_tools.plots import plot_erc, plot_quality_sheet
from igfiqa_head import __version__
from igfiqa_head.feature_regressor import FeatureRegressor
from igfiqa_head.recogniser_graph import RecogniserGraph
from trainer import build, build_on_top
from trainer.checkpoint import save_weights
from trainer.judging import DISCARD_LIMIT, Judgement, judge
from trainer.loader import to_network_input
from trainer.log import LOGGER, RunLog, logging_to
from trainer.model_card import model_card
from trainer.on_top import Features, Lessons, compute_features, fit, make_lessons
from trainer.recognisers import recogniser_file
from trainer.replicas import Replicas
from trainer.run_files import resolved, write_json, write_text
from trainer.sources import origin

_COMPARED_IMAGES = 8
_CPU = torch.device("cpu")


def run_on_top(config: EasyDict) -> dict[str, Any]:
    """Carry out a recipe with a ``recognizer`` from the first to the last file; returns what metrics.json holds.

    Raises:
        ValueError: the recipe, the recogniser, the data or the cache cannot be used.
    """
    build.load_plugins(config)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    with logging_to(output / "training.log"):
        dataset = build.build_train_set(config)
        learned, held_out = build_on_top.split_identities(config, dataset)
        faces = np.stack([dataset[int(i)][0] for i in learned[:_COMPARED_IMAGES]])
        path = recogniser_file(config.recognizer, output, to_network_input(torch.from_numpy(faces), _CPU))
        recogniser = RecogniserGraph(path)
        test_sets = build_on_top.build_test_sets(config, dataset, held_out)
        description = resolved(config, dataset, _CPU)
        write_json(description, output / "recipe.json")
        _describe(config, dataset, learned, held_out, recogniser)
        features_of = Features(recogniser)
        replicas = build_on_top.build_replicas(config, dataset, learned)
        regressor, lessons = _learn(config, dataset.labels[learned], replicas, recogniser, features_of)
        save_weights(regressor, output / "quality_head.pt")
        judgements = {
            name: judge(
                name, test_set, features_of, regressor, fmr=config.erc_fmr, cache=build_on_top.cache(config)
            )
            for name, test_set in test_sets.items()
        }
        metrics = _metrics(lessons, judgements)
        write_json(metrics, output / "metrics.json")
        _draw(output, judgements)
        metadata = origin("ig_fiqa on top", description["recipe"], [path])
        for name, judgement in list(judgements.items())[:1]:
            metadata["calibration"] = judgement.calibration(name).to_json()
        reads = [name for name in recogniser.groups if name in config.on_top.reads]
        _export(output, recogniser, regressor, features_of, faces, metadata, reads)
        write_text(model_card(description, recogniser, metrics, __version__), output / "model_card.md")
        _announce(metrics, output)
    return metrics


def _describe(
    config: EasyDict,
    dataset: Any,
    learned: NDArray[np.int64],
    held_out: NDArray[np.int64],
    recogniser: RecogniserGraph,
) -> None:
    LOGGER.info(
        "%s: %d images of %d identities to learn from, %d of %d others to judge by",
        config.rec, len(learned), len(np.unique(dataset.labels[learned])),
        len(held_out), len(np.unique(dataset.labels[held_out])),
    )  # fmt: skip
    maps = ", ".join(f"{channels} channels" for channels in recogniser.maps.values()) or "none"
    LOGGER.info(
        "%s: embeddings of %d, maps of %s; writing to %s",
        recogniser.network.path, recogniser.embedding_size, maps, config.output,
    )  # fmt: skip


def _learn(
    config: EasyDict,
    labels: NDArray[np.int64],
    replicas: Replicas,
    recogniser: RecogniserGraph,
    features_of: Features,
) -> tuple[FeatureRegressor, Lessons]:
    """The method: features of clean and degraded images, their labels and weights, and R."""
    features = compute_features(features_of, replicas, build_on_top.cache(config))
    _, classes = np.unique(labels, return_inverse=True)
    lessons = make_lessons(
        features,
        features[:, : recogniser.embedding_size],
        torch.from_numpy(classes),
        variance_weights=config.ig_fiqa.variance_weights,
    )
    LOGGER.info(
        "CR %.3f +- %.3f; mean weight of a class %.2f, of %.0f %% it is below 0.1",
        lessons.certainty.mean(), lessons.certainty.std(), lessons.class_weights.mean(),
        100 * (lessons.class_weights < 0.1).float().mean(),
    )  # fmt: skip
    regressor = build_on_top.build_regressor(config, recogniser, lessons)
    batch_size = min(config.batch_size, len(lessons.certainty))
    optimizer, schedule = build_on_top.build_optimiser(
        config, regressor, len(lessons.certainty) // batch_size
    )
    fit(
        regressor,
        lessons,
        optimizer=optimizer,
        schedule=schedule,
        log=RunLog(config.frequent),
        batch_size=batch_size,
        num_epoch=config.num_epoch,
        beta=config.ig_fiqa.beta,
        seed=config.seed,
    )
    return regressor, lessons


def _metrics(lessons: Lessons, judgements: Mapping[str, Judgement]) -> dict[str, Any]:
    weights = lessons.class_weights
    return {
        "verification": {name: judgement.verification_metrics() for name, judgement in judgements.items()},
        "erc": {name: judgement.erc_metrics() for name, judgement in judgements.items()},
        "weights": {"mean": float(weights.mean()), "share_below_0.1": float((weights < 0.1).float().mean())},
    }


def _draw(output: Path, judgements: Mapping[str, Judgement]) -> None:
    """Curves of all methods on the first test set, and its faces from bad to good."""
    for name, judgement in judgements.items():
        plot_erc(judgement.curves, output / "erc.png", title=name, limit=DISCARD_LIMIT)
        plot_quality_sheet(judgement.test_set.images, judgement.quality, output / "quality_sheet.png")
        return


def _export(
    output: Path,
    recogniser: RecogniserGraph,
    regressor: FeatureRegressor,
    features_of: Features,
    faces: NDArray[np.uint8],
    metadata: Mapping[str, str],
    reads: Sequence[str],
) -> None:
    """quality.onnx and both.onnx, each compared with R on images of the data set."""
    with torch.inference_mode():
        quality = regressor(torch.from_numpy(features_of(faces))).numpy()
    for kind in ("quality", "both"):
        path = output / f"{kind}.onnx"
        error = recogniser.write_quality(
            path,
            kind=kind,
            layers=regressor.folded(),
            reads=reads,
            images=faces,
            quality=quality,
            metadata=metadata,
        )
        LOGGER.info("wrote %s (relative error against torch %.1e)", path, error)


def _announce(metrics: Mapping[str, Any], output: Path) -> None:
    for name, result in metrics["erc"].items():
        areas = ", ".join(f"{area:.3f} {method}" for method, area in result["area"].items())
        LOGGER.info("%s: ERC area at FMR %.0e: %s", name, result["fmr"], areas)
    LOGGER.info("done; everything is in %s", output)

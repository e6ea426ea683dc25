"""One run on top of a frozen recogniser: features, lessons, R, how good it is, and the files people use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from numpy.typing import NDArray

from eval_tools.plots import plot_erc
from eval_tools.test_sets import VerificationSet
from igfiqa_head import __version__
from igfiqa_head.feature_regressor import FeatureRegressor
from igfiqa_head.io.written_files import list_written, written_together
from igfiqa_head.recogniser_graph import RecogniserGraph
from trainer import build, build_data, build_on_top
from trainer.earlier_run import check_output, held_output
from trainer.evaluation import DISCARD_LIMIT, Judgement
from trainer.held_out import Split
from trainer.judging import judge_on_top
from trainer.loader import to_network_input
from trainer.log import LOGGER, RunLog, logging_to, warnings_as_log_lines
from trainer.model_card import model_card
from trainer.on_top import Features, Lessons, compute_features, fit, make_lessons
from trainer.recognisers import recogniser_file
from trainer.results import (
    announce,
    calibration_metadata,
    judgement_metrics,
    tell_of_exports,
    tell_recipe,
    write_results,
)
from trainer.run_files import resolved, write_text
from trainer.sources import file_sha256, origin
from trainer.weight_files import QUALITY_HEAD, moment, write_weights

_COMPARED_IMAGES = 8
_LEAST_SPREAD = 1e-4  # standard deviation of CR; rounding alone gives less
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class _Given:
    """What a run works on, all of it looked at before anything takes long.

    Attributes:
        split: the images to learn from, and those of other identities.
        faces: a few of the former, to compare files on.
        recogniser: the frozen network.
        test_sets: what the result is judged by.
    """

    split: Split
    faces: NDArray[np.uint8]
    recogniser: RecogniserGraph
    test_sets: Mapping[str, VerificationSet]


def run_on_top(config: EasyDict) -> dict[str, Any]:
    """Carry out a recipe with a ``recognizer``, to the last file; returns what metrics.json holds.

    Raises:
        ValueError: the recipe, the recogniser, the data or the cache cannot be used.
        TrainingDivergedError: the loss of R is not finite.
    """
    build_on_top.check_quality_head(config)
    output = Path(config.output)
    with held_output(output):
        return _run_held(config, output)


def _run_held(config: EasyDict, output: Path) -> dict[str, Any]:
    earlier = check_output(
        output,
        resume=config.resume,
        overwrite=config.overwrite,
        has_checkpoints=False,
        needed=[config.recognizer],
    )
    with logging_to(output / "training.log") as begin_log:
        build_on_top.warn_of_ignored_keys(config)
        given = _open(config, output)
        earlier.remove()
        begin_log()
        with closing(RunLog(config.frequent, build.build_writers(config, output))) as log:
            return _run(config, given, log)


def _run(config: EasyDict, given: _Given, log: RunLog) -> dict[str, Any]:
    output = Path(config.output)
    description = resolved(build_on_top.keys_read(config), given.split.dataset, _CPU)
    tell_recipe(description, output, log)
    features_of = Features(given.recogniser)
    _describe(config, given, features_of)
    lessons = _lessons(config, given, features_of)
    regressor, steps = _fitted(config, given.recogniser, lessons, log)
    write_weights({QUALITY_HEAD: regressor.state_dict()}, output)
    recogniser = given.recogniser.network.path
    if recogniser.parent == output:  # it was exported for this run
        list_written(output, [recogniser.name], moment(output))
    cache = build_on_top.cache(config)
    judgements = {
        name: judge_on_top(name, test_set, features_of, regressor, fmr=config.erc_fmr, cache=cache)
        for name, test_set in given.test_sets.items()
    }
    metrics = {"data": given.split.counts(), "weights": _weights(lessons)} | judgement_metrics(judgements)
    write_results(metrics, judgements, output, log, steps, _plot_curves)
    _export(config, given, regressor, features_of, _metadata(description, given, judgements))
    with written_together(output, moment(output)) as new:
        write_text(model_card(description, given.recogniser, metrics, __version__), new / "model_card.md")
    announce(metrics, output)
    return metrics


def _open(config: EasyDict, output: Path) -> _Given:
    dataset = build_data.build_train_set(config)
    split = build_on_top.split_identities(config, dataset)
    learned = split.learned
    spread = np.linspace(0, len(learned) - 1, min(_COMPARED_IMAGES, len(learned))).astype(np.int64)
    faces = np.stack([dataset[int(index)][0] for index in learned[spread]])
    test_sets = build_on_top.build_test_sets(config, split)
    path = recogniser_file(
        config.recognizer,
        output,
        to_network_input(torch.from_numpy(faces), _CPU),
        network=config.network,
        plugins=config.plugins,
    )
    with warnings_as_log_lines():
        recogniser = RecogniserGraph(path)
    return _Given(split, faces, recogniser, test_sets)


def _describe(config: EasyDict, given: _Given, features_of: Features) -> None:
    recogniser, counts = given.recogniser, given.split.counts()
    LOGGER.info(
        "%s: %d images of %d identities to learn from, %d of %d others to judge by; writing to %s",
        config.rec, counts["learned_images"], counts["learned_identities"],
        counts["held_out_images"], counts["held_out_identities"], config.output,
    )  # fmt: skip
    LOGGER.info(
        "%s: embeddings of %d; R reads %d numbers (%s)",
        recogniser.network.path, recogniser.embedding_size, len(recogniser.columns(config.on_top.reads)),
        ", ".join(name for name in recogniser.groups if name in config.on_top.reads),
    )  # fmt: skip
    start = time.perf_counter()
    features_of(given.faces)
    each = (time.perf_counter() - start) / len(given.faces)
    images = len(given.split.learned) * (1 + config.on_top.replicas)
    LOGGER.info(
        "%d images as they are and in %d degraded copies take about %.0f min, less what is in the cache; "
        "on_top.max_images limits them",
        len(given.split.learned), config.on_top.replicas, np.ceil(images * each / 60),
    )  # fmt: skip


def _lessons(config: EasyDict, given: _Given, features_of: Features) -> Lessons:
    """The method: features of clean and degraded images, their labels and their weights."""
    split = given.split
    replicas = build_on_top.build_replicas(config, split.dataset, split.learned)
    features = compute_features(features_of, replicas, build_on_top.cache(config))
    _, classes = np.unique(split.dataset.labels[split.learned], return_inverse=True)
    lessons = make_lessons(
        features,
        features[:, : features_of.embedding_size],
        torch.from_numpy(classes),
        variance_weights=config.ig_fiqa.variance_weights,
    )
    weights = _weights(lessons)
    LOGGER.info(
        "labels CR %.3f +- %.3f; mean weight of a class %.2f, of %.0f %% it is below 0.1",
        lessons.certainty.mean(), lessons.certainty.std(), weights["mean"], 100 * weights["share_below_0.1"],
    )  # fmt: skip
    _warn_if_equal(lessons.certainty)
    return lessons


def _warn_if_equal(certainty: torch.Tensor) -> None:
    """Tell of labels without spread, as embeddings have that are the same for all images."""
    if float(certainty.std()) < _LEAST_SPREAD:
        LOGGER.warning(
            "the labels CR are the same for all images and teach nothing, so the scores will mean nothing: "
            "the recognizer tells no faces apart"
        )


def _weights(lessons: Lessons) -> dict[str, float]:
    """The part ``weights`` of metrics.json."""
    weights = lessons.class_weights
    return {"mean": float(weights.mean()), "share_below_0.1": float((weights < 0.1).float().mean())}


def _fitted(
    config: EasyDict, recogniser: RecogniserGraph, lessons: Lessons, log: RunLog
) -> tuple[FeatureRegressor, int]:
    """R, and the steps it was trained for."""
    regressor = build_on_top.build_regressor(config, recogniser, lessons)
    batch_size = min(config.batch_size, len(lessons.certainty))
    steps = len(lessons.certainty) // batch_size
    optimizer, schedule = build_on_top.build_optimiser(config, regressor, steps)
    fit(
        regressor,
        lessons,
        optimizer=optimizer,
        schedule=schedule,
        log=log,
        batch_size=batch_size,
        num_epoch=config.num_epoch,
        beta=config.ig_fiqa.beta,
        seed=config.seed,
    )
    return regressor, steps * config.num_epoch


def _plot_curves(judgements: Mapping[str, Judgement], path: Path) -> None:
    """The curves of all methods on the first test set."""
    name, judgement = next(iter(judgements.items()))
    plot_erc(judgement.curves, path, title=name, limit=DISCARD_LIMIT)


def _metadata(
    description: Mapping[str, Any], given: _Given, judgements: Mapping[str, Judgement]
) -> dict[str, str]:
    """What the ONNX files say of their origin, and what their scores mean on the first test set."""
    path = given.recogniser.network.path
    recipe = description["recipe"]
    public = recipe | {"on_top": {key: value for key, value in recipe["on_top"].items() if key != "cache"}}
    return origin("ig_fiqa on top", public, [file_sha256(path)]) | calibration_metadata(judgements, path.name)


def _export(
    config: EasyDict,
    given: _Given,
    regressor: FeatureRegressor,
    features_of: Features,
    metadata: Mapping[str, str],
) -> None:
    """quality.onnx and both.onnx, each compared with R on images of the data set."""
    output = Path(config.output)
    with torch.inference_mode():
        quality = regressor(torch.from_numpy(features_of(given.faces))).numpy()
    with written_together(output, moment(output)) as new:
        errors = {
            kind: given.recogniser.write_quality(
                new / f"{kind}.onnx",
                kind=kind,
                layers=regressor.folded(),
                reads=config.on_top.reads,
                images=given.faces,
                quality=quality,
                metadata=metadata,
            )
            for kind in ("quality", "both")
        }
    tell_of_exports(output, errors)

"""One run on top of a frozen recogniser: features, lessons, R, how good it is, and the files people use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from numpy.typing import NDArray

from eval_tools.plots import plot_erc, plot_quality_sheet
from eval_tools.test_sets import VerificationSet
from igfiqa_head import __version__
from igfiqa_head.feature_regressor import FeatureRegressor
from igfiqa_head.io.atomic import make_folder
from igfiqa_head.recogniser_graph import RecogniserGraph
from trainer import build, build_data, build_on_top
from trainer.judging import DISCARD_LIMIT, Judgement, judge
from trainer.loader import to_network_input
from trainer.log import LOGGER, RunLog, logging_to, warnings_as_log_lines
from trainer.model_card import model_card
from trainer.on_top import Features, Lessons, compute_features, fit, make_lessons
from trainer.recognisers import recogniser_file
from trainer.run_files import resolved, write_json, write_text
from trainer.sources import origin
from trainer.torch_files import save_atomically

_COMPARED_IMAGES = 8
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class _Given:
    """What a run works on, all of it looked at before anything takes long.

    Attributes:
        dataset: the images and their labels.
        learned: positions of the images to learn from.
        held_out: positions of those of other identities.
        faces: a few of the former, to compare files on.
        recogniser: the frozen network.
        test_sets: what the result is judged by.
    """

    dataset: Any
    learned: NDArray[np.int64]
    held_out: NDArray[np.int64]
    faces: NDArray[np.uint8]
    recogniser: RecogniserGraph
    test_sets: Mapping[str, VerificationSet]

    def counts(self) -> dict[str, int]:
        """The part ``data`` of metrics.json."""
        parts = {"learned": self.learned, "held_out": self.held_out}
        images = {f"{name}_images": len(part) for name, part in parts.items()}
        people = {f"{name}_identities": len(np.unique(self.dataset.labels[p])) for name, p in parts.items()}
        return images | people


def run_on_top(config: EasyDict) -> dict[str, Any]:
    """Carry out a recipe with a ``recognizer``, to the last file; returns what metrics.json holds.

    Raises:
        ValueError: the recipe, the recogniser, the data or the cache cannot be used.
        TrainingDivergedError: the loss of R is not finite.
    """
    build_on_top.check_quality_head(config)
    build.load_plugins(config)
    output = Path(config.output)
    make_folder(output)
    with logging_to(output / "training.log"):
        build_on_top.warn_of_ignored_keys(config)
        given = _open(config, output)
        description = resolved(build_on_top.keys_read(config), given.dataset, _CPU)
        write_json(description, output / "recipe.json")
        features_of = Features(given.recogniser)
        _describe(config, given, features_of)
        regressor, lessons = _learn(config, given, features_of)
        save_atomically(regressor.state_dict(), output / "quality_head.pt")
        cache = build_on_top.cache(config)
        judgements = {
            name: judge(name, test_set, features_of, regressor, fmr=config.erc_fmr, cache=cache)
            for name, test_set in given.test_sets.items()
        }
        metrics = _metrics(given, lessons, judgements)
        write_json(metrics, output / "metrics.json")
        _draw(output, judgements)
        _export(config, given, regressor, features_of, _metadata(description, given, judgements))
        write_text(model_card(description, given.recogniser, metrics, __version__), output / "model_card.md")
        _announce(metrics, output)
    return metrics


def _open(config: EasyDict, output: Path) -> _Given:
    dataset = build_data.build_train_set(config)
    learned, held_out = build_on_top.split_identities(config, dataset)
    spread = np.linspace(0, len(learned) - 1, min(_COMPARED_IMAGES, len(learned))).astype(np.int64)
    faces = np.stack([dataset[int(index)][0] for index in learned[spread]])
    test_sets = build_on_top.build_test_sets(config, dataset, held_out)
    path = recogniser_file(
        config.recognizer,
        output,
        to_network_input(torch.from_numpy(faces), _CPU),
        network=config.network,
        plugins=config.plugins,
    )
    with warnings_as_log_lines():
        recogniser = RecogniserGraph(path)
    return _Given(dataset, learned, held_out, faces, recogniser, test_sets)


def _describe(config: EasyDict, given: _Given, features_of: Features) -> None:
    recogniser, counts = given.recogniser, given.counts()
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
    images = len(given.learned) * (1 + config.on_top.replicas)
    LOGGER.info(
        "%d images as they are and in %d degraded copies take about %.0f min, less what is in the cache; "
        "on_top.max_images limits them",
        len(given.learned), config.on_top.replicas, np.ceil(images * each / 60),
    )  # fmt: skip


def _learn(config: EasyDict, given: _Given, features_of: Features) -> tuple[FeatureRegressor, Lessons]:
    """The method: features of clean and degraded images, their labels and weights, and R."""
    replicas = build_on_top.build_replicas(config, given.dataset, given.learned)
    features = compute_features(features_of, replicas, build_on_top.cache(config))
    _, classes = np.unique(given.dataset.labels[given.learned], return_inverse=True)
    lessons = make_lessons(
        features,
        features[:, : features_of.embedding_size],
        torch.from_numpy(classes),
        variance_weights=config.ig_fiqa.variance_weights,
    )
    LOGGER.info(
        "labels CR %.3f +- %.3f; mean weight of a class %.2f, of %.0f %% it is below 0.1",
        lessons.certainty.mean(), lessons.certainty.std(), lessons.class_weights.mean(),
        100 * _share_below(lessons, 0.1),
    )  # fmt: skip
    return _fitted(config, given.recogniser, lessons), lessons


def _fitted(config: EasyDict, recogniser: RecogniserGraph, lessons: Lessons) -> FeatureRegressor:
    regressor = build_on_top.build_regressor(config, recogniser, lessons)
    batch_size = min(config.batch_size, len(lessons.certainty))
    steps = len(lessons.certainty) // batch_size
    optimizer, schedule = build_on_top.build_optimiser(config, regressor, steps)
    log = RunLog(config.frequent, build.build_writers(config, Path(config.output)))
    try:
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
    finally:
        log.close()
    return regressor


def _share_below(lessons: Lessons, weight: float) -> float:
    return float((lessons.class_weights < weight).float().mean())


def _metrics(given: _Given, lessons: Lessons, judgements: Mapping[str, Judgement]) -> dict[str, Any]:
    return {
        "data": given.counts(),
        "weights": {
            "mean": float(lessons.class_weights.mean()),
            "share_below_0.1": _share_below(lessons, 0.1),
        },
        "verification": {name: judgement.verification_metrics() for name, judgement in judgements.items()},
        "erc": {name: judgement.erc_metrics() for name, judgement in judgements.items()},
    }


def _draw(output: Path, judgements: Mapping[str, Judgement]) -> None:
    """Curves of all methods on the first test set, and its faces from bad to good."""
    for name, judgement in list(judgements.items())[:1]:
        plot_erc(judgement.curves, output / "erc.png", title=name, limit=DISCARD_LIMIT)
        plot_quality_sheet(judgement.test_set.images, judgement.quality, output / "quality_sheet.png")


def _metadata(
    description: Mapping[str, Any], given: _Given, judgements: Mapping[str, Judgement]
) -> dict[str, str]:
    """What the ONNX files say of their origin, and what their scores mean on the first test set."""
    path = given.recogniser.network.path
    recipe = description["recipe"]
    public = recipe | {"on_top": {key: value for key, value in recipe["on_top"].items() if key != "cache"}}
    metadata = origin("ig_fiqa on top", public, [path])
    for name, judgement in list(judgements.items())[:1]:
        metadata["calibration"] = judgement.calibration(name, path.name).to_json()
    return metadata


def _export(
    config: EasyDict,
    given: _Given,
    regressor: FeatureRegressor,
    features_of: Features,
    metadata: Mapping[str, str],
) -> None:
    """quality.onnx and both.onnx, each compared with R on images of the data set."""
    with torch.inference_mode():
        quality = regressor(torch.from_numpy(features_of(given.faces))).numpy()
    for kind in ("quality", "both"):
        path = Path(config.output) / f"{kind}.onnx"
        error = given.recogniser.write_quality(
            path,
            kind=kind,
            layers=regressor.folded(),
            reads=config.on_top.reads,
            images=given.faces,
            quality=quality,
            metadata=metadata,
        )
        LOGGER.info("wrote %s (relative error against torch %.1e)", path, error)


def _announce(metrics: Mapping[str, Any], output: Path) -> None:
    """The figures that a user wants to see at the end."""
    for name, result in metrics["erc"].items():
        LOGGER.info(
            "%s: FNMR %.3f at FMR %.2g (asked for %g), %d genuine and %d impostor pairs",
            name, result["fnmr_at_0"], result["effective_fmr"], result["fmr"],
            result["n_genuine"], result["n_impostor"],
        )  # fmt: skip
        if result["fnmr_at_0"]:
            areas = ", ".join(f"{method} {area:.3f}" for method, area in result["area"].items())
            LOGGER.info("%s: ERC area over that FNMR, lower is better: %s", name, areas)
    LOGGER.info("done; everything is in %s", output)

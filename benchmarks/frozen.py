"""What on_top.py and planted_classes.py share: data, R, and the figure that judges it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from eval_tools.cache import apply_cached
from eval_tools.erc import error_rejection_curve
from eval_tools.models import Sharpness
from eval_tools.scores import BoolArray, FloatArray, IntArray
from eval_tools.test_sets import VerificationSet, degraded, open_test_set
from igfiqa_head.recogniser_graph import RecogniserGraph
from trainer import build_on_top
from trainer.evaluation import relative_area
from trainer.log import RunLog
from trainer.on_top import Features, Lessons, compute_features, fit, make_lessons
from trainer.recipe import load_recipe

ROOT = Path(__file__).resolve().parent.parent
SEVERITIES = {"strong": 1.0, "medium": 0.6}
"""Highest severity of the damage in the test images."""
HALVES = ("tuning", "reported")
_SHARE, _DRAWS, _FMR = 0.4, 5, 1e-3
DAMAGE_KEYS = ("degradation_p", "rescale", "jitter", "erase_area", "erase_aspect", "further_p")

Areas = Mapping[tuple[str, str], float]
"""(half, severity) -> area."""
Score = Callable[["DegradedFaces"], FloatArray]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recogniser", type=Path, required=True, metavar="FILE", help="ONNX recogniser")
    parser.add_argument("--rec", type=Path, required=True, metavar="DIR", help="images to learn from")
    parser.add_argument(
        "--test",
        type=Path,
        required=True,
        metavar="DIR",
        help="images of other identities, compared in all pairs; one half of the identities is for tuning",
    )
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument("--cache", type=Path, default=Path("work_dirs/cache"), help="where features are kept")


@dataclass(frozen=True)
class DegradedFaces:
    """One draw of degraded test faces of some identities, all pairs of which are compared.

    Attributes:
        features: [N, F].
        mirrored: [N, F], of the mirror images.
        sharpness: [N].
        pairs: [P, 2].
        is_genuine: [P].
        similarity: [P], by the recogniser.
    """

    features: Tensor
    mirrored: Tensor
    sharpness: FloatArray
    pairs: IntArray
    is_genuine: BoolArray
    similarity: FloatArray

    def area(self, quality: FloatArray) -> float:
        """ERC area to 0.95 over the FNMR at 0, protocol ``fixed``, FMR 1e-3."""
        worse = quality[self.pairs].min(axis=1)
        return relative_area(error_rejection_curve(self.similarity, self.is_genuine, worse, fmr=_FMR))


class Judge:
    """The halves of a test set in several draws of degradations, of kinds that R does not learn from."""

    def __init__(self, features_of: Features, test: Path, cache: Path) -> None:
        whole = open_test_set(test)
        if not isinstance(whole, VerificationSet) or whole.identities is None:
            raise ValueError(f"{test} must be images with identities, not a list of pairs")
        order = np.random.default_rng(0).permutation(np.unique(whole.identities))
        first = np.isin(whole.identities, order[: len(order) // 2])
        self.positions = {
            name: np.flatnonzero(first == is_first)
            for name, is_first in zip(HALVES, (True, False), strict=True)
        }
        self.whole = whole
        self._draws: dict[tuple[str, str], list[DegradedFaces]] = {}
        for severity, highest in SEVERITIES.items():
            for seed in range(_DRAWS):
                images = degraded(whole, _SHARE, seed, max_severity=highest).images
                functions = {
                    "features": features_of,
                    "mirrored": Mirrored(features_of),
                    "sharpness": Sharpness(),
                }
                found, _ = apply_cached(functions, images, cache, title=f"{severity} damage, draw {seed + 1}")
                arrays = {name: np.asarray(values) for name, values in found.items()}
                for half, rows in self.positions.items():
                    of_half = {name: values[rows] for name, values in arrays.items()}
                    faces = _compared(of_half, whole.identities[rows], features_of.embedding_size)
                    self._draws.setdefault((half, severity), []).append(faces)

    def areas(self, score: Score) -> Areas:
        """(half, severity) -> mean area over the draws."""
        return {
            key: float(np.mean([faces.area(score(faces)) for faces in draws]))
            for key, draws in self._draws.items()
        }


def _compared(arrays: Mapping[str, FloatArray], identities: IntArray, embedding_size: int) -> DegradedFaces:
    features, mirrored = torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["mirrored"])
    first, second = np.triu_indices(len(identities), k=1)
    unit = F.normalize(features[:, :embedding_size])
    return DegradedFaces(
        features,
        mirrored,
        arrays["sharpness"],
        np.stack([first, second], axis=1),
        identities[first] == identities[second],
        (unit @ unit.T).numpy()[first, second],
    )


class Mirrored:
    """Features of the mirror images, as what :func:`eval_tools.cache.apply_cached` applies to images."""

    def __init__(self, features_of: Features) -> None:
        self._features_of = features_of
        self.image_size, self.row_shape = features_of.image_size, features_of.row_shape
        self.fingerprint = f"{features_of.fingerprint} mirrored"

    def __call__(self, images: NDArray[np.uint8]) -> FloatArray:
        return self._features_of(np.ascontiguousarray(images[:, :, ::-1]))


class Bench:
    """Learns R on a data set with changed recipe keys; features that stay the same are computed once."""

    def __init__(self, recogniser: Path, rec: str, cache: Path) -> None:
        self.recogniser = RecogniserGraph(recogniser)
        self.features_of = Features(self.recogniser)
        self._rec, self._cache = rec, cache
        self._features: dict[tuple[Any, ...], Tensor] = {}

    def config(self, seed: int, *overrides: str) -> EasyDict:
        given = [
            f"recognizer={self.recogniser.network.path}",
            f"rec={self._rec}",
            "on_top.held_out=0",
            f"seed={seed}",
        ]
        return load_recipe(ROOT / "recipes/on_top.py", [*given, *overrides])

    def lessons(self, config: EasyDict, dataset: Any) -> tuple[Lessons, Tensor]:
        """Labels, weights and features of a data set; and the class [N] of each image as it is."""
        learned = build_on_top.split_identities(config, dataset).learned
        _, classes = np.unique(dataset.labels[learned], return_inverse=True)
        replicas = build_on_top.build_replicas(config, dataset, learned)
        damage = [value for name, value in config.ig_fiqa.items() if name in DAMAGE_KEYS]
        key = (id(dataset), config.seed, config.on_top.replicas, *damage)
        if key not in self._features:
            self._features.clear()  # a set has half a gigabyte
            self._features[key] = compute_features(self.features_of, replicas, self._cache)
        features, labels = self._features[key], torch.from_numpy(classes)
        return (
            make_lessons(
                features,
                features[:, : self.features_of.embedding_size],
                labels,
                variance_weights=config.ig_fiqa.variance_weights,
            ),
            labels,
        )

    def learn(self, config: EasyDict, lessons: Lessons, *, mirror: bool = False) -> Score:
        """R, as a function of test faces; with ``mirror``, the mean over a face and its mirror image."""
        regressor = build_on_top.build_regressor(config, self.recogniser, lessons)
        optimizer, schedule = build_on_top.build_optimiser(
            config, regressor, len(lessons.certainty) // config.batch_size
        )
        fit(
            regressor,
            lessons,
            optimizer=optimizer,
            schedule=schedule,
            log=RunLog(config.frequent),
            batch_size=config.batch_size,
            num_epoch=config.num_epoch,
            beta=config.ig_fiqa.beta,
            seed=config.seed,
        )

        def score(faces: DegradedFaces) -> FloatArray:
            with torch.inference_mode():
                views = [faces.features, faces.mirrored] if mirror else [faces.features]
                return torch.stack([regressor(view) for view in views]).mean(dim=0).numpy()

        return score


def print_row(name: str, areas: Sequence[Areas], width: int = 44) -> None:
    """Mean and standard deviation over the seeds, for each half and severity."""
    cells = []
    for half in HALVES:
        for severity in SEVERITIES:
            values = [area[half, severity] for area in areas]
            cells.append(f"{np.mean(values):7.3f} +-{np.std(values):6.3f}")
    print(f"{name:{width}}" + "  ".join(cells), flush=True)


def print_head(width: int = 44) -> None:
    titles = [f"{half}, {severity}" for half in HALVES for severity in SEVERITIES]
    print(f"{'ERC area over FNMR at 0':{width}}" + "  ".join(f"{title:16}" for title in titles))

"""What IG-FIQA's weights and degradations are worth on real faces, with and without planted classes.

    python benchmarks/planted_classes.py --recogniser w600k_r50.onnx --rec DIR --test DIR

The paper's claim: images of a class that are all alike have a high similarity whatever their quality, so
they teach a wrong quality unless they lose their weight. 150 such classes are planted into --rec: each is one
image of the tuning half of --test, most of them heavily degraded, in 10 near-copies. The other half of --test
judges, as in benchmarks/on_top.py. Exit status 1 unless the weights win with every seed where classes were
planted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.frozen import SEVERITIES, Areas, Bench, Judge, add_arguments, print_head, print_row  # noqa: E402
from eval_tools.test_sets.degraded import DegradedImages  # noqa: E402
from eval_tools.test_sets.images import RGBImage  # noqa: E402
from plugins.datasets.recordio import RecordIODataset  # noqa: E402

CLASSES, COPIES, DEGRADED_SHARE = 150, 10, 0.8
REPORTED = "reported"
ROWS = {
    "IG weights": (),
    "weights 1": ("ig_fiqa.variance_weights=False",),
    "IG weights, no degradations": ("on_top.replicas=0",),
    "weights 1, no degradations": ("on_top.replicas=0", "ig_fiqa.variance_weights=False"),
}


class PlantedDataset:
    """A data set with classes of near-copies behind it.

    Args:
        dataset: the ordinary classes.
        images: one for each planted class.
        seed: of the choice of damage and of how copies differ.
    """

    def __init__(self, dataset: Any, images: list[RGBImage], seed: int) -> None:
        self._dataset = dataset
        damaged = DegradedImages(images, DEGRADED_SHARE, seed)
        rng = np.random.default_rng(seed)
        self._planted = [_near_copy(damaged[i], rng) for i in range(len(images)) for _ in range(COPIES)]
        first = int(dataset.labels.max()) + 1
        self.num_ordinary = first
        self.labels = np.concatenate([dataset.labels, np.repeat(first + np.arange(len(images)), COPIES)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        if index < len(self._dataset):
            return self._dataset[index]
        return self._planted[index - len(self._dataset)], int(self.labels[index])


def _near_copy(image: RGBImage, rng: np.random.Generator) -> RGBImage:
    """As from the next moment of a video: a pixel of motion, a little brighter or darker, sensor noise."""
    moved = np.roll(image, rng.integers(-1, 2, 2), axis=(0, 1))
    changed = moved * rng.uniform(0.97, 1.03) + rng.normal(0, 2, image.shape)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def planted_images(judge: Judge, seed: int) -> list[RGBImage]:
    """Images of different people of the tuning half."""
    positions = judge.positions["tuning"]
    people = judge.whole.identities[positions]
    rng = np.random.default_rng(seed)
    first = [rng.choice(positions[people == person]) for person in np.unique(people)]
    return [judge.whole.images[int(i)] for i in rng.permutation(first)[:CLASSES]]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    bench = Bench(options.recogniser, str(options.rec), options.cache)
    judge = Judge(bench.features_of, options.test, options.cache)
    ordinary = RecordIODataset(options.rec)
    results: dict[str, dict[str, list[Areas]]] = {
        kind: {row: [] for row in ROWS} for kind in ("as it is", "planted")
    }
    weights = []
    for seed in tqdm(range(options.seeds), unit="seed", disable=None):
        planted = PlantedDataset(ordinary, planted_images(judge, seed), seed)
        for kind, dataset in (("as it is", ordinary), ("planted", planted)):
            for row, overrides in ROWS.items():
                config = bench.config(seed, *overrides)
                lessons, _ = bench.lessons(config, dataset)
                results[kind][row].append(judge.areas(bench.learn(config, lessons)))
                if kind == "planted" and row == "IG weights":
                    of_class = lessons.class_weights.numpy()
                    weights.append(
                        (of_class[planted.num_ordinary :].mean(), of_class[: planted.num_ordinary].mean())
                    )
    print_head()
    for kind, rows in results.items():
        for row, areas in rows.items():
            print_row(f"{kind}: {row}", areas)
    print("mean weight of planted classes {:.2f}, of the others {:.2f}".format(*np.mean(weights, axis=0)))
    return verdict(results["planted"])


def verdict(planted: Mapping[str, list[Areas]]) -> int:
    """The smallest gain of any seed, on the half that nothing was tuned on."""
    lost = False
    for severity in SEVERITIES:
        pairs = zip(planted["IG weights"], planted["weights 1"], strict=True)
        ratios = [ours[REPORTED, severity] / plain[REPORTED, severity] for ours, plain in pairs]
        print(f"{severity}: area with weights over that without: {', '.join(f'{r:.3f}' for r in ratios)}")
        lost |= max(ratios) >= 1
    print("the weights lose for a seed" if lost else "the weights win for every seed")
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())

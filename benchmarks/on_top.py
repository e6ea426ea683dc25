"""What a quality head on a frozen recogniser gains and loses by each of its choices.

    python benchmarks/on_top.py --recogniser w600k_r50.onnx --rec DIR --test DIR
    python benchmarks/on_top.py --recogniser w600k_r50.onnx --rec DIR --test DIR --rows base recipe

R learns on --rec and is judged on all pairs of --test, 40 % of whose images are degraded in kinds that R did
not learn from, at two strengths and in five draws. Printed is the area under the error-versus-reject curve
(protocol fixed, FMR 1e-3, discarded share 0 to 0.95) over the FNMR where nothing is discarded, mean and
standard deviation over seeds, on each half of the test identities: choices were made on the tuning half.
Each row changes one thing of a base; the recipe has the best of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.frozen import (  # noqa: E402
    DAMAGE_KEYS,
    Areas,
    Bench,
    DegradedFaces,
    Judge,
    add_arguments,
    print_head,
    print_row,
)
from igfiqa_head.similarity import class_center_similarities  # noqa: E402
from plugins.datasets.recordio import RecordIODataset  # noqa: E402
from trainer.on_top import Lessons, class_means  # noqa: E402

DAMAGE = ("on_top.replicas", *(f"ig_fiqa.{key}" for key in DAMAGE_KEYS))
EMBEDDING, WITH_NORM = "on_top.reads=embedding", "on_top.reads=embedding,norm"
BASE = (
    "ig_fiqa.rescale=0.2,1.0",
    "ig_fiqa.jitter=0.5,1.5",
    "ig_fiqa.erase_area=0.02,0.33",
    "weight_decay=0.01",
)
STRONGER = ("ig_fiqa.rescale=0.1,1.0", "ig_fiqa.jitter=0.2,1.8", "ig_fiqa.erase_area=0.02,0.5")
CHANGES: dict[str, tuple[str, ...]] = {
    "base": (),
    "R reads the embedding (the paper)": (EMBEDDING,),
    "R reads embedding, norm": (WITH_NORM,),
    "R reads norm, maps": ("on_top.reads=norm,maps",),
    "R reads maps": ("on_top.reads=maps",),
    "64 hidden units": ("on_top.hidden=64",),
    "64 hidden units, embedding": ("on_top.hidden=64", EMBEDDING),
    "64 hidden units, embedding, norm": ("on_top.hidden=64", WITH_NORM),
    "weights 1": ("ig_fiqa.variance_weights=False",),
    "no degradations": ("on_top.replicas=0",),
    "no degradations, weights 1": ("on_top.replicas=0", "ig_fiqa.variance_weights=False"),
    "1 copy": ("on_top.replicas=1",),
    "2 copies": ("on_top.replicas=2",),
    "8 copies": ("on_top.replicas=8",),
    "degradations with p = 0.5": ("ig_fiqa.degradation_p=0.5",),
    "stronger degradations": STRONGER,
    "stronger and further kinds, weight decay 1": (*STRONGER, "ig_fiqa.further_p=0.1", "weight_decay=1"),
    "further kinds": ("ig_fiqa.further_p=0.15",),
    "further kinds, embedding, norm": ("ig_fiqa.further_p=0.15", WITH_NORM),
    "beta 0.05": ("ig_fiqa.beta=0.05",),
    "three times as long": ("num_epoch=60",),
    "twice the learning rate": ("lr=2e-3",),
    "weight decay 1": ("weight_decay=1",),
}
"""What each row changes of the base, with which the search began; the recipe is where it ended."""

MIRROR = "mean with the mirror image"
LABELS = ("CCS alone", "CCS - NNCCS", "own image left out of the class mean")
ROWS = {"recipe": ()} | {row: (*BASE, *CHANGES.get(row, ())) for row in (*CHANGES, *LABELS, MIRROR)}


def relabelled(how: str, lessons: Lessons, labels: Tensor, embedding_size: int) -> Lessons:
    """The lessons with other labels than CR to the class means."""
    embeddings = F.normalize(lessons.features[:, :embedding_size])
    every = labels.repeat(len(embeddings) // len(labels))
    prototypes = class_means(embeddings[: len(labels)], labels, int(labels.max()) + 1)
    ccs, nnccs = class_center_similarities(embeddings, prototypes, every)
    if how == "CCS alone":
        return lessons._replace(certainty=ccs)
    if how == "CCS - NNCCS":
        return lessons._replace(certainty=ccs - nnccs)
    own = embeddings[: len(labels)].repeat(len(embeddings) // len(labels), 1)
    others = prototypes[every] - own
    alone = labels.bincount()[every] == 1
    without = torch.where(alone, ccs, (embeddings * F.normalize(others)).sum(dim=1))
    return lessons._replace(certainty=without / (nnccs + 1))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="of the table"
    )
    return parser.parse_args()


def references(embedding_size: int) -> dict[str, Callable[[DegradedFaces], np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        "random": lambda faces: rng.random(len(faces.sharpness)),
        "sharpness": lambda faces: faces.sharpness,
        "embedding norm": lambda faces: faces.features[:, :embedding_size].norm(dim=1).numpy(),
    }


def main() -> None:
    options = parse_arguments()
    bench = Bench(options.recogniser, str(options.rec), options.cache)
    judge = Judge(bench.features_of, options.test, options.cache)
    size = bench.features_of.embedding_size
    print_head()
    for name, score in references(size).items():
        print_row(name, [judge.areas(score)])
    dataset = RecordIODataset(options.rec)
    for rows in groups(options.rows):
        areas: dict[str, list[Areas]] = {row: [] for row in rows}
        runs = [(seed, row) for seed in range(options.seeds) for row in rows]
        for seed, row in tqdm(runs, unit="run", leave=False, disable=None):
            config = bench.config(seed, *ROWS[row])
            lessons, labels = bench.lessons(config, dataset)
            if row in LABELS:
                lessons = relabelled(row, lessons, labels, size)
            areas[row].append(judge.areas(bench.learn(config, lessons, mirror=row == MIRROR)))
        for row, of_seeds in areas.items():
            print_row(row, of_seeds)


def groups(rows: Sequence[str]) -> list[list[str]]:
    """Rows that learn from the same features stand together: features are what takes long."""
    together: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        damage = tuple(o for o in ROWS[row] if o.startswith(DAMAGE))
        together.setdefault(damage, []).append(row)
    return list(together.values())


if __name__ == "__main__":
    main()

"""What IG-FIQA adds to a training step of plain ArcFace, and what tracking v saves over computing Eq. 6.

    python benchmarks/step_overhead.py                  # 10,572 classes, 64 images, two threads; ten minutes
    python benchmarks/step_overhead.py --network r18 --batch 32 --sub-batch split
    python benchmarks/step_overhead.py --network r50 --batch 256 --device cuda

1. A whole optimiser step of the trainer with `quality_head=ig_fiqa` against one with `quality_head=None`:
the recipe of IG-FIQA(S), as many images through the same backbone, batches that are on the device already.
The two take turns, in an order that changes with each pair. Given is the median of the ratios within the
pairs with its 95 % interval from the order statistics. It should be at most 1.03; exit status 1 if the
interval lies above. Then the parts of both are timed by themselves. IG-FIQA saves in L_Arc, which sees half
of the images.

2. A step that keeps v up to date (Eq. 8-9) against one that computes the variances of Eq. 6 anew, for which
all images have to be embedded: measured over those at hand, and scaled linearly to CASIA-WebFace's, beside
the paper's figure.

As in a training on a CPU, the C library keeps freed memory. Otherwise the one pass of the whole batch would
pay most for fresh pages, and IG-FIQA's two passes of half of it would look cheaper than they are.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import quantile_test
from torch import Tensor, nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from igfiqa_head.head import IGFIQAHead  # noqa: E402
from igfiqa_head.sub_batches import Batch  # noqa: E402
from trainer import build, build_data  # noqa: E402
from trainer.first_pass import class_means  # noqa: E402
from trainer.freed_memory import keep_freed_memory  # noqa: E402
from trainer.log import RunLog  # noqa: E402
from trainer.loop import Trainer  # noqa: E402
from trainer.recipe import load_recipe  # noqa: E402

BATCHES = 8  # of rendered faces, used over and over
WARM_UP, PART_ROUNDS, EQ6_ROUNDS = 2, 10, 3
CASIA_IMAGES = 490_623
PAPER_BATCH, PAPER_SECONDS = 1024, (0.7, 58.7)  # of an iteration with v and with Eq. 6, RTX 3090

Work = Callable[[], object]
Seconds = NDArray[np.float64]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="mbf", help="a light one feels overhead most (%(default)s)")
    parser.add_argument("--classes", type=int, default=10_572, help="C (default: CASIA's %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images through the backbone (%(default)s)")
    parser.add_argument("--pairs", type=int, default=40, help="steps of each of the two (%(default)s)")
    modes = ("split", "mirror")
    parser.add_argument("--sub-batch", nargs="+", choices=modes, default=modes, help="(default: both)")
    parser.add_argument("--limit", type=float, default=1.03, help="of the ratio (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (%(default)s)")
    parser.add_argument("--device", default="cpu", help="(%(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys of both")
    return parser.parse_args()


def build_trainer(options: argparse.Namespace, override: str) -> Trainer:
    """Of rendered faces of fewer people than there are classes, which a step does not notice."""
    settings = [
        "rec=synthetic",
        "num_workers=0",
        f"num_classes={options.classes}",
        f"device={options.device}",
    ]
    settings += [f"num_image={BATCHES * options.batch}", f"batch_size={options.batch}"]
    settings += [f"network={options.network}", "lr=0.01"]  # 0.1 is for 1,024 images
    config = load_recipe(ROOT / "recipes/casia_r50_igfiqa.py", [*settings, *options.overrides, override])
    build.load_plugins(config)
    device = build.build_device(config)
    return build.build_trainer(config, build_data.build_train_set(config), RunLog(config.frequent), device)


def steps(trainer: Trainer) -> Work:
    """Takes one step whenever it is called."""
    batches = itertools.cycle(list(trainer.loader.batches(epoch=0)))
    return lambda: trainer.step([next(batches)])


def take_turns(contenders: Mapping[str, Work], rounds: int) -> dict[str, Seconds]:
    """Seconds of each in each round, forwards and backwards in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in tqdm(range(-WARM_UP, rounds), desc=" / ".join(contenders), leave=False, disable=None):
        for name in list(contenders)[:: 1 if turn % 2 else -1]:
            synchronize()
            start = time.perf_counter()
            contenders[name]()
            synchronize()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def compare(plain: Trainer, ours: Trainer, mode: str, pairs: int, limit: float) -> bool:
    """Prints the ratio; returns whether it is above the limit."""
    seconds = take_turns({"ArcFace": steps(plain), "IG-FIQA": steps(ours)}, pairs)
    theirs, own = (float(np.median(seconds[name])) for name in ("ArcFace", "IG-FIQA"))
    ratios = seconds["IG-FIQA"] / seconds["ArcFace"]
    low, high = quantile_test(ratios, p=0.5).confidence_interval(0.95)
    verdict = "missed" if low > limit else "met" if high <= limit else "not decided by this run's noise"
    print(
        f"\n{mode}: ArcFace {theirs:.3f} s, IG-FIQA {own:.3f} s a step, "
        f"ratio {np.median(ratios):.4f} ({low:.4f} .. {high:.4f}), at most {limit}: {verdict}"
    )
    return verdict == "missed"


def backward_of(trainer: Trainer, loss: Callable[[], Tensor]) -> Work:
    """Forward and backward from gradients that are None, as in a step."""

    def work() -> None:
        trainer.optimizer.zero_grad()
        loss().backward()

    return work


def parts_of(plain: Trainer, ours: Trainer, head: IGFIQAHead) -> dict[str, Work]:
    """What both kinds of step consist of, besides the optimiser, which has the same to do in both."""
    whole, drawn = next(plain.loader.batches(epoch=0)), next(ours.loader.batches(epoch=0))
    clean, quality = head.split(drawn)
    embeddings = embeddings_of(ours, quality)

    def backbone(trainer: Trainer, *batches: Batch) -> Work:
        return backward_of(trainer, lambda: sum(trainer.backbone(batch.images).sum() for batch in batches))

    def softmax(trainer: Trainer, batch: Batch) -> Work:
        leaf = embeddings_of(trainer, batch)
        return backward_of(trainer, lambda: trainer.classifier(leaf, batch.labels))

    def quality_loss() -> Tensor:
        return head(embeddings, quality.labels, ours.classifier, epoch=0).loss

    return {
        "ArcFace backbone": backbone(plain, whole),
        "IG-FIQA backbone": backbone(ours, clean, quality),
        "ArcFace L_Arc": softmax(plain, whole),
        "IG-FIQA L_Arc": softmax(ours, clean),
        "IG-FIQA quality head": backward_of(ours, quality_loss),
        "IG-FIQA degradations": lambda: head.split(drawn),
    }


def embeddings_of(trainer: Trainer, batch: Batch) -> Tensor:
    with torch.no_grad():
        return nn.Parameter(trainer.backbone(batch.images).float())


def print_parts(parts: Mapping[str, Work]) -> None:
    """All take turns together, so that what slows the machine down for a while slows all of them."""
    medians = {name: float(np.median(taken)) for name, taken in take_turns(parts, PART_ROUNDS).items()}
    step = sum(median for name, median in medians.items() if name.startswith("ArcFace"))
    for name, median in medians.items():
        print(f"  {name:21} {median * 1e3:9.1f} ms, {median / step:8.2%} of ArcFace's parts")


def compare_with_eq6(trainer: Trainer, head: IGFIQAHead, batch_size: int) -> None:
    """Prints how long a step takes with v, and with the variances of Eq. 6 in its place."""
    batches = list(trainer.loader.every_image())
    images, labels = sum(len(batch.labels) for batch in batches), batches[0].labels
    ccs = torch.rand(len(labels), device=labels.device)

    def track() -> Tensor:
        head.variance.update(labels, ccs, momentum=0.9)
        return head.variance.weights(labels)

    def eq6() -> Tensor:
        """Of unit vectors: the mean squared distance to their mean is 1 less its squared length."""
        trainer.backbone.eval()
        found = class_means(trainer.backbone, batches, trainer.num_classes)
        trainer.backbone.train()
        return 1 - found.means.square().sum(dim=1)

    seconds = take_turns({"step": steps(trainer), "v": track, "Eq. 6": eq6}, EQ6_ROUNDS)
    step, of_v, of_images = (float(np.median(taken)) for taken in seconds.values())
    of_casia = of_images * CASIA_IMAGES / images

    def ratio(of_eq6: float, size: int = batch_size) -> float:
        """To a step with v, of ``size`` images."""
        return 1 + (of_eq6 - of_v) / (step * size / batch_size)

    with_v, with_eq6 = PAPER_SECONDS
    print(f"\nv takes {of_v * 1e3:.2f} ms of a step of {step:.3f} s ({of_v / step:.3%}). With Eq. 6 instead:")
    print(f"  {images} images, measured: {of_images:.2f} s, and a step {ratio(of_images):.1f} x its time")
    print(f"  CASIA-WebFace's {CASIA_IMAGES:,}, scaled: {of_casia:,.0f} s, {ratio(of_casia):,.0f} x")
    print(f"  the step scaled to {PAPER_BATCH:,} images, too: {ratio(of_casia, PAPER_BATCH):,.0f} x")
    print(f"  the paper's, with {PAPER_BATCH:,}: {with_eq6} s / {with_v} s = {with_eq6 / with_v:.0f} x")


def main() -> int:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(
        f"{options.network}, {options.classes:,} classes, {options.batch} images a step, "
        f"{options.pairs} pairs, {options.device}, {options.threads} threads"
    )
    plain, missed = build_trainer(options, "quality_head=None"), False
    for mode in options.sub_batch:
        ours = build_trainer(options, f"ig_fiqa.sub_batch={mode}")
        missed |= compare(plain, ours, mode, options.pairs, options.limit)
        print_parts(parts_of(plain, ours, ours.quality_head))
    compare_with_eq6(ours, ours.quality_head, options.batch)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

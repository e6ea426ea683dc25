"""What a step costs behind the backbone: prototypes, margin softmax, quality labels and quality head.

    python benchmarks/head_step.py                        # 85,742 classes, 256 images, two threads; minutes
    python benchmarks/head_step.py --classes 10572 --growth

Forward and backward, in float32, of

  - a reference in the form of most public codes: the whole batch to both losses, all logits cloned for the
    labels, the margin as a dense one-hot matrix, acos and cos over all logits, cross-entropy;
  - `cr_fiqa`: ours, the whole batch to both losses; its loss must be the reference's;
  - `ig_fiqa`: ours, one half of the batch to each loss.

Times come from rounds in which the three take turns; printed are the median and quartiles of the times and of
the ratios within a round. The peak memory of each is that of a process of its own during its steps, less what
the process had before, W included, and less the gradient of W (resident pages, as Linux counts them). Ours
are measured alone at the numbers of classes of --growth too. The exit status is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from igfiqa_head.head import IGFIQAHead  # noqa: E402
from igfiqa_head.quality_head import QualityHead  # noqa: E402
from plugins.classifiers.partial_fc import PartialFC  # noqa: E402
from plugins.margins.arcface import ArcFace  # noqa: E402
from plugins.quality_heads.cr_fiqa import CRFIQAHead  # noqa: E402

SCALE, MARGIN, BETA, LOSS_WEIGHT = 64.0, 0.5, 0.5, 10.0
GOALS = {"cr_fiqa": (0.7, 0.5), "ig_fiqa": (0.5, 0.5)}  # time and peak memory over the reference's
WARM_UP_CLASSES, STEPS_ALONE = 1000, 5
Step = Callable[[PartialFC, QualityHead, Tensor, Tensor], Tensor]


def reference(classifier: PartialFC, head: QualityHead, embeddings: Tensor, labels: Tensor) -> Tensor:
    cosines = F.linear(F.normalize(embeddings), F.normalize(classifier.weight)).clamp(-1, 1)
    rows = torch.arange(len(labels))
    with torch.no_grad():
        ccs = cosines[rows, labels]
        others = cosines.clone()
        others[rows, labels] = -torch.inf
        certainty = ccs / (others.amax(dim=1) + 1 + 1e-9)
    margin = torch.zeros_like(cosines).scatter_(1, labels[:, None], MARGIN)
    logits = cosines.acos_().add_(margin).cos_().mul_(SCALE)
    quality = F.smooth_l1_loss(head.regressor(embeddings), certainty, beta=BETA)
    return F.cross_entropy(logits, labels) + LOSS_WEIGHT * quality


def cr_fiqa(classifier: PartialFC, head: QualityHead, embeddings: Tensor, labels: Tensor) -> Tensor:
    return classifier(embeddings, labels) + LOSS_WEIGHT * head(embeddings, labels, classifier, epoch=0).loss


def ig_fiqa(classifier: PartialFC, head: QualityHead, embeddings: Tensor, labels: Tensor) -> Tensor:
    half = len(labels) // 2
    recognition = classifier(embeddings[:half], labels[:half])
    return recognition + LOSS_WEIGHT * head(embeddings[half:], labels[half:], classifier, epoch=0).loss


CONTENDERS: dict[str, tuple[Step, type[QualityHead]]] = {
    "reference": (reference, CRFIQAHead),
    "cr_fiqa": (cr_fiqa, CRFIQAHead),
    "ig_fiqa": (ig_fiqa, IGFIQAHead),
}


class Problem:
    """A batch, prototypes and a head for each contender."""

    def __init__(self, classes: int, size: int, images: int) -> None:
        torch.manual_seed(0)
        self.classifier = PartialFC(size, classes, ArcFace(MARGIN), scale=SCALE)
        self.heads = {name: head(size, classes, beta=BETA) for name, (_, head) in CONTENDERS.items()}
        for head in self.heads.values():
            head.regressor.load_state_dict(self.heads["reference"].regressor.state_dict())
        self.embeddings = nn.Parameter(torch.randn(images, size))
        self.labels = torch.randint(classes, (images,))

    def step(self, name: str) -> tuple[float, float]:
        """The loss of one step and the seconds it took; gradients are new, as after zero_grad()."""
        self.classifier.weight.grad = self.embeddings.grad = None
        start = time.perf_counter()
        loss = CONTENDERS[name][0](self.classifier, self.heads[name], self.embeddings, self.labels)
        loss.backward()
        return loss.item(), time.perf_counter() - start


def resident_bytes(field: str) -> int:
    """``VmRSS``, what the process has in memory, or ``VmHWM``, the most that it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def forget_peak() -> None:
    """Give freed memory back, and let the peak start at what is left (man 5 proc, clear_refs)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def measure_alone(options: argparse.Namespace) -> None:
    """In a process of its own: the peak of a few steps of one contender, and how long they took."""
    Problem(WARM_UP_CLASSES, options.size, options.images).step(options.alone)
    problem = Problem(options.classes, options.size, options.images)
    forget_peak()
    before = resident_bytes("VmRSS") + problem.classifier.weight.nbytes  # the gradient's
    seconds = [problem.step(options.alone)[1] for _ in range(STEPS_ALONE)]
    print(json.dumps({"peak": resident_bytes("VmHWM") - before, "seconds": seconds}))


def alone(name: str, classes: int, options: argparse.Namespace) -> tuple[float, list[float]]:
    """(peak in MiB, seconds of each step) of a contender."""
    command = [sys.executable, __file__, "--alone", name, "--classes", str(classes)]
    for key in ("size", "images", "threads"):
        command += [f"--{key}", str(getattr(options, key))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output)
    return found["peak"] / 2**20, found["seconds"]


def take_turns(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Seconds of each contender in each round."""
    problem = Problem(options.classes, options.size, options.images)
    losses = {name: problem.step(name)[0] for name in CONTENDERS}
    np.testing.assert_allclose(losses["cr_fiqa"], losses["reference"], rtol=1e-5)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(options.rounds):
        for name, taken in seconds.items():
            taken.append(problem.step(name)[1])
    return {name: np.array(taken) for name, taken in seconds.items()}


def quartiles(values: np.ndarray) -> str:
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:6.3f} ({low:.3f} .. {high:.3f})"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=85_742, help="C (default: MS1M-V2's %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="D (%(default)s)")
    parser.add_argument("--images", type=int, default=256, help="of a step (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each contender (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (%(default)s)")
    parser.add_argument(
        "--growth",
        type=int,
        nargs="*",
        default=[10_572, 85_742, 300_000, 1_000_000],
        help="numbers of classes (%(default)s)",
    )
    parser.add_argument("--alone", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    if options.alone:
        measure_alone(options)
        return 0
    print(f"C = {options.classes:,}, D = {options.size}, {options.images} images, {options.threads} threads")
    # Processes first: a process starts with the peak of the one that started it.
    peaks = {name: alone(name, options.classes, options)[0] for name in CONTENDERS}
    growth = [(classes, name, *alone(name, classes, options)) for classes in options.growth for name in GOALS]
    seconds = take_turns(options)
    missed = False
    print(f"{'':10} {'seconds':24} {'x reference':24} {'peak MiB':>9} x reference")
    for name, taken in seconds.items():
        ratios = taken / seconds["reference"]
        memory = peaks[name] / peaks["reference"]
        print(f"{name:10} {quartiles(taken):24} {quartiles(ratios):24} {peaks[name]:9.0f} {memory:.3f}")
        time_goal, memory_goal = GOALS.get(name, (1, 1))
        missed |= bool(np.median(ratios) > time_goal or memory > memory_goal)
    for classes, name, peak, of_steps in growth:
        print(f"{name} C = {classes:9,}: {quartiles(np.array(of_steps[1:]))} s, {peak:.0f} MiB")
    print("a goal is missed" if missed else "all goals are met")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

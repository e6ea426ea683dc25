"""How often the guard against swapped channels is right, on faces of your own.

    python benchmarks/channel_order.py /data/lfw
    python benchmarks/channel_order.py /data/faces /data/lfw.bin --groups 8 16 32

Shows a new guard (igfiqa_head.channel_order, which warns in QualityModel and attach) one group of aligned
faces after the other, as they are and with red and blue swapped, and prints in which share it complained. A
group with fewer than eight faces that are not grey says nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eval_tools.test_sets import open_test_set  # noqa: E402
from igfiqa_head.channel_order import ChannelGuard  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sets", nargs="+", type=Path, metavar="SET", help="a test set, as igfiqa-eval takes it"
    )
    parser.add_argument("--groups", nargs="+", type=int, default=[8, 16], help="faces in a group (8 and 16)")
    return parser.parse_args()


def read_faces(sets: Iterable[Path]) -> NDArray[np.uint8]:
    """All faces, RGB uint8 [N, H, W, 3], in a shuffled order: those of one person are alike."""
    images = [image for spec in sets for image in tqdm(open_test_set(spec).images, leave=False)]
    return np.random.default_rng(0).permutation(np.stack(images))


def complaints(faces: NDArray[np.uint8], size: int) -> int:
    whole = len(faces) // size * size
    groups = faces[:whole].reshape(-1, size, *faces.shape[1:])
    return sum(ChannelGuard().complaint(group) is not None for group in groups)


def main() -> None:
    options = parse_arguments()
    faces = read_faces(options.sets)
    print(
        f"{len(faces)} faces\n{'in a group':>10} {'groups':>8} {'false alarms':>14} {'found if swapped':>18}"
    )
    for size in options.groups:
        groups = len(faces) // size
        if not groups:
            raise SystemExit(f"{len(faces)} faces do not fill a group of {size}")
        false, found = complaints(faces, size), complaints(faces[..., ::-1], size)
        print(f"{size:>10} {groups:>8} {false / groups:>14.1%} {found / groups:>18.1%}")


if __name__ == "__main__":
    main()

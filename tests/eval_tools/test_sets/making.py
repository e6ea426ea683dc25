"""Faces and test sets on the disk for the tests to read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from eval_tools.test_sets.images import RGBImage
from igfiqa_head.io.images import encode_image

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def face(seed: int, side: int = 8) -> RGBImage:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def write_face(path: Path, seed: int = 0, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_image(face(seed, side), ".png"))


def write_lfw(root: Path, lines: Iterable[str], header: str, images: str = "images") -> Path:
    """A pairs file beside a folder of two images for each of Ann, Bob and Cat."""
    for number, name in enumerate(("Ann", "Bob", "Cat")):
        for index in (1, 2):
            write_face(root / images / name / f"{name}_{index:04d}.png", 2 * number + index)
    path = root / "pairs.txt"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path

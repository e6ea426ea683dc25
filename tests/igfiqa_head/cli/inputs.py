"""Small inputs of ``igfiqa score``, and what it makes of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from igfiqa_head.calibration import Calibration, PercentScale
from igfiqa_head.cli import main
from igfiqa_head.io.images import encode_image
from tests.onnx_models import expected
from tests.packs import picture

SIZE = 16
CALIBRATION = Calibration("small", "noise", PercentScale(10, (-1.0, 1.0), (0.0, 100.0)))


def score(*arguments: str | Path, model: str = "quality.onnx") -> int:
    return main(["score", *map(str, arguments), "--model", model, "--threads", "1"])


def aligned(seed: int) -> NDArray[np.uint8]:
    """RGB uint8 [SIZE, SIZE, 3] of a brightness of its own."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, 200, 3) + rng.uniform(0, 55, (SIZE, SIZE, 3))).astype(np.uint8)


def qualities(images: Sequence[NDArray[np.uint8]]) -> list[float]:
    """What the model says of RGB images, worked out without it."""
    return expected(np.stack(images), 1)[:, 0].tolist()


def write_aligned(folder: Path, count: int, first: int = 0) -> list[NDArray[np.uint8]]:
    """``count`` images 000.png, 001.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [aligned(first + index) for index in range(count)]
    for index, image in enumerate(images):
        (folder / f"{index:03}.png").write_bytes(encode_image(image, ".png"))
    return images


def rows(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def column(path: str | Path, name: str = "quality") -> list[float]:
    return [float(row[name]) for row in rows(path)]


def write_photograph(path: Path, seed: int = 0) -> NDArray[np.uint8]:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), picture(seed))
    return picture(seed)


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()

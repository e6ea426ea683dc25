"""Sheets of faces sorted by quality."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.arrays import plain_array
from igfiqa_head.figure_files import save

FloatArray = NDArray[np.float64]

_WIDE, _MAX_DECIMALS = 1e6, 5


def plot_quality_sheet(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    quality: ArrayLike,
    path: str | os.PathLike[str],
    *,
    rows: int = 5,
    columns: int = 12,
) -> None:
    """Draw faces from the lowest to the highest quality, row by row, each above its score, as PNG or PDF.

    The faces are evenly spaced over the ranks, from the lowest to the highest. The number left of a row, of
    which there must be several, is the percentage of all images that rank below its first face.

    Args:
        images: [N, H, W, 3] RGB uint8, or a sequence of images of one size; only those shown are read.
        quality: [N], higher is better.
        path: ends in ``.png`` or ``.pdf``.
        rows, columns: size of the sheet; fewer images than cells leave the last cells empty.

    Raises:
        ValueError: nothing to show, lengths differ, a quality is not finite, images are not RGB uint8 of one
            size, or another suffix.
    """
    count = len(images)
    if not count or rows < 1 or columns < 1:
        raise ValueError(f"a sheet needs images, rows and columns, got {count} images, {rows} x {columns}")
    scores = _finite(quality, count)
    ranks = np.round(np.linspace(0, count - 1, min(count, rows * columns))).astype(np.int64)
    chosen = np.argsort(scores, kind="stable")[ranks]
    faces = _same_size([np.asarray(images[int(index)]) for index in chosen])
    rows, columns = -(-chosen.size // columns), min(columns, chosen.size)
    title = f"low  →  high quality, row by row ({chosen.size:,} of {count:,} images)"
    if rows > 1:
        title += "\nleft of a row: share of the images that score lower than its first"
    save(_sheet(faces, scores[chosen], 100 * ranks / count, rows, columns, title), path)


def _finite(quality: ArrayLike, count: int) -> FloatArray:
    scores = plain_array("quality", quality)
    if scores.shape != (count,) or scores.dtype.kind not in "iuf":
        received = f"{scores.dtype} {scores.shape}"
        raise ValueError(f"quality must have shape ({count},), a number for each image, got {received}")
    n_bad = np.count_nonzero(~np.isfinite(scores))
    if n_bad:
        raise ValueError(f"quality has {n_bad} NaN or infinite values: exclude those images first")
    return scores.astype(np.float64)


def _labels(scores: FloatArray) -> list[str]:
    """The scores with as many decimals each, of which the range needs about three digits."""
    largest = float(np.abs(scores).max())
    if largest >= _WIDE:
        return [f"{score:.3g}" for score in scores]
    decimals = 3 - math.ceil(math.log10(float(np.ptp(scores)) or largest or 1.0))
    return [f"{score:.{min(max(decimals, 0), _MAX_DECIMALS)}f}" for score in scores]


def _same_size(faces: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    for face in faces:
        if face.dtype != np.uint8 or face.ndim != 3 or face.shape[2] != 3 or face.shape != faces[0].shape:
            raise ValueError(
                f"images must be RGB uint8 [H, W, 3] of one size, got {face.dtype} {face.shape} beside "
                f"{faces[0].dtype} {faces[0].shape}"
            )
    return faces


def _sheet(
    faces: list[NDArray[np.uint8]],
    scores: FloatArray,
    percent: FloatArray,
    rows: int,
    columns: int,
    title: str,
) -> Figure:
    """One mosaic of faces on a white canvas (an axes for each face is slow), annotated in its pixel units."""
    height, width = faces[0].shape[:2]
    cell_height, cell_width = round(1.28 * height), round(1.06 * width)
    canvas = np.full((rows * cell_height, columns * cell_width, 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(0.62 * columns, 0.62 * rows * cell_height / cell_width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_title(title, fontsize=9)
    labels = _labels(scores)
    for index, face in enumerate(faces):
        top, left = index // columns * cell_height, index % columns * cell_width
        canvas[top : top + height, left : left + width] = face
        middle = top + (height + cell_height) / 2
        axes.text(left + width / 2, middle, labels[index], ha="center", va="center", fontsize=7)
        if left == 0 and rows > 1:
            text = f"{percent[index]:.0f} %"
            axes.text(-0.1 * width, top + height / 2, text, ha="right", va="center", fontsize=7, color="0.35")
    axes.imshow(canvas, interpolation="antialiased")
    axes.set_axis_off()
    return figure

"""Aligned face crops from wherever they lie, a few of which judge an exported network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval_tools.test_sets.images import LazyImages, RGBImage, image_names, load_file, visible
from igfiqa_head.io.images import check_square, decode_image
from igfiqa_head.io.recordio import RecordReader
from igfiqa_head.io.verification_bin import read_verification_bin
from plugins.datasets.synthetic import SyntheticFaces

SIDE = 112


def open_crops(path: str | Path) -> Sequence[RGBImage]:
    """Images of a ``.rec`` file (or a folder with ``train.rec``), a ``.bin`` file, or a folder.

    A folder's own images are taken and those of its sub-folders. Images are decoded when asked for.

    Raises:
        ValueError: nothing of the kind, no image, or a damaged file.
    """
    path = Path(path)
    if (path / "train.rec").is_file():
        path = path / "train.rec"
    if path.is_dir():
        images = _folder(path)
    elif path.is_file() and path.suffix.lower() in (".rec", ".bin"):
        images = _records(path) if path.suffix.lower() == ".rec" else _pairs(path)
    else:
        raise ValueError(f"there are no images in {path}: expected a folder, a .rec or a .bin file")
    if not len(images):
        raise ValueError(f"there are no images in {path} and its sub-folders")
    return images


def draw_crops(images: Sequence[RGBImage], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """At most ``count`` different images at random, in random order: RGB uint8 [N, 112, 112, 3].

    Raises:
        ValueError: one cannot be decoded, or is not 112 x 112.
    """
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    crops = []
    for index in chosen:
        crops.append(images[int(index)])
        check_square(crops[-1], SIDE, f"image {index} of those to compare on")
    return np.stack(crops)


def rendered_crops(count: int) -> NDArray[np.uint8]:
    """Faces of invented people, one of each, of all qualities."""
    return SyntheticFaces(count, 1, split="test", low_variance_share=0.0).render()


def _folder(path: Path) -> Sequence[RGBImage]:
    root = str(path)
    names = image_names(root, root)
    for entry in visible(root, root):
        if entry.is_dir():
            names += [f"{entry.name}/{name}" for name in image_names(entry.path, root)]
    return LazyImages(len(names), partial(load_file, root, names))


def _records(path: Path) -> Sequence[RGBImage]:
    index = path.with_suffix(".idx")
    if not index.is_file():
        raise ValueError(f"{path} needs its index {index.name} beside it")
    reader = RecordReader(path, index)
    keys = reader.image_keys()
    return LazyImages(len(keys), lambda i: decode_image(reader.read(int(keys[i])).data))


def _pairs(path: Path) -> Sequence[RGBImage]:
    content = read_verification_bin(path)
    return LazyImages(len(content.images), content.decode)

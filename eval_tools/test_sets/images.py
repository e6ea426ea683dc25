"""Images that are decoded when they are asked for, and the image files of a folder."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval_tools.scores import IntArray
from igfiqa_head.io.images import decode_image

RGBImage = NDArray[np.uint8]
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class LazyImages(Sequence[RGBImage]):
    """``count`` images, of which ``load(index)`` makes the one that is asked for."""

    def __init__(self, count: int, load: Callable[[int], RGBImage]) -> None:
        self._count = count
        self._load = load

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        position = operator.index(index)
        if not -self._count <= position < self._count:
            raise IndexError(f"image {position} of {self._count}")
        return self._load(position % self._count)


def load_file(root: str, names: Sequence[str], index: int) -> RGBImage:
    """Image ``names[index]`` of the folder ``root``; a ``ValueError`` names the file."""
    path = os.path.join(root, names[index])
    try:
        return decode_image(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def select_image(images: Sequence[RGBImage], positions: IntArray, index: int) -> RGBImage:
    """Image ``positions[index]`` of ``images``."""
    return images[int(positions[index])]


def visible(folder: str, root: str) -> Iterator[os.DirEntry[str]]:
    """Entries of ``folder`` that are not hidden, sorted by name.

    Raises:
        ValueError: one is a link that is broken or leads out of ``root``.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not is_inside(entry.path, root):
                raise ValueError(
                    f"{entry.path} is a broken link or leads out of {root}: copy the file instead"
                )
            yield entry


def image_names(folder: str, root: str) -> list[str]:
    """Names of the image files in ``folder``, sorted; ``ValueError`` as for :func:`visible`."""
    return [
        entry.name
        for entry in visible(folder, root)
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file()
    ]


def is_inside(path: str, root: str) -> bool:
    """Whether ``path`` exists and, all links followed, lies in the folder ``root``."""
    real_path, real_root = os.path.realpath(path), os.path.realpath(root)
    return os.path.exists(real_path) and os.path.commonpath([real_root, real_path]) == real_root

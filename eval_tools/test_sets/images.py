"""Images of test sets, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from eval_tools.scores import IntArray
from igfiqa_head.io.aligned_faces import LazyImages, RGBImage, stored_size

__all__ = ["LazyImages", "RGBImage", "selected", "stored_size"]
T = TypeVar("T")


def selected(images: Sequence[RGBImage], positions: IntArray) -> LazyImages:
    """The images at ``positions`` [K], in their order."""
    load, measure = images.__getitem__, partial(stored_size, images)
    return LazyImages(len(positions), partial(_at, load, positions), partial(_at, measure, positions))


def _at(function: Callable[[int], T], positions: IntArray, index: int) -> T:
    return function(int(positions[index]))

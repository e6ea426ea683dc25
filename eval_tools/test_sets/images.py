"""Images of test sets, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from eval_tools.scores import IntArray
from igfiqa_head.io.aligned_faces import LazyImages, RGBImage

__all__ = ["LazyImages", "RGBImage", "select_image"]


def select_image(images: Sequence[RGBImage], positions: IntArray, index: int) -> RGBImage:
    """Image ``positions[index]`` of ``images``."""
    return images[int(positions[index])]

"""The few aligned faces that judge an exported network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.aligned_faces import RGBImage
from igfiqa_head.io.images import check_square
from plugins.datasets.synthetic import SyntheticFaces

SIDE = 112


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

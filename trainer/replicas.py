"""The faces of a data set as they are and degraded: what a quality head on a frozen recogniser learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval_tools.test_sets.images import LazyImages, RGBImage
from igfiqa_head.degradations import Degradations
from igfiqa_head.draws import keyed_uniforms
from igfiqa_head.sub_batches import Batch, degraded
from trainer.loader import FLIP_STREAM, to_network_input


class Replicas(LazyImages):
    """Chosen images of a data set, RGB uint8: all of them as they are, then ``count`` times degraded.

    Image ``i`` of replica ``r`` (0: as it is) is at ``r * len(chosen) + i``. A degraded one is flipped with
    p = 0.5 first, as in training. Flip and degradation depend on (seed, r, position in the data set) alone.

    Args:
        dataset: ``dataset[i] -> (RGB uint8 [H, W, 3], label)``.
        chosen: positions in the data set.
        degradations: what happens to a degraded image.
        count: degraded replicas of each image.
        seed: of the draws.
    """

    def __init__(
        self, dataset: Any, chosen: NDArray[np.int64], degradations: Degradations, count: int, seed: int
    ) -> None:
        super().__init__(len(chosen) * (1 + count), self._replica)
        self._dataset, self._chosen, self._degradations, self._seed = dataset, chosen, degradations, seed

    def _replica(self, position: int) -> RGBImage:
        replica, place = divmod(position, len(self._chosen))
        index = int(self._chosen[place])
        image = np.ascontiguousarray(self._dataset[index][0])
        if replica == 0:
            return image
        if keyed_uniforms(self._seed, FLIP_STREAM, replica, index, count=1)[0] < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        faces = to_network_input(torch.from_numpy(image[None]), torch.device("cpu"))
        batch = Batch(faces, torch.zeros(1, dtype=torch.long), torch.tensor([index]), replica)
        return _pixels(degraded(batch, self._degradations, self._seed).images)[0]


def _pixels(faces: torch.Tensor) -> NDArray[np.uint8]:
    """Network input [N, 3, H, W] in [-1, 1] -> uint8 [N, H, W, 3]."""
    pixels = ((faces + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def choose_identities(
    labels: NDArray[np.int64], *, held_out: float, max_images: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of images to learn from and of those to judge by, of different identities, in order.

    Args:
        labels: [N] identity of each image.
        held_out: share of the identities to judge by.
        max_images: bound on the images to learn from; identities are taken whole, at random, until it is
            reached. To judge by there are in proportion as many at most.
        seed: of the choice.

    Raises:
        ValueError: fewer than two identities to learn from.
    """
    identities, counts = np.unique(labels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(identities))
    split = round(held_out * len(identities))
    parts = []
    for part, limit in ((order[split:], max_images), (order[:split], round(held_out * max_images))):
        within = np.cumsum(counts[part]) <= limit
        parts.append(np.flatnonzero(np.isin(labels, identities[part[within]])))
    if len(np.unique(labels[parts[0]])) < 2:
        raise ValueError(
            f"relative classifiability needs at least 2 identities to learn from, got {len(identities)} with "
            f"{len(labels)} images, of which {held_out:.0%} are held out and {max_images} images are used at "
            "most"
        )
    return parts[0], parts[1]



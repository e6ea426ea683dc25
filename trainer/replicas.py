"""The faces of a data set as they are and degraded: what a quality head on a frozen network learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval_tools.test_sets.images import LazyImages, RGBImage
from igfiqa_head.degradations import Degradations
from igfiqa_head.draws import keyed_uniforms
from igfiqa_head.sub_batches import Batch, degraded
from trainer.loader import to_network_input
from trainer.one_thread import one_thread
from trainer.prefetch import FLIP_STREAM


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
        return image if replica == 0 else self._degraded(image, index, replica)

    def _degraded(self, image: RGBImage, index: int, replica: int) -> RGBImage:
        if keyed_uniforms(self._seed, FLIP_STREAM, replica, index, count=1)[0] < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        faces = to_network_input(torch.from_numpy(image[None]), torch.device("cpu"))
        batch = Batch(faces, torch.zeros(1, dtype=torch.long), torch.tensor([index]), replica)
        with one_thread():
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
        held_out: share of the identities to judge by; unless it is 0, there are two at least.
        max_images: bound on the images to learn from; identities are taken whole, at random, until it is
            reached. To judge by there are in proportion as many at most.
        seed: of the choice.

    Raises:
        ValueError: fewer than two identities to learn from or to judge by, or only such to learn from as have
            a single image.
    """
    identities, counts = np.unique(labels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(identities))
    split = max(2, round(held_out * len(identities))) if held_out else 0
    to_judge_by = _within(counts, order[:split], round(held_out * max_images))
    to_learn_from = _within(counts, order[split:], max_images)
    if len(to_learn_from) < 2 or (held_out and len(to_judge_by) < 2):
        raise ValueError(
            f"{len(labels)} images of {len(identities)} identities, on_top.held_out={held_out} and "
            f"on_top.max_images={max_images} leave {len(to_learn_from)} identities to learn from and "
            f"{len(to_judge_by)} to judge by, each needs 2: take more identities, raise on_top.max_images, "
            "or set on_top.held_out=0 to judge by none"
        )
    if counts[to_learn_from].max() == 1:
        raise ValueError(
            f"each of the {len(to_learn_from)} identities to learn from has a single image: what is "
            "compared with the mean of its class must have other images in it"
        )
    learned, held_back = (
        np.flatnonzero(np.isin(labels, identities[part])) for part in (to_learn_from, to_judge_by)
    )
    return learned, held_back


def _within(counts: NDArray[np.int64], identities: NDArray[np.int64], max_images: int) -> NDArray[np.int64]:
    """The first of the identities, as many as have ``max_images`` images together."""
    return identities[np.cumsum(counts[identities]) <= max_images]

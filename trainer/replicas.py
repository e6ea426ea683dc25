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

"""Which images a rank draws in which step: decided by (seed, epoch) alone, whatever the number of ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ORDER_STREAM = 4


class ShardedOrder:
    """An epoch's shuffled images, cut into steps and the steps into the shares of the ranks.

    Step t takes the same images for any number of ranks that draw equally many together. Of either half of a
    step each rank has a contiguous part, in the same half of its own batch: so the split of IG-FIQA, which
    takes halves, splits the images of the step alike on one rank and on many.

    An epoch has as many steps as can be filled, the same number on each rank, and no image comes twice. The
    images that fill no step are left out; which ones these are changes from epoch to epoch.

    Args:
        size: images of the data set.
        batch_size: images that each rank draws in a step.
        seed: of the order.
        rank, world_size: which share of how many is this one's.

    Attributes:
        steps: of each epoch.

    Raises:
        ValueError: the images do not fill one step, or there is no such rank.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in [0, world_size), got rank {rank} of {world_size}")
        self._drawn = batch_size * world_size
        if size < self._drawn:
            shares = "" if world_size == 1 else f" ({batch_size} on each of {world_size} ranks)"
            raise ValueError(
                f"the data set has {size} images, fewer than the {self._drawn} that one step draws{shares}: "
                "lower batch_size"
            )
        self.steps = size // self._drawn
        self._size, self._seed = size, seed
        first, second = batch_size - batch_size // 2, batch_size // 2
        begin = world_size * first + rank * second
        self._halves = slice(rank * first, (rank + 1) * first), slice(begin, begin + second)
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)

    def batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Positions in the data set [batch_size] of the images that this rank draws."""
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, ORDER_STREAM, epoch]).permutation(self._size)
            self._epoch = epoch
        drawn = self._order[step * self._drawn : (step + 1) * self._drawn]
        return np.concatenate([drawn[half] for half in self._halves])


def share_of(size: int, rank: int, world_size: int) -> NDArray[np.int64]:
    """The positions that a rank visits where each image is wanted once: a contiguous part of them."""
    return np.arange(rank * size // world_size, (rank + 1) * size // world_size)

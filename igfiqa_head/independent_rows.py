"""A test for networks whose output for a face depends on the other faces of the batch, and so means nothing.

Networks that were exported in training mode normalise by the statistics of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CPU_TOLERANCE, GPU_TOLERANCE = 1e-4, 1e-2
"""Largest difference, relative to the largest number of an output, that rounding may explain.

On CPUs a face gives the same bits in batches of any size, in float32 as in float16 and with static 8-bit
quantisation (measured on four networks). GPUs choose other kernels for other sizes and round to 10 bits.
Batch statistics change the output of iresnet18 by 70 %.
"""

_PATCH = 8


def unlike_faces(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A bright and a dark pattern [2, H, W, 3]: batch statistics and ranges with and without one differ."""
    height, width = size
    patches = np.random.default_rng(0).integers(0, 256, (2, -(-height // _PATCH), -(-width // _PATCH), 3))
    faces = patches.repeat(_PATCH, 1).repeat(_PATCH, 2)[:, :height, :width].astype(np.uint8)
    faces[1] //= 4
    return faces


def depend_on_company(
    alone: Mapping[str, NDArray[np.float32]], together: Mapping[str, NDArray[np.float32]], tolerance: float
) -> bool:
    """Whether the last rows of outputs differ: those of a face by itself, and behind other faces."""
    return any(_differ(rows[-1], together[name], tolerance) for name, rows in alone.items())


def _differ(alone: NDArray[np.float32], every: NDArray[np.float32], tolerance: float) -> bool:
    together = every[-1]
    finite = np.isfinite(alone)
    if not np.array_equal(finite, np.isfinite(together)):
        return True
    difference = np.abs(alone - together)[finite].max(initial=0.0)
    return bool(difference > tolerance * np.abs(every)[np.isfinite(every)].max(initial=0.0))

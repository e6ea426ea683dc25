"""Random numbers that depend on a key only, such as (seed, epoch, sample index).

A training image must get the same flip and the same degradations whatever the number of ranks, loader
workers or resumed runs. A counter-based hash gives that without any generator state to carry around.
The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014,
https://doi.org/10.1145/2660193.2660195).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keyed_uniforms(*key: int | npt.ArrayLike, count: int) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1) that are a pure function of ``key``.

    Args:
        key: integers or integer arrays that broadcast together to a shape S, most general first:
            ``(seed, stream, epoch, indices)``. The order matters.
        count: how many independent numbers to draw for every key.

    Returns:
        float64 array of shape S + (count,).
    """
    state = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        for part in key:
            state = _mix(state + _GOLDEN) ^ np.asarray(part, dtype=np.int64).astype(np.uint64)
        columns = np.arange(1, count + 1, dtype=np.uint64)
        bits = _mix(_mix(state)[..., None] + columns * _GOLDEN)
    return (bits >> np.uint64(11)) * np.float64(2.0**-53)

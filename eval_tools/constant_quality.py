"""Qualities that are all but the same for every face, and so rank none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-5
"""Relative spread that the float32 arithmetic of a network can give to numbers that should be equal."""

ONE_LENGTH = 0.05
"""The same for the lengths of embeddings of one length, which int8 spreads by up to 0.02, bfloat16 by less.

The lengths that recognisers were trained to leave free spread by 0.3 and more.
"""


def constant_fault(quality: NDArray[np.floating], tolerance: float = ROUNDING) -> str | None:
    """The reason why qualities [N] cannot rank; None if they can, or if there are fewer than two.

    ``tolerance`` is their relative spread that means nothing: 0 for values that were given and not computed.
    """
    if not _alike(quality, tolerance):
        return None
    low, high = float(quality.min()), float(quality.max())
    if low == high:
        return f"all {quality.size:,} values are {low:.7g} and rank nothing"
    values = f"all {quality.size:,} values lie from {low:.7g} to {high:.7g}"
    return f"{values}, differ by rounding only and rank nothing"


def length_fault(lengths: NDArray[np.floating]) -> str | None:
    """The reason why lengths [N] of a recogniser's embeddings are no quality; None if they may be one.

    Give those of all test sets of a run, so that it does not hold on one and not on another.
    """
    if not _alike(lengths, ONE_LENGTH):
        return None
    return f"lengths lie from {lengths.min():.7g} to {lengths.max():.7g}: embeddings of one length"


def _alike(values: NDArray[np.floating], tolerance: float) -> bool:
    low, high = (float(values.min()), float(values.max())) if values.size > 1 else (0.0, 1.0)
    return high - low <= tolerance * max(abs(low), abs(high))

"""Qualities that are all but the same for every face, and so rank none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-5
"""Relative spread that the float32 arithmetic of a network can give to numbers that should be equal."""

UNIT_LENGTH = 1e-3
"""The same for the lengths of embeddings of unit length, which may have been kept in half precision.

Lengths that mean something vary by a tenth and more.
"""


def constant_fault(quality: NDArray[np.floating], tolerance: float = ROUNDING) -> str | None:
    """The reason why qualities [N] cannot rank; None if they can, or if there are fewer than two."""
    low, high = (float(quality.min()), float(quality.max())) if quality.size > 1 else (0.0, 1.0)
    if high - low > tolerance * max(abs(low), abs(high)):
        return None
    values = f"all {quality.size:,} values lie from {low:.7g} to {high:.7g}"
    return f"{values}, differ by rounding only and rank nothing"


def length_fault(lengths: NDArray[np.floating]) -> str | None:
    """The reason why lengths [N] of embeddings are no quality; None if they may be one."""
    fault = constant_fault(lengths, UNIT_LENGTH)
    return None if fault is None else f"the recogniser gives embeddings of one length: {fault}"

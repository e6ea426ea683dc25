"""Arrays as public functions take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def plain_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """``values`` as an array; what a masked array hides would become values like any other.

    Raises:
        ValueError: a masked array, or rows of different lengths; ``name`` is what the message calls them.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(
            f"{name} is a masked array: leave the masked entries out, of every array alike, as in "
            "values[~values.mask]"
        )
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers, got rows of different lengths") from error

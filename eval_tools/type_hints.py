"""Whether a value is what a type hint says, for content that was read from a file."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

_KINDS = {"f": "fiu", "i": "iu"}  # whole numbers do for floats, and unsigned ones for integers


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of the type ``hint``.

    Args:
        value: anything.
        hint: a class, a union, ``Literal``, ``tuple[X, ...]``, ``Mapping[K, V]`` or ``NDArray[X]``, of which
            the kind of number is compared, not its size; other whole numbers are those of 64 bits.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, arguments[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items()
        )
    if origin is np.ndarray:
        kind = np.dtype(get_args(arguments[1])[0]).kind
        return isinstance(value, np.ndarray) and value.dtype.kind in _KINDS.get(kind, kind)
    if hint in (int, float):
        is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return is_whole or (hint is float and isinstance(value, float))
    return isinstance(value, hint)

"""Values and the type hints they fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from eval_tools.type_hints import fits


class Point(NamedTuple):
    x: float


Floats = NDArray[np.float64]


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        (False, float, False),
        ("1", float, False),
        (None, float | None, True),
        (None, Optional[float], True),  # noqa: UP045 - the other spelling of the same
        ("x", float | None, False),
        (np.ones(2), float | Floats, True),
        (np.ones(2, np.float32), Floats, True),
        (np.ones(2, int), Floats, True),
        (np.array(["a"]), Floats, False),
        (np.ones(2), NDArray[np.int64], False),
        (np.ones(2, np.uint8), NDArray[np.int64], True),
        (np.ones(2, np.int64), NDArray[np.uint8], False),
        (np.ones(2, bool), NDArray[np.uint8], False),
        ([1.0], Floats, False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (np.array(["a", "a"]), Literal["a", "b"], False),
        (("a", "b"), tuple[str, ...], True),
        (("a", 1), tuple[str, ...], False),
        ("ab", tuple[str, ...], False),
        ({Point(1): "a"}, Mapping[Point, str], True),
        ({(1,): "a"}, Mapping[Point, str], False),
        ({Point(1): 2}, Mapping[Point, str], False),
        (5, Mapping[str, str], False),
        (None, Mapping[str, str], False),
    ],
)
def test_values_and_hints(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected

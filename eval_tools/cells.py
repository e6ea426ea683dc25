"""From the text of a cell to a number or a flag, by one rule wherever such cells are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from igfiqa_head.io.csv_lines import text_of_cell
from igfiqa_head.text import has_plain_digits, number

Kind = Literal["number", "flag", "text"]

_FLAGS = {"1": True, "0": False, "true": True, "false": False}
_MISSING = ("", "na", "n/a", "null", "none")


class CellError(ValueError):
    """A cell that is not of its column's kind."""

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


def convert(cells: Sequence[str], kind: Kind, name: str, first: int, where: Callable[[int], str]) -> Any:
    """Cells of one column, from row ``first`` on, as an array or, for text, a list.

    Raises:
        CellError: a cell that is not of this kind; ``where(row)`` says where it stands.
    """
    if kind == "text":
        return [text_of_cell(cell.strip()) for cell in cells]
    parse, dtype = _PARSERS[kind]
    if parse is number and has_plain_digits("".join(cells)):
        parse = float  # four times as fast
    try:
        return np.fromiter(map(parse, cells), dtype, len(cells))
    except ValueError:  # rare: cell by cell, with an eye for the empty and the wrong ones
        return np.array(
            [_cell(cell, kind, name, first + row, where) for row, cell in enumerate(cells)], dtype
        )


def flag(cell: str) -> bool:
    """The flag that a cell holds.

    Raises:
        ValueError: another text.
    """
    try:
        return _FLAGS[re.sub(r"^([01])\.0+$", r"\1", cell.strip().lower())]
    except KeyError:
        raise ValueError(f"must be 0, 1, true or false, got {cell[:80]!r}") from None


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    try:
        number(cell)
    except ValueError:
        return False
    return True


def _cell(cell: str, kind: Kind, name: str, row: int, where: Callable[[int], str]) -> float | bool:
    if kind == "number" and cell.strip().lower() in _MISSING:
        return math.nan
    try:
        return _PARSERS[kind][0](cell)
    except ValueError:
        if cell.strip() == name:
            raise CellError(f"{where(row)} is a header, expected values: remove it", name) from None
        wanted = "1 or 0" if kind == "flag" else "a number with a decimal point"
        raise CellError(f"{where(row)}: {name} is {cell[:80]!r}, expected {wanted}", name) from None


_PARSERS: dict[Kind, tuple[Callable[[str], Any], type]] = {
    "number": (number, np.float64),
    "flag": (flag, np.bool_),
}

"""Columns from CSV files, lines "name score" and ``.npz`` archives, with errors that name the line."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

Kind = Literal["number", "flag", "text"]

_BLOCK = 1024  # rows; many more at a time keep the garbage collector busy: twice as slow with 65,536
_FLAGS = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}
_DELIMITERS = "\t;,"


@dataclass(frozen=True)
class Table:
    """Columns of equal lengths; ``where(row)`` says where a row stands in the file."""

    columns: dict[str, Any]
    where: Callable[[int], str]


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` file.

    Raises:
        ValueError: no such file, damaged, or with arrays of Python objects, which are never loaded.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damage makes zipfile and NumPy raise a dozen kinds that share no other base
        raise ValueError(f"{path} is not a .npz file of plain arrays (no objects): {error}") from error
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}


def text_of(values: NDArray[Any]) -> list[str]:
    """Strings, bytes (UTF-8) or integers as text."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return [str(value) for value in values.tolist()]


def find_delimiter(lines: Iterable[str]) -> str:
    """A tab, a semicolon or a comma: what separates columns in the first line that is not blank."""
    header = next((line for line in lines if line.strip()), "")
    return next((mark for mark in _DELIMITERS if mark in header), ",")


class CsvFile:
    """A table with a header, separated by tabs, semicolons or commas; blank lines are passed over.

    Attributes:
        path: UTF-8 text, with or without a byte order mark.
        header: the names of the columns, all different.
    """

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ValueError: unreadable, or no header of at least two different names.
        """
        self.path = path
        with _open_text(path) as file:
            first = next((line for line in file if line.strip()), "")
        self._delimiter = find_delimiter([first])
        self.header = [name.strip() for name in next(self._records(), [])]
        if len(set(self.header)) < len(self.header) or len(self.header) < 2:
            raise ValueError(
                f"{path} starts with {first.strip()[:80]!r}, expected a header of distinct column names, "
                "separated by commas, semicolons or tabs"
            )

    def read(self, kinds: Mapping[str, Kind]) -> Table:
        """Some columns: numbers (NaN for empty cells, as pandas writes it), flags (0, 1, true, false), text.

        Raises:
            ValueError: no rows, a row of another width, or a cell that is not of its column's kind.
        """
        parts: dict[str, list[Any]] = {name: [] for name in kinds}
        first = 0
        for block in self._blocks():
            self._check_widths(block, first)
            cells = list(zip(*block, strict=True))
            for name, kind in kinds.items():
                column = cells[self.header.index(name)]
                parts[name].append(_convert(column, kind, name, first, self._where))
            first += len(block)
        if not first:
            raise ValueError(f"{self.path} has no row below its header {', '.join(self.header)}")
        return Table({name: _joined(kinds[name], parts[name]) for name in kinds}, self._where)

    def _check_widths(self, block: list[list[str]], first: int) -> None:
        width = len(self.header)
        if set(map(len, block)) != {width}:
            bad = next(index for index, row in enumerate(block) if len(row) != width)
            raise ValueError(f"{self._where(first + bad)} has {len(block[bad])} columns, the header {width}")

    def _blocks(self) -> Iterator[list[list[str]]]:
        """The rows below the header."""
        records = islice(self._records(), 1, None)
        while block := list(islice(records, _BLOCK)):
            yield block

    def _records(self) -> Iterator[list[str]]:
        with _open_text(self.path) as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            try:
                yield from filter(None, reader)
            except csv.Error as error:
                raise ValueError(f"{self.path}, line {reader.line_num}: {error}") from error

    def _where(self, row: int) -> str:
        """Where row ``row`` below the header stands. Cells may hold line breaks: the file is read again."""
        with _open_text(self.path) as file:
            reader = csv.reader(file, delimiter=self._delimiter)
            next(islice(filter(None, reader), row + 1, None))
            return f"{self.path}, line {reader.line_num}"


def read_name_scores(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Names and scores of lines "name score"; names may contain spaces.

    Raises:
        ValueError: unreadable, empty, or a line that is not of this form.
    """
    with _open_text(path, newline=None) as file:
        lines = [(number, line.rsplit(None, 1)) for number, line in enumerate(file, 1) if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty, expected lines 'name score'")

    def where(row: int) -> str:
        return f"{path}, line {lines[row][0]}"

    for row, (_, fields) in enumerate(lines):
        if len(fields) != 2 or fields[0][-1] in ",;":
            raise ValueError(
                f"{where(row)} is {' '.join(fields)[:80]!r}, expected 'name score' separated by white space; "
                "give a table with a header and commas the suffix .csv"
            )
    names = [fields[0].strip() for _, fields in lines]
    return names, _convert([fields[1] for _, fields in lines], "number", "score", 0, where)


@contextmanager
def _open_text(path: Path, newline: str | None = "") -> Iterator[TextIO]:
    """An open UTF-8 file; what goes wrong with it becomes one ``ValueError``."""
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def _convert(cells: Sequence[str], kind: Kind, name: str, first: int, where: Callable[[int], str]) -> Any:
    """Cells of one column, from row ``first`` on, as an array or, for text, a list."""
    if kind == "text":
        return list(cells)
    parse, dtype = _PARSERS[kind]
    try:
        return np.fromiter(map(parse, cells), dtype, len(cells))
    except (KeyError, ValueError):  # rare: cell by cell, with an eye for the empty and the wrong ones
        return np.array(
            [_cell(cell, kind, name, first + row, where) for row, cell in enumerate(cells)], dtype
        )


def _cell(cell: str, kind: Kind, name: str, row: int, where: Callable[[int], str]) -> float | bool:
    if kind == "number" and not cell.strip():
        return math.nan
    try:
        return _PARSERS[kind][0](cell)
    except (KeyError, ValueError):
        wanted = "1 or 0" if kind == "flag" else "a number with a decimal point"
        raise ValueError(f"{where(row)}: {name} is {cell[:80]!r}, expected {wanted}") from None


def _flag(cell: str) -> bool:
    return _FLAGS[cell.strip().lower()]


_PARSERS: dict[Kind, tuple[Callable[[str], Any], type]] = {
    "number": (float, np.float64),
    "flag": (_flag, np.bool_),
}


def _joined(kind: Kind, parts: list[Any]) -> Any:
    if kind == "text":
        return [cell for part in parts for cell in part]
    return np.concatenate(parts)

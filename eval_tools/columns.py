"""Columns of CSV files and ``.npz`` archives, with errors that name the line: the only reader of either.

A CSV file is UTF-8 text with or without a byte order mark. Its first line that is not blank is the header;
columns are separated by what stands in it outside of quotes, a tab, a semicolon or else a comma. Everywhere

* rows without any value are passed over, as are spaces around a value and Excel's first line "sep=;";
* separators at the end of the header or of a row make no column (Excel and OFIQ write them);
* a row that holds its first value alone has no other values (OFIQ, of an image that it could not read);
* flags are 1, 0, 1.0, 0.00, true or false in upper or lower case; an empty number, NA, null or none is NaN.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, TextIO
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from eval_tools.cells import Kind, convert, is_number
from igfiqa_head.io.regular_files import regular
from igfiqa_head.text import first_of

_MOST_SHOWN = 30
_BLOCK = 1024  # rows; many more at a time keep the garbage collector busy: twice as slow with 65,536
_DELIMITERS = "\t;,"
_NPY = ".npy"
_HEADER_BYTES = 2**14  # of an array; NumPy takes 10,000 characters
# What compressed numbers and names of images unfold to; a few MB of zeros could fill any memory.
_FREE_BYTES, _MAX_RATIO = 2**30, 20
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Table:
    """Columns of equal lengths; ``where(row)`` says where a row stands in the file."""

    columns: dict[str, Any]
    where: Callable[[int], str]


def header_of(line: str) -> list[str]:
    """The names of the columns in the first line of a file of any content."""
    if "\0" in line:
        return []
    return _names(next(csv.reader([line], delimiter=_delimiter(line)), []))


class CsvFile:
    """A table with a header, see the rules of this module.

    Attributes:
        path: the file.
        header: the names of the columns, all different, "" for a column without a name.
    """

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ValueError: unreadable, empty, or two columns of one name.
        """
        self.path = path
        with open_text(path) as file:
            first = next((line for line in _text_lines(path, file) if line.strip()), "")
        if not first:
            raise ValueError(f"{path} is empty, expected a header of distinct column names")
        self._delimiter = _delimiter(first)
        with self._reader() as reader:
            self.header = _names(next(filter(any, reader), []))
        repeated = [name for name, count in Counter(self.header).items() if name and count > 1]
        if repeated:
            raise ValueError(
                f"{path}, line 1: {repeated[0]!r} is there twice, expected a header of distinct column names"
            )

    def read(self, kinds: Mapping[str, Kind]) -> Table:
        """Some columns as numbers, flags or text.

        Raises:
            ValueError: no rows, a row of another width, or a cell that is not of its column's kind.
        """
        parts: dict[str, list[Any]] = {name: [] for name in kinds}
        positions = {name: position for position, name in enumerate(self.header)}
        first = 0
        for block in self._blocks():
            self._check_widths(block, first)
            cells = list(zip(*block, strict=True))
            for name, kind in kinds.items():
                column = cells[positions[name]]
                parts[name].append(convert(column, kind, name, first, self._where))
            first += len(block)
        if not first:
            raise ValueError(f"{self.path} has no row below its header {some_of(self.header)}")
        return Table({name: _joined(kinds[name], parts[name]) for name in kinds}, self._where)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(line number, cells without surrounding spaces) of each row, which may be of another width."""
        with self._reader() as reader:
            for row in islice(filter(any, reader), 1, None):
                yield reader.line_num, [cell.strip() for cell in self._fitted(row)]

    def not_numbers(self, _like: str) -> dict[str, str]:
        """Columns whose first rows hold text and not one number -> what they hold."""
        block = next(self._blocks(), [])
        columns = {
            name: [row[index].strip() for row in block if len(row) > index and row[index].strip()]
            for index, name in enumerate(self.header)
        }
        return {
            name: f"text such as {cells[0][:40]!r}"
            for name, cells in columns.items()
            if cells and not any(map(is_number, cells))
        }

    def _check_widths(self, block: list[list[str]], first: int) -> None:
        width = len(self.header)
        if set(map(len, block)) != {width}:
            bad = next(index for index, row in enumerate(block) if len(row) != width)
            raise ValueError(f"{self._where(first + bad)} has {len(block[bad])} columns, the header {width}")

    def _blocks(self) -> Iterator[list[list[str]]]:
        """The rows below the header."""
        with self._reader() as reader:
            rows = map(self._fitted, islice(filter(any, reader), 1, None))
            while block := list(islice(rows, _BLOCK)):
                yield block

    def _fitted(self, row: list[str]) -> list[str]:
        """The row without empty cells that the header does not name, and with those it leaves out."""
        width = len(self.header)
        if len(row) == width:
            return row
        filled = max((index + 1 for index, cell in enumerate(row) if cell.strip()), default=0)
        if len(row) < width and filled == 1 and (len(row) > 1 or not _separates(row[0])):
            return row + [""] * (width - len(row))
        return row[: max(filled, width)]

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        """Records as :mod:`csv` reads them."""
        with open_text(self.path) as file:
            reader = csv.reader(_text_lines(self.path, file), delimiter=self._delimiter, strict=True)
            try:
                yield reader
            except csv.Error as error:
                raise ValueError(f"{self.path}, line {reader.line_num}: damaged CSV: {error}") from error

    def _where(self, row: int) -> str:
        """The place of row ``row`` below the header. Cells may hold line breaks: the file is read again."""
        with self._reader() as reader:
            next(islice(filter(any, reader), row + 1, None))
            return f"{self.path}, line {reader.line_num}"


class ArrayFile:
    """The arrays [N] of a ``.npz`` file as columns.

    Attributes:
        path: the file.
        header: the names of the arrays.
    """

    def __init__(self, path: Path) -> None:
        """Read what the arrays are; ``ValueError`` as for :func:`npz_kinds`."""
        self.path = path
        self._kinds = npz_kinds(path)
        self.header = list(self._kinds)

    def read(self, kinds: Mapping[str, Kind]) -> Table:
        """Some arrays, all of the length of the first one.

        Raises:
            ValueError: an array of another shape or type, or see :func:`read_npz`.
        """
        arrays = read_npz(self.path, kinds)
        first = next(iter(kinds))
        size = arrays[first].size
        for name, kind in kinds.items():
            values = arrays[name]
            allowed = {"number": "fiub", "flag": "fiubUS", "text": "USiu"}[kind]
            if values.shape != (size,) or values.dtype.kind not in allowed:
                raise ValueError(
                    f"{self.path}: {name} must be {'labels' if kind == 'text' else 'numbers'} [{size}] like "
                    f"{first}, got {values.dtype} {list(values.shape)}"
                )
        columns = {name: self._column(name, arrays[name], kind) for name, kind in kinds.items()}
        return Table(columns, self._where)

    def not_numbers(self, like: str) -> dict[str, str]:
        """Arrays that are no numbers of the shape of the array ``like`` -> what they are."""
        return {
            name: f"{kind.dtype} {list(kind.shape)}"
            for name, kind in self._kinds.items()
            if kind.shape != self._kinds[like].shape or kind.dtype.kind not in "fiu"
        }

    def _column(self, name: str, values: NDArray[Any], kind: Kind) -> Any:
        if kind == "text":
            return text_of(values)
        if kind == "number":
            return values.astype(np.float64)
        if values.dtype.kind in "US":
            return convert(text_of(values), "flag", name, 0, self._where)
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{self.path}: {name} must hold booleans or 0 and 1 only (1 = same person)")
        return values.astype(np.bool_)

    def _where(self, row: int) -> str:
        return f"{self.path}, pair {row}"


@dataclass(frozen=True)
class ArrayKind:
    """The shape and the type of an array, as its header states them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def npz_kinds(path: Path) -> dict[str, ArrayKind]:
    """The kinds of the arrays of a ``.npz`` file by their names; no array is read.

    Raises:
        ValueError: no such file, damaged, or an array says another size of itself than the archive.
    """
    with _npz(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(_NPY)]
        return {info.filename.removesuffix(_NPY): _kind(archive, info) for info in members}


def read_npz(path: Path, wanted: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` file, all of them or those that are wanted and there.

    Raises:
        ValueError: see :func:`npz_kinds`; arrays of Python objects, which are never loaded; or arrays that
            unfold to far more than a file of this size should.
    """
    kinds = {name: kind for name, kind in npz_kinds(path).items() if wanted is None or name in wanted}
    size, stored = sum(kind.nbytes for kind in kinds.values()), path.stat().st_size
    if size > _FREE_BYTES + _MAX_RATIO * stored:
        raise ValueError(
            f"{path} has {stored / 2**20:.1f} MiB, and {some_of(kinds)} in it {size / 2**20:,.0f} "
            "MiB, more than is read of such a file: write it without compression, by np.savez"
        )
    with _npz(path) as archive:
        return {name: _array(archive, name + _NPY) for name in kinds}


@contextmanager
def _npz(path: Path) -> Iterator[ZipFile]:
    """An open archive of arrays; what goes wrong with it becomes one ``ValueError``."""
    try:
        with open(path, "rb", opener=regular) as file, ZipFile(file) as archive:
            yield archive
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damage makes zipfile and NumPy raise a dozen kinds that share no other base
        reason = "" if "pickle" in str(error) else f": {error}"  # NumPy's own words advise to load objects
        raise ValueError(
            f"{path} is not a .npz file of plain arrays (no objects; text as array.astype(str)){reason}"
        ) from error


def _kind(archive: ZipFile, info: ZipInfo) -> ArrayKind:
    with archive.open(info) as member:
        start = BytesIO(member.read(_HEADER_BYTES))
    version = npy.read_magic(start)
    shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(start)
    kind = ArrayKind(shape, dtype)
    stored = info.file_size - start.tell()
    if kind.nbytes != stored and not dtype.hasobject:
        raise ValueError(f"{info.filename} says that it is {dtype} {list(shape)}, and has {stored} bytes")
    return kind


def _array(archive: ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as member:
        return np.asarray(npy.read_array(member, allow_pickle=False))


def text_of(values: NDArray[Any]) -> list[str]:
    """Strings, bytes (UTF-8) or integers as text."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return [str(value) for value in values.tolist()]


def some_of(names: Iterable[str]) -> str:
    """The names of columns for a message, of many the first 30."""
    return first_of(list(names), _MOST_SHOWN)


@contextmanager
def open_text(path: Path, newline: str | None = "") -> Iterator[TextIO]:
    """An open UTF-8 file; what goes wrong with it becomes one ``ValueError``."""
    try:
        with open(path, encoding="utf-8-sig", newline=newline, opener=regular) as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        advice = "unpack it first" if error.object.startswith(_GZIP) else "save it as UTF-8"
        raise ValueError(f"{path} is not UTF-8 text: {error}; {advice}") from error


def _text_lines(path: Path, file: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if "\0" in line:
            raise ValueError(f"{path}, line {number} has zero bytes: is this a text file?")
        yield "\n" if number == 1 and re.fullmatch(r"sep=.\s*", line) else line


def _delimiter(header: str) -> str:
    unquoted = re.sub(r'"[^"]*"', "", header)
    return next((mark for mark in _DELIMITERS if mark in unquoted), ",")


def _separates(cell: str) -> bool:
    return any(mark in cell for mark in _DELIMITERS)


def _names(fields: Sequence[str]) -> list[str]:
    names = [name.strip() for name in fields]
    while names and not names[-1]:
        names.pop()
    return names


def _joined(kind: Kind, parts: list[Any]) -> Any:
    if kind == "text":
        return [cell for part in parts for cell in part]
    return np.concatenate(parts)

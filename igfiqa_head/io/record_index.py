"""The ``.idx`` file beside a ``.rec`` file: lines ``key TAB offset``."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.regular_files import read_regular


class CorruptRecordError(ValueError):
    """A file that is truncated, damaged or not what it should be.

    Attributes:
        path: the file.
        offset: the byte at which the problem was found, or None.
    """

    # With the path alone it takes a ready message: so exceptions are rebuilt across processes.
    def __init__(self, path: str | os.PathLike[str], offset: int | None = None, why: str = "") -> None:
        place = "" if offset is None else f", byte {offset}"
        super().__init__(f"{path}{place}: {why}" if why else str(path))
        self.path = path
        self.offset = offset


def read_index(path: str | os.PathLike[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read a ``.idx`` file, all lines at once: (keys ascending, their offsets), both int64 [R].

    Raises:
        CorruptRecordError: the file is empty, a line is not ``key TAB offset`` in decimal digits, the last
            line is not ended (a number may be cut), or a key or an offset occurs twice.
    """
    text = read_regular(path).replace(b"\r\n", b"\n")
    if not text:
        raise CorruptRecordError(path, 0, "the index is empty")
    characters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero((characters < ord("0")) | (characters > ord("9")))
    expected = np.resize(np.frombuffer(b"\t\n", np.uint8), len(ends))
    digits = np.diff(ends, prepend=-1) - 1
    wrong = ends[(characters[ends] != expected) | (digits < 1) | (digits > 18)]
    if len(wrong) or len(ends) % 2 or not text.endswith(b"\n"):
        offset = int(wrong[0]) if len(wrong) else len(text)
        line = text.count(b"\n", 0, offset) + 1
        raise CorruptRecordError(path, offset, f"line {line} is not 'key TAB offset NEWLINE' in digits")
    keys, offsets = np.fromstring(text, np.int64, sep=" ").reshape(-1, 2).T.copy()
    if not _ascending(keys):
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        _check_distinct(path, keys, "key")
    if not _ascending(offsets):
        _check_distinct(path, np.sort(offsets), "offset")
    return keys, offsets


def _ascending(values: NDArray[np.int64]) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _check_distinct(path: str | os.PathLike[str], ordered: NDArray[np.int64], name: str) -> None:
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise CorruptRecordError(path, why=f"{name} {repeated[0]} occurs more than once")

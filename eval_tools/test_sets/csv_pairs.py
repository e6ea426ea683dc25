"""Pairs of any images as a CSV file, for sets that come in no other format."""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import PureWindowsPath

from eval_tools.precomputed.files import find_delimiter
from eval_tools.test_sets.exclusions import Exclusions, OnBad
from eval_tools.test_sets.pair_list import ListedPair, PathLike, first_lines, listed_set, read_text
from eval_tools.test_sets.verification_set import VerificationSet
from igfiqa_head.io.image_files import is_inside

_REQUIRED = ("image_a", "image_b", "is_genuine")
_OPTIONAL = ("identity_a", "identity_b")
_FLAGS = {"0": False, "1": True, "false": False, "true": True}


def read_csv_set(path: PathLike, *, on_bad: OnBad = "error") -> VerificationSet:
    """A test set from a CSV file of pairs.

    Its first line names the columns, in any order and separated by commas, semicolons or tabs: ``image_a``,
    ``image_b`` (paths relative to the CSV file's folder, which they may not leave), ``is_genuine`` (0, 1,
    true or false) and optionally ``identity_a`` and ``identity_b``.

    Args:
        path: the file.
        on_bad: what to do about lines that are malformed, repeat a pair, contradict known identities or need
            an image that is not there.

    Raises:
        ValueError: not such a file, no genuine or no impostor pair, or, with ``on_bad="error"``, a bad line.
    """
    exclusions = Exclusions(path, on_bad)
    rows = _rows(path, read_text(path))
    _, header = next(rows, (0, []))
    _check_header(path, header)
    root = os.path.dirname(os.path.abspath(path))
    return listed_set(path, root, _pairs(header, rows, exclusions), partial(_locate, root), exclusions)


def is_pair_csv(path: PathLike) -> bool:
    """Whether a file starts as a CSV file of pairs does."""
    lines = [*first_lines(path, 1), ""]
    return set(_REQUIRED) <= {field.strip(' "') for field in lines[0].split(find_delimiter(lines))}


def _rows(path: PathLike, text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields without surrounding spaces) of every line that is not blank."""
    delimiter = find_delimiter(io.StringIO(text, newline=None))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            if any(fields):
                yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: damaged CSV: {error}") from error


def _check_header(path: PathLike, header: list[str]) -> None:
    if sorted(header) not in (sorted(_REQUIRED), sorted(_REQUIRED + _OPTIONAL)):
        raise ValueError(
            f"{path}, line 1: expected the columns {','.join(_REQUIRED)} and, if known, "
            f"{','.join(_OPTIONAL)}, got {','.join(header)[:200]!r}"
        )


def _pairs(
    header: list[str], rows: Iterator[tuple[int, list[str]]], exclusions: Exclusions
) -> Iterator[ListedPair]:
    for line, fields in rows:
        try:
            yield _parsed(line, header, fields)
        except ValueError as error:
            exclusions.add("malformed lines", f"line {line}: {error}")


def _parsed(line: int, header: list[str], fields: list[str]) -> ListedPair:
    if len(fields) != len(header):
        raise ValueError(f"expected {len(header)} columns, got {len(fields)}")
    row = dict(zip(header, fields, strict=True))
    empty = [name for name, value in row.items() if not value]
    if empty:
        raise ValueError(f"{empty[0]} is empty")
    flag = row["is_genuine"].lower()
    if flag not in _FLAGS:
        raise ValueError(f"is_genuine must be 0, 1, true or false, got {row['is_genuine']!r}")
    identities = (row["identity_a"], row["identity_b"]) if len(row) > len(_REQUIRED) else None
    return ListedPair(line, (row["image_a"], row["image_b"]), _FLAGS[flag], identities)


def _locate(root: str, name: str) -> str:
    """``name`` without detours; back slashes separate folders, as where some lists are written."""
    relative = posixpath.normpath(name.replace("\\", "/"))
    if relative.startswith("/") or PureWindowsPath(name).drive or relative.split("/")[0] == "..":
        raise ValueError(f"image {name!r} is refused: expected a path within {root}")
    path = os.path.join(root, relative)
    if not os.path.isfile(path):  # pathlib's raises for names that are too long
        raise ValueError(f"there is no image {path}")
    if not is_inside(path, root):
        raise ValueError(f"{path} is a link that leads out of {root}: copy the file instead")
    return relative

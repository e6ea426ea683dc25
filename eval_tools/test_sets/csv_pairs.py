"""Pairs of any images as a CSV file, for sets that come in no other format."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PureWindowsPath

from eval_tools.cells import flag
from eval_tools.columns import CsvFile, header_of, some_of
from eval_tools.names import Folders, composed
from eval_tools.on_bad import OnBad
from eval_tools.test_sets.exclusions import Exclusions
from eval_tools.test_sets.pair_list import ListedPair, PathLike, first_lines, image_root, listed_set
from eval_tools.test_sets.verification_set import VerificationSet
from igfiqa_head.io.image_files import is_inside

_REQUIRED = ("image_a", "image_b", "is_genuine")
_OPTIONAL = ("identity_a", "identity_b")


def read_csv_set(
    path: PathLike, *, on_bad: OnBad = "error", images: PathLike | None = None, absolute_paths: bool = False
) -> VerificationSet:
    """A test set from a CSV file of pairs, see :mod:`eval_tools.columns`.

    Its columns are, in any order, ``image_a``, ``image_b`` (paths within the folder of the images, which they
    may not leave), ``is_genuine`` (0, 1, true or false) and optionally ``identity_a`` and ``identity_b``. The
    notes name what other columns there are.

    Args:
        path: the file.
        on_bad: what to do about lines that are malformed, repeat a pair, contradict known identities or need
            an image that is not there.
        images: folder of the images, None for that of the file.
        absolute_paths: also take images by their absolute paths, anywhere on this machine, links followed:
            only for a list that you trust.

    Raises:
        ValueError: not such a file or folder, no genuine or no impostor pair, or, with ``on_bad="error"``, a
            bad line.
    """
    exclusions = Exclusions(path, on_bad)
    file = CsvFile(Path(path))
    columns = _columns(path, file.header)
    root = image_root(images) or os.path.dirname(os.path.abspath(path))
    locate = partial(_locate, root, Folders(), absolute_paths)
    test_set = listed_set(path, root, _pairs(file, columns, exclusions), locate, exclusions)
    unused = [name or "one without a name" for name in file.header if name.lower() not in columns]
    note = f"Columns that are not used: {some_of(unused)}."
    return replace(test_set, notes=(*test_set.notes, *([note] if unused else [])))


def is_pair_csv(path: PathLike) -> bool:
    """Whether a file starts as a CSV file of pairs does."""
    header = next((line for line in first_lines(path) if line.strip()), "")
    return set(_REQUIRED) <= {name.lower() for name in header_of(header)}


def _columns(path: PathLike, header: Sequence[str]) -> dict[str, int]:
    """Position of each known column."""
    names = [name.lower() for name in header]
    known = [name for name in names if name in (*_REQUIRED, *_OPTIONAL)]
    if sorted(known) not in (sorted(_REQUIRED), sorted(_REQUIRED + _OPTIONAL)):
        raise ValueError(
            f"{path}, line 1: expected the columns {','.join(_REQUIRED)} and, if known, "
            f"{','.join(_OPTIONAL)}, got {','.join(header)[:200]!r}"
        )
    return {name: names.index(name) for name in known}


def _pairs(file: CsvFile, columns: Mapping[str, int], exclusions: Exclusions) -> Iterator[ListedPair]:
    for line, cells in file.rows():
        try:
            if len(cells) != len(file.header):
                raise ValueError(f"expected {len(file.header)} columns, got {len(cells)}")
            yield _parsed(line, {name: cells[position] for name, position in columns.items()})
        except ValueError as error:
            exclusions.add("malformed lines", f"line {line}: {error}")


def _parsed(line: int, row: Mapping[str, str]) -> ListedPair:
    empty = [name for name, value in row.items() if not value]
    if empty:
        raise ValueError(f"{empty[0]} is empty")
    try:
        is_genuine = flag(row["is_genuine"])
    except ValueError as error:
        raise ValueError(f"is_genuine {error}") from None
    identities = (composed(row["identity_a"]), composed(row["identity_b"])) if "identity_a" in row else None
    return ListedPair(line, (row["image_a"], row["image_b"]), is_genuine, identities)


def _locate(root: str, folders: Folders, absolute_paths: bool, name: str) -> str:
    """``name`` without detours; back slashes separate folders, as where some lists are written."""
    relative = posixpath.normpath(name.replace("\\", "/"))
    if absolute_paths and os.path.isabs(relative):
        return _found(Path(relative).anchor, folders, relative)
    if relative.startswith("/") or PureWindowsPath(name).drive or relative.split("/")[0] == "..":
        raise ValueError(
            f"image {name!r} is refused: expected a path within {root} without '..' at its start: rewrite "
            "the names relative to a folder of all images (and name it with --images "
            "ROOT, or accept the absolute paths of a list that you trust with --absolute-paths)"
        )
    path = _found(root, folders, relative)
    if not is_inside(os.path.join(root, path), root):
        raise ValueError(
            f"{os.path.join(root, path)} is a link that leads out of {root}: copy the file instead"
        )
    return path


def _found(root: str, folders: Folders, path: str) -> str:
    """The path as the disk spells it."""
    found = folders.find(root, path)
    if found is None or not os.path.isfile(os.path.join(root, found)):  # pathlib's raises for too long names
        raise ValueError(f"there is no image {os.path.join(root, path)}")
    return found

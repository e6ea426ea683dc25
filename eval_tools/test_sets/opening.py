"""Opening a test set of any kind, which is found by its content."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from eval_tools.on_bad import OnBad, check_on_bad
from eval_tools.test_sets.csv_pairs import is_pair_csv, read_csv_set
from eval_tools.test_sets.insightface_bin import read_bin_set
from eval_tools.test_sets.interface import TestSet
from eval_tools.test_sets.labelled import read_folder_set, read_record_set
from eval_tools.test_sets.lfw import is_pairs_file, read_lfw_set
from eval_tools.test_sets.pair_list import PathLike
from eval_tools.test_sets.pairing import MAX_PAIRS
from igfiqa_head.io.data_pickle import is_pickle
from igfiqa_head.io.image_files import folder_files
from igfiqa_head.io.record_format import MAGIC_BYTES
from igfiqa_head.io.regular_files import regular
from igfiqa_head.text import first_of

LAYOUTS = """
- insightface's verification set, a .bin file
- LFW, XQLFW and the like: a pairs file ('10 300', then 'NAME i j' and 'NAME_A i NAME_B j') beside a folder
  of NAME/NAME_0001.jpg; name the pairs file or the folder that it lies in
- a CSV file with the columns image_a,image_b,is_genuine and, if known, identity_a,identity_b; its images lie
  in its folder or in that named by --images
- RecordIO: a .rec file and its .idx; all pairs
- a folder with one sub-folder of images for each identity; all pairs
- IJB-B or IJB-C: the folder with loose_crop and meta"""
Reader: TypeAlias = Callable[[Path], TestSet]

_IJB_FILES = ("meta/*_face_tid_mid.txt", "IJB[BC]/meta/*_face_tid_mid.txt")


def open_test_set(
    path: PathLike,
    *,
    on_bad: OnBad = "error",
    max_pairs: int = MAX_PAIRS,
    seed: int = 0,
    images: PathLike | None = None,
    absolute_paths: bool = False,
) -> TestSet:
    """Open a test set: a file, or a folder with one file that lists pairs, with records or with images.

    A folder with a pairs file and sub-folders of images is that list of pairs, not all pairs of its images.

    Args:
        path: the file or folder.
        on_bad: "error" stops with the first bad line, missing image or repeated pair; "exclude" leaves them
            out and counts them in the set's notes.
        max_pairs, seed: where all pairs are compared and there are more, a sample of the impostor pairs is.
        images: folder of the images of a list of pairs (CSV, LFW), None for that of the list. Other sets
            hold their images, and say so in their notes.
        absolute_paths: see :func:`~eval_tools.test_sets.csv_pairs.read_csv_set`.

    Raises:
        ValueError: no test set is found, or several are, or it is damaged.
    """
    check_on_bad(on_bad)
    readers: dict[str, Reader] = {
        "bin": partial(read_bin_set, on_bad=on_bad),
        "csv": partial(read_csv_set, on_bad=on_bad, images=images, absolute_paths=absolute_paths),
        "pairs": partial(read_lfw_set, images=images, on_bad=on_bad),
        "rec": partial(read_record_set, max_pairs=max_pairs, seed=seed),
        "folder": partial(read_folder_set, on_bad=on_bad, max_pairs=max_pairs, seed=seed),
        "ijb": partial(_read_ijb, on_bad=on_bad),
    }
    place, kind = _find(Path(path))
    test_set = readers[kind](place)
    if images is None or kind in ("csv", "pairs"):
        return test_set
    note = "This set holds its images: --images is for lists of pairs."
    return dataclasses.replace(test_set, notes=(*test_set.notes, note))  # type: ignore[type-var]


def _find(place: Path) -> tuple[Path, str]:
    """The place of the test set, and its kind."""
    if not place.is_dir():
        return place, _kind_of_file(place)
    if any(any(place.glob(pattern)) for pattern in _IJB_FILES):
        return place, "ijb"
    files = _test_set_files(place)
    if len(files) == 1:
        return files[0], _kind_of_file(files[0])
    if files or not _has_identities(place):
        raise ValueError(_not_one(place, files))
    return place, "folder"


def _kind_of_file(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"there is no file or folder {path}")
    kind = _kind(path)
    if kind is None:
        raise ValueError(f"{path} is no test set; expected one of{LAYOUTS}")
    return kind


def _read_ijb(root: Path, on_bad: OnBad) -> TestSet:
    from eval_tools.ijb import read_ijb  # it builds on this package

    return read_ijb(root, on_bad=on_bad)


def _kind(path: Path) -> str | None:
    """Kind of a file by its content or, so that its reader says what is wrong with it, by its suffix."""
    with open(path, "rb", opener=regular) as file:
        start = file.read(len(MAGIC_BYTES))
    if start == MAGIC_BYTES:
        return "rec"
    if is_pairs_file(path):
        return "pairs"
    if is_pair_csv(path):
        return "csv"
    if is_pickle(start):
        return "bin"
    return {".rec": "rec", ".bin": "bin", ".csv": "csv", ".tsv": "csv", ".txt": "pairs"}.get(
        path.suffix.lower()
    )


def _test_set_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [path for path in files if _is_test_set(path)]


def _is_test_set(path: Path) -> bool:
    """Damaged lists count by their name, or else all pairs would silently be compared instead."""
    suffix, named_pairs = path.suffix.lower(), "pairs" in path.stem.lower()
    if suffix == ".txt":
        return named_pairs or is_pairs_file(path)
    if suffix in (".csv", ".tsv"):
        return named_pairs or is_pair_csv(path)
    return suffix in (".rec", ".bin")


def _has_identities(folder: Path) -> bool:
    root = str(folder)
    names = folder_files(root, root).folders
    return any(folder_files(os.path.join(root, name), root).images for name in names)


def _not_one(folder: Path, files: list[Path]) -> str:
    if files:
        names = ", ".join(path.name for path in files)
        return f"{folder} holds several test sets ({names}): name one of the files"
    found = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return f"{folder} holds no test set; found {first_of(found, 20) or 'nothing'}, expected one of{LAYOUTS}"

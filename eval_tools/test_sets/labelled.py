"""All pairs of labelled images: RecordIO files, and folders with one sub-folder for each identity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval_tools.scores import IntArray
from eval_tools.test_sets.exclusions import Exclusions, OnBad
from eval_tools.test_sets.images import (
    SUFFIXES,
    LazyImages,
    RGBImage,
    image_names,
    load_file,
    visible,
)
from eval_tools.test_sets.pair_list import PathLike
from eval_tools.test_sets.pairing import MAX_PAIRS, all_pairs
from eval_tools.test_sets.verification_set import VerificationSet
from igfiqa_head.io.images import decode_image
from igfiqa_head.io.recordio import CorruptRecordError, RecordReader


def read_record_set(path: PathLike, *, max_pairs: int = MAX_PAIRS, seed: int = 0) -> VerificationSet:
    """All pairs of the images of a ``.rec`` file; equal labels make a genuine pair.

    Args:
        path: the ``.rec`` file, its ``.idx`` beside it, or a folder with one ``.rec`` file.
        max_pairs, seed: see :func:`~eval_tools.test_sets.pairing.all_pairs`.

    Raises:
        ValueError: files are missing or damaged (:class:`~igfiqa_head.io.recordio.CorruptRecordError`), no
            genuine or no impostor pair, or too many genuine pairs.
    """
    rec_path = _record_file(Path(path))
    idx_path = rec_path.with_suffix(".idx")
    if not idx_path.is_file():
        raise ValueError(f"{rec_path} needs its index {idx_path.name} beside it")
    reader = RecordReader(rec_path, idx_path)
    keys = reader.image_keys()
    labels = reader.read_labels(keys)
    n_absent = int(labels.max()) + 1 - len(np.unique(labels))
    notes = (f"{n_absent} of the labels 0 .. {labels.max()} have no image.",) if n_absent else ()
    images = LazyImages(len(keys), partial(_load_record, reader, keys))
    return _all_pairs_set(rec_path, images, keys.astype(str).tolist(), labels, notes, max_pairs, seed)


def read_folder_set(
    path: PathLike, *, on_bad: OnBad = "error", max_pairs: int = MAX_PAIRS, seed: int = 0
) -> VerificationSet:
    """All pairs of the images ``IDENTITY/*.{jpg,jpeg,png,bmp,webp}``; hidden and other files are ignored.

    Args:
        path: the folder.
        on_bad: what to do about sub-folders without images, or that are links to other ones: one person would
            count as two.
        max_pairs, seed: see :func:`~eval_tools.test_sets.pairing.all_pairs`.

    Raises:
        ValueError: no such folder, a link that is broken or leaves it, no genuine or no impostor pair, too
            many genuine pairs, or, with ``on_bad="error"``, a bad sub-folder.
    """
    root = os.fspath(path)
    exclusions = Exclusions(path, on_bad)
    if not os.path.isdir(root):
        raise ValueError(f"there is no folder {root}")
    names: list[str] = []
    identities: list[int] = []
    folders = _identity_folders(root, exclusions)
    for number, identity in enumerate(folders):
        files = image_names(os.path.join(root, identity), root)
        if not files:
            exclusions.add("identities", f"{identity} has no image ({', '.join(SUFFIXES)})")
        names += [f"{identity}/{file}" for file in files]
        identities += [number] * len(files)
    images = LazyImages(len(names), partial(load_file, root, names))
    labels = np.array(identities, np.int64)
    return _all_pairs_set(path, images, names, labels, exclusions.notes, max_pairs, seed)


def _identity_folders(root: str, exclusions: Exclusions) -> list[str]:
    """Names of the sub-folders, each folder once."""
    entries = [entry for entry in visible(root, root) if entry.is_dir()]
    names: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: entry.is_symlink()):  # a folder comes before links to it
        name = names.setdefault(os.path.realpath(entry.path), entry.name)
        if name != entry.name:
            exclusions.add("links to other identities", f"{entry.name} is the folder {name} again, by a link")
    return sorted(names.values())


def _record_file(path: Path) -> Path:
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"there is no file or folder {path}")
        return path
    found = sorted(path.glob("*.rec"))
    if len(found) != 1:
        received = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{path} must hold one .rec file, found {received}: name the file")
    return found[0]


def _load_record(reader: RecordReader, keys: NDArray[np.int64], index: int) -> RGBImage:
    key = int(keys[index])
    try:
        return decode_image(reader.read(key).data)
    except CorruptRecordError:
        raise
    except ValueError as error:
        raise ValueError(f"{reader.rec_path}: the image of key {key}: {error}") from error


def _all_pairs_set(
    path: PathLike,
    images: Sequence[RGBImage],
    names: Sequence[str],
    identities: IntArray,
    notes: tuple[str, ...],
    max_pairs: int,
    seed: int,
) -> VerificationSet:
    try:
        pairs, is_genuine, pair_notes = all_pairs(identities, max_pairs, seed)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return VerificationSet(images, pairs, is_genuine, identities, names, notes=(*notes, *pair_notes))

"""All pairs of labelled images: RecordIO files, and folders with one sub-folder for each identity."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from eval_tools.on_bad import OnBad
from eval_tools.scores import IntArray
from eval_tools.test_sets.exclusions import Exclusions
from eval_tools.test_sets.images import RGBImage
from eval_tools.test_sets.pair_list import PathLike
from eval_tools.test_sets.pairing import MAX_PAIRS, all_pairs
from eval_tools.test_sets.verification_set import VerificationSet
from igfiqa_head.io.aligned_faces import RecordFaces, file_faces
from igfiqa_head.io.image_files import IMAGE_SUFFIXES, identity_folders


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
    faces = RecordFaces(rec_path)
    labels = faces.labels
    n_absent = int(labels.max()) + 1 - len(np.unique(labels))
    notes = (f"{n_absent} of the labels 0 .. {labels.max()} have no image.",) if n_absent else ()
    return _all_pairs_set(rec_path, faces, faces.keys.astype(str).tolist(), labels, notes, max_pairs, seed)


def read_folder_set(
    path: PathLike, *, on_bad: OnBad = "error", max_pairs: int = MAX_PAIRS, seed: int = 0
) -> VerificationSet:
    """All pairs of the images ``IDENTITY/*.jpg`` (or another of
    :data:`~igfiqa_head.io.image_files.IMAGE_SUFFIXES`); hidden files and other than pictures are ignored.

    Args:
        path: the folder.
        on_bad: what to do about pictures of other formats, or beside or below the sub-folders; and about
            sub-folders without images, or that are links to other ones: one person would count as two.
        max_pairs, seed: see :func:`~eval_tools.test_sets.pairing.all_pairs`.

    Raises:
        ValueError: no such folder, a link that is broken or leaves it, no genuine or no impostor pair, too
            many genuine pairs, or, with ``on_bad="error"``, such a picture or sub-folder.
    """
    root = os.fspath(path)
    exclusions = Exclusions(path, on_bad)
    if not os.path.isdir(root):
        raise ValueError(f"there is no folder {root}")
    found = identity_folders(root)
    for name, why in found.unread.items():
        exclusions.add("pictures", f"{name}: {why}")
    names: list[str] = []
    identities: list[int] = []
    for number, identity in enumerate(_distinct(root, found.images, exclusions)):
        files = found.images[identity]
        if not files:
            exclusions.add("identities", f"{identity} has no image ({', '.join(IMAGE_SUFFIXES)})")
        names += files
        identities += [number] * len(files)
    labels = np.array(identities, np.int64)
    return _all_pairs_set(path, file_faces(root, names), names, labels, exclusions.notes, max_pairs, seed)


def _distinct(root: str, identities: Iterable[str], exclusions: Exclusions) -> list[str]:
    """The names of identities, each folder once."""
    paths = {name: os.path.join(root, name) for name in identities}
    names: dict[str, str] = {}
    for identity in sorted(paths, key=lambda name: os.path.islink(paths[name])):  # links come last
        name = names.setdefault(os.path.realpath(paths[identity]), identity)
        if name != identity:
            exclusions.add("links to other identities", f"{identity} is the folder {name} again, by a link")
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

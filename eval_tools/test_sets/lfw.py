"""LFW's folder and pairs file, which XQLFW, CPLFW-like and many private sets share.

A pairs file (http://vis-www.cs.umass.edu/lfw/README.txt) starts with the number of folds and of the genuine
pairs in each fold, which has as many impostor pairs (``10 300``), or with the latter number alone. Then come
lines ``NAME i j`` for genuine and ``NAME_A i NAME_B j`` for impostor pairs; image i of NAME is
``NAME/NAME_0001.jpg``, the number in four digits.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from eval_tools.names import Folders, Names, composed
from eval_tools.on_bad import OnBad
from eval_tools.test_sets.exclusions import Exclusions
from eval_tools.test_sets.pair_list import (
    ListedPair,
    PathLike,
    first_lines,
    image_root,
    listed_set,
    read_text,
)
from eval_tools.test_sets.verification_set import VerificationSet
from igfiqa_head.io.image_files import IMAGE_SUFFIXES, FolderFiles, folder_files, is_inside

_HEADER = re.compile(r"\s*([1-9][0-9]{0,8})(?:\s+([1-9][0-9]{0,8}))?\s*")
_NUMBER = re.compile(r"[0-9]{1,9}")
_COLUMNS = "'NAME i j' (genuine) or 'NAME_A i NAME_B j' (impostor)"


def read_lfw_set(
    pairs_path: PathLike, images: PathLike | None = None, *, on_bad: OnBad = "error"
) -> VerificationSet:
    """A test set from a pairs file in LFW's format and a folder of images.

    Args:
        pairs_path: the pairs file.
        images: folder of ``NAME/NAME_0001.jpg`` (or another suffix); None looks for it beside the pairs file.
        on_bad: what to do about lines that are malformed, repeat a pair or need an image that is not there.

    Raises:
        ValueError: not such a file, other numbers of pairs than its first line says, in all or in a fold, no
            folder of images, or, with ``on_bad="error"``, a bad line.
    """
    exclusions = Exclusions(pairs_path, on_bad)
    lines = io.StringIO(read_text(pairs_path), newline=None).read().split("\n")
    folds, per_fold = _header(pairs_path, lines[0])
    listed = _pairs(lines, exclusions)
    _check_counts(pairs_path, listed, (folds or 1) * per_fold)
    _check_folds(pairs_path, listed, folds or 1, per_fold)
    pairs = [pair for pair in listed if pair is not None]
    folders = Folders()
    root = image_root(images) or _find_images(Path(pairs_path), pairs, folders)
    locate = partial(_locate, root, cache(partial(_files, root, folders)))
    return listed_set(pairs_path, root, pairs, locate, exclusions, folds)


def is_pairs_file(path: PathLike) -> bool:
    """Whether a file starts as a pairs file does."""
    lines = [*first_lines(path), "", ""]
    return bool(_HEADER.fullmatch(lines[0])) and len(_fields(lines[1])) in (3, 4)


def _header(path: PathLike, line: str) -> tuple[int | None, int]:
    """(folds or None, genuine pairs in each fold)."""
    match = _HEADER.fullmatch(line)
    if not match:
        raise ValueError(
            f"{path}, line 1: expected the number of folds and of genuine pairs in each, such as '10 300', "
            f"or the number of genuine pairs, got {line[:80]!r}"
        )
    first, second = match.groups()
    if second is None:
        return None, int(first)
    return (int(first) if int(first) > 1 else None), int(second)


def _pairs(lines: Sequence[str], exclusions: Exclusions) -> list[ListedPair | None]:
    """The pair of each line that is not blank, None for the malformed."""
    pairs: list[ListedPair | None] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            pairs.append(_parsed(number, _fields(line)))
        except ValueError as error:
            exclusions.add("malformed lines", f"line {number}: {error}, got {line[:80]!r}")
            pairs.append(None)
    return pairs


def _fields(line: str) -> list[str]:
    """Columns are separated by tabs; names may then have spaces."""
    fields = line.strip().split("\t") if "\t" in line.strip() else line.split()
    return [field.strip() for field in fields]


def _parsed(number: int, fields: list[str]) -> ListedPair:
    if len(fields) not in (3, 4):
        raise ValueError(f"expected {_COLUMNS}")
    is_genuine = len(fields) == 3
    names = (fields[0], fields[0 if is_genuine else 2])
    stems = (_stem(names[0], fields[1]), _stem(names[1], fields[-1]))
    return ListedPair(number, stems, is_genuine, (composed(names[0]), composed(names[1])))


def _stem(name: str, index: str) -> str:
    """``NAME/NAME_0001``."""
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError("expected the name of a folder")
    if not _NUMBER.fullmatch(index):
        raise ValueError(f"expected {_COLUMNS} with the numbers of images")
    return f"{name}/{name}_{int(index):04d}"


def _check_counts(path: PathLike, listed: Sequence[ListedPair | None], of_each_kind: int) -> None:
    n_genuine, n_impostor = _counts(listed)
    if len(listed) != 2 * of_each_kind or max(n_genuine, n_impostor) > of_each_kind:
        raise ValueError(
            f"{path}: its first line announces {of_each_kind} genuine and {of_each_kind} impostor pairs, but "
            f"{len(listed)} lines follow, of them {n_genuine} genuine and {n_impostor} impostor: "
            "is the file cut, or the first line another file's?"
        )


def _check_folds(path: PathLike, listed: Sequence[ListedPair | None], folds: int, per_fold: int) -> None:
    for fold in range(folds):
        n_genuine, n_impostor = _counts(listed[2 * fold * per_fold : 2 * (fold + 1) * per_fold])
        if max(n_genuine, n_impostor) > per_fold:
            raise ValueError(
                f"{path}: its first line announces folds of {per_fold} genuine and {per_fold} impostor pairs "
                f"each, but fold {fold + 1} of {folds} has {n_genuine} genuine and {n_impostor} impostor: "
                f"sort the lines, or write {folds * per_fold} alone in the first line for no folds"
            )


def _counts(listed: Sequence[ListedPair | None]) -> tuple[int, int]:
    """Genuine and impostor pairs."""
    kinds = [pair.is_genuine for pair in listed if pair is not None]
    return sum(kinds), len(kinds) - sum(kinds)


def _find_images(pairs_path: Path, pairs: Sequence[ListedPair], folders: Folders) -> str:
    """The folder of images: that of the pairs file, or one in it."""
    folder = pairs_path.parent
    names = [name for pair in pairs[:100] for name in pair.identities or ()]
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [path for path in candidates if any(_is_folder(path, folders, name) for name in names)]
    if len(found) != 1:
        received = f"found {', '.join(map(str, found))}" if found else f"found none in {folder}"
        raise ValueError(
            f"{pairs_path} needs one folder of images NAME/NAME_0001.jpg beside it, {received}: keep one "
            "there, or name it with --images ROOT (or, in Python, pass it to read_lfw_set as images)"
        )
    return str(found[0])


def _is_folder(place: Path, folders: Folders, name: str) -> bool:
    found = folders.find(str(place), name)
    return found is not None and os.path.isdir(place / found)


def _files(root: str, folders: Folders, name: str) -> tuple[str, FolderFiles]:
    """The folder of an identity as the disk spells it, and what lies in it."""
    found = folders.find(root, name) or name
    folder = os.path.join(root, found)
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {folder}")
    if not is_inside(folder, root):
        raise ValueError(f"{folder} is a link that leads out of {root}: copy the folder instead")
    return found, folder_files(folder, root)


def _locate(root: str, files_of: Callable[[str], tuple[str, FolderFiles]], image: str) -> str:
    name, _, wanted = image.partition("/")
    folder, found = files_of(name)
    stem = Names(map(_without_suffix, (*found.images, *found.unread))).find(wanted)
    fitting = [file for file in found.images if _without_suffix(file) == stem]
    if len(fitting) != 1:
        unread = [why for file, why in found.unread.items() if _without_suffix(file) == stem]
        what = f"are several images ({', '.join(fitting)})" if fitting else "is no image"
        reason = unread[0] if unread and not fitting else ", ".join(IMAGE_SUFFIXES)
        raise ValueError(f"there {what} {os.path.join(root, image)} ({reason})")
    return f"{folder}/{fitting[0]}"


def _without_suffix(file: str) -> str:
    return os.path.splitext(file)[0]

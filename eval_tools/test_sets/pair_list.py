"""From a listed file of pairs to a verification set, every line checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from eval_tools.scores import IntArray
from eval_tools.test_sets.exclusions import Exclusions
from eval_tools.test_sets.verification_set import VerificationSet, folds_of
from igfiqa_head.io.aligned_faces import file_faces
from igfiqa_head.io.regular_files import read_regular, regular

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class ListedPair:
    """One line: two images, as the file names them, and who they are where the file says so."""

    line: int
    images: tuple[str, str]
    is_genuine: bool
    identities: tuple[str, str] | None


def read_text(path: PathLike) -> str:
    """A UTF-8 file, with or without byte order mark, line ends as they are.

    Raises:
        ValueError: there is no such file, it is empty or it is not UTF-8 text.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    content = read_regular(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8 text: save the file as UTF-8") from error
    if "\0" in text or not text.strip():
        raise ValueError(f"{path} is {'no text file: it has zero bytes' if text.strip() else 'empty'}")
    return text


def first_lines(path: PathLike) -> list[str]:
    """The first lines of a file of any content, for a look at what it is."""
    with open(path, "rb", opener=regular) as file:
        start = file.read(4096)
    return start.decode("utf-8-sig", errors="replace").splitlines()


def image_root(images: PathLike | None) -> str | None:
    """The folder in which a list's images were said to be.

    Raises:
        ValueError: there is no such folder.
    """
    if images is not None and not os.path.isdir(images):
        raise ValueError(f"there is no folder {images} of images (--images ROOT)")
    return None if images is None else os.path.abspath(images)


def listed_set(
    path: PathLike,
    root: str,
    pairs: Iterable[ListedPair],
    locate: Callable[[str], str],
    exclusions: Exclusions,
    folds: int | None = None,
) -> VerificationSet:
    """The set of the pairs that a file lists.

    Args:
        path: the file, for errors.
        root: folder of the images.
        pairs: its lines.
        locate: file, relative to ``root``, of an image; ``ValueError`` says why there is none.
        exclusions: what to do about bad lines.
        folds: of the whole list.

    Raises:
        ValueError: a bad line, or no genuine or no impostor pair.
    """
    accepted = _Accepted(exclusions, cache(locate))
    for pair in pairs:
        accepted.add(pair)
    names = list(accepted.positions)
    try:
        return VerificationSet(
            images=file_faces(root, names),
            pairs=np.array(list(accepted.lines), np.int64).reshape(-1, 2),
            is_genuine=np.array(accepted.is_genuine, np.bool_),
            identities=accepted.labels(),
            names=names,
            folds=folds_of(len(accepted.lines), folds),
            notes=exclusions.notes,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass
class _Accepted:
    """The pairs accepted so far: ``lines`` maps the positions of two images to the line of their pair."""

    exclusions: Exclusions
    locate: Callable[[str], str]
    positions: dict[str, int] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    lines: dict[tuple[int, int], int] = field(default_factory=dict)
    is_genuine: list[bool] = field(default_factory=list)

    def add(self, pair: ListedPair) -> None:
        try:
            first, second = (self.locate(name) for name in pair.images)
        except ValueError as error:
            self.exclusions.add("pairs of images that are not there", f"line {pair.line}: {error}")
            return
        fault = self._repetition(first, second) or self._contradiction(first, second, pair)
        if fault:
            kind, detail = fault
            self.exclusions.add(kind, f"line {pair.line}: {detail}")
            return
        self.identities.update(zip((first, second), pair.identities or (), strict=False))
        key = tuple(self.positions.setdefault(name, len(self.positions)) for name in (first, second))
        self.lines[key[0], key[1]] = pair.line
        self.is_genuine.append(pair.is_genuine)

    def labels(self) -> IntArray | None:
        """Identities of the images as numbers, None where the file names none."""
        if not self.identities:
            return None
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(self.identities[name], len(numbers)) for name in self.positions])

    def _repetition(self, first: str, second: str) -> tuple[str, str] | None:
        if first == second:
            return "pairs of an image with itself", f"{first} is paired with itself"
        a, b = self.positions.get(first, -1), self.positions.get(second, -1)
        line = self.lines.get((a, b)) or self.lines.get((b, a))
        if line:
            return "repeated pairs", f"the pair of {first} and {second} is that of line {line} again"
        return None

    def _contradiction(self, first: str, second: str, pair: ListedPair) -> tuple[str, str] | None:
        if pair.identities is None:
            return None
        for name, identity in zip((first, second), pair.identities, strict=True):
            known = self.identities.get(name, identity)
            if known != identity:
                return "pairs with contradicting identities", f"{name} is {identity!r}, but {known!r} before"
        same = pair.identities[0] == pair.identities[1]
        if same != pair.is_genuine:
            kind = (
                "a genuine pair of two identities" if pair.is_genuine else "an impostor pair of one identity"
            )
            return "pairs with contradicting identities", f"{kind}: {' and '.join(pair.identities)}"
        return None

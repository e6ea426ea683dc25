"""Embeddings and qualities of images that were computed elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval_tools.columns import CsvFile, npz_kinds, read_npz, some_of, text_of
from eval_tools.on_bad import EXCLUDE, OnBad, check_on_bad
from eval_tools.precomputed.matching import AMBIGUOUS, match_names
from eval_tools.precomputed.score_lines import read_name_scores

NAME_COLUMNS = ("name", "source", "image", "path", "file", "filename")
_OFIQ_STATUS = ".scalar"


@dataclass(frozen=True)
class Lookup:
    """What a file says of a test set's images.

    Attributes:
        values: [N, ...], NaN for the images in ``bad``.
        bad: position of an image the file has no usable value for -> why.
        notes: how the images were found, if not by equal names, and what of the file is of no image.
    """

    values: NDArray[np.floating]
    bad: dict[int, str]
    notes: tuple[str, ...]


class _Precomputed:
    """Rows of values [M, ...] by name, or by position where there are no names."""

    _fault = "NaN or infinite"

    def __init__(self, path: Path, names: Sequence[str] | None, values: NDArray[np.floating]) -> None:
        self.path = path
        self._conflicts: set[str] = set()
        self._unassessed: set[str] = set()
        if names is not None:
            names, values, self._conflicts = _distinct([_normal(name) for name in names], values)
        self._names, self._values = names, values

    def lookup(self, names: Sequence[str], on_bad: OnBad = "error") -> Lookup:
        """Values for a test set's images.

        Args:
            names: [N] of the images, the same for the same image; see
                :func:`eval_tools.precomputed.matching.match_names` for how they are found. A file without
                names must hold N values, in the order of the images.
            on_bad: an image without a value, with a NaN or infinite one (or a zero embedding), or with two
                different ones is an "error", or listed for its exclusion ("exclude").

        Raises:
            ValueError: such an image and ``on_bad`` is "error", no usable image, another number of values, or
                names that cannot be those of the set.
        """
        check_on_bad(on_bad)
        positions, notes = self._find(names)
        values = np.full((len(names), *self._values.shape[1:]), np.nan, self._values.dtype)
        values[positions >= 0] = self._values[positions[positions >= 0]]
        usable = self._usable(values)
        bad = {row: self._reason(names[row], int(positions[row])) for row in np.flatnonzero(~usable).tolist()}
        values[~usable] = np.nan
        if bad and (on_bad == "error" or len(bad) == len(names)):
            raise ValueError(
                f"{self.path}: {bad[min(bad)]}; {len(bad)} of {len(names)} images have no usable value: add "
                f"the values, or leave such images out with {EXCLUDE}"
            )
        return Lookup(values, bad, notes)

    def _usable(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        return np.isfinite(values)

    def _find(self, names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Row [N] of each image, negative where there is none, and notes."""
        if self._names is None:
            if len(names) != len(self._values):
                raise ValueError(
                    f"{self.path} holds {len(self._values)} values without names, expected one for each of "
                    f"the {len(names)} images in their order; or add the array 'names'"
                )
            return np.arange(len(names)), ()
        # IJB has the same image in several templates.
        distinct = {name: number for number, name in enumerate(dict.fromkeys(map(_normal, names)))}
        try:
            match = match_names(list(distinct), self._names)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        notes = [] if match.how is None else [f"images were found by {match.how}"]
        unused = len(self._names) - np.count_nonzero(match.positions >= 0)
        if unused:
            notes.append(f"{unused} of its {len(self._names)} names are of no image of this set")
        rows = np.array([distinct[_normal(name)] for name in names], np.int64)
        return match.positions[rows], tuple(f"{self.path.name}: {note}." for note in notes)

    def _reason(self, name: str, position: int) -> str:
        if position == AMBIGUOUS:
            return f"several names fit image {name!r}"
        if position < 0:
            example = f", which has names such as {self._names[0]!r}" if self._names else ""
            return f"there is no value for image {name!r}{example}"
        if self._names is not None and self._names[position] in self._conflicts:
            return f"image {self._names[position]!r} occurs twice with different values"
        if self._names is not None and self._names[position] in self._unassessed:
            return f"image {name!r} was not assessed (-1, in OFIQ's terms)"
        return f"the value of image {name!r} is {self._fault}"


def _normal(name: str) -> str:
    return name.strip().replace("\\", "/")


def _distinct(
    names: list[str], values: NDArray[np.floating]
) -> tuple[list[str], NDArray[np.floating], set[str]]:
    """Names once each, their first values, and the names whose values differ, which become NaN.

    CR-FIQA lists an image once for each of its pairs, in batches whose sums may be rounded differently.
    """
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        first.setdefault(name, position)
    if len(first) == len(names):
        return names, values, set()
    original = np.array([first[name] for name in names])
    same = np.isclose(values, values[original], rtol=1e-4, atol=1e-6, equal_nan=True)
    differing = np.flatnonzero(~same.reshape(len(names), -1).all(axis=1))
    kept = values.copy()
    kept[original[differing]] = np.nan
    return list(first), kept[list(first.values())], {names[row] for row in differing}


class PrecomputedEmbeddings(_Precomputed):
    """Embeddings of images, from the arrays of a ``.npz`` file.

    They are ``embeddings`` [N, D] or [N, V, D], V views of each image (upright, then mirrored), and ``names``
    [N], without which the embeddings are in the order of the images.
    """

    _fault = "zero, NaN or infinite"

    def __init__(self, path: str | Path) -> None:
        """Read the file.

        Raises:
            ValueError: not such a file, or arrays of other shapes.
        """
        path = Path(path)
        arrays = _arrays(path, "embeddings")
        embeddings = arrays["embeddings"]
        if embeddings.ndim == 2:
            embeddings = embeddings[:, None]
        if embeddings.ndim != 3 or 0 in embeddings.shape or embeddings.dtype.kind != "f":
            raise ValueError(
                f"{path}: embeddings must be floats [N, D] or [N, V, D], got {embeddings.dtype} "
                f"{list(arrays['embeddings'].shape)}"
            )
        super().__init__(path, _names(path, arrays, len(embeddings)), embeddings)

    def _usable(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether every view has a length to divide by."""
        with np.errstate(over="ignore", invalid="ignore"):
            squared = np.einsum("nvd,nvd->nv", values, values, dtype=np.float64)
        return ((squared > 0) & (squared < np.inf)).all(axis=1)


class PrecomputedQuality(_Precomputed):
    """Qualities of images, higher is better, from

    * ``.npz``: ``quality`` [N] and ``names`` [N], without which they are in the order of the images;
    * ``.csv`` or ``.tsv``: a header with ``name`` and ``quality``, see :mod:`eval_tools.columns`;
    * the ``.csv`` of OFIQ, whose names are in the column ``Filename``, where -1 says "not assessed";
    * ``.txt``: lines "name score", as CR-FIQA's scripts write them.
    """

    _fault = "missing, NaN or infinite"

    def __init__(self, path: str | Path, column: str = "quality") -> None:
        """Read the file.

        Args:
            path: the file.
            column: array or column to take in place of ``quality``.

        Raises:
            ValueError: not such a file; the message names the line.
        """
        path = Path(path)
        if path.suffix.lower() == ".npz":
            arrays = _arrays(path, column)
            quality = arrays[column]
            if quality.ndim != 1 or not quality.size or quality.dtype.kind not in "fiu":
                raise ValueError(
                    f"{path}: {column} must be numbers [N], got {quality.dtype} {list(quality.shape)}"
                )
            super().__init__(path, _names(path, arrays, len(quality)), quality.astype(np.float64))
            return
        names, quality, unassessed = _names_and_scores(path, column)
        super().__init__(path, names, np.where(unassessed, np.nan, quality))
        self._unassessed = {_normal(names[row]) for row in np.flatnonzero(unassessed)}


def _names_and_scores(path: Path, column: str) -> tuple[list[str], NDArray[np.float64], NDArray[np.bool_]]:
    """Names, scores, and which of them the method did not assess, [M] each."""
    if path.suffix.lower() == ".txt":
        if column != "quality":
            raise ValueError(f"{path} holds lines 'name score' and no column {column!r}")
        names, scores = read_name_scores(path)
        return names, scores, np.zeros(len(names), np.bool_)
    file = CsvFile(path)
    columns = {header.lower(): header for header in reversed(file.header)}
    name = next((columns[name] for name in NAME_COLUMNS if name in columns), None)
    if name is None or column not in file.header or name == column:
        close = difflib.get_close_matches(column, file.header, n=1)
        hint = f"; did you mean {close[0]!r}?" if close and close[0] != column else ""
        raise ValueError(
            f"{path} has the columns {some_of(file.header)}; expected {name or 'name'} and {column}, or "
            f"give another column as in {path.name}:COLUMN{hint}"
        )
    status = _ofiq_status(file.header, name, column)
    table = file.read({name: "text", column: "number", **({status: "number"} if status else {})})
    unassessed = table.columns[status] == -1 if status else np.zeros(len(table.columns[name]), np.bool_)
    return table.columns[name], table.columns[column], unassessed


def _ofiq_status(header: Sequence[str], name: str, column: str) -> str | None:
    """The column with -1 for what OFIQ did not assess; the raw measure beside it is then 0.

    Other methods may mean -1, so OFIQ's files are known by two signs: a column ``X.scalar``, and ``X`` beside
    it or the names in ``Filename``.
    """
    measure = column.removesuffix(_OFIQ_STATUS)
    is_ofiq = measure in header or name.lower() == "filename"
    return measure + _OFIQ_STATUS if is_ofiq and measure + _OFIQ_STATUS in header else None


def _arrays(path: Path, required: str) -> dict[str, NDArray[Any]]:
    """The required array and, where they are there, the names."""
    arrays = read_npz(path, (required, "names"))
    if required not in arrays:
        raise ValueError(
            f"{path} holds {some_of(npz_kinds(path)) or 'nothing'}, expected an array {required!r}"
        )
    return arrays


def _names(path: Path, arrays: Mapping[str, NDArray[Any]], count: int) -> list[str] | None:
    if "names" not in arrays:
        return None
    names = arrays["names"]
    if names.shape != (count,) or names.dtype.kind not in "USiu":
        raise ValueError(f"{path}: names must be strings [{count}], got {names.dtype} {list(names.shape)}")
    return text_of(names)

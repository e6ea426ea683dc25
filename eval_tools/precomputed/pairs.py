"""Whole scored pairs: similarities and qualities that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eval_tools.erc import pair_quality as join_qualities
from eval_tools.precomputed.files import CsvFile, Kind, Table, read_npz, text_of
from eval_tools.scores import BoolArray, FloatArray, IntArray, check_genuine

PairQuality = Literal["min", "max", "mean", "product"]
_SCORES = ("similarity", "distance")
_IDENTITIES = ("identity_a", "identity_b")
_NAMES = ("name_a", "name_b")
_LARGEST = 1e150  # squares and differences of larger numbers overflow


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Compared pairs with their scores.

    Attributes:
        similarity: float64 [P], higher is more alike.
        is_genuine: bool [P], both kinds are there.
        quality: method -> float64 [P], quality of the pairs.
        pair_identities: int64 [P, 2], who is compared; None if the file does not say.
        notes: what was excluded, one sentence each.
    """

    similarity: FloatArray
    is_genuine: BoolArray
    quality: dict[str, FloatArray]
    pair_identities: IntArray | None
    notes: tuple[str, ...]


def read_scored_pairs(
    path: str | Path, *, pair_quality: PairQuality = "min", on_bad: Literal["error", "exclude"] = "error"
) -> ScoredPairs:
    """Read pairs that were scored elsewhere.

    The columns of a ``.csv`` or ``.tsv`` file with a header, or the arrays [P] of a ``.npz`` file, are

    * ``similarity``, or ``distance``, which is negated;
    * ``is_genuine``: 1 or true for two faces of one person, else 0 or false;
    * one column for each quality method, higher is better: its pair quality NAME, or NAME_a and NAME_b of the
      two faces;
    * optionally ``identity_a`` and ``identity_b``, any labels, and ``name_a`` and ``name_b`` of the images.

    Args:
        path: the file.
        pair_quality: how NAME_a and NAME_b are joined, see :func:`eval_tools.erc.pair_quality`.
        on_bad: pairs with a NaN, infinite or huge number, without one of the identities, whose identities
            contradict ``is_genuine``, or with the names of an earlier pair, in either order: "error", or
            "exclude" them, counted in the notes.

    Raises:
        ValueError: not such a file, a bad pair and ``on_bad`` is "error", or no genuine or no impostor pair.
    """
    if on_bad not in ("error", "exclude"):
        raise ValueError(f"on_bad must be 'error' or 'exclude', got {on_bad!r}")
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".npz"):
        raise ValueError(f"{path}: scored pairs are read from .csv, .tsv and .npz files")
    layout, table = _from_npz(path) if suffix == ".npz" else _from_csv(path)
    identities = _identity_numbers(table)
    keep, notes = _usable(layout, table, identities, on_bad)
    columns = {name: table.columns[name][keep] for name, kind in layout.kinds.items() if kind != "text"}
    score = columns[layout.score]
    try:
        is_genuine = check_genuine(columns["is_genuine"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return ScoredPairs(
        similarity=-score if layout.score == "distance" else score,
        is_genuine=is_genuine,
        quality={
            method: columns[parts[0]]
            if len(parts) == 1
            else join_qualities(columns[parts[0]], columns[parts[1]], pair_quality)
            for method, parts in layout.methods.items()
        },
        pair_identities=None if identities is None else identities[keep],
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Layout:
    """Which columns mean what; a method has the column of its pair quality, or those of the two faces."""

    score: str
    methods: dict[str, tuple[str, ...]]
    labels: tuple[str, ...]

    @property
    def kinds(self) -> dict[str, Kind]:
        numbers = (self.score, *(column for parts in self.methods.values() for column in parts))
        return {
            **dict.fromkeys(numbers, "number"),
            "is_genuine": "flag",
            **dict.fromkeys(self.labels, "text"),
        }


def _layout(path: Path, header: Sequence[str]) -> _Layout:
    scores = [name for name in _SCORES if name in header]
    identities = tuple(name for name in _IDENTITIES if name in header)
    names = _NAMES if set(_NAMES) <= set(header) else ()
    others = [name for name in header if name not in (*_SCORES, "is_genuine", *_IDENTITIES, *_NAMES)]
    methods: dict[str, tuple[str, ...]] = {}
    clash = False
    for column in others:
        method, sides = column[:-2], (f"{column[:-2]}_a", f"{column[:-2]}_b")
        if method and column in sides and set(sides) <= set(others):
            methods[method] = sides
            clash |= method in others
        else:
            methods[column] = (column,)
    if len(scores) != 1 or "is_genuine" not in header or not methods or len(identities) == 1 or clash:
        raise ValueError(
            f"{path} has the columns {', '.join(header)}; expected similarity or distance, is_genuine, one "
            "column NAME for each quality method (or both NAME_a and NAME_b), and both of identity_a and "
            "identity_b or neither"
        )
    return _Layout(scores[0], methods, (*identities, *names))


def _from_csv(path: Path) -> tuple[_Layout, Table]:
    file = CsvFile(path)
    layout = _layout(path, file.header)
    return layout, file.read(layout.kinds)


def _from_npz(path: Path) -> tuple[_Layout, Table]:
    arrays = read_npz(path)
    layout = _layout(path, list(arrays))
    size = arrays[layout.score].size
    columns: dict[str, Any] = {}
    for name, kind in layout.kinds.items():
        values = arrays[name]
        if values.shape != (size,) or values.dtype.kind not in ("fiub" if kind != "text" else "USiu"):
            wanted = "labels" if kind == "text" else "numbers"
            raise ValueError(
                f"{path}: {name} must be {wanted} [{size}] like {layout.score}, got {values.dtype} "
                f"{list(values.shape)}"
            )
        if kind == "flag" and not np.isin(values, (0, 1)).all():
            raise ValueError(f"{path}: {name} must hold booleans or 0 and 1 only (1 = same person)")
        columns[name] = text_of(values) if kind == "text" else values.astype(np.float64)
    return layout, Table(columns, lambda row: f"{path}, pair {row}")


def _identity_numbers(table: Table) -> IntArray | None:
    """Identities [P, 2] as numbers, equal for equal labels; -1 for empty ones."""
    if _IDENTITIES[0] not in table.columns:
        return None
    seen = {"": -1}
    sides = (map(str.strip, table.columns[name]) for name in _IDENTITIES)
    numbers = [
        np.array([seen.setdefault(label, len(seen) - 1) for label in side], np.int64) for side in sides
    ]
    return np.stack(numbers, axis=1)


def _usable(
    layout: _Layout, table: Table, identities: IntArray | None, on_bad: Literal["error", "exclude"]
) -> tuple[BoolArray, list[str]]:
    """Which pairs [P] to keep, and one sentence for each reason not to."""
    keep, notes = np.ones(len(table.columns["is_genuine"]), np.bool_), []
    for reason, pairs in _faults(layout, table, identities, keep):
        if pairs.any() and on_bad == "error":
            raise ValueError(
                f"{table.where(int(np.argmax(pairs)))}: {reason}, as for {np.count_nonzero(pairs)} of "
                f"{keep.size} pairs; correct them, or leave them out with on_bad='exclude' (--on-bad exclude)"
            )
        excluded = np.count_nonzero(keep & pairs)
        if excluded:
            notes.append(f"{excluded} of {keep.size} pairs were excluded: {reason}.")
        keep &= ~pairs
    return keep, notes


def _faults(
    layout: _Layout, table: Table, identities: IntArray | None, keep: BoolArray
) -> Iterator[tuple[str, BoolArray]]:
    """What can be wrong, and the pairs [P] it is wrong with; ``keep`` are those that had no fault so far."""
    for name, kind in layout.kinds.items():
        if kind == "number":
            values = table.columns[name]
            yield f"{name} is NaN or infinite", ~np.isfinite(values)
            yield f"{name} is larger than {_LARGEST:g}", np.isfinite(values) & (np.abs(values) > _LARGEST)
    if identities is not None:
        for side, name in enumerate(_IDENTITIES):
            yield f"{name} is empty", identities[:, side] < 0
        same = identities[:, 0] == identities[:, 1]
        yield (
            "the identities contradict is_genuine",
            same != np.asarray(table.columns["is_genuine"], np.bool_),
        )
    if _NAMES[0] in layout.labels:
        yield "an earlier pair has the same name_a and name_b", _repeated(table, keep)


def _repeated(table: Table, keep: BoolArray) -> BoolArray:
    """Which pairs [P] have the names of an earlier one that is kept, in either order."""
    seen: set[tuple[str, str]] = set()
    repeated = np.zeros(keep.size, np.bool_)
    first, second = (table.columns[name] for name in _NAMES)
    for row in np.flatnonzero(keep).tolist():
        pair = (first[row], second[row]) if first[row] < second[row] else (second[row], first[row])
        repeated[row] = pair in seen
        seen.add(pair)
    return repeated

"""Whole scored pairs: similarities and qualities that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval_tools.erc import pair_quality as join_qualities
from eval_tools.precomputed.files import CsvFile, Kind, Table, read_npz
from eval_tools.scores import BoolArray, FloatArray, IntArray, check_genuine

PairQuality = Literal["min", "max", "mean", "product"]
_SCORES = ("similarity", "distance")
_IDENTITIES = ("identity_a", "identity_b")
_IGNORED = ("name_a", "name_b")


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
    * optionally ``identity_a`` and ``identity_b``, any labels; ``name_a`` and ``name_b`` are passed over.

    Args:
        path: the file.
        pair_quality: how NAME_a and NAME_b are joined, see :func:`eval_tools.erc.pair_quality`.
        on_bad: pairs with a NaN or infinite number, or whose identities contradict ``is_genuine``: "error",
            or "exclude" them, counted in the notes.

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
    identities: tuple[str, ...]

    @property
    def kinds(self) -> dict[str, Kind]:
        numbers = (self.score, *(column for parts in self.methods.values() for column in parts))
        return {
            **dict.fromkeys(numbers, "number"),
            "is_genuine": "flag",
            **dict.fromkeys(self.identities, "text"),
        }


def _layout(path: Path, header: Sequence[str]) -> _Layout:
    scores = [name for name in _SCORES if name in header]
    identities = tuple(name for name in _IDENTITIES if name in header)
    others = [name for name in header if name not in (*_SCORES, "is_genuine", *_IDENTITIES, *_IGNORED)]
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
    return _Layout(scores[0], methods, identities)


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
        columns[name] = values.tolist() if kind == "text" else values.astype(np.float64)
    return layout, Table(columns, lambda row: f"{path}, pair {row}")


def _identity_numbers(table: Table) -> IntArray | None:
    """Identities [P, 2] as numbers, equal for equal labels."""
    if _IDENTITIES[0] not in table.columns:
        return None
    seen: dict[Any, int] = {}
    sides = (table.columns[name] for name in _IDENTITIES)
    numbers = [np.array([seen.setdefault(label, len(seen)) for label in side], np.int64) for side in sides]
    return np.stack(numbers, axis=1)


def _usable(
    layout: _Layout, table: Table, identities: IntArray | None, on_bad: Literal["error", "exclude"]
) -> tuple[BoolArray, list[str]]:
    """Which pairs [P] to keep, and one sentence for each reason not to."""
    bad: dict[str, NDArray[np.bool_]] = {
        f"{name} is NaN or infinite": ~np.isfinite(table.columns[name])
        for name, kind in layout.kinds.items()
        if kind == "number"
    }
    if identities is not None:
        same = identities[:, 0] == identities[:, 1]
        bad["the identities contradict is_genuine"] = same != np.asarray(
            table.columns["is_genuine"], np.bool_
        )
    keep, notes = np.ones(len(table.columns["is_genuine"]), np.bool_), []
    for reason, pairs in bad.items():
        if pairs.any() and on_bad == "error":
            raise ValueError(
                f"{table.where(int(np.argmax(pairs)))}: {reason}, as for {np.count_nonzero(pairs)} of "
                f"{keep.size} pairs; correct them, or leave them out with on_bad='exclude'"
            )
        excluded = np.count_nonzero(keep & pairs)
        if excluded:
            notes.append(f"{excluded} of {keep.size} pairs were excluded: {reason}.")
        keep &= ~pairs
    return keep, notes

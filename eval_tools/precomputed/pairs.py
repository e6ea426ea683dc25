"""Whole scored pairs: similarities and qualities that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eval_tools.cells import CellError
from eval_tools.columns import ArrayFile, CsvFile, Table
from eval_tools.erc import pair_quality as join_qualities
from eval_tools.names import composed
from eval_tools.on_bad import EXCLUDE, OnBad, check_on_bad
from eval_tools.precomputed.quality_columns import (
    GENUINE,
    IDENTITIES,
    Layout,
    check_any_method,
    find_layout,
    not_qualities,
)
from eval_tools.scores import BoolArray, FloatArray, IntArray, check_genuine

PairQuality = Literal["min", "max", "mean", "product"]
_LARGEST = 1e150  # squares and differences of larger numbers overflow


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Compared pairs with their scores.

    Attributes:
        similarity: float64 [P], higher is more alike.
        is_genuine: bool [P], both kinds are there.
        quality: method -> float64 [P], quality of the pairs.
        pair_identities: int64 [P, 2], who is compared; None if the file does not say.
        notes: what was excluded and which columns are not ranked, one sentence each.
    """

    similarity: FloatArray
    is_genuine: BoolArray
    quality: dict[str, FloatArray]
    pair_identities: IntArray | None
    notes: tuple[str, ...]


def read_scored_pairs(
    path: str | Path,
    *,
    quality: Sequence[str] | None = None,
    pair_quality: PairQuality = "min",
    on_bad: OnBad = "error",
) -> ScoredPairs:
    """Read pairs that were scored elsewhere.

    The columns of a ``.csv`` or ``.tsv`` file with a header, or the arrays [P] of a ``.npz`` file, are

    * ``similarity``, or ``distance``, which is negated;
    * ``is_genuine``: 1 or true for two faces of one person, else 0 or false;
    * one column for each quality method, higher is better: its pair quality NAME, or NAME_a and NAME_b of the
      two faces;
    * optionally ``identity_a`` and ``identity_b``, any labels, and ``name_a`` and ``name_b`` (or ``image_a``
      and ``image_b``) of the images.

    Columns of row numbers, labels or text, constant ones and copies are no quality methods, unless chosen.

    Args:
        path: the file.
        quality: the methods to take, None for every column that looks like one; the notes name the others.
        pair_quality: how NAME_a and NAME_b are joined, see :func:`eval_tools.erc.pair_quality`.
        on_bad: pairs with a NaN, infinite or huge number, without one of the identities, whose identities
            contradict ``is_genuine``, or with the names of an earlier pair, in either order: "error", or
            "exclude" them, counted in the notes.

    Raises:
        ValueError: not such a file, a bad pair and ``on_bad`` is "error", or no genuine or no impostor pair.
    """
    check_on_bad(on_bad)
    path = Path(path)
    file = _open(path)
    layout = find_layout(file, quality)
    table = _read(file, layout)
    if quality is None:
        layout = layout.without(not_qualities(layout, table.columns))
    identities = _identity_numbers(layout, table)
    keep, notes = _usable(layout, table, identities, on_bad)
    columns = {name: table.columns[name][keep] for name, kind in layout.kinds.items() if kind != "text"}
    score = columns[layout.columns[layout.score]]
    try:
        is_genuine = check_genuine(columns[layout.columns[GENUINE]])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    check_any_method(path, layout)
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
        notes=(*notes, *layout.notes),
    )


def _open(path: Path) -> CsvFile | ArrayFile:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".npz"):
        raise ValueError(f"{path}: scored pairs are read from .csv, .tsv and .npz files")
    return ArrayFile(path) if suffix == ".npz" else CsvFile(path)


def _read(file: CsvFile | ArrayFile, layout: Layout) -> Table:
    try:
        return file.read(layout.kinds)
    except CellError as error:
        if not any(error.column in parts for parts in layout.methods.values()):
            raise
        raise ValueError(f"{error}; if {error.column} is no quality, choose others with --quality") from None


def _identity_numbers(layout: Layout, table: Table) -> IntArray | None:
    """Identities [P, 2] as numbers, equal for equal labels; -1 for empty ones."""
    if IDENTITIES[0] not in layout.columns:
        return None
    seen = {"": -1}
    sides = (table.columns[layout.columns[name]] for name in IDENTITIES)
    numbers = [
        np.array([seen.setdefault(composed(label.strip()), len(seen) - 1) for label in side], np.int64)
        for side in sides
    ]
    return np.stack(numbers, axis=1)


def _usable(
    layout: Layout, table: Table, identities: IntArray | None, on_bad: OnBad
) -> tuple[BoolArray, list[str]]:
    """Which pairs [P] to keep, and one sentence for each reason not to."""
    keep, notes = np.ones(len(table.columns[layout.columns[GENUINE]]), np.bool_), []
    for reason, pairs in _faults(layout, table, identities, keep):
        if pairs.any() and on_bad == "error":
            raise ValueError(
                f"{table.where(int(np.argmax(pairs)))}: {reason}, as for {np.count_nonzero(pairs)} of "
                f"{keep.size} pairs; correct them, leave them out with {EXCLUDE}, or "
                "choose other columns (--quality)"
            )
        excluded = np.count_nonzero(keep & pairs)
        if excluded:
            notes.append(f"{excluded} of {keep.size} pairs were excluded: {reason}.")
        keep &= ~pairs
    return keep, notes


def _faults(
    layout: Layout, table: Table, identities: IntArray | None, keep: BoolArray
) -> Iterator[tuple[str, BoolArray]]:
    """What can be wrong, and the pairs [P] it is wrong with; ``keep`` are those that had no fault so far."""
    for name, kind in layout.kinds.items():
        if kind == "number":
            values = table.columns[name]
            yield f"{name} is NaN or infinite", ~np.isfinite(values)
            yield f"{name} is larger than {_LARGEST:g}", np.isfinite(values) & (np.abs(values) > _LARGEST)
    if identities is not None:
        for side, name in enumerate(IDENTITIES):
            yield f"{name} is empty", identities[:, side] < 0
        same = identities[:, 0] == identities[:, 1]
        yield (
            "the identities contradict is_genuine",
            same != np.asarray(table.columns[layout.columns[GENUINE]], np.bool_),
        )
    if layout.names:
        first, second = (table.columns[layout.columns[name]] for name in layout.names)
        yield (
            f"an earlier pair has the same {' and '.join(layout.names)}{_melted(layout)}",
            _repeated(first, second, keep),
        )


def _melted(layout: Layout) -> str:
    """A hint for tables that have a row for each method, whose name is one of their columns."""
    texts = [name for name, reason in layout.left_out.items() if reason.startswith(("text", "<U", "|S"))]
    return (
        f" (if {' or '.join(texts)} names the method, give each method a column of its own)" if texts else ""
    )


def _repeated(first: Sequence[str], second: Sequence[str], keep: BoolArray) -> BoolArray:
    """Which pairs [P] have the names of an earlier one that is kept, in either order."""
    seen: set[tuple[str, str]] = set()
    repeated = np.zeros(keep.size, np.bool_)
    for row in np.flatnonzero(keep).tolist():
        pair = (first[row], second[row]) if first[row] < second[row] else (second[row], first[row])
        repeated[row] = pair in seen
        seen.add(pair)
    return repeated

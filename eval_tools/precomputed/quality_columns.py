"""The meaning of the columns of a file of scored pairs, and the ones that hold qualities.

Anything else, such as the row numbers that pandas writes, would be ranked as if it were a method.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval_tools.cells import Kind
from eval_tools.columns import ArrayFile, CsvFile, some_of
from eval_tools.scores import FloatArray

SCORES = ("similarity", "distance")
GENUINE = "is_genuine"
IDENTITIES = ("identity_a", "identity_b")
NAMES = (("name_a", "name_b"), ("image_a", "image_b"))
_KNOWN = (*SCORES, GENUINE, *IDENTITIES, *NAMES[0], *NAMES[1])

_LABEL = re.compile(
    r"(unnamed.*"
    r"|(?!.*(quality|score))(.*[ ._-])?(ids?|idx|index|fold|row|line|no|nr|num|number|key)"
    r"|pairs?|pairid|label|identity|subject|person|template|media|class|group|split|session|frame"
    r"|level|cluster|gender|sex|hash|uuid|guid|timestamp|date)"
    r"([ ._-]?[ab12])?"
)
_MANY = 10  # rows; by chance, so many numbers have no pattern such as that of row numbers
_HUGE = 1e12  # whole numbers of this size are hashes or times


@dataclass(frozen=True)
class Layout:
    """The columns of a file.

    Attributes:
        score: similarity or distance.
        columns: what is known by its name -> the file's column, whose name may be in upper case.
        methods: quality method -> the column of its pair quality, or those of the two faces.
        left_out: other columns -> why they are no qualities, "" if others were chosen.
    """

    score: str
    columns: dict[str, str]
    methods: dict[str, tuple[str, ...]]
    left_out: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The two columns that name the images of a pair; empty if there are none."""
        return next((pair for pair in NAMES if set(pair) <= set(self.columns)), ())

    @property
    def kinds(self) -> dict[str, Kind]:
        """Columns to read."""
        labels = [name for name in (*IDENTITIES, *self.names) if name in self.columns]
        return {
            self.columns[self.score]: "number",
            **dict.fromkeys((column for parts in self.methods.values() for column in parts), "number"),
            self.columns[GENUINE]: "flag",
            **dict.fromkeys((self.columns[name] for name in labels), "text"),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence about the columns that are left out."""
        if not self.left_out:
            return ()
        remedy = "; choose columns with --quality" if any(self.left_out.values()) else ""
        return (f"Columns that are not ranked: {_listed(self.left_out)}{remedy}.",)

    def without(self, reasons: Mapping[str, str]) -> Layout:
        """The layout without some methods."""
        left_out = self.left_out | {
            column: reason for name, reason in reasons.items() for column in self.methods[name]
        }
        return replace(
            self, methods={n: p for n, p in self.methods.items() if n not in reasons}, left_out=left_out
        )


def find_layout(file: CsvFile | ArrayFile, chosen: Sequence[str] | None) -> Layout:
    """The layout of a file by the names of its columns.

    Args:
        file: the file.
        chosen: the quality methods, None for all columns that do not look like something else.

    Raises:
        ValueError: a column is missing, or is there twice, or ``chosen`` names none.
    """
    columns = _known(file)
    scores = [name for name in SCORES if name in columns]
    others = [name for name in file.header if name and name not in columns.values()]
    methods = _methods(others)
    both_or_neither = len(set(IDENTITIES) & set(columns)) != 1
    if len(scores) != 1 or GENUINE not in columns or not others or not methods or not both_or_neither:
        both = "; similarity and distance are both there: remove one" if len(scores) == 2 else ""
        raise ValueError(
            f"{file.path} has the columns {some_of(file.header)}; expected similarity or distance, "
            "is_genuine, one column NAME for each quality method (or both NAME_a and NAME_b), and both of "
            f"identity_a and identity_b or neither{both}"
        )
    no_name = "no name" if chosen is None else ""
    unnamed = {f"column {n}": no_name for n, name in enumerate(file.header, 1) if not name}
    layout = Layout(scores[0], columns, methods, unnamed)
    if chosen is None:
        return layout.without(dict(_labels_and_texts(layout, file.not_numbers(columns[GENUINE]))))
    for name in chosen:
        if name not in methods:
            close = difflib.get_close_matches(name, methods, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"{file.path} has no quality {name!r} (--quality), only {some_of(methods)}{hint}"
            )
    return layout.without(dict.fromkeys((name for name in methods if name not in chosen), ""))


def not_qualities(layout: Layout, columns: Mapping[str, Any]) -> dict[str, str]:
    """Methods whose values [P] are no qualities -> why."""
    taken = {name: np.asarray(columns[layout.columns[name]], np.float64) for name in (layout.score, GENUINE)}
    found = {name: _fault([columns[part] for part in parts], taken) for name, parts in layout.methods.items()}
    return {name: reason for name, reason in found.items() if reason}


def check_any_method(path: object, layout: Layout) -> None:
    """``ValueError`` unless a method is left."""
    if not layout.methods:
        raise ValueError(
            f"{path} has no column that looks like a quality: {_listed(layout.left_out)}; if one of them is, "
            "choose it with --quality NAME"
        )


def _known(file: CsvFile | ArrayFile) -> dict[str, str]:
    columns: dict[str, str] = {}
    for column in file.header:
        name = column.lower()
        if name not in _KNOWN:
            continue
        if name in columns:
            raise ValueError(f"{file.path} has two columns {name}: {columns[name]!r} and {column!r}")
        columns[name] = column
    return columns


def _methods(others: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The columns of each method; none where a method is there both for pairs and for faces."""
    methods: dict[str, tuple[str, ...]] = {}
    present = set(others)
    for column in others:
        method, sides = column[:-2], (f"{column[:-2]}_a", f"{column[:-2]}_b")
        if not (method and column in sides and present.issuperset(sides)):
            methods[column] = (column,)
        elif method in present:
            return {}
        else:
            methods[method] = sides
    return methods


def _labels_and_texts(layout: Layout, not_numbers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for method, parts in layout.methods.items():
        held = [not_numbers[part] for part in parts if part in not_numbers]
        if held:
            yield method, held[0]
        elif _LABEL.fullmatch(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", method).lower()):
            yield method, "its name is that of a label or number"


def _fault(parts: Sequence[FloatArray], taken: Mapping[str, FloatArray]) -> str:
    given = [values[np.isfinite(values)] for values in parts]
    if not all(values.size for values in given):
        return "no numbers"
    if all((values == values[0]).all() for values in given):
        return f"{given[0][0]:g} in all rows"
    if any(map(_numbers_rows, parts)):
        return "numbers the rows"
    if all(values.size >= _MANY and np.unique(values).size == 2 for values in given):
        return "two values: a flag"
    if all((values == np.floor(values)).all() and np.abs(values).max() >= _HUGE for values in given):
        return "huge whole numbers: hashes or times"
    copies = [n for n, other in taken.items() for v in parts if np.array_equal(v, other, equal_nan=True)]
    return f"repeats {copies[0]}" if copies else ""


def _numbers_rows(values: FloatArray) -> bool:
    """Whether they are 0, 1, 2 ... or, if there are many, all of these in any order, rise all the time,
    begin again and again, or number equal blocks of rows."""
    if values.size < 3 or not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        return False
    steps = np.diff(values)
    if values.size < _MANY or not steps.any():
        return bool((steps == 1).all())
    distinct, counts = np.unique(values, return_counts=True)
    in_blocks = np.isin(steps, (0, 1)).all() and (counts == counts[0]).all()
    again = ((steps == 1) | (values[1:] == distinct[0])).all() and values[0] == distinct[0]
    return bool((np.diff(np.sort(values)) == 1).all() or (steps > 0).all() or in_blocks or again)


def _listed(left_out: Mapping[str, str]) -> str:
    columns = [f"{name} ({reason})" if reason else name for name, reason in left_out.items()]
    return some_of(columns)

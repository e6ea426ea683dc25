"""Tables for the screen, as CSV for a spreadsheet and as LaTeX for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

import numpy as np

from igfiqa_head.io.csv_lines import csv_line
from igfiqa_head.text import padded, printable, width_of

Rank = Literal["best", "second", ""]
Mark = Literal["best", "second", "unresolved", "alike"]

MARKS: dict[Mark, str] = {"best": "*", "second": "'", "unresolved": "†", "alike": "≈"}
MEANINGS: dict[Mark, str] = {
    "best": "best of a column",
    "second": "second of a column",
    "unresolved": "not resolved: the pairs are too few for this rate, so its column is not ranked",
    "alike": "not significantly different from the best",
}
_ANSI: dict[Rank, str] = {"best": "\x1b[1m{}\x1b[0m", "second": "\x1b[4m{}\x1b[0m"}
_LATEX: dict[Mark, str] = {
    "best": r"\textbf{{{}}}",
    "second": r"\underline{{{}}}",
    "unresolved": r"{}$^\dagger$",
    "alike": r"{}$^\approx$",
}
_LATEX_SPECIAL = str.maketrans(
    {character: "\\" + character for character in "#$%&_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"[": "{[}", "*": "{*}"}  # at the beginning of a row they would belong to the end of the row before
    | {"±": r"$\pm$", "†": r"$^\dagger$", "≈": r"$^\approx$"}
)


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        text: the number for people.
        value: the number for programs, NaN where nothing was measured.
        detail: more where there is room for it, such as a confidence interval.
        rank: its place among its column's cells of one block.
        resolved: whether the pairs can resolve it, see :func:`eval_tools.scores.resolves`; if not it is
            marked, and its column has no ranks in this block.
        alike: whether it is not significantly different from the best of its column and block.
        more: further numbers for programs by name, such as the ends of an interval.
    """

    text: str
    value: float
    detail: str = ""
    rank: Rank = ""
    resolved: bool = True
    alike: bool = False
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks of the cell: a rank or "unresolved", if either, and "alike" if it is like the best."""
        found: list[Mark] = []
        if not self.resolved:
            found.append("unresolved")
        elif self.rank:
            found.append(self.rank)
        return (*found, "alike") if self.alike else tuple(found)


@dataclass(frozen=True)
class Table:
    """A table with two levels of headings on both sides, and what must be said below it.

    Attributes:
        title: what the numbers are.
        corner: headings of the two columns of row names.
        columns: (group, name) of each column; neighbours share the group's heading.
        rows: (group, name) of each row.
        cells: ``cells[i][j]`` of row i and column j.
        notes: sentences below the table.
        small_print: what the cells' details are, such as "95 % interval".
    """

    title: str
    corner: tuple[str, str]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str], ...]
    cells: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    small_print: str = ""

    def __post_init__(self) -> None:
        """Names come from other people's files: none may break a line or command a terminal."""
        for side in ("columns", "rows"):
            safe = tuple((printable(group), printable(name)) for group, name in getattr(self, side))
            object.__setattr__(self, side, safe)
        object.__setattr__(self, "title", printable(self.title))
        object.__setattr__(self, "notes", tuple(map(printable, self.notes)))

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks that occur, in the order of :data:`MEANINGS`."""
        found = {mark for row in self.cells for cell in row for mark in cell.marks}
        return tuple(mark for mark in MEANINGS if mark in found)

    def to_text(self, *, styled: bool = False) -> str:
        """For a terminal, with the marks of :data:`MARKS`; ``styled`` adds ANSI codes."""
        labels = [self.corner, *self.rows]
        label_widths = [max(width_of(label[side]) for label in labels) for side in (0, 1)]
        columns = [[row[j] for row in self.cells] for j in range(len(self.columns))]
        rooms = [max((len(cell.marks) for cell in column), default=0) or 1 for column in columns]
        widths = [
            max(width_of(name), *(len(cell.text) + room for cell in column))
            for (_, name), column, room in zip(self.columns, columns, rooms, strict=True)
        ]
        widths = _widened(widths, self.columns)
        indent = " " * (sum(label_widths) + 4)
        lines = [self.title, (indent + _group_line(widths, self.columns)).rstrip()]
        heads = (padded(name, width, ">") for (_, name), width in zip(self.columns, widths, strict=True))
        lines.append(_label(self.corner, label_widths) + "  ".join(heads))
        previous = None
        for label, cells in zip(self.rows, self.cells, strict=True):
            shown = (label[0] if label[0] != previous else "", label[1])
            texts = (_screen_cell(*of, styled) for of in zip(cells, widths, rooms, strict=True))
            lines.append((_label(shown, label_widths) + "  ".join(texts)).rstrip())
            previous = label[0]
        return "\n".join([*lines, *self.notes])

    def to_csv(self) -> str:
        """A line for each row, numbers in full precision.

        Nothing is marked; what else is known of a cell stands in columns of its own behind it.
        """
        names = [
            ("", *dict.fromkeys(name for row in self.cells for name in row[j].more))
            for j in range(len(self.columns))
        ]
        heads = [
            f"{group} {column} {name}".rstrip()
            for (group, column), of in zip(self.columns, names, strict=True)
            for name in of
        ]
        lines = [csv_line([*self.corner, *heads])]
        for label, cells in zip(self.rows, self.cells, strict=True):
            numbers = [
                ({"": cell.value} | dict(cell.more)).get(name)
                for cell, of in zip(cells, names, strict=True)
                for name in of
            ]
            lines.append(csv_line([*label, *numbers]))
        return "\n".join([*lines, ""])

    def to_latex(self) -> str:
        r"""A ``tabular`` for ``\usepackage{booktabs}``: the best in bold, the second underlined.

        Details are in small print, and marks that no paper explains are explained in the last rows.
        """
        groups = [(group, len(list(members))) for group, members in groupby(self.columns, lambda c: c[0])]
        spans = (rf"\multicolumn{{{count}}}{{c}}{{{_escaped(group)}}}" for group, count in groups)
        heads = [*self.corner, *(name for _, name in self.columns)]
        lines = [
            "% " + self.title,
            rf"\begin{{tabular}}{{ll{'r' * len(self.columns)}}}",
            r"\toprule",
            " & & " + " & ".join(spans) + r" \\",
            " & ".join(map(_escaped, heads)) + r" \\",
        ]
        previous = None
        for label, cells in zip(self.rows, self.cells, strict=True):
            if label[0] != previous:
                lines.append(r"\midrule")
            shown = (label[0] if label[0] != previous else "", label[1])
            lines.append(" & ".join([*map(_escaped, shown), *map(_latex_cell, cells)]) + r" \\")
            previous = label[0]
        lines += [r"\bottomrule", *self._latex_explanations(), r"\end{tabular}"]
        return "\n".join([*lines, *(f"% {note}" for note in self.notes), ""])

    def _latex_explanations(self) -> list[str]:
        texts = [f"{MARKS[mark]} {MEANINGS[mark]}" for mark in self.marks if mark in ("unresolved", "alike")]
        if any(cell.detail for row in self.cells for cell in row):
            texts.append(f"in brackets: {self.small_print}")
        span = 2 + len(self.columns)
        return [rf"\multicolumn{{{span}}}{{l}}{{\footnotesize {_escaped(text)}}} \\" for text in texts]


def ranked_columns(
    cells: Sequence[Sequence[Cell]], groups: Sequence[str], higher_is_better: Sequence[bool]
) -> tuple[tuple[Cell, ...], ...]:
    """The same cells, ranked by column among the neighbouring rows of one group.

    Where one of them is not resolved nothing can be said of their order, so none is ranked.
    """
    ranked: list[tuple[Cell, ...]] = []
    for _, members in groupby(range(len(cells)), lambda i: groups[i]):
        block = [cells[i] for i in members]
        columns = [
            _ranked(column, higher)
            for column, higher in zip(zip(*block, strict=True), higher_is_better, strict=True)
        ]
        ranked += zip(*columns, strict=True)
    return tuple(ranked)


def _ranked(column: Sequence[Cell], higher_is_better: bool) -> list[Cell]:
    """Ranks by what is printed, so that equal numbers have equal rank; a column of one cell has none."""
    shown = {_printed(cell): cell.value for cell in column}
    values = sorted(value for value in shown.values() if not np.isnan(value))
    best_first = values[::-1] if higher_is_better else values
    if len(column) == 1 or len(best_first) < 2 or not all(cell.resolved for cell in column):
        return list(column)
    ranks: dict[float, Rank] = {best_first[0]: "best", best_first[1]: "second"}
    return [replace(cell, rank=ranks.get(shown[_printed(cell)], "")) for cell in column]


def _printed(cell: Cell) -> str:
    """The number without its deviation, which has no part in its rank."""
    return cell.text.partition(" ± ")[0]


def _screen_cell(cell: Cell, width: int, room: int, styled: bool) -> str:
    marks = "".join(MARKS[mark] for mark in cell.marks)
    text = cell.text + marks.ljust(room)
    padding = " " * (width - len(text))
    return padding + (_ANSI.get(cell.rank, "{}").format(text) if styled else text)


def _latex_cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    for mark in cell.marks:
        text = _LATEX[mark].format(text)
    return rf"{text} {{\scriptsize [{_escaped(cell.detail)}]}}" if cell.detail else text


def _label(label: tuple[str, str], widths: Sequence[int]) -> str:
    return "".join(padded(text, width + 2) for text, width in zip(label, widths, strict=True))


def _widened(widths: list[int], columns: Sequence[tuple[str, str]]) -> list[int]:
    """Make the last column of each group wide enough for the group's heading."""
    start = 0
    for group, members in groupby(columns, lambda column: column[0]):
        end = start + len(list(members))
        width = sum(widths[start:end]) + 2 * (end - start - 1)
        widths[end - 1] += max(0, width_of(group) - width)
        start = end
    return widths


def _group_line(widths: Sequence[int], columns: Sequence[tuple[str, str]]) -> str:
    headings, start = [], 0
    for group, members in groupby(columns, lambda column: column[0]):
        end = start + len(list(members))
        headings.append(padded(group, sum(widths[start:end]) + 2 * (end - start - 1), "^"))
        start = end
    return "  ".join(headings)


def _escaped(text: str) -> str:
    return text.translate(_LATEX_SPECIAL)

"""Tables of results: for the screen, as CSV for a spreadsheet and as LaTeX for a paper.

:func:`area_table` has the shape that papers of this field use: a block of rows for each recogniser with a row
for each quality method, columns of test sets x target FMR, the best and the second of a block marked.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np

from eval_tools.results import Comparison, CurveKey, SetKey, VerificationSummary
from igfiqa_head.text import printable

Rank = Literal["best", "second", ""]

MARKS: dict[Rank, str] = {"best": "*", "second": "'", "": " "}
_ANSI: dict[Rank, str] = {"best": "\x1b[1m{}\x1b[0m", "second": "\x1b[4m{}\x1b[0m", "": "{}"}
_LATEX: dict[Rank, str] = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}
_LATEX_SPECIAL = str.maketrans(
    {character: "\\" + character for character in "#$%&_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
)
_NOT_MEASURED = "-"


@dataclass(frozen=True)
class Cell:
    """One number: ``text`` for people, ``value`` for programs (NaN where nothing was measured).

    ``detail`` says more where there is room for it, such as a confidence interval.
    """

    text: str
    value: float
    detail: str = ""
    rank: Rank = ""


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
    """

    title: str
    corner: tuple[str, str]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str], ...]
    cells: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names come from other people's files: none may break a line or command a terminal."""
        for side in ("columns", "rows"):
            safe = tuple((printable(group), printable(name)) for group, name in getattr(self, side))
            object.__setattr__(self, side, safe)
        object.__setattr__(self, "title", printable(self.title))
        object.__setattr__(self, "notes", tuple(map(printable, self.notes)))

    def to_text(self, *, styled: bool = False) -> str:
        """For a terminal: best of a column marked ``*``, second ``'``; ``styled`` adds ANSI codes."""
        labels = [self.corner, *self.rows]
        label_widths = [max(len(label[side]) for label in labels) for side in (0, 1)]
        widths = [
            max(len(name), *(len(row[j].text) + 1 for row in self.cells))
            for j, (_, name) in enumerate(self.columns)
        ]
        widths = _widened(widths, self.columns)
        indent = " " * (sum(label_widths) + 4)
        lines = [self.title, (indent + _group_line(widths, self.columns)).rstrip()]
        heads = (name.rjust(width) for (_, name), width in zip(self.columns, widths, strict=True))
        lines.append(_label(self.corner, label_widths) + "  ".join(heads))
        previous = None
        for label, cells in zip(self.rows, self.cells, strict=True):
            shown = (label[0] if label[0] != previous else "", label[1])
            texts = (_screen_cell(c, width, styled) for c, width in zip(cells, widths, strict=True))
            lines.append((_label(shown, label_widths) + "  ".join(texts)).rstrip())
            previous = label[0]
        return "\n".join([*lines, *self.notes])

    def to_csv(self) -> str:
        """A line for each row, numbers in full precision, nothing marked."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*self.corner, *(f"{group} {name}" for group, name in self.columns)])
        for label, cells in zip(self.rows, self.cells, strict=True):
            writer.writerow([*label, *("" if np.isnan(c.value) else repr(c.value) for c in cells)])
        return stream.getvalue()

    def to_latex(self) -> str:
        r"""A ``tabular`` for ``\usepackage{booktabs}``: the best in bold, the second underlined."""
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
            texts = [_LATEX[cell.rank].format(_escaped(cell.text)) for cell in cells]
            lines.append(" & ".join([*map(_escaped, shown), *texts]) + r" \\")
            previous = label[0]
        return "\n".join(
            [*lines, r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in self.notes), ""]
        )


def area_table(comparison: Comparison, protocol: str) -> Table:
    """Areas under the curves of one protocol; the lower, the better the quality method."""
    keys = [key for key in comparison.curves if key.protocol == protocol]
    columns = list(dict.fromkeys((key.test_set, key.fmr) for key in keys))
    rows = list(dict.fromkeys((key.recogniser, key.method) for key in keys))
    cells = [
        [
            _area_cell(comparison, CurveKey(test_set, recogniser, method, protocol, fmr))
            for test_set, fmr in columns
        ]
        for recogniser, method in rows
    ]
    area = "AUC" if comparison.limit is None else f"pAUC up to discard {comparison.limit:g}"
    return Table(
        title=f"{area} of the error-versus-reject curves, protocol {protocol} (lower is better)",
        corner=("recogniser", "quality"),
        columns=tuple((test_set, f"FMR {fmr:g}") for test_set, fmr in columns),
        rows=tuple(rows),
        cells=ranked_columns(cells, [recogniser for recogniser, _ in rows], [False] * len(columns)),
        notes=tuple(_curve_notes(comparison, keys)),
    )


def verification_table(comparison: Comparison) -> Table:
    """How well the recognisers do without discarding anything, in per cent."""
    sets = list(dict.fromkeys(key.test_set for key in comparison.verification))
    recognisers = list(dict.fromkeys(key.recogniser for key in comparison.verification))
    columns = [
        (test_set, name)
        for test_set in sets
        for name in _measures(comparison.verification[SetKey(test_set, recognisers[0])])
    ]
    cells = []
    for recogniser in recognisers:
        measured = {s: _measures(comparison.verification[SetKey(s, recogniser)]) for s in sets}
        cells.append([_per_cent(*measured[test_set][name]) for test_set, name in columns])
    notes = [
        f"{key.test_set}: {note}"
        for key, summary in comparison.verification.items()
        for note in (_counts(summary), *summary.notes)
    ]
    return Table(
        title="Verification without discarding, per cent",
        corner=("", "recogniser"),
        columns=tuple(columns),
        rows=tuple(("", recogniser) for recogniser in recognisers),
        cells=ranked_columns(cells, [""] * len(cells), [name != "EER" for _, name in columns]),
        notes=tuple(dict.fromkeys(notes)),
    )


def _area_cell(comparison: Comparison, key: CurveKey) -> Cell:
    measured = comparison.curves.get(key)
    if measured is None or np.isnan(measured.area):
        return Cell(_NOT_MEASURED, np.nan)
    band = measured.band
    interval = "" if band is None else f"{band.area_low:.4f} to {band.area_high:.4f}"
    return Cell(f"{measured.area:.4f}", measured.area, interval)


def _curve_notes(comparison: Comparison, keys: Sequence[CurveKey]) -> Iterator[str]:
    """What the areas do not tell, once for each test set."""
    unresolved: dict[tuple[str, int], dict[float, None]] = {}
    for key in keys:
        curve = comparison.curves[key].curve
        if not curve.resolved:
            unresolved.setdefault((key.test_set, int(curve.n_impostor[0])), {})[key.fmr] = None
    for (test_set, n_impostor), fmrs in unresolved.items():
        listed = ", ".join(f"{fmr:g}" for fmr in fmrs)
        yield f"{test_set}: {n_impostor:,} impostor pairs do not resolve FMR {listed} all along the curves"
    if any(np.isnan(comparison.curves[key].area) for key in keys):
        yield f"{_NOT_MEASURED} no area: no genuine or no impostor pair is left at the end; set a lower limit"


def _measures(summary: VerificationSummary) -> dict[str, tuple[float, float | None]]:
    """Name -> (value, standard deviation where there is one)."""
    measures: dict[str, tuple[float, float | None]] = {}
    if summary.accuracy is not None:
        measures["accuracy"] = summary.accuracy, summary.accuracy_std
    measures["EER"] = summary.eer, None
    measures |= {f"TAR@{point.target_fmr:g}": (point.tar, None) for point in summary.operating_points}
    return measures


def _per_cent(value: float, deviation: float | None) -> Cell:
    text = f"{100 * value:.2f}"
    return Cell(text if deviation is None else f"{text} ± {100 * deviation:.2f}", 100 * value)


def _counts(summary: VerificationSummary) -> str:
    pairs = f"{summary.n_genuine:,} genuine and {summary.n_impostor:,} impostor pairs"
    return pairs if summary.n_images is None else f"{summary.n_images:,} images, {pairs}"


def ranked_columns(
    cells: Sequence[Sequence[Cell]], groups: Sequence[str], higher_is_better: Sequence[bool]
) -> tuple[tuple[Cell, ...], ...]:
    """The same cells, ranked by column among the neighbouring rows of one group."""
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
    values = sorted({cell.text: cell.value for cell in column if not np.isnan(cell.value)}.values())
    best_first = values[::-1] if higher_is_better else values
    if len(column) == 1 or len(best_first) < 2:
        return list(column)
    shown = {cell.text: cell.value for cell in column}
    ranks: dict[float, Rank] = {best_first[0]: "best", best_first[1]: "second"}
    return [replace(cell, rank=ranks.get(shown[cell.text], "")) for cell in column]


def _screen_cell(cell: Cell, width: int, styled: bool) -> str:
    text = cell.text + MARKS[cell.rank]
    padding = " " * (width - len(text))
    return padding + (_ANSI[cell.rank].format(text) if styled else text)


def _label(label: tuple[str, str], widths: Sequence[int]) -> str:
    return "".join(text.ljust(width + 2) for text, width in zip(label, widths, strict=True))


def _widened(widths: list[int], columns: Sequence[tuple[str, str]]) -> list[int]:
    """Make the last column of each group wide enough for the group's heading."""
    start = 0
    for group, members in groupby(columns, lambda column: column[0]):
        end = start + len(list(members))
        width = sum(widths[start:end]) + 2 * (end - start - 1)
        widths[end - 1] += max(0, len(group) - width)
        start = end
    return widths


def _group_line(widths: Sequence[int], columns: Sequence[tuple[str, str]]) -> str:
    headings, start = [], 0
    for group, members in groupby(columns, lambda column: column[0]):
        end = start + len(list(members))
        headings.append(group.center(sum(widths[start:end]) + 2 * (end - start - 1)))
        start = end
    return "  ".join(headings)


def _escaped(text: str) -> str:
    return text.translate(_LATEX_SPECIAL)

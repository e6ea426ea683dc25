"""Tables: what is marked, what is written, and that hostile names stay text."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from eval_tools.tables import Cell, Table, ranked_columns

NAN = float("nan")


def _table(values: list[list[float]], groups: list[str], higher: bool = False, **changes: object) -> Table:
    cells = [[Cell("-" if np.isnan(v) else f"{v:.3f}", v) for v in row] for row in values]
    content: dict[str, object] = {
        "title": "areas",
        "corner": ("recogniser", "quality"),
        "columns": tuple((f"set {j // 2}", f"FMR {j % 2}") for j in range(len(values[0]))),
        "rows": tuple((group, f"method {i}") for i, group in enumerate(groups)),
        "cells": ranked_columns(cells, groups, [higher] * len(values[0])),
        "notes": ("a note",),
    }
    return Table(**(content | changes))  # type: ignore[arg-type]


def _ranks(table: Table) -> list[list[str]]:
    return [[cell.rank for cell in row] for row in table.cells]


def test_the_lowest_of_each_column_and_group_is_best() -> None:
    table = _table([[0.3, 0.1], [0.2, 0.2], [0.1, 0.3], [0.9, 0.8], [0.8, 0.9]], ["a"] * 3 + ["b"] * 2)
    assert _ranks(table) == [
        ["", "best"],
        ["second", "second"],
        ["best", ""],
        ["second", "best"],
        ["best", "second"],
    ]


def test_the_highest_is_best_where_higher_is_better() -> None:
    assert _ranks(_table([[0.3], [0.2], [0.9]], [""] * 3, higher=True)) == [["second"], [""], ["best"]]


def test_numbers_that_are_printed_alike_rank_alike_and_nan_has_no_rank() -> None:
    table = _table([[0.10001], [NAN], [0.10002], [0.2]], ["a"] * 4)
    assert _ranks(table) == [["best"], [""], ["best"], ["second"]]


def test_a_deviation_has_no_part_in_the_rank() -> None:
    """Two equal accuracies with other deviations were second both, and none was best."""
    column = [Cell("99.11 ± 0.83", 99.11), Cell("99.11 ± 0.97", 99.11), Cell("98.00 ± 0.50", 98.0)]
    for count, expected in ((2, ["", ""]), (3, ["best", "best", "second"])):
        ranked = ranked_columns([[cell] for cell in column[:count]], ["a"] * count, [True])
        assert [cell.rank for (cell,) in ranked] == expected


def test_nothing_is_marked_where_there_is_no_choice() -> None:
    assert _ranks(_table([[0.1], [NAN]], ["a", "a"])) == [[""], [""]]
    assert _ranks(_table([[0.1], [0.1]], ["a", "a"])) == [[""], [""]]


def test_text_is_aligned_and_marked() -> None:
    table = _table([[0.3, 0.1, 0.5], [0.2, 0.2, 0.4]], ["arcface", "arcface"])
    lines = table.to_text().splitlines()
    assert lines[0] == "areas"
    assert lines[-1] == "a note"
    assert "arcface" in lines[3]
    assert "arcface" not in lines[4]  # the group is named once
    assert "0.200*" in lines[4]
    assert "0.300'" in lines[3]
    assert lines[3].index("0.300") == lines[4].index("0.200")
    assert lines[1].split() == ["set", "0", "set", "1"]


def test_styles_do_not_change_the_text() -> None:
    table = _table([[0.3, 0.1], [0.2, 0.2]], ["a", "a"])
    styled = table.to_text(styled=True)
    assert "\x1b[1m0.200*\x1b[0m" in styled
    for code in ("\x1b[1m", "\x1b[4m", "\x1b[0m"):
        styled = styled.replace(code, "")
    assert styled == table.to_text()


def test_csv_has_full_precision_and_empty_cells_for_nan() -> None:
    table = _table([[1 / 3, NAN]], ["a"])
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert rows[0] == ["recogniser", "quality", "set 0 FMR 0", "set 0 FMR 1"]
    assert float(rows[1][2]) == 1 / 3
    assert rows[1][3] == ""


def test_latex_marks_spans_and_escapes() -> None:
    table = _table(
        [[0.3, 0.1], [0.2, 0.2]],
        ["r_50 & 100%", "r_50 & 100%"],
        columns=(("lfw_dev", "FMR 0.001"), ("lfw_dev", "FMR 0.0001")),
        title="areas",
    )
    text = table.to_latex()
    assert r"\multicolumn{2}{c}{lfw\_dev}" in text
    assert r"r\_50 \& 100\%" in text
    assert r"\textbf{0.200}" in text
    assert r"\underline{0.300}" in text
    assert text.count(r"\\") == 4
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("name", ["\\input{/etc/passwd}", "a$b#c_d{e}~^", "x\nEOF \\end{tabular}"])
def test_latex_of_hostile_names_is_text(name: str) -> None:
    text = _table([[0.3]], [name]).to_latex()
    assert r"\input" not in text.replace(r"\textbackslash{}input", "")
    assert text.count(r"\end{tabular}") == 1


@pytest.mark.parametrize("name", ["[1cm]", "*"])
def test_a_name_is_no_argument_of_the_row_before(name: str) -> None:
    assert "\\midrule\n{" in _table([[0.3]], [name]).to_latex()


def test_wide_letters_and_accents_keep_the_columns_aligned() -> None:
    table = _table([[0.3], [0.1]], ["人脸", "e\u0301"])
    first, second = table.to_text().splitlines()[3:5]
    assert first.startswith("人脸" + " " * 8)
    assert second.startswith("e\u0301" + " " * 11)


def test_a_name_in_csv_is_no_formula() -> None:
    table = _table([[-0.3]], ["=HYPERLINK(1)"])
    assert table.to_csv().splitlines()[1] == "'=HYPERLINK(1),method 0,-0.3"


def _unresolved_in(column: list[float], row: int) -> list[list[Cell]]:
    return [[Cell(f"{v:.3f}", v, resolved=i != row)] for i, v in enumerate(column)]


def test_a_column_that_is_not_resolved_is_marked_and_never_ranked() -> None:
    cells = _unresolved_in([0.3, 0.1, 0.2], row=2)
    table = _table([[0.3], [0.1], [0.2]], ["a"] * 3, cells=ranked_columns(cells, ["a"] * 3, [False]))
    assert _ranks(table) == [[""], [""], [""]]
    assert [line.split()[-1] for line in table.to_text().splitlines()[3:6]] == ["0.300", "0.100", "0.200†"]
    latex = table.to_latex()
    assert r"0.200$^\dagger$" in latex
    assert r"\textbf" not in latex
    assert r"\footnotesize $^\dagger$ not resolved" in latex


def test_blocks_are_ranked_apart_where_one_of_them_is_not_resolved() -> None:
    cells = _unresolved_in([0.3, 0.1, 0.2, 0.4], row=0)
    ranked = ranked_columns(cells, ["a", "a", "b", "b"], [False])
    assert [row[0].rank for row in ranked] == ["", "", "best", "second"]


def test_what_else_is_known_of_a_cell_has_columns_of_its_own() -> None:
    cells = (
        (Cell("0.1", 0.1, "0.0 to 0.2", more={"low": 0.0, "high": 0.2, "resolved": 1}), Cell("3", 3.0)),
        (Cell("0.2", 0.2, more={"resolved": 0}), Cell("-", NAN)),
    )
    table = _table([[0.1, 3.0], [0.2, 4.0]], ["a", "a"], cells=cells, small_print="95 % interval")
    first, second = csv.DictReader(io.StringIO(table.to_csv()))
    head = ["set 0 FMR 0", "set 0 FMR 0 low", "set 0 FMR 0 high", "set 0 FMR 0 resolved", "set 0 FMR 1"]
    assert list(first)[2:] == head
    assert [first[name] for name in head] == ["0.1", "0.0", "0.2", "1", "3.0"]
    assert [second[name] for name in head] == ["0.2", "", "", "0", ""]
    latex = table.to_latex()
    assert r"0.1 {\scriptsize [0.0 to 0.2]}" in latex
    assert r"in brackets: 95 \% interval" in latex


def test_marks_keep_the_numbers_of_a_column_aligned() -> None:
    cells = ((Cell("0.1", 0.1, rank="best"),), (Cell("0.2", 0.2, rank="second", alike=True),))
    lines = _table([[0.1], [0.2]], ["a", "a"], cells=cells).to_text().splitlines()
    assert lines[3].index("0.1*") == lines[4].index("0.2'≈")

"""Cells that no spreadsheet takes for a formula, and that are read as they were."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igfiqa_head.io.csv_lines import csv_line, text_of_cell


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", "＝1", "'=1"])
def test_a_name_is_no_formula(name: str) -> None:
    (cell,) = next(csv.reader([csv_line([name])]))
    assert cell == f"'{name}"
    assert text_of_cell(cell) == name


def test_numbers_stay_numbers() -> None:
    cells = [-0.1, np.float32(-2), np.int64(-3), True, None, math.nan, -math.inf]
    assert csv_line(cells) == "-0.1,-2.0,-3,true,,,-inf"


def test_a_name_cannot_begin_a_cell_where_the_separator_is_another() -> None:
    assert csv_line(["a;=1", 'b\t"=1', "c"]) == '"a;=1","b\t""=1",c'


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=2))
def test_text_is_read_back(cells: list[str]) -> None:
    read = next(csv.reader(io.StringIO(csv_line(cells), newline="")))
    assert [text_of_cell(cell) for cell in read] == cells

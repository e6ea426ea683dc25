"""The one reader of columns: its rules hold for scored pairs, scores of images and lists of pairs alike."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from eval_tools.columns import CsvFile
from eval_tools.precomputed import PrecomputedQuality, read_scored_pairs
from eval_tools.test_sets import read_csv_set
from tests.eval_tools.test_sets.making import write_face

ROWS = [
    ["image_a", "image_b", "is_genuine", "similarity", "q"],
    ["a.png", "b.png", "1", "0.9", "2.5"],
    ["a.png", "c.png", "0", "0.1", "0.5"],
    ["b.png", "c.png", "0", "0.3", "1.5"],
]


def write(path: Path, rows: list[list[str]], mark: str = ",", end: str = "") -> Path:
    path.write_bytes("\r\n".join(mark.join(row) + end for row in rows).encode())
    return path


def both(path: Path) -> tuple[list[bool], list[float]]:
    """What ``compare`` and ``erc`` make of the same file."""
    for name in "abc":
        write_face(path.parent / f"{name}.png", ord(name))
    pairs = read_scored_pairs(path)
    assert pairs.is_genuine.tolist() == read_csv_set(path).is_genuine.tolist()
    assert pairs.quality.keys() == {"q"}
    return pairs.is_genuine.tolist(), pairs.quality["q"].tolist()


EXPECTED = ([True, False, False], [2.5, 0.5, 1.5])


def test_erc_reads_the_list_that_compare_requires(tmp_path: Path) -> None:
    assert both(write(tmp_path / "pairs.csv", ROWS)) == EXPECTED


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_trailing_separators_of_excel_are_no_column(tmp_path: Path, mark: str) -> None:
    assert both(write(tmp_path / "pairs.csv", ROWS, mark, end=mark)) == EXPECTED
    assert both(write(tmp_path / "more.csv", ROWS, mark, end=3 * mark + " ")) == EXPECTED


def test_the_first_line_that_excel_writes_for_itself_is_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", [["sep=;"], *ROWS], ";")
    assert both(path) == EXPECTED
    path.write_text(path.read_text().replace("2.5", "two"))
    with pytest.raises(ValueError, match="line 3: q is 'two'"):
        read_scored_pairs(path)


def test_trailing_separators_of_the_header_or_the_rows_alone_are_no_column(tmp_path: Path) -> None:
    assert both(write(tmp_path / "header.csv", [[*ROWS[0], ""], *ROWS[1:]])) == EXPECTED
    assert both(write(tmp_path / "rows.csv", [ROWS[0], *([*row, "", ""] for row in ROWS[1:])])) == EXPECTED


def test_a_value_without_a_header_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", [[*ROWS[0], ""], ROWS[1], [*ROWS[2], "7"]])
    with pytest.raises(ValueError, match="line 3 has 6 columns, the header 5"):
        read_scored_pairs(path)


def test_rows_without_any_value_are_passed_over(tmp_path: Path) -> None:
    rows = [[], *ROWS[:2], ["", "", "", "", ""], ["", ""], [], *ROWS[2:], ["", "", "", "", ""]]
    assert both(write(tmp_path / "pairs.csv", rows)) == EXPECTED


def test_lines_are_named_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", [[], *ROWS[:2], [","], ["x", "y", "0", "oh", "1"]])
    with pytest.raises(ValueError, match="line 5: similarity is 'oh'"):
        read_scored_pairs(path)


@pytest.mark.parametrize(("true", "false"), [("1.0", "0.0"), ("TRUE", "False"), (" 1", "0 "), ("1", "false")])
def test_flags_are_the_same_everywhere(tmp_path: Path, true: str, false: str) -> None:
    rows = [ROWS[0], *([a, b, true if int(flag) else false, *rest] for a, b, flag, *rest in ROWS[1:])]
    assert both(write(tmp_path / "pairs.csv", rows)) == EXPECTED


def test_flags_of_arrays_follow_the_same_rule(tmp_path: Path) -> None:
    similarity, q = np.array([0.9, 0.1, 0.3]), np.array([2.5, 0.5, 1.5])
    for flags in ([True, False, False], [1.0, 0.0, 0.0], ["1.0", "false", "0"]):
        np.savez(tmp_path / "p.npz", similarity=similarity, is_genuine=np.array(flags), q=q)
        assert read_scored_pairs(tmp_path / "p.npz").is_genuine.tolist() == EXPECTED[0]
    np.savez(tmp_path / "p.npz", similarity=similarity, is_genuine=np.array(["yes", "no", "no"]), q=q)
    with pytest.raises(ValueError, match=r"p.npz, pair 0: is_genuine is 'yes', expected 1 or 0"):
        read_scored_pairs(tmp_path / "p.npz")


def test_a_quoted_separator_of_the_header_separates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text('name,quality,"blur; 0 to 1"\n"a, b",1,0\nc,2,1\n')
    assert CsvFile(path).header == ["name", "quality", "blur; 0 to 1"]
    assert PrecomputedQuality(path).lookup(["a, b", "c"]).values.tolist() == [1, 2]


def test_names_of_known_columns_may_be_in_upper_case(tmp_path: Path) -> None:
    assert both(
        write(tmp_path / "p.csv", [["Image_A", "IMAGE_B", "Is_Genuine", "Similarity", "q"], *ROWS[1:]])
    ) == (EXPECTED)
    with pytest.raises(ValueError, match="two columns similarity: 'Similarity' and 'similarity'"):
        read_scored_pairs(
            write(tmp_path / "p.csv", [["Similarity", "similarity", "is_genuine", "q", "r"], *ROWS[1:]])
        )


def test_a_row_of_a_name_alone_has_no_value(tmp_path: Path) -> None:
    """OFIQ writes so of an image that it could not read."""
    for row in ("b;;", "b", "b;"):
        (tmp_path / "q.csv").write_text(f"name;quality;other;\na;1;2\n{row}\nc;3;4;\n")
        found = PrecomputedQuality(tmp_path / "q.csv").lookup(list("abc"), "exclude")
        assert found.bad == {1: "the value of image 'b' is missing, NaN or infinite"}
        np.testing.assert_array_equal(found.values, [1, np.nan, 3])


def test_flags_with_decimals_and_cells_for_missing_numbers_are_known(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("f,n\n1.00,0.5\n0.000,NA\n1,null\n0,nan\n")
    columns = CsvFile(path).read({"f": "flag", "n": "number"}).columns
    assert columns["f"].tolist() == [True, False, True, False]
    assert np.isnan(columns["n"]).tolist() == [False, True, True, True]


@pytest.mark.parametrize("cell", ["1_000", "１", "٣"])
def test_what_python_alone_takes_for_a_number_is_none(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "q.csv", [["name", "quality"], ["a", "7"], ["b", cell]])
    with pytest.raises(ValueError, match=f"q.csv, line 3: quality is '{cell}', expected a number"):
        PrecomputedQuality(path)
    path = tmp_path / "q.txt"
    path.write_text(f"a 7\nb {cell}\n")
    with pytest.raises(ValueError, match=f"q.txt, line 2: score is '{cell}', expected a number"):
        PrecomputedQuality(path)


def test_a_second_header_and_a_packed_file_are_told_as_what_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", [ROWS[0], *ROWS])
    with pytest.raises(ValueError, match="pairs.csv, line 2 is a header, expected values: remove it"):
        read_scored_pairs(path)
    packed = tmp_path / "packed.csv"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match="packed.csv is not UTF-8 text: .*; unpack it first"):
        read_scored_pairs(packed)

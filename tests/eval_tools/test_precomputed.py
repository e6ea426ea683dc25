"""Numbers that were computed elsewhere, in every shape people keep them in."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.precomputed import PrecomputedEmbeddings, PrecomputedQuality, ScoredPairs, read_scored_pairs
from eval_tools.precomputed.matching import AMBIGUOUS, MISSING, match_names
from igfiqa_head.scoring.table import ScoredFace, write_table


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def quality_of(path: Path, names: list[str], column: str = "quality", **options: Any) -> list[float]:
    return PrecomputedQuality(path, column).lookup(names, **options).values.tolist()


# --- names


@pytest.mark.parametrize(
    ("wanted", "given_names", "positions", "how"),
    [
        (["a", "b"], ["b", "x", "a"], [2, 0], None),
        (["A/1.jpg", "B/1.jpg"], ["d/e/B/1.jpg", "d/e/A/1.jpg"], [1, 0], "last 2 parts .* with the suffix"),
        (["set/A/1.jpg", "set/B/1.jpg"], ["A/1.jpg", "B/1.jpg"], [0, 1], "last 2 parts .* with the suffix"),
        (["Al/Al_1.jpg", "Bo/Bo_2.jpg"], ["x/y/Bo_2.jpg", "x/y/Al_1.jpg"], [1, 0], "last part .* with the"),
        (["A/1.jpg", "B/1.jpg"], ["x/A/1.png", "x/B/1.png"], [0, 1], "last 2 parts .* without the suffix"),
        (["a.jpg", "a.png"], ["x/a.png", "x/a.jpg"], [1, 0], "last part .* with the suffix"),
        (["0", "1", "2"], ["im/00001.jpg", "im/00002.jpg", "im/00000.jpg"], [2, 0, 1], "their number"),
        (["1", "0"], ["0", "1"], [1, 0], None),
        (["1", "2"], ["00001.jpg", "00002.jpg"], [MISSING, MISSING], None),
        (["v1.2/a", "v1.2/b"], ["x/v1.2/b", "x/v1.2/a"], [1, 0], "last 2 parts"),
        (["a", "b"], ["b"], [MISSING, 0], None),
        (["A/1.jpg", "B/2.jpg"], ["x/1.jpg", "y/1.jpg", "y/2.jpg"], [AMBIGUOUS, 2], "last part"),
        (["A/1.jpg", "B/1.jpg", "B/2.jpg"], ["1.jpg", "2.jpg"], [AMBIGUOUS, AMBIGUOUS, 1], "last part"),
        ([], ["a"], [], None),
        (["a"], [], [MISSING], None),
    ],
)
def test_names_are_matched_by_the_strictest_rule(
    wanted: list[str], given_names: list[str], positions: list[int], how: str | None
) -> None:
    match = match_names(wanted, given_names)
    assert match.positions.tolist() == positions
    if how is None:
        assert match.how is None
    else:
        assert match.how is not None
        assert re.search(how, match.how)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_match_is_never_wrong(data: st.DataObject) -> None:
    """Whatever folders and suffixes a file of scores has, an image gets its own score or none."""
    part = st.sampled_from(["a", "b", "1", "01"])
    names = data.draw(st.lists(st.tuples(part, part, part), min_size=1, max_size=6, unique=True))
    wanted = ["/".join(name) + ".jpg" for name in names]
    prefix = data.draw(st.sampled_from(["", "x/", "x/y/"]))
    keep = data.draw(st.integers(1, 3))
    suffix = data.draw(st.sampled_from([".jpg", ".png", ""]))
    order = data.draw(st.permutations(range(len(names))))
    given_names = [prefix + "/".join(names[index][-keep:]) + suffix for index in order]
    if len(set(given_names)) < len(given_names):
        return
    for index, position in enumerate(match_names(wanted, given_names).positions):
        assert position < 0 or order[position] == index


def test_a_table_of_igfiqa_score_is_read_whatever_its_names_are(tmp_path: Path) -> None:
    names = ["=1+1.png", "'=2.png", "-3", 'a;"b".png']
    table = [ScoredFace(name, face=0, quality=float(row)) for row, name in enumerate(names)]
    write_table(table, tmp_path / "scores.csv")
    assert PrecomputedQuality(tmp_path / "scores.csv").lookup(names).values.tolist() == [0, 1, 2, 3]


def test_crfiqa_score_files_of_a_bin_set(tmp_path: Path) -> None:
    """CR-FIQA extracts image i of lfw.bin to quality_data/lfw/images/%05d.jpg and lists "path score"."""
    count = 12000
    scores = np.random.default_rng(0).random(count)
    lines = [f"quality_data/lfw/images/{index:05d}.jpg {score}" for index, score in enumerate(scores)]
    path = write(tmp_path / "CRFIQAL_lfw.txt", "\n".join([*lines[::-1], lines[5]]) + "\n")
    found = PrecomputedQuality(path).lookup([str(index) for index in range(count)])
    np.testing.assert_array_equal(found.values, scores)
    assert found.bad == {}
    assert found.notes == (
        "CRFIQAL_lfw.txt: images were found by their number, whatever its zeros, folder and suffix.",
    )


NUMBERED = "q/images/{:05d}.jpg"


@pytest.mark.parametrize(
    ("given_names", "example"),
    [
        ([NUMBERED.format(index) for index in range(3600)], "01800.jpg"),
        ([NUMBERED.format(index) for index in range(900)], "00000.jpg"),
        ([NUMBERED.format(index + 1) for index in range(1800)], "01800.jpg"),
        ([f"{index + 1}.jpg" for index in range(1800)], "1800.jpg"),
        ([str(index) for index in range(1801)], "1800"),
        ([*(str(index) for index in range(1799)), "0.png"], "0"),
        (["Ann/Ann_0001.jpg"], "Ann/Ann_0001.jpg"),
    ],
)
@pytest.mark.parametrize("on_bad", ["error", "exclude"])
def test_numbers_of_another_set_are_refused(
    tmp_path: Path, given_names: list[str], example: str, on_bad: str
) -> None:
    """Any file of numbers would fit some images of any set that has no names."""
    path = write(tmp_path / "s.txt", "\n".join(f"{name} 0.5" for name in given_names))
    message = f"s.txt: its {len(given_names)} names, such as '.*{example}', are not those of the 1800 images"
    with pytest.raises(ValueError, match=message) as caught:
        quality_of(path, [str(index) for index in range(1800)], on_bad=on_bad)
    assert "expected the numbers 0 .. 1799, each once" in str(caught.value)


def test_rows_of_no_image_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "s.txt", "x/a.jpg 1\nx/b.jpg 2\nx/c.jpg 3\nx/c.jpg 3\n")
    assert PrecomputedQuality(path).lookup(["b.jpg"]).notes == (
        "s.txt: images were found by the last part of their paths, with the suffix.",
        "s.txt: 2 of its 3 names are of no image of this set.",
    )
    assert PrecomputedQuality(path).lookup(["x/a.jpg", "x/b.jpg", "x/c.jpg"]).notes == ()


@pytest.mark.parametrize("folder", ["", "loose_crop/"])
def test_an_image_may_occur_several_times(tmp_path: Path, folder: str) -> None:
    """IJB has the same image in several templates."""
    path = write(tmp_path / "s.txt", f"{folder}5.jpg 1\n{folder}7.jpg 2\n")
    names = ["loose_crop/7.jpg", "loose_crop/5.jpg", "loose_crop/7.jpg"]
    assert quality_of(path, names) == [2, 1, 2]
    found = PrecomputedQuality(path).lookup([*names, "loose_crop/9.jpg", "loose_crop/9.jpg"], "exclude")
    assert list(found.bad) == [3, 4]


# --- "name score" lines


@pytest.mark.parametrize(
    "text",
    [
        "a b.jpg 0.5\nc.jpg 1e-1\n",
        "\ufeffa b.jpg\t0.5\r\nc.jpg\t0.1\r\n",
        "\n  a b.jpg   0.5  \n\nc.jpg .1",
        "a b.jpg 0.5\nc.jpg 0.1\nc.jpg 0.10000001\n",
        "x\\a b.jpg 0.5\nx\\c.jpg 0.1\n",
    ],
)
def test_lines_of_name_and_score(tmp_path: Path, text: str) -> None:
    values = quality_of(write(tmp_path / "s.txt", text), ["c.jpg", "a b.jpg"])
    assert values == pytest.approx([0.1, 0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a 1\nb\n", r"s.txt, line 2 is 'b', expected 'name score'"),
        ("a,1\nb,2\n", r"line 1 is 'a,1', .* suffix .csv"),
        ("a, 1\nb, 2\n", r"line 1 is 'a, 1', .* suffix .csv"),
        ("a 1\n\nb 0,5\n", r"s.txt, line 3: score is '0,5', expected a number with a decimal point"),
        ("name score\na 1\n", r"s.txt, line 1 is a header, expected values: remove it"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrecomputedQuality(write(tmp_path / "s.txt", text))


# --- tables


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_tables_of_qualities(tmp_path: Path, mark: str, end: str, start: str) -> None:
    rows = [["sdd", "name", " quality"], ["1", "a b", "0.25"], [], ["2", '"c"', " 4 "]]
    path = write(tmp_path / "q.csv", start + end.join(mark.join(row) for row in rows) + end)
    assert quality_of(path, ["c", "a b"]) == [4, 0.25]
    assert quality_of(path, ["c", "a b"], "sdd") == [2, 1]


def test_cells_may_hold_separators_and_line_breaks(tmp_path: Path) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["name", "quality"], ["a,b", 1], ["c\nd", 2], ['e"f', "x"]])
    with pytest.raises(ValueError, match="q.csv, line 5: quality is 'x'"):
        PrecomputedQuality(write(tmp_path / "q.csv", buffer.getvalue()))
    path = write(tmp_path / "q.csv", buffer.getvalue().replace("x", "3"))
    assert quality_of(path, ["a,b", "c\nd", 'e"f']) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "q.csv is empty, expected a header"),
        ("name,quality\n", "has no row below its header"),
        ("quality\n1\n", "has the columns quality; expected name and quality"),
        ("name,quality,quality\na,1,1\n", "expected a header of distinct"),
        ("a.jpg,0.5\nb.jpg,0.7\n", "has the columns a.jpg, 0.5; expected name and quality"),
        ("name,score\na,1\n", "columns name, score; expected name and quality, or give another"),
        ("name,quality,other\na,1,2\nb,1\n", "q.csv, line 3 has 2 columns, the header 3"),
        ("name,quality\na;1\n", "q.csv, line 2 has 1 columns, the header 2"),
        ("name,quality\na,1\0\n", "q.csv, line 2 has zero bytes"),
        ("name,quality\na,1,2\n", "line 2 has 3 columns"),
        ("name;quality\na;0,5\n", "line 2: quality is '0,5', expected a number with a decimal point"),
        ('name,quality\n"a,1\n', "line 2"),
        ("name,quality\na,good\n", "quality is 'good'"),
        ("name,quality\n" + "a" * 200000 + ",1\n", "line 2: damaged CSV: field larger"),
    ],
)
def test_bad_tables_are_one_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        PrecomputedQuality(write(tmp_path / "q.csv", text))
    assert str(tmp_path / "q.csv") in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_text_that_is_not_utf8_is_one_error(tmp_path: Path, suffix: str) -> None:
    for content in ("name,quality\nä,1\n".encode("utf-16"), b"name,quality\n\xe4 b,1\n"):
        (tmp_path / f"q{suffix}").write_bytes(content)
        with pytest.raises(ValueError, match="is not UTF-8 text"):
            PrecomputedQuality(tmp_path / f"q{suffix}")
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        PrecomputedQuality(tmp_path / f"missing{suffix}")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        PrecomputedQuality(tmp_path / "folder.csv")


def test_an_unknown_column_of_a_txt_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column 'sdd'"):
        PrecomputedQuality(write(tmp_path / "q.txt", "a 1\n"), "sdd")


# --- OFIQ

OFIQ = """Filename;Q;Sharp;Q.scalar;Sharp.scalar;
/d/p0/0.jpg;17.5;44;53;100
/d/p0/1.jpg;18.5;45;55;99
/d/p1/0.jpg;{}
"""
OFIQ_NAMES = ["p0/0.jpg", "p0/1.jpg", "p1/0.jpg"]


@pytest.mark.parametrize(("column", "values"), [("Q.scalar", [53, 55, 72]), ("Sharp", [44, 45, 46])])
def test_the_table_of_ofiq(tmp_path: Path, column: str, values: list[float]) -> None:
    path = write(tmp_path / "ofiq.csv", OFIQ.format("24;46;72;98"))
    assert quality_of(path, OFIQ_NAMES, column) == values


@pytest.mark.parametrize("column", ["Q.scalar", "Sharp.scalar", "Sharp"])
@pytest.mark.parametrize("renamed", [False, True])
def test_minus_one_of_ofiq_is_no_value(tmp_path: Path, column: str, renamed: bool) -> None:
    """The raw measures beside it are 0."""
    text = OFIQ.format("0;0;-1;-1")
    path = write(tmp_path / "ofiq.csv", text.replace("Filename", "name") if renamed else text)
    with pytest.raises(ValueError, match=r"image 'p1/0.jpg' was not assessed \(-1, .*--on-bad exclude"):
        quality_of(path, OFIQ_NAMES, column)
    found = PrecomputedQuality(path, column).lookup(OFIQ_NAMES, "exclude")
    assert found.bad == {2: "image 'p1/0.jpg' was not assessed (-1, in OFIQ's terms)"}
    assert np.isnan(found.values).tolist() == [False, False, True]


def test_minus_one_of_other_methods_is_a_value(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", "name,quality,log.scalar\na,-1,-1\nb,2,3\n")
    assert quality_of(path, ["a", "b"]) == [-1, 2]
    assert quality_of(path, ["a", "b"], "log.scalar") == [-1, 3]
    path = write(tmp_path / "q.csv", "Filename;quality\na;-1\nb;2\n")
    assert quality_of(path, ["a", "b"]) == [-1, 2]


@pytest.mark.parametrize("row", [";", ";;;;", "", ";;;;;"])
def test_an_image_that_ofiq_could_not_read_has_no_value(tmp_path: Path, row: str) -> None:
    path = write(tmp_path / "ofiq.csv", OFIQ.replace("1/0.jpg;{}", "1/0.jpg" + row))
    with pytest.raises(ValueError, match=r"the value of image 'p1/0.jpg' is missing"):
        quality_of(path, OFIQ_NAMES, "Q.scalar")
    assert list(PrecomputedQuality(path, "Q.scalar").lookup(OFIQ_NAMES, "exclude").bad) == [2]


# --- what is missing or contradictory


def test_unusable_values_are_one_error_or_excluded(tmp_path: Path) -> None:
    rows = [
        "ok,1",
        "nan,nan",
        "empty,",
        "inf,inf",
        "twice,1",
        "twice,2",
        "same,3",
        "same,3.00000001",
        "no,nan",
    ]
    path = write(tmp_path / "q.csv", "\n".join(["name,quality", *rows]))
    names = ["ok", "nan", "empty", "inf", "twice", "same", "missing"]
    with pytest.raises(
        ValueError, match=r"q.csv: the value of image 'nan' is missing, NaN .*; 5 of 7 images have"
    ) as error:
        PrecomputedQuality(path).lookup(names)
    assert "on_bad='exclude'" in str(error.value)
    found = PrecomputedQuality(path).lookup(names, "exclude")
    np.testing.assert_array_equal(found.values, [1, np.nan, np.nan, np.nan, np.nan, 3, np.nan])
    assert list(found.bad) == [1, 2, 3, 4, 6]
    assert "occurs twice with different values" in found.bad[4]
    assert "there is no value for image 'missing', which has names such as 'ok'" in found.bad[6]
    assert quality_of(path, ["ok", "same"]) == [1, 3]
    with pytest.raises(ValueError, match="2 of 2 images have no usable value"):
        PrecomputedQuality(path).lookup(["x", "y"], "exclude")
    with pytest.raises(ValueError, match="on_bad must be"):
        PrecomputedQuality(path).lookup(names, "skip")  # type: ignore[arg-type]


def test_an_ambiguous_name_is_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "q.txt", "x/1.jpg 1\ny/1.jpg 2\ny/2.jpg 3\n")
    with pytest.raises(ValueError, match="several names fit image 'A/1.jpg'"):
        PrecomputedQuality(path).lookup(["A/1.jpg", "A/2.jpg"])


# --- .npz


def test_qualities_from_arrays(tmp_path: Path) -> None:
    path = tmp_path / "q.npz"
    np.savez(path, quality=np.float32([1, 2]), other=[5, 6], names=["a", "b"])
    assert quality_of(path, ["b", "a"]) == [2, 1]
    assert quality_of(path, ["b", "a"], "other") == [6, 5]
    np.savez(path, quality=[1.0, 2.0], names=np.array([b"a", b"b"]))
    assert quality_of(path, ["b", "a"]) == [2, 1]
    np.savez(path, quality=[1.0, 2.0], names=np.array([10, 11]))
    assert quality_of(path, ["11", "10"]) == [2, 1]
    np.savez(path, quality=[1.0, 2.0])
    assert quality_of(path, ["b", "a"]) == [1, 2]
    with pytest.raises(
        ValueError, match="holds 2 values without names, expected one for each of the 3 images"
    ):
        quality_of(path, ["a", "b", "c"])


@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 3), (4, 2, 3)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_embeddings_from_arrays(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    path = tmp_path / "e.npz"
    embeddings = np.random.default_rng(0).normal(size=shape).astype(dtype)
    views = embeddings.reshape(4, -1, 3)
    np.savez(path, embeddings=embeddings)
    np.testing.assert_array_equal(PrecomputedEmbeddings(path).lookup(list("abcd")).values, views)
    np.savez(path, embeddings=embeddings, names=["x/a.jpg", "x/b.jpg", "x/c.jpg", "x/d.jpg"])
    found = PrecomputedEmbeddings(path).lookup(["c.jpg", "a.jpg", "e.jpg"], "exclude")
    np.testing.assert_array_equal(found.values[:2], views[[2, 0]])
    assert list(found.bad) == [2]
    assert np.isnan(found.values[2]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zero_embeddings_are_named_or_excluded(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "e.npz"
    embeddings = np.full((4, 2, 3), 60000, dtype)
    embeddings[1], embeddings[2, 1] = 0, 0
    np.savez(path, embeddings=embeddings, names=list("abcd"))
    with pytest.raises(ValueError, match="e.npz: the value of image 'b' is zero, NaN or infinite; 2 of 4"):
        PrecomputedEmbeddings(path).lookup(list("abcd"))
    found = PrecomputedEmbeddings(path).lookup(list("abcd"), "exclude")
    assert list(found.bad) == [1, 2]
    assert np.isnan(found.values).all(axis=(1, 2)).tolist() == [False, True, True, False]


def test_embeddings_too_long_for_their_length_are_bad(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", embeddings=[[1e200, 0], [1e-200, 0], [1.0, 0]])
    assert list(PrecomputedEmbeddings(tmp_path / "e.npz").lookup(list("abc"), "exclude").bad) == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((2, 3))}, "holds features, expected an array 'embeddings'"),
        ({"embeddings": np.ones(3)}, r"must be floats \[N, D\] or \[N, V, D\], got float64 \[3\]"),
        ({"embeddings": np.ones((0, 3))}, r"got float64 \[0, 3\]"),
        ({"embeddings": np.ones((2, 3), int)}, "got int64"),
        ({"embeddings": np.array([[1, None]])}, "plain arrays"),
        ({"embeddings": np.ones((2, 3)), "names": np.array(["a", None])}, "plain arrays"),
        ({"embeddings": np.ones((2, 3)), "names": ["a"]}, r"names must be strings \[2\]"),
        ({"embeddings": np.ones((2, 3)), "names": [0.5, 0.7]}, r"names must be strings \[2\], got float64"),
        ({}, "holds nothing"),
    ],
)
def test_bad_arrays_are_one_error(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        PrecomputedEmbeddings(tmp_path / "e.npz")


def test_quality_arrays_of_other_shapes(tmp_path: Path) -> None:
    for values in (np.ones((2, 1)), np.array(["a"]), np.ones(0)):
        np.savez(tmp_path / "q.npz", quality=values)
        with pytest.raises(ValueError, match=r"quality must be numbers \[N\], got"):
            PrecomputedQuality(tmp_path / "q.npz")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_archives_are_one_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("npz") / "e.npz"
    save = data.draw(st.sampled_from([np.savez, np.savez_compressed]))
    save(path, embeddings=np.arange(60.0).reshape(6, 10), names=[str(index) for index in range(6)])
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(ValueError):  # and nothing else, if the damage is noticed at all
        PrecomputedEmbeddings(path)


@pytest.mark.parametrize("header", [b"{'descr'", b"{'descr': '<f8', (((", b" {}\n  {}", b"{'shape': 1}"])
def test_damaged_headers_are_one_error(tmp_path: Path, header: bytes) -> None:
    magic = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as archive:
        archive.writestr("embeddings.npy", magic + header.ljust(118) + bytes(80))
    with pytest.raises(ValueError, match="e.npz is not a .npz file of plain arrays"):
        PrecomputedEmbeddings(tmp_path / "e.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)])
def test_files_that_are_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e.npz").write_bytes(content)
    with pytest.raises(ValueError, match="e.npz"):
        PrecomputedEmbeddings(tmp_path / "e.npz")
    np.save(tmp_path / "e.npy", np.ones((2, 3)))
    (tmp_path / "e.npy").rename(tmp_path / "e.npz")
    with pytest.raises(ValueError, match="not a .npz file"):
        PrecomputedEmbeddings(tmp_path / "e.npz")


# --- scored pairs

PAIRS = """\
name_a,name_b,similarity,is_genuine,norm,cr_a,cr_b,identity_a,identity_b
x,y,0.9,1,3,0.1,0.2,ann,ann
x,z,0.1,0,2,0.4,0.3,ann,bob
z,u,0.2,false,1,0.5,0.6,bob,7
u,v,0.7,True,0,0.7,0.8,7,7
"""


def as_arrays(path: Path) -> Path:
    rows = list(csv.reader(io.StringIO(PAIRS)))
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    arrays: dict[str, Any] = {name: np.array(cells) for name, cells in columns.items()}
    for name in ("similarity", "norm", "cr_a", "cr_b"):
        arrays[name] = arrays[name].astype(float)
    arrays["is_genuine"] = np.array([True, False, False, True])
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".npz"])
def test_scored_pairs(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"p{kind}"
    if kind == ".npz":
        as_arrays(path)
    else:
        write(path, PAIRS if kind == ".csv" else PAIRS.replace(",", "\t"))
    pairs = read_scored_pairs(path)
    assert isinstance(pairs, ScoredPairs)
    assert pairs.similarity.tolist() == [0.9, 0.1, 0.2, 0.7]
    assert pairs.is_genuine.tolist() == [True, False, False, True]
    assert pairs.is_genuine.dtype == np.bool_
    assert {name: values.tolist() for name, values in pairs.quality.items()} == {
        "norm": [3, 2, 1, 0],
        "cr": [0.1, 0.3, 0.5, 0.7],
    }
    assert pairs.pair_identities is not None
    assert pairs.pair_identities.dtype == np.int64
    first, second, third = pairs.pair_identities[:3, 1].tolist()
    assert pairs.pair_identities.tolist() == [
        [first, first],
        [first, second],
        [second, third],
        [third, third],
    ]
    assert len({first, second, third}) == 3
    assert pairs.notes == ()
    assert read_scored_pairs(path, pair_quality="max").quality["cr"].tolist() == [0.2, 0.4, 0.6, 0.8]


def test_distances_are_negated_and_identities_optional(tmp_path: Path) -> None:
    text = "distance;quality_a;quality_b;is_genuine\n0.1;1;2;1\n0.9;3;2;0\n"
    pairs = read_scored_pairs(write(tmp_path / "p.csv", text))
    assert pairs.similarity.tolist() == [-0.1, -0.9]
    assert pairs.quality["quality"].tolist() == [1, 2]
    assert pairs.pair_identities is None


@pytest.mark.parametrize(
    "header",
    [
        "is_genuine,q",
        "similarity,distance,is_genuine,q",
        "similarity,q",
        "similarity,is_genuine",
        "similarity,is_genuine,q,identity_a",
        "similarity,is_genuine,q,q_a,q_b",
    ],
)
def test_columns_that_do_not_make_scored_pairs(tmp_path: Path, header: str) -> None:
    row = ",".join("1" for _ in header.split(","))
    with pytest.raises(
        ValueError, match="has the columns .*; expected similarity or distance, is_genuine, one"
    ):
        read_scored_pairs(write(tmp_path / "p.csv", f"{header}\n{row}\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.2,false", "nan,false", "line 4: similarity is NaN or infinite, as for 1 of 4 pairs"),
        ("0.2,false", ",false", "line 4: similarity is NaN or infinite"),
        (",2,0.4", ",inf,0.4", "line 3: norm is NaN or infinite"),
        ("0.2,false", "-1e200,false", r"line 4: similarity is larger than 1e\+150, as"),
        ("0.5,0.6", "0.5,1e300", r"line 4: cr_b is larger than 1e\+150"),
        ("ann,bob", "ann,ann", "line 3: the identities contradict is_genuine"),
        ("bob,7", " ,7", "line 4: identity_a is empty"),
        ("7,7", ",", "line 5: identity_a is empty"),
        ("z,u", "z,x", "line 4: an earlier pair has the same name_a and name_b"),
        ("z,u", "x,z", "line 4: an earlier pair has the same name_a and name_b"),
    ],
)
def test_bad_pairs_are_one_error_or_excluded(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path / "p.csv", PAIRS.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_scored_pairs(path)
    pairs = read_scored_pairs(path, on_bad="exclude")
    assert pairs.similarity.size == pairs.is_genuine.size == pairs.quality["cr"].size == 3
    assert pairs.pair_identities is not None
    assert len(pairs.pair_identities) == 3
    reason = message.partition(": ")[2].partition(",")[0].replace("\\", "")
    assert pairs.notes == (f"1 of 4 pairs were excluded: {reason}.",)


@pytest.mark.parametrize("kind", ["U", "S"])
def test_pairs_of_arrays_are_checked_like_those_of_tables(tmp_path: Path, kind: str) -> None:
    path = as_arrays(tmp_path / "p.npz")
    arrays = {name: v.astype(kind) if v.dtype.kind == "U" else v for name, v in np.load(path).items()}
    arrays["identity_a"] = np.where(np.arange(4) == 3, "", arrays["identity_a"].astype("U")).astype(kind)
    arrays["name_a"] = np.array(list("xxyu"), kind)
    arrays["name_b"] = np.array(list("yzxv"), kind)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="p.npz, pair 3: identity_a is empty"):
        read_scored_pairs(path)
    assert read_scored_pairs(path, on_bad="exclude").notes == (
        "1 of 4 pairs were excluded: identity_a is empty.",
        "1 of 4 pairs were excluded: an earlier pair has the same name_a and name_b.",
    )


def test_a_pair_is_no_repetition_of_one_that_is_left_out(tmp_path: Path) -> None:
    lines = ["a,b,nan,1,1", "b,a,0.5,1,2", "a,c,0.1,0,1"]
    path = write(tmp_path / "p.csv", "\n".join(["name_a,name_b,similarity,is_genuine,q", *lines]))
    assert read_scored_pairs(path, on_bad="exclude").similarity.tolist() == [0.5, 0.1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PAIRS.replace("true", "1").replace("0.9,1", "0.9,2"), "line 2: is_genuine is '2', expected 1 or 0"),
        (PAIRS.replace("0.9,1", "0.9,"), "line 2: is_genuine is ''"),
        (PAIRS.replace("0.9", "high"), "line 2: similarity is 'high'"),
        ("similarity,is_genuine,q\n1,1,1\n2,1,1\n", "p.csv: no impostor pair among 2 pairs"),
        ("similarity,is_genuine,q\n1,1,1\nnan,0,1\n", "p.csv: no impostor pair among 1 pairs"),
    ],
)
def test_pairs_that_cannot_be_used_at_all(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_scored_pairs(write(tmp_path / "p.csv", text), on_bad="exclude")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("similarity", np.ones(3), r"must be numbers \[3\] like similarity, got float64 \[4\]"),
        ("is_genuine", np.array([0, 1, 2, 1]), "booleans or 0 and 1"),
        ("identity_a", np.ones(4), "identity_a must be labels"),
        ("identity_a", np.array(["a", None, "b", "c"]), "plain arrays"),
    ],
)
def test_bad_arrays_of_pairs(tmp_path: Path, name: str, values: np.ndarray, message: str) -> None:
    path = as_arrays(tmp_path / "p.npz")
    arrays = dict(np.load(path)) | {name: values}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        read_scored_pairs(path, on_bad="exclude")


def test_other_mistakes_with_pairs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scored pairs are read from .csv, .tsv and .npz files"):
        read_scored_pairs(tmp_path / "p.json")
    with pytest.raises(ValueError, match="on_bad must be"):
        read_scored_pairs(tmp_path / "p.csv", on_bad="skip")  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_blocks_do_not_show(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files longer than one block of rows, and errors in any of them."""
    count = data.draw(st.sampled_from([1, 1023, 1024, 1025, 2500]))
    values = np.random.default_rng(0).normal(size=count)
    lines = [f"{index},{value!r}" for index, value in enumerate(values.tolist())]
    path = tmp_path_factory.mktemp("csv") / "q.csv"
    write(path, "\n".join(["name,quality", *lines]))
    np.testing.assert_array_equal(quality_of(path, [str(index) for index in range(count)]), values)
    bad = data.draw(st.integers(0, count - 1))
    lines[bad] = data.draw(st.sampled_from([f"{bad},x", f"{bad},1,2"]))
    write(path, "\n".join(["name,quality", *lines]))
    with pytest.raises(ValueError, match=f"line {bad + 2}[: ]"):
        PrecomputedQuality(path)


def test_a_column_of_an_ofiq_file_that_is_not_there_is_answered_by_a_close_one(tmp_path: Path) -> None:
    path = write(tmp_path / "ofiq.csv", "Filename;Sharpness;Sharpness.scalar\na.jpg;1;2\n")
    message = "expected Filename and Sharpnes, or .*; did you mean 'Sharpness'"
    with pytest.raises(ValueError, match=message):
        PrecomputedQuality(path, "Sharpnes")

"""CSV files of pairs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.test_sets import open_test_set, read_csv_set
from tests.eval_tools.test_sets.making import face, write_face

HEADER = "image_a,image_b,is_genuine"
FULL_HEADER = HEADER + ",identity_a,identity_b"
LINES = ["a.png,b.png,1", "a.png,sub/c.png,0"]
FULL_LINES = ["a.png,b.png,1,Ann,Ann", "a.png,sub/c.png,0,Ann,Bob"]


def write(root: Path, lines: list[str], header: str = HEADER) -> Path:
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png", "sub/d, e.png")):
        write_face(root / name, seed)
    path = root / "pairs.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_images_and_pairs(tmp_path: Path) -> None:
    test_set = read_csv_set(write(tmp_path, [*LINES, '"sub/d, e.png",b.png,0']))
    assert list(test_set.names) == ["a.png", "b.png", "sub/c.png", "sub/d, e.png"]
    assert test_set.pairs.tolist() == [[0, 1], [0, 2], [3, 1]]
    assert test_set.is_genuine.tolist() == [True, False, False]
    assert (test_set.identities, test_set.folds, test_set.notes) == (None, None, ())
    for seed in range(4):
        np.testing.assert_array_equal(test_set.images[seed], face(seed))


def test_identities(tmp_path: Path) -> None:
    test_set = read_csv_set(write(tmp_path, FULL_LINES, FULL_HEADER))
    assert test_set.pair_identities.tolist() == [[0, 0], [0, 1]]


def test_columns_in_any_order(tmp_path: Path) -> None:
    header = "is_genuine, identity_b ,image_b,image_a,identity_a"
    path = write(tmp_path, ["1,Ann,b.png,a.png,Ann", "0,Bob,sub/c.png,a.png,Ann"], header)
    assert read_csv_set(path).names == ["a.png", "b.png", "sub/c.png"]


@pytest.mark.parametrize(("true", "false"), [("1", "0"), ("true", "false"), ("True", "FALSE"), (" 1 ", " 0")])
def test_flags(tmp_path: Path, true: str, false: str) -> None:
    path = write(tmp_path, [f"a.png,b.png,{true}", f"a.png,sub/c.png,{false}"])
    assert read_csv_set(path).is_genuine.tolist() == [True, False]


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_files_of_any_system(tmp_path: Path, start: str, end: str) -> None:
    path = write(tmp_path, [])
    path.write_bytes((start + end.join([HEADER, *LINES, "", ""])).encode())
    assert len(read_csv_set(path).pairs) == 2


@pytest.mark.parametrize("mark", [";", "\t", ","])
@pytest.mark.parametrize("start", ["", "\n", "\ufeff\r\n"])
def test_columns_are_separated_as_in_other_tables(tmp_path: Path, mark: str, start: str) -> None:
    path = write(tmp_path, [])
    lines = [HEADER.replace(",", mark), *(line.replace(",", mark) for line in LINES)]
    lines.append(f'"sub/d, e.png"{mark}b.png{mark}0')
    path.write_bytes((start + "\r\n".join(lines)).encode())
    assert read_csv_set(path).pairs.tolist() == [[0, 1], [0, 2], [3, 1]]
    if not start.strip("\ufeff"):
        assert len(open_test_set(path).is_genuine) == 3


def test_one_image_by_several_names(tmp_path: Path) -> None:
    path = write(tmp_path, ["./a.png,b.png,1", "sub/../a.png,sub\\c.png,0"])
    assert read_csv_set(path).names == ["a.png", "b.png", "sub/c.png"]


OUTSIDE = ["/etc/passwd", "../x.png", "sub/../../x.png", "..", "C:\\x.png", "C:x.png", "\\x.png", "..\\x.png"]
BAD_LINES = [
    ("a.png,b.png", "malformed lines", "line 4: expected 3 columns, got 2"),
    ("a.png,b.png,1,2", "malformed lines", "line 4: expected 3 columns, got 4"),
    ("a.png,b.png,yes", "malformed lines", "line 4: is_genuine must be 0, 1, true or false, got 'yes'"),
    ("a.png,b.png,nan", "malformed lines", "line 4: is_genuine must be .* got 'nan'"),
    ("a.png,b.png," + "1" * 9999, "malformed lines", "line 4: is_genuine must be"),
    ("a.png,,1", "malformed lines", "line 4: image_b is empty"),
    ("a.png,x.png,1", "pairs of images that are not there", "line 4: there is no image .*x.png"),
    ("a.png,sub,1", "pairs of images that are not there", "line 4: there is no image .*sub"),
    ("a.png,.,1", "pairs of images that are not there", "line 4: there is no image"),
    (f"a.png,{'x' * 9999},1", "pairs of images that are not there", "line 4: there is no image"),
    ("a.png,a.png,1", "pairs of an image with itself", "line 4: a.png is paired with itself"),
    ("b.png,a.png,1", "repeated pairs", "line 4: the pair of b.png and a.png is that of line 2 again"),
    ("sub/c.png,a.png,1", "repeated pairs", "line 4: the pair of .* is that of line 3 again"),
]
BAD_LINES += [
    (
        f"a.png,{name},1",
        "pairs of images that are not there",
        "line 4: image .* is refused: expected a path within",
    )
    for name in OUTSIDE
]


@pytest.mark.parametrize(("line", "kind", "detail"), BAD_LINES)
def test_bad_lines(tmp_path: Path, line: str, kind: str, detail: str) -> None:
    write_face(tmp_path / "x.png")  # what the paths that leave the folder would find
    path = write(tmp_path / "set", [*LINES, line, "b.png,sub/c.png,0"])
    with pytest.raises(ValueError, match=rf"pairs\.csv: {detail}(.|\n)*on_bad='exclude'") as caught:
        read_csv_set(path)
    assert len(str(caught.value)) < 900
    test_set = read_csv_set(path, on_bad="exclude")
    assert test_set.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert len(test_set.notes) == 1
    assert test_set.notes[0].startswith(f"1 {kind} excluded; the first: line 4: ")


@pytest.mark.parametrize(
    ("line", "kind", "detail"),
    [
        ("b.png,sub/c.png,0,Bob,Bob", "pairs with .*", "line 4: b.png is 'Bob', but 'Ann' before"),
        ("b.png,sub/c.png,0,Ann,Cat", "pairs with .*", "line 4: sub/c.png is 'Cat', but 'Bob' before"),
        (
            "b.png,sub/c.png,1,Ann,Bob",
            "pairs with .*",
            "line 4: a genuine pair of two identities: Ann and Bob",
        ),
        ("b.png,sub/c.png,0,,Bob", "malformed lines", "line 4: identity_a is empty"),
    ],
)
def test_contradicting_identities(tmp_path: Path, line: str, kind: str, detail: str) -> None:
    path = write(tmp_path, [*FULL_LINES, line], FULL_HEADER)
    with pytest.raises(ValueError, match=rf"pairs\.csv: {detail}"):
        read_csv_set(path)
    test_set = read_csv_set(path, on_bad="exclude")
    assert test_set.identities.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match=kind):
        raise ValueError(test_set.notes[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"pairs\.csv is empty"),
        (b"\xef\xbb\xbf", r"pairs\.csv is empty"),
        (b",", r"line 1: expected the columns image_a,image_b,is_genuine.* got ''"),
        (
            b"image_a,image_b,is_genuine\n",
            r"pairs\.csv: there are no pairs: error rates need genuine and impostor pairs",
        ),
        (b"image_a,image_b,is_genuine\na.png,b.png,1\n", "no impostor pair among 1 pairs"),
        (b"image_a,image_b\n", "line 1: expected the columns image_a,image_b,is_genuine"),
        (b"image_a|image_b|is_genuine\n", "line 1: expected the columns .* got 'image_a|image_b"),
        (
            b"image_a;image_b;is_genuine\na.png,b.png,1\n",
            "line 2: expected 3 columns, got 1|there are no pairs",
        ),
        (b"image_a,image_b,is_genuine,identity_a\n", "line 1: expected the columns"),
        (b"image_a,image_b,is_genuine,image_a\n", "line 1: 'image_a' is there twice"),
        (b"a.png,b.png,1\n", "line 1: expected the columns .* got 'a.png,b.png,1'"),
        (b'image_a,image_b,is_genuine\n"a.png,b.png,1\n', "line 2: damaged CSV: unexpected end of data"),
        (b"image_a,image_b,is_genuine\n" + b"x" * 200_000, "line 2: damaged CSV: field larger"),
        (b"image_a,image_b,is_genuine\na.png,\xff,1\n", "is not UTF-8 text"),
        (b"image_a,image_b,is_genuine\na.png,b\0.png,1\n", "zero bytes"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, [])
    path.write_bytes(content)
    for on_bad in ("error", "exclude"):
        with pytest.raises(ValueError, match=message):
            read_csv_set(path, on_bad=on_bad)  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_links(tmp_path: Path) -> None:
    path = write(tmp_path / "set", LINES)
    (tmp_path / "other").symlink_to(tmp_path / "set")
    assert len(read_csv_set(tmp_path / "other" / "pairs.csv").pairs) == 2
    (tmp_path / "set" / "b.png").rename(tmp_path / "secret.png")
    (tmp_path / "set" / "b.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match=r"line 2: .*b\.png is a link that leads out of"):
        read_csv_set(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("csv"), [])


FIELDS = st.sampled_from(["a.png", "b.png", "sub/c.png", "..", "/", "0", "1", '"', "", "\r", "\x1c", "nan"])


@settings(deadline=None, max_examples=200)
@given(lines=st.lists(st.lists(FIELDS, max_size=4).map(",".join), max_size=5), data=st.binary(max_size=8))
def test_any_text_is_read_or_refused(folder: Path, lines: list[str], data: bytes) -> None:
    folder.write_bytes("\n".join([HEADER, *LINES, *lines]).encode() + b"\n" + data)
    for on_bad in ("error", "exclude"):
        try:
            test_set = read_csv_set(folder, on_bad=on_bad)  # type: ignore[arg-type]
        except ValueError as error:
            assert str(folder) in str(error)  # noqa: PT017 - most texts are refused, a few are read
        else:
            assert 0 < test_set.is_genuine.sum() < len(test_set.pairs)
            assert test_set.images[0].shape == (8, 8, 3)


class TestImagesElsewhere:
    """Lists whose images lie outside of their folder."""

    @pytest.fixture
    def listed(self, tmp_path: Path) -> Path:
        """A list in one folder, its images in another."""
        path = write(tmp_path / "faces", LINES)
        (tmp_path / "lists").mkdir()
        return path.rename(tmp_path / "lists" / "pairs.csv")

    def test_names_are_resolved_against_the_folder_that_is_named(self, tmp_path: Path, listed: Path) -> None:
        with pytest.raises(ValueError, match="there is no image"):
            read_csv_set(listed)
        for read in (read_csv_set, open_test_set):
            test_set = read(listed, images=tmp_path / "faces")
            assert list(test_set.names) == ["a.png", "b.png", "sub/c.png"]
            np.testing.assert_array_equal(test_set.images[2], face(2))
        with pytest.raises(ValueError, match=r"there is no folder .*nowhere of images \(--images ROOT\)"):
            read_csv_set(listed, images=tmp_path / "nowhere")

    @pytest.mark.parametrize("name", OUTSIDE)
    @pytest.mark.parametrize("absolute_paths", [False, True])
    def test_names_do_not_leave_that_folder(
        self, tmp_path: Path, listed: Path, name: str, absolute_paths: bool
    ) -> None:
        write_face(tmp_path / "x.png")
        listed.write_text(f"{HEADER}\na.png,b.png,1\na.png,{name},0\n")
        if absolute_paths and name.startswith(("/", "\\")):
            return
        with pytest.raises(ValueError, match="line 3: image .* is refused: expected a path within"):
            read_csv_set(listed, images=tmp_path / "faces", absolute_paths=absolute_paths)

    def test_links_do_not_lead_out_of_that_folder(self, tmp_path: Path, listed: Path) -> None:
        (tmp_path / "faces" / "b.png").rename(tmp_path / "secret.png")
        (tmp_path / "faces" / "b.png").symlink_to(tmp_path / "secret.png")
        with pytest.raises(ValueError, match=r"line 2: .*b\.png is a link that leads out of .*faces"):
            read_csv_set(listed, images=tmp_path / "faces")

    def test_absolute_paths_are_taken_if_the_list_is_trusted(self, tmp_path: Path, listed: Path) -> None:
        faces = tmp_path / "faces"
        listed.write_text(f"{HEADER}\n{faces}/a.png,{faces}/b.png,1\n{faces}/a.png,{faces}/sub/c.png,0\n")
        with pytest.raises(ValueError, match=r"line 2: image .* is refused.*--images ROOT.*--absolute-paths"):
            read_csv_set(listed)
        test_set = read_csv_set(listed, absolute_paths=True)
        assert list(test_set.names) == [f"{faces}/{name}" for name in ("a.png", "b.png", "sub/c.png")]
        np.testing.assert_array_equal(test_set.images[1], face(1))

    def test_a_set_that_holds_its_images_says_that_none_were_looked_for(self, tmp_path: Path) -> None:
        for name in ("Ann/1.png", "Ann/2.png", "Bob/1.png"):
            write_face(tmp_path / "people" / name)
        test_set = open_test_set(tmp_path / "people", images=tmp_path)
        assert test_set.notes == ("This set holds its images: --images is for lists of pairs.",)


def test_other_columns_are_named(tmp_path: Path) -> None:
    lines = ["0,a.png,b.png,1,3", "1,a.png,sub/c.png,0,4"]
    test_set = read_csv_set(write(tmp_path, lines, f",{HEADER},fold"))
    assert test_set.is_genuine.tolist() == [True, False]
    assert test_set.notes == ("Columns that are not used: one without a name, fold.",)

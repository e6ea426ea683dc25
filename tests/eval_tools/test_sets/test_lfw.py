"""LFW's folder and pairs file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.on_bad import OnBad
from eval_tools.test_sets import read_lfw_set
from tests.eval_tools.test_sets.making import face, write_face, write_lfw

LINES = ["Ann\t1\t2", "Ann\t1\tBob\t2", "Bob\t1\t2", "Bob\t1\tCat\t1"]


def test_images_pairs_identities_and_folds(tmp_path: Path) -> None:
    test_set = read_lfw_set(write_lfw(tmp_path, LINES, "2\t1"))
    assert [[test_set.names[image] for image in pair] for pair in test_set.pairs] == [
        ["Ann/Ann_0001.png", "Ann/Ann_0002.png"],
        ["Ann/Ann_0001.png", "Bob/Bob_0002.png"],
        ["Bob/Bob_0001.png", "Bob/Bob_0002.png"],
        ["Bob/Bob_0001.png", "Cat/Cat_0001.png"],
    ]
    assert test_set.is_genuine.tolist() == [True, False, True, False]
    assert test_set.identities[test_set.pairs].tolist() == [[0, 0], [0, 1], [1, 1], [1, 2]]
    assert (test_set.folds, test_set.notes, len(test_set.images)) == (2, (), 5)
    np.testing.assert_array_equal(test_set.images[0], face(1))
    np.testing.assert_array_equal(test_set.images[4], face(5))


@pytest.mark.parametrize("header", ["2", "1 2"])
def test_lists_without_folds(tmp_path: Path, header: str) -> None:
    assert read_lfw_set(write_lfw(tmp_path, LINES, header)).folds is None


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", ["\t", " ", "  "])
def test_text_files_of_any_system(tmp_path: Path, start: str, end: str, separator: str) -> None:
    path = write_lfw(tmp_path, [], "")
    lines = [line.replace("\t", separator) for line in ["2 1", *LINES, "", " "]]
    path.write_bytes((start + end.join(lines)).encode())
    assert read_lfw_set(path).is_genuine.tolist() == [True, False, True, False]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".PNG", ".bmp", ".webp"])
def test_image_suffixes(tmp_path: Path, suffix: str) -> None:
    path = write_lfw(tmp_path, LINES, "2 1")
    image = tmp_path / "images" / "Ann" / "Ann_0001.png"
    image.rename(image.with_suffix(suffix))
    assert read_lfw_set(path).names[0] == f"Ann/Ann_0001{suffix}"


def test_names_with_spaces_and_of_any_script(tmp_path: Path) -> None:
    for name in ("Ann Lee", "李娜"):
        for index in (1, 12345):
            write_face(tmp_path / name / f"{name}_{index:04d}.png")
    path = tmp_path / "pairs.txt"
    path.write_text("1\nAnn Lee\t1\t12345\nAnn Lee\t1\t李娜\t12345\n", encoding="utf-8")
    assert list(read_lfw_set(path).names) == [
        "Ann Lee/Ann Lee_0001.png",
        "Ann Lee/Ann Lee_12345.png",
        "李娜/李娜_12345.png",
    ]


class TestFolderOfImages:
    def test_xqlfw_layout(self, tmp_path: Path) -> None:
        path = write_lfw(tmp_path, LINES, "2 1", images="xqlfw_aligned_112")
        path = path.rename(tmp_path / "xqlfw_pairs.txt")
        assert read_lfw_set(path).images[0].shape == (8, 8, 3)

    def test_elsewhere(self, tmp_path: Path) -> None:
        path = write_lfw(tmp_path, LINES, "2 1").rename(tmp_path / "images" / "Ann" / "pairs.txt")
        assert read_lfw_set(path, tmp_path / "images").images[0].shape == (8, 8, 3)

    def test_none(self, tmp_path: Path) -> None:
        path = write_lfw(tmp_path / "a", LINES, "2 1").rename(tmp_path / "pairs.txt")
        with pytest.raises(
            ValueError, match="needs one folder of images .* beside it, found none in .*\\(or, in Python"
        ):
            read_lfw_set(path)

    def test_several(self, tmp_path: Path) -> None:
        write_lfw(tmp_path, LINES, "2 1", images="raw")
        path = write_lfw(tmp_path, LINES, "2 1", images="aligned")
        with pytest.raises(ValueError, match="beside it, found .*aligned, .*raw: keep one"):
            read_lfw_set(path)
        assert read_lfw_set(path, tmp_path / "raw").images[0].shape == (8, 8, 3)


BAD_LINES = [
    ("Ann\t1", "malformed lines", "line 6: expected 'NAME i j'"),
    ("Ann\t1\t2\t3\t4", "malformed lines", "line 6: expected 'NAME i j'"),
    ("Ann\tone\t2", "malformed lines", "line 6: expected .* with the numbers of images, got 'Ann.tone"),
    ("Ann\t-1\t2", "malformed lines", "line 6: expected .* numbers"),
    ("Ann\t1\t" + "9" * 5000, "malformed lines", "line 6: expected .* numbers"),
    ("Ann\t²\t1", "malformed lines", "line 6: expected .* numbers"),
    ("../x\t1\t2", "malformed lines", "line 6: expected the name of a folder"),
    ("..\t1\t2", "malformed lines", "line 6: expected the name of a folder"),
    ("/etc\t1\t2", "malformed lines", "line 6: expected the name of a folder"),
    ("a\\b\t1\t2", "malformed lines", "line 6: expected the name of a folder"),
    ("Ann\t1\t3", "pairs of images that are not there", "line 6: there is no image .*Ann_0003"),
    ("x" * 999 + "\t1\t2", "pairs of images that are not there", "line 6: there is no folder .*xxx"),
    ("Dan\t1\t2", "pairs of images that are not there", "line 6: there is no folder .*Dan"),
    ("Ann\t1\t1", "pairs of an image with itself", "line 6: Ann/Ann_0001.png is paired with itself"),
    ("Ann\t2\t1", "repeated pairs", "line 6: the pair of .* is that of line 2 again"),
    ("Bob\t2\tAnn\t1", "repeated pairs", "line 6: the pair of .* is that of line 3 again"),
    ("Cat\t1\tCat\t2", "pairs with contradicting identities", "line 6: an impostor pair of one identity"),
]


@pytest.mark.parametrize(("line", "kind", "detail"), BAD_LINES)
def test_bad_lines(tmp_path: Path, line: str, kind: str, detail: str) -> None:
    other_kind = "Cat\t1\t2" if line.count("\t") == 3 else "Ann\t1\tCat\t1"
    path = write_lfw(tmp_path, [*LINES, line, other_kind], "3 1")
    with pytest.raises(ValueError, match=rf"pairs\.txt: {detail}(.|\n)*on_bad='exclude'") as caught:
        read_lfw_set(path)
    assert len(str(caught.value)) < 600
    test_set = read_lfw_set(path, on_bad="exclude")
    assert len(test_set.pairs) == 5
    assert len(test_set.notes) == 1
    assert test_set.notes[0].startswith(f"1 {kind} excluded; the first: line 6: ")


def test_exclusions_are_counted_by_kind(tmp_path: Path) -> None:
    lines = [*LINES, "Dan\t1\t2", "Bob\t2\tAnn\t1", "Dan\t1\t3", "?"]
    test_set = read_lfw_set(write_lfw(tmp_path, lines, "4 1"), on_bad="exclude")
    assert [note.split(" excluded")[0] for note in test_set.notes] == [
        "1 malformed lines",
        "2 pairs of images that are not there",
        "1 repeated pairs",
    ]
    assert (test_set.folds, len(test_set.pairs)) == (4, 4)


@pytest.mark.parametrize("on_bad", ["error", "exclude"])
class TestDamagedFiles:
    @pytest.mark.parametrize("header", ["3 1", "2 2", "3", "999999999 999999999"])
    def test_other_numbers_of_pairs(self, tmp_path: Path, header: str, on_bad: OnBad) -> None:
        with pytest.raises(ValueError, match=r"announces .* but 4 lines follow, of them 2 genuine and 2 imp"):
            read_lfw_set(write_lfw(tmp_path, LINES, header), on_bad=on_bad)

    def test_other_numbers_of_a_kind(self, tmp_path: Path, on_bad: OnBad) -> None:
        lines = [*LINES[:3], "Cat\t1\t2"]
        with pytest.raises(
            ValueError, match="announces 2 genuine and 2 impostor .* 3 genuine and 1 impostor"
        ):
            read_lfw_set(write_lfw(tmp_path, lines, "2 1"), on_bad=on_bad)

    def test_folds_of_other_pairs(self, tmp_path: Path, on_bad: OnBad) -> None:
        lines = [
            LINES[0],
            LINES[1],
            LINES[2],
            "Cat\t1\t2",
            LINES[3],
            "?" if on_bad == "exclude" else "a\t1\tb\t1",
        ]
        path = write_lfw(tmp_path, lines, "3 1")
        message = (
            r"pairs\.txt: .* folds of 1 genuine and 1 impostor .* fold 2 of 3 has 2 genuine and 0 impostor: "
            "sort the lines, or write 3 alone"
        )
        with pytest.raises(ValueError, match=message):
            read_lfw_set(path, on_bad=on_bad)

    def test_all_genuine_pairs_first(self, tmp_path: Path, on_bad: OnBad) -> None:
        lines = [LINES[0], LINES[2], LINES[1], LINES[3]]
        with pytest.raises(ValueError, match="fold 1 of 2 has 2 genuine and 0 impostor"):
            read_lfw_set(write_lfw(tmp_path, lines, "2 1"), on_bad=on_bad)
        assert read_lfw_set(write_lfw(tmp_path, lines, "2"), on_bad=on_bad).folds is None

    @pytest.mark.parametrize(
        "header", ["Ann\t1\t2", "10 300 5", "ten", "-1", "9" * 5000, "10 300 x", "0 0", "999999999 0"]
    )
    def test_first_line(self, tmp_path: Path, header: str, on_bad: OnBad) -> None:
        with pytest.raises(ValueError, match="line 1: expected the number of folds") as caught:
            read_lfw_set(write_lfw(tmp_path, LINES, header), on_bad=on_bad)
        assert len(str(caught.value)) < 600

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"\xef\xbb\xbf\n \n", "is empty"),
            (b"1\nZo\xeb\t1\t2\n", "byte 4 is not UTF-8 text"),
            (b"1\nAnn\t1\t2\0\n", "zero bytes"),
            ("1\nAnn\t1\t2\n".encode("utf-16"), "not UTF-8"),
        ],
    )
    def test_content(self, tmp_path: Path, content: bytes, message: str, on_bad: OnBad) -> None:
        (tmp_path / "pairs.txt").write_bytes(content)
        with pytest.raises(ValueError, match=rf"pairs\.txt.*{message}"):
            read_lfw_set(tmp_path / "pairs.txt", on_bad=on_bad)

    def test_absent(self, tmp_path: Path, on_bad: OnBad) -> None:
        with pytest.raises(ValueError, match="there is no file"):
            read_lfw_set(tmp_path / "pairs.txt", on_bad=on_bad)


def test_nothing_left(tmp_path: Path) -> None:
    path = write_lfw(tmp_path, [LINES[0], "Ann\t1\tBob\t9"], "1 1")
    with pytest.raises(ValueError, match=r"pairs\.txt: no impostor pair among 1 pairs"):
        read_lfw_set(path, on_bad="exclude")


@pytest.mark.skipif(os.name != "posix", reason="links")
class TestLinks:
    def test_to_the_folder_of_images(self, tmp_path: Path) -> None:
        path = write_lfw(tmp_path / "a", LINES, "2 1").rename(tmp_path / "pairs.txt")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "linked").symlink_to(tmp_path / "a" / "images")
        assert len(read_lfw_set(path.rename(tmp_path / "b" / "pairs.txt")).pairs) == 4

    def test_that_lead_out(self, tmp_path: Path) -> None:
        path = write_lfw(tmp_path / "a", LINES, "2 1")
        image = tmp_path / "a" / "images" / "Ann" / "Ann_0001.png"
        image.rename(tmp_path / "secret.png")
        image.symlink_to(tmp_path / "secret.png")
        with pytest.raises(ValueError, match=r"line 2: .*Ann_0001\.png is a broken link or leads out of"):
            read_lfw_set(path)
        folder = tmp_path / "a" / "images" / "Bob"
        folder.rename(tmp_path / "Bob")
        folder.symlink_to(tmp_path / "Bob")
        test_set_lines = ["Cat\t1\t2", "Bob\t1\tCat\t1"]
        with pytest.raises(ValueError, match="line 3: .*Bob is a link that leads out of"):
            read_lfw_set(write_pairs(tmp_path / "a", test_set_lines))


def write_pairs(root: Path, lines: list[str]) -> Path:
    (root / "pairs.txt").write_text("\n".join(["1", *lines]))
    return root / "pairs.txt"


def test_a_listed_picture_of_another_format_is_named(tmp_path: Path) -> None:
    path = write_lfw(tmp_path, LINES, "2 1")
    listed = tmp_path / "images" / "Ann" / "Ann_0001.png"
    listed.unlink()
    listed.with_suffix(".heic").touch()
    with pytest.raises(ValueError, match=r"there is no image .*Ann_0001 \(HEIC pictures are not"):
        read_lfw_set(path)


def test_two_files_for_one_listed_image_are_an_error(tmp_path: Path) -> None:
    path = write_lfw(tmp_path, LINES, "2 1")
    listed = tmp_path / "images" / "Ann" / "Ann_0001.png"
    listed.with_suffix(".jpg").write_bytes(listed.read_bytes())
    with pytest.raises(ValueError, match=r"are several images \(Ann_0001.jpg, Ann_0001.png\)"):
        read_lfw_set(path)


def test_undecodable_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = write_lfw(tmp_path, LINES, "2 1")
    damaged, absent = (tmp_path / "images" / "Ann" / f"Ann_000{index}.png" for index in (1, 2))
    damaged.write_bytes(b"nothing")
    images = read_lfw_set(path).images
    with pytest.raises(ValueError, match=r"Ann_0001\.png: not a JPEG"):
        images[0]
    absent.unlink()
    with pytest.raises(ValueError, match=r"Ann_0002\.png: .*No such file"):
        images[1]


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lfw(tmp_path_factory.mktemp("lfw"), [], "")


FIELDS = st.sampled_from(
    ["Ann", "Bob", "Cat", "1", "2", "02", "", "..", "/", "Ann_0001.png", "\x1f", "\u2028"]
)
FUZZED_LINES = st.lists(st.lists(FIELDS, max_size=5).map("\t".join), max_size=6)


@settings(deadline=None, max_examples=200)
@given(
    header=st.sampled_from(["1", "2", "1 2", "2 1", "3 1"]), lines=FUZZED_LINES, data=st.binary(max_size=8)
)
def test_any_text_is_read_or_refused(lfw: Path, header: str, lines: list[str], data: bytes) -> None:
    lfw.write_bytes("\n".join([header, *LINES[:2], *lines]).encode() + b"\n" + data)
    for on_bad in ("error", "exclude"):
        try:
            test_set = read_lfw_set(lfw, on_bad=on_bad)  # type: ignore[arg-type]
        except ValueError as error:
            assert str(lfw) in str(error)  # noqa: PT017 - most texts are refused, a few are read
        else:
            assert 0 < test_set.is_genuine.sum() < len(test_set.pairs)
            assert test_set.images[0].shape == (8, 8, 3)

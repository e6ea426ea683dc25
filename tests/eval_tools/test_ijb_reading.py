"""IJB-B/C folders: a small set of drawn faces from end to end, and every way in which its files are bad."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval_tools.cli import main
from eval_tools.erc import error_rejection_curve
from eval_tools.ijb import ARCFACE_TORCH, CRFIQA, TemplateOptions, read_ijb
from eval_tools.ijb.tables import BadLines, read_template_pairs
from igfiqa_head.alignment import TEMPLATE, align
from igfiqa_head.io.images import decode_image, encode_image
from tests.eval_tools.test_ijb import Chunked, reference_scores
from tests.onnx_models import write_model

Array = NDArray[Any]

PEOPLE, IMAGES = 4, 16
TEMPLATES = {1: [0, 1, 2], 2: [3], 5: [4, 5], 7: [6, 7], 8: [8, 9, 10], 11: [11], 12: [12, 13], 99: [14, 15]}
PERSON = {1: 0, 2: 0, 5: 1, 7: 1, 8: 2, 11: 2, 12: 3, 99: 3}


def _face(person: int) -> Array:
    noise = np.random.default_rng(person).uniform(0, 255, (8, 8, 3)).astype(np.float32)
    return cv2.resize(noise, (112, 112), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def _loose_crop(person: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """The face turned, scaled and moved within a larger picture, and where its landmarks came to lie."""
    angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.8, 1.4)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([110.0, 105.0]) + rng.uniform(-5, 5, 2) - turn @ [56, 56]
    crop = cv2.warpAffine(_face(person), np.column_stack([turn, shift]), (220, 210))
    return crop, TEMPLATE @ turn.T + shift


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``IJBC`` with 16 faces of 4 people in 8 templates, and all 28 pairs of templates."""
    root = tmp_path / "IJBC"
    (root / "loose_crop").mkdir(parents=True)
    (root / "meta").mkdir()
    rng = np.random.default_rng(5)
    landmarks, media = [], []
    for template, images in TEMPLATES.items():
        for image in images:
            crop, points = _loose_crop(PERSON[template], rng)
            (root / f"loose_crop/{image}.jpg").write_bytes(encode_image(crop))
            numbers = " ".join(f"{x:.4f}" for x in points.ravel())
            landmarks.append(f"{image}.jpg {numbers} {rng.uniform(0.5, 1):.3f}")
            media.append(f"{image}.jpg {template} {image // 2 * 1000}")
    pairs = [f"{a} {b} {int(PERSON[a] == PERSON[b])}" for a, b in itertools.combinations(TEMPLATES, 2)]
    for name, lines in (
        ("name_5pts_score", landmarks),
        ("face_tid_mid", media),
        ("template_pair_label", pairs),
    ):
        (root / f"meta/ijbc_{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def _edit(folder: Path, name: str, line: int, text: str) -> None:
    """Replace a line, counted from 1."""
    path = folder / f"meta/ijbc_{name}.txt"
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines), encoding="utf-8")


def test_a_set_is_read(folder: Path) -> None:
    ijb = read_ijb(folder)
    assert ijb.names == [f"loose_crop/{i}.jpg" for i in range(IMAGES)]
    assert ijb.template_ids.tolist() == list(TEMPLATES)
    assert ijb.template_ids[ijb.template].tolist() == [t for t, images in TEMPLATES.items() for _ in images]
    assert ijb.media.tolist() == [i // 2 * 1000 for i in range(IMAGES)]
    assert ijb.template_ids[ijb.template_pairs].tolist() == [
        list(p) for p in itertools.combinations(TEMPLATES, 2)
    ]
    assert np.flatnonzero(ijb.is_genuine).size == 4
    assert ijb.options == ARCFACE_TORCH
    assert ijb.notes == ()
    assert (ijb.identities, ijb.pair_identities, ijb.folds) == (None, None, None)
    assert read_ijb(folder, options=CRFIQA).options == CRFIQA


def test_images_are_aligned_by_their_landmarks(folder: Path) -> None:
    ijb = read_ijb(folder)
    line = (folder / "meta/ijbc_name_5pts_score.txt").read_text().splitlines()[4].split()
    landmarks = np.array(line[1:11], float).reshape(5, 2)
    picture = decode_image((folder / "loose_crop" / line[0]).read_bytes())
    np.testing.assert_array_equal(ijb.images[4], align(picture, landmarks))
    assert ijb.detector_score[4] == float(line[11])
    for image, template in enumerate(ijb.template):
        drawn = _face(PERSON[int(ijb.template_ids[template])])
        assert np.abs(ijb.images[image].astype(int) - drawn)[8:-8, 8:-8].mean() < 5
    np.testing.assert_array_equal(ijb.images[-1], ijb.images[IMAGES - 1])


def _embed(images: Sequence[Array]) -> Array:
    """A recogniser for drawn faces: coarse pixels of a face and of its mirror image, about their mean."""
    small = [
        [cv2.resize(view, (8, 8), interpolation=cv2.INTER_AREA) for view in (x, x[:, ::-1])] for x in images
    ]
    rows = np.array(small, np.float32).reshape(len(images), 2, -1)
    return rows - rows.mean(axis=2, keepdims=True)


@pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning")
@pytest.mark.parametrize("options", [ARCFACE_TORCH, CRFIQA])
def test_from_the_folder_to_the_curve(folder: Path, options: TemplateOptions) -> None:
    ijb = read_ijb(folder, options=options)
    embeddings = _embed(ijb.images)
    similarity = ijb.similarity(Chunked(embeddings, [5, 6]))
    np.testing.assert_allclose(similarity, reference_scores(ijb, embeddings, options), rtol=1e-9)
    assert [point.tar for point in ijb.operating_points(similarity, [0.05, 0.1])] == [1.0, 1.0]

    quality = np.arange(IMAGES, dtype=float)
    wrong = np.where((ijb.template_ids[ijb.template_pairs] == 2).any(axis=1), -1.0, similarity)
    curve = error_rejection_curve(wrong, ijb.is_genuine, ijb.pair_quality(quality), fmr=0.1)
    # Template 1 holds image 0, so the pair 1 - 2, the only one that fails, is the first to leave.
    np.testing.assert_allclose(curve.fnmr, [0.25, 0, 0, 0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "3.jpg"),
        (lambda path: path.write_bytes(b"no picture"), "3.jpg.*not a JPEG"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "3.jpg.*truncated"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(folder: Path, spoil: Any, message: str) -> None:
    ijb = read_ijb(folder)
    spoil(folder / "loose_crop/3.jpg")
    with pytest.raises(ValueError, match=message):
        ijb.images[3]
    fewer = ijb.without_images([3])
    assert 2 not in fewer.template_ids
    assert [image.shape for image in fewer.images] == [(112, 112, 3)] * (IMAGES - 1)
    np.testing.assert_array_equal(fewer.images[3], ijb.images[4])


def test_landmarks_that_coincide_are_an_error_of_their_image(folder: Path) -> None:
    _edit(folder, "name_5pts_score", 3, "2.jpg" + " 50" * 10 + " 0.9")
    with pytest.raises(ValueError, match=r"2\.jpg.*degenerate"):
        read_ijb(folder).images[2]


@pytest.mark.filterwarnings("error")
def test_landmarks_beyond_all_pixels_are_an_error_of_their_image(folder: Path) -> None:
    _edit(folder, "name_5pts_score", 3, "2.jpg" + " 1e308 -1e308" * 5 + " 0.9")
    with pytest.raises(ValueError, match=r"2\.jpg.*not finite or beyond 1e9"):
        read_ijb(folder).images[2]


NUMBERS = " 1 2 3 4 5 6 7 8 9 10"


@pytest.mark.parametrize(
    ("name", "line", "text", "problem", "images", "pairs"),
    [
        ("name_5pts_score", 4, "3.jpg 1 2 3", "expected 12 columns", 15, 21),
        ("name_5pts_score", 4, f"3.jpg{NUMBERS} 0.9 1", "expected 12 columns", 15, 21),
        ("name_5pts_score", 4, f"3.jpg{NUMBERS} high", "expected 'name x1", 15, 21),
        ("name_5pts_score", 4, f"3.jpg{NUMBERS} 1_0", "expected 'name x1", 15, 21),
        ("name_5pts_score", 4, f"3.jpg{NUMBERS} nan", "must be finite", 15, 21),
        ("name_5pts_score", 4, f"3.jpg{NUMBERS} -0.5", "not negative", 15, 21),
        ("name_5pts_score", 4, f"3.jpg inf{NUMBERS}", "must be finite", 15, 21),
        ("name_5pts_score", 4, f"33.jpg{NUMBERS} 0.9", r"not in loose_crop, got '33\.jpg'", 15, 21),
        ("name_5pts_score", 4, f"../loose_crop/3.jpg{NUMBERS} 0.9", "plain file name", 15, 21),
        ("name_5pts_score", 4, f"/etc/passwd{NUMBERS} 0.9", "plain file name", 15, 21),
        ("name_5pts_score", 4, f"..\\3.jpg{NUMBERS} 0.9", "plain file name", 15, 21),
        ("name_5pts_score", 4, f"C:3.jpg{NUMBERS} 0.9", "plain file name", 15, 21),
        ("name_5pts_score", 4, f"..{NUMBERS} 0.9", "plain file name", 15, 21),
        ("name_5pts_score", 4, f"2.jpg{NUMBERS} 0.9", "names another image", 15, 21),
        ("face_tid_mid", 4, "3.jpg 2", "expected 'name template media'", 15, 21),
        ("face_tid_mid", 4, "3.jpg 2 1 1", "expected 'name template media'", 15, 21),
        ("face_tid_mid", 4, "3.jpg two 1", "expected 'name template media'", 15, 21),
        ("face_tid_mid", 4, "3.jpg -2 1", "expected 'name template media'", 15, 21),
        ("face_tid_mid", 4, "3.jpg 2 9999999999999999999", "expected 'name template media'", 15, 21),
        ("face_tid_mid", 4, "4.jpg 2 1", "names another image", 15, 21),
        ("template_pair_label", 4, "1 8", "expected 'template template label'", 16, 27),
        ("template_pair_label", 4, "1 8 0 0", "expected 'template template label'", 16, 27),
        ("template_pair_label", 4, "1 eight 0", "got '1 eight 0'", 16, 27),
        ("template_pair_label", 4, "1 -8 0", "expected 'template template label'", 16, 27),
        ("template_pair_label", 4, "1 8.0 0", "expected 'template template label'", 16, 27),
        ("template_pair_label", 4, "1 \x00 0", "expected 'template template label'", 16, 27),
        ("template_pair_label", 4, "1 6 0", "a template has no images, got '1 6 0'", 16, 27),
        ("template_pair_label", 4, f"1 {10**30} 0", "a template has no images", 16, 27),
        ("template_pair_label", 4, "8 8 1", "a template is compared with itself, got '8 8 1'", 16, 27),
        ("template_pair_label", 4, "1 8 2", "the label must be 0 or 1, got '1 8 2'", 16, 27),
    ],
)
def test_a_bad_line_is_one_error_or_left_out_and_counted(
    folder: Path, name: str, line: int, text: str, problem: str, images: int, pairs: int
) -> None:
    _edit(folder, name, line, text)
    with pytest.raises(
        ValueError, match=rf"_{name}\.txt, line {line}: .*{problem}|_face_tid_mid.txt, line 4: .*{problem}"
    ) as caught:
        read_ijb(folder)
    assert "on_bad='exclude'" in str(caught.value)
    ijb = read_ijb(folder, on_bad="exclude")
    assert (len(ijb.names), len(ijb.is_genuine)) == (images, pairs)
    assert "1 line left out, the first is line 4" in ijb.notes[0]
    if images < 16:  # the image was the only one of template 2, in 7 pairs
        assert ijb.notes[1:] == (
            "ijbc_template_pair_label.txt: 7 lines left out, the first is line 1: a template has no images.",
        )


@pytest.mark.parametrize("again", ["1 8 0", "8 1 0"])
def test_repeated_pairs_and_rows_are_found(folder: Path, again: str) -> None:
    _edit(folder, "template_pair_label", 20, again)
    with pytest.raises(ValueError, match=r"templates \d and \d: two templates are compared more than once"):
        read_ijb(folder)
    ijb = read_ijb(folder, on_bad="exclude")
    assert len(ijb.is_genuine) == 27
    assert "1 line left out" in ijb.notes[0]
    assert ijb.template_ids[ijb.template_pairs[3]].tolist() == [1, 8]  # the first one stays

    for name in ("name_5pts_score", "face_tid_mid"):
        path = folder / f"meta/ijbc_{name}.txt"
        path.write_text(path.read_text() + path.read_text().splitlines()[5] + "\n")
    with pytest.raises(
        ValueError, match=r"line 17: the image is listed twice for one template, got '5\.jpg'"
    ):
        read_ijb(folder)
    assert len(read_ijb(folder, on_bad="exclude").names) == IMAGES


def test_files_of_unequal_length_are_refused_whatever_the_policy(folder: Path) -> None:
    _edit(folder, "face_tid_mid", 16, "")
    with pytest.raises(ValueError, match="line by line, but the second one ends after 15"):
        read_ijb(folder, on_bad="exclude")
    _edit(folder, "name_5pts_score", 15, "")
    _edit(folder, "name_5pts_score", 16, "")
    with pytest.raises(ValueError, match="line by line, but the first one ends after 14"):
        read_ijb(folder)


def test_nothing_left_is_an_error_that_says_why(folder: Path) -> None:
    pairs = folder / "meta/ijbc_template_pair_label.txt"
    pairs.write_text("1 3 0\n2 4 1\n")
    with pytest.raises(ValueError, match="names no usable template pairs.* 2 lines left out"):
        read_ijb(folder, on_bad="exclude")
    pairs.write_text("\n")
    with pytest.raises(ValueError, match="names no usable template pairs.* It is empty"):
        read_ijb(folder)
    pairs.write_text("1 8 0\n")
    for image in (folder / "loose_crop").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="names no usable images.* 16 lines left out"):
        read_ijb(folder, on_bad="exclude")
    for name in ("name_5pts_score", "face_tid_mid"):
        (folder / f"meta/ijbc_{name}.txt").write_text("")
    with pytest.raises(ValueError, match="names no usable images.* It is empty"):
        read_ijb(folder)


def test_the_set_is_found_by_its_content(folder: Path, tmp_path: Path) -> None:
    for root, target in ((tmp_path, None), (str(folder), "IJBC"), (tmp_path, "IJBC")):
        assert len(read_ijb(root, target).names) == IMAGES  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no IJB set: expected meta/ijbb_template"):
        read_ijb(folder, "IJBB")
    with pytest.raises(ValueError, match=r"no IJB set: expected meta/ijbb\|ijbc_template"):
        read_ijb(folder / "meta")
    with pytest.raises(ValueError, match="target must be 'IJBB', 'IJBC' or None, got 'ijbc'"):
        read_ijb(folder, "ijbc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_bad must be 'error' or 'exclude', got 'skip'"):
        read_ijb(folder, on_bad="skip")  # type: ignore[arg-type]
    (tmp_path / "IJBB/meta").mkdir(parents=True)
    (tmp_path / "IJBB/meta/ijbb_template_pair_label.txt").touch()
    with pytest.raises(ValueError, match=r"more than one set \(IJBB in .*, IJBC in .*\): pass target"):
        read_ijb(tmp_path)
    with pytest.raises(ValueError, match="ijbb_name_5pts_score.txt is missing: the metadata of IJBB"):
        read_ijb(tmp_path, "IJBB")
    (folder / "loose_crop").rename(folder / "crops")
    with pytest.raises(ValueError, match="loose_crop is no folder"):
        read_ijb(folder)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_links_must_stay_in_the_folder_of_the_images(folder: Path) -> None:
    image, outside = folder / "loose_crop/3.jpg", folder / "3.jpg"
    image.rename(outside)
    image.symlink_to(outside)
    with pytest.raises(ValueError, match=r"line 4: the image is not in loose_crop, got '3\.jpg'"):
        read_ijb(folder)
    image.unlink()
    image.symlink_to("2.jpg")
    assert len(read_ijb(folder).names) == IMAGES
    image.unlink()
    image.mkdir()
    with pytest.raises(ValueError, match="not in loose_crop"):
        read_ijb(folder)


@pytest.mark.parametrize(
    "text", ["1 2 0\n2 5 1", "1 2 0\r\n2 5 1\r\n", "\n1\t2  0 \n\n   \n 2 5 1\n\n\n", "001 2 0\n2 5 01\n"]
)
@pytest.mark.parametrize("block", [8, 9, 13, 4096])
def test_white_space_does_not_matter(tmp_path: Path, text: str, block: int) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    pairs, genuine = read_template_pairs(path, np.array([1, 2, 5]), BadLines("error"), block)
    assert (pairs.tolist(), genuine.tolist(), pairs.dtype) == ([[0, 1], [1, 2]], [False, True], np.int32)


def test_a_file_without_lines_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(b"1 2 0\n" + b"1" * 200)
    with pytest.raises(ValueError, match="line 2: longer than 64 bytes"):
        read_template_pairs(path, np.array([1, 2]), BadLines("exclude"), 64)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)).map(
                lambda row: b"%d %d %d" % row
            ),
            st.lists(st.sampled_from(b"0123456789 \t\r.-x\x00\xff"), max_size=12).map(bytes),
        ),
        max_size=30,
    ),
    st.integers(24, 90),
)
@settings(max_examples=300, deadline=None)
def test_pairs_of_any_bytes_are_what_a_slow_reader_finds(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], block: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes(b"\n".join(lines))
    template_ids = [0, 1, 3, 4]
    expected, bad_lines = [], []
    for number, line in enumerate(lines, 1):
        fields = line.replace(b"\r", b" ").replace(b"\t", b" ").split(b" ")
        fields = [field for field in fields if field]
        if not fields:
            continue
        numbers = [int(field) for field in fields if field.isdigit()]
        is_row = len(numbers) == len(fields) == 3
        is_known = is_row and {*numbers[:2]} <= {*template_ids}
        if is_known and numbers[0] != numbers[1] and numbers[2] < 2:
            expected.append([template_ids.index(numbers[0]), template_ids.index(numbers[1]), numbers[2]])
        else:
            bad_lines.append(number)
    bad = BadLines("exclude")
    pairs, genuine = read_template_pairs(path, np.array(template_ids), bad, block)
    assert np.column_stack([pairs, genuine]).tolist() == expected
    assert sum(int(note.split(": ")[1].split()[0]) for note in bad.notes) == len(bad_lines)
    if bad_lines:
        # Problems are reported block by block and kind by kind; the first block's first kind may come later.
        with pytest.raises(ValueError, match=rf", line ({'|'.join(map(str, bad_lines))}): "):
            read_template_pairs(path, np.array(template_ids), BadLines("error"), block)


def test_the_benchmark_of_scale_runs_and_fails_above_its_limit() -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks/ijb_scale.py"
    sizes = ["--images", "900", "--templates", "300", "--pairs", "4000", "--limit", "0.001"]
    result = subprocess.run([sys.executable, script, *sizes], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1].endswith("limit 0.001 GiB"), result.stderr
    assert result.returncode == 1


def test_the_tar_table_has_only_rates_that_the_template_pairs_resolve(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "r.onnx", size=112)
    command = f"ijb {folder} --recogniser {tmp_path}/r.onnx --no-cache --bootstrap 0 --output {tmp_path}/out"
    assert main(command.split()) == 0
    printed = capsys.readouterr().out
    n_impostor = sum(PERSON[a] != PERSON[b] for a, b in itertools.combinations(TEMPLATES, 2))
    assert 10 <= n_impostor < 100
    assert "TAR@0.1" in printed
    assert "TAR@0.01" not in printed
    assert f"FMR 0.01, 0.001, 0.0001, 1e-05, 1e-06 left out: not resolved by {n_impostor}" in printed
    assert main([*command.split(), "--far", "1e-6"]) == 0
    head, row = capsys.readouterr().out.splitlines()[2:4]
    assert head.split()[-1] == "TAR@1e-06"
    assert row.endswith("†")

"""``igfiqa score`` where something cannot be scored, or asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from igfiqa_head.cli import main
from igfiqa_head.io.images import MAX_PHOTO_PIXELS, encode_image
from igfiqa_head.io.record_writer import RecordWriter
from igfiqa_head.io.verification_bin import write_verification_bin
from tests.igfiqa_head.cli.inputs import (
    SIZE,
    aligned,
    qualities,
    rows,
    score,
    write_aligned,
    write_photograph,
    write_video,
)
from tests.packs import SIDE, picture


def test_nothing_is_lost_when_files_are_bad(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_aligned(here / "mixed", 3)
    (here / "mixed/000a.jpg").write_bytes(b"no image")
    whole = encode_image(aligned(5), ".jpg")
    (here / "mixed/001a.jpg").write_bytes(whole[: len(whole) // 2])
    (here / "mixed/gone.png").symlink_to(here / "nowhere")
    cv2.imwrite(str(here / "mixed/large.png"), picture())
    (here / "empty").mkdir()
    assert score("mixed", "empty", "--output", "scores.csv") == 1
    found = rows("scores.csv")
    assert [row["source"] for row in found if row["problem"]] == [
        "mixed/000a.jpg",
        "mixed/001a.jpg",
        "mixed/gone.png",
        "mixed/large.png",
        "empty",
    ]
    scores = [float(row["quality"]) for row in found if row["quality"]]
    assert scores == pytest.approx(qualities(images), rel=1e-4)
    assert "not scored: 5" in capsys.readouterr().err


def test_a_folder_of_links_to_images_elsewhere_is_scored_where_it_is_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_aligned(here / "own", 2)
    (here / "set").mkdir()
    for path in (here / "own").iterdir():
        (here / "set" / path.name).symlink_to(path)
    assert score("set") == 1
    printed = capsys.readouterr().err
    assert "not scored: 2" in printed
    assert "leads out of set; --follow-links follows" in printed
    assert score("set", "--follow-links") == 0


def test_everything_in_a_folder_is_scored_or_listed_or_counted(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_aligned(here / "phone", 1)
    for seed, name in enumerate(("a.jfif", "b.JPE", "c")):
        (here / "phone" / name).write_bytes(encode_image(aligned(seed), ".jpg"))
    for name in ("d.HEIC", "e.tiff", "f.gif", "g.ppm", "h.jp2", "notes.txt", "Thumbs.db", ".DS_Store"):
        (here / "phone" / name).write_bytes(b"something")
    write_verification_bin(here / "phone/pairs.bin", [b"x", b"y"], np.array([True]))
    assert score("phone", "--output", "scores.csv") == 1
    found = rows("scores.csv")
    assert [row["source"][6:] for row in found if row["quality"]] == ["000.png", "a.jfif", "b.JPE"]
    unread = {row["source"][6:]: row["problem"] for row in found if row["problem"]}
    assert list(unread) == ["c", "d.HEIC", "e.tiff", "f.gif", "g.ppm", "h.jp2", "pairs.bin"]
    assert "rename it to end in .jpeg" in unread["c"]
    assert unread["d.HEIC"] == "HEIC pictures are not read: convert them to JPEG or PNG"
    assert "named itself" in unread["pairs.bin"]
    printed = capsys.readouterr()
    assert "3 faces in 3 images" in printed.out
    assert "\nfiles passed over, hidden or no pictures: 3: phone/.DS_Store, " in printed.out
    assert "not scored: 7" in printed.err


def test_only_other_files_beside_the_images_are_no_problem(here: Path) -> None:
    write_aligned(here / "people", 2)
    (here / "people/notes.txt").write_text("nothing")
    assert score("people") == 0


def test_the_limit_of_photographs_is_told_in_the_words_of_the_command(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photograph(here / "large.png")
    assert score("large.png", "--pack", "models/testpack", "--max-megapixels", "0.06") == 1
    assert (
        "more than the limit of 60000 pixels; a larger --max-megapixels takes it" in capsys.readouterr().err
    )
    assert score("large.png", "--pack", "models/testpack", "--max-megapixels", "0.07") == 0
    assert score("large.png", "--max-megapixels", "0") == 2
    assert "--max-megapixels must be above 0 and below 1000000, got 0" in capsys.readouterr().err


def test_a_photograph_of_200_megapixels_is_within_the_limit() -> None:
    assert MAX_PHOTO_PIXELS > 16320 * 12240


def test_a_record_file_whose_first_record_is_an_image(here: Path) -> None:
    """As MXNet's im2rec writes with --pack-label: arrays of labels, no header."""
    images = [aligned(seed) for seed in range(6)]
    with RecordWriter(here / "train.rec", here / "train.idx") as writer:
        for key, image in enumerate(images):
            writer.write(key, (5 - key,), encode_image(image, ".png"))
    assert score("train.rec", "--output", "scores.csv", "--best-per-folder", "best.csv") == 0
    assert [float(row["quality"]) for row in rows("scores.csv")] == pytest.approx(qualities(images), rel=1e-4)
    assert [row["folder"] for row in rows("best.csv")] == [f"train.rec/{5 - key}" for key in range(6)]


def test_a_picture_without_a_face_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photograph(here / "photos/a.png")
    cv2.imwrite(str(here / "photos/black.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    write_video(here / "photos/dark.avi", [np.zeros((SIDE, SIDE, 3), np.uint8)] * 3)
    assert score("photos", "--pack", "models/testpack", "--sheet", "sheet.png") == 1
    printed = capsys.readouterr()
    assert "2 faces in 1 image\n" in printed.out
    assert "photos/black.png: no face was found" in printed.err
    assert "photos/dark.avi: no face was found in any of its frames" in printed.err


def test_photographs_need_a_pack(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photograph(here / "photos/a.png")
    write_aligned(here / "photos", 2)
    arguments = ("photos/a.png", "photos", "--output", "scores.csv")
    assert score(*arguments) == 2
    assert "photos/a.png: 256 x 256 pixels" in (printed := capsys.readouterr().err)
    assert "--pack" in printed
    assert not (here / "scores.csv").exists()
    assert score(*arguments, "--aligned") == 1
    assert [bool(row["problem"]) for row in rows("scores.csv")] == [True, False, False, True]


def test_hostile_file_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a\nb.png", 'say "hi", you.png', "=1+1.png", "\x1b[31mred.png", "ünïcode.png"]
    names.append(os.fsdecode(b"not utf-8 \xff.png"))
    write_aligned(here / "source", 1)
    (here / "hostile").mkdir()
    for name in names:
        shutil.copy("source/000.png", f"hostile/{name}")
    (here / "hostile/bad\n\x1b]0;title.png").write_bytes(b"")
    assert score("hostile", "--output", "scores.csv", "--sheet", "sheet.png") == 1
    listed = sorted(f"hostile/{name}" for name in [*names, "bad\n\x1b]0;title.png"])
    assert [row["source"] for row in rows("scores.csv")] == listed
    printed = capsys.readouterr()
    for letter in ("\x1b", "a\nb"):
        assert letter not in printed.out + printed.err
    assert "ünïcode.png" in printed.out
    assert score("hostile", "--output", "scores.json") == 1
    assert [row["source"] for row in json.loads((here / "scores.json").read_text())] == listed


def test_a_name_that_looks_like_a_formula_is_text_in_the_table(here: Path) -> None:
    write_aligned(here / "source", 1)
    shutil.copy("source/000.png", "=1+1.png")
    assert score("=1+1.png", "--output", "scores.csv") == 0
    assert [row["source"] for row in rows("scores.csv")] == ["'=1+1.png"]


def test_a_name_too_long_to_be_written_is_told_before_the_work(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_aligned(here / "source", 1)
    for option, name in (("--output", "n" * 241 + ".csv"), ("--sheet", "人" * 82 + ".png")):
        assert score("source", option, name) == 2
        printed = capsys.readouterr()
        assert f"{name} cannot be written: File name too long" in printed.err
        assert not printed.out


def test_opencv_adds_nothing_to_what_is_said_of_a_damaged_image(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_aligned(here / "source", 1)
    path = here / "source" / "000.png"
    path.write_bytes(path.read_bytes()[:-200])
    assert score("source") == 1
    assert "WARN" not in capfd.readouterr().err


def write_log_model(path: Path) -> None:
    """The logarithm of the mean input: no number for an image darker than grey."""
    axes = numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        helper.make_node("Log", ["mean"], ["quality"]),
    ]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
    quality = helper.make_tensor_value_info("quality", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph(nodes, "log", [image], [quality], [axes])
    onnx.save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path)
    )


def test_a_quality_that_is_no_number_is_a_problem(here: Path) -> None:
    write_log_model(here / "log.onnx")
    (here / "people").mkdir()
    for grey in (50, 220):
        cv2.imwrite(f"people/{grey}.png", np.full((SIZE, SIZE, 3), grey, np.uint8))
    arguments = ("people", "--output", "scores.csv", "--sheet", "sheet.png", "--best-per-folder", "best.csv")
    assert score(*arguments, model="log.onnx") == 1
    bright, dark = rows("scores.csv")
    assert (bright["problem"], dark["quality"]) == ("", "")
    assert "quality nan" in dark["problem"]
    assert len(rows("best.csv")) == 1


def test_where_nothing_can_be_scored_there_is_no_sheet(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    assert score("empty", "--sheet", "sheet.png", "--output", "scores.csv") == 1
    assert not (here / "sheet.png").exists()
    assert len(rows("scores.csv")) == 1
    assert "0 faces in 0 images" in capsys.readouterr().out


def test_long_lists_of_problems_are_cut_on_the_screen_only(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad").mkdir()
    for index in range(50):
        (here / f"bad/{index:02}.png").write_bytes(b"")
    assert score("bad", "--output", "scores.csv") == 1
    printed = capsys.readouterr().err
    assert "not scored: 50" in printed
    assert "and 30 more" in printed
    assert len(rows("scores.csv")) == 50


def test_a_video_of_photographs_without_a_pack_is_one_problem(here: Path) -> None:
    write_video(here / "clip.avi", [picture(seed) for seed in range(4)])
    assert score("clip.avi", "--aligned", "--every", "1", "--output", "scores.csv") == 1
    (problem,) = rows("scores.csv")
    assert "256 x 256 pixels are no aligned face of 16 x 16" in problem["problem"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere", "no file or folder 'nowhere'"),
        ("people --model nowhere.onnx", "nowhere.onnx cannot be read"),
        ("people --model recogniser.onnx", "is no quality model"),
        ("people --output scores.txt", "written as .csv or .json"),
        ("people --best-per-folder scores", "written as .csv or .json"),
        ("people --sheet sheet.jpg", "written as .png or .pdf"),
        ("people --output nowhere/scores.csv", "there is no folder nowhere"),
        ("people --output a.csv --best-per-folder ./a.csv", "the same file"),
        ("people --min-quality good", "must be a number, or a percentage"),
        ("people --min-quality nan", "must be a number, or a percentage"),
        (
            "people --min-quality 101% --model calibrated.onnx",
            "must be a number, or a percentage from 0% to 100%",
        ),
        ("people --min-quality 60%", "needs a calibrated model"),
        ("people --calibration people/000.png", "people/000.png"),
        ("people --pack nopack", "no insightface pack 'nopack'"),
        ("people --providers NoSuchProvider", "onnxruntime knows no provider 'NoSuchProvider'"),
        ("people --every 0", "every must be at least 1"),
        ("people --top 0", "--top must be at least 1"),
    ],
)
def test_wrong_arguments_give_one_error_and_write_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    write_aligned(here / "people", 1)
    before = sorted(here.rglob("*"))
    assert main(["score", "--model", "quality.onnx", *arguments.split()]) == 2
    printed = capsys.readouterr().err
    assert printed.count("error:") == 1
    assert message in printed
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("model", "least", "told"),
    [
        ("quality.onnx", "30", "lie from .* to .*; a percentage such as 30% needs a calibrated model"),
        ("calibrated.onnx", "30", r"lie from .* to .*\. For a percentage .* write .*--min-quality 30%"),
        ("calibrated.onnx", "100%", "the best is at .* %"),
    ],
)
def test_a_threshold_that_turns_all_away_is_told_with_the_range(
    here: Path, capsys: pytest.CaptureFixture[str], model: str, least: str, told: str
) -> None:
    """30 may have been meant as a percentage, while the model's own scores are about 1."""
    write_aligned(here / "people", 3)
    assert score("people", "--min-quality", least, model=model) == 0
    assert re.search(f"warning: no face reaches --min-quality {least}: .*{told}", capsys.readouterr().err)


def test_a_threshold_that_some_faces_reach_needs_no_word(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_aligned(here / "people", 3)
    assert score("people", "--min-quality=-100") == 0
    assert capsys.readouterr().err == ""


def test_one_quality_for_all_faces_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "people").mkdir()
    for index in range(8):
        (here / "people" / f"{index}.png").write_bytes(encode_image(aligned(0), ".png"))
    assert score("people") == 0
    assert "all faces have the same quality" in capsys.readouterr().out


def test_photographs_in_a_folder_of_aligned_faces_are_told_wide_by_high_with_the_way_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_aligned(here / "mixed", 1)
    cv2.imwrite(str(here / "mixed/photo.png"), np.zeros((480, 640, 3), np.uint8))
    assert score("mixed") == 1
    told = "photo.png: 640 x 480 pixels are no aligned face of 16 x 16"
    assert f"{told}; --pack finds the faces of photographs" in capsys.readouterr().err
    assert score("mixed", "--aligned") == 1
    assert f"{told}\n" in capsys.readouterr().err

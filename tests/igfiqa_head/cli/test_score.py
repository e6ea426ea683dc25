"""``igfiqa score`` from arguments to tables."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from igfiqa_head.faces import FaceDetector
from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import write_records
from igfiqa_head.io.verification_bin import write_verification_bin
from igfiqa_head.runtime import QualityModel
from tests.igfiqa_head.cli.inputs import (
    CALIBRATION,
    SIZE,
    aligned,
    column,
    qualities,
    rows,
    score,
    write_aligned,
    write_photograph,
    write_video,
)
from tests.onnx_models import write_model
from tests.packs import FACES, SIDE, picture


def test_aligned_faces_of_a_folder_more_than_a_batch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_aligned(here / "people", 150)
    assert score("people", "--output", "scores.csv") == 0
    assert column("scores.csv") == pytest.approx(qualities(images), rel=1e-4, abs=1e-6)
    found = rows("scores.csv")
    assert [row["source"] for row in found] == [f"people/{index:03}.png" for index in range(150)]
    assert {(row["face"], row["frame"], row["x1"], row["problem"]) for row in found} == {("0", "", "", "")}
    printed = capsys.readouterr()
    assert "150 faces in 150 images" in printed.out
    best = int(np.argmax(qualities(images)))
    assert " 90 % of the faces between " in printed.out
    assert printed.out.splitlines()[2] == "     quality  file"
    assert printed.out.splitlines()[3].endswith(f"people/{best:03}.png")
    assert "not scored" not in printed.err


def test_csv_and_json_say_the_same(here: Path) -> None:
    write_aligned(here / "images", 3)
    write_photograph(here / "images/photo.png")
    (here / "images/bad.jpg").write_bytes(b"")
    options = ("images", "--pack", "models/testpack", "--min-quality", "0")
    assert score(*options, "--output", "scores.csv", model="calibrated.onnx") == 1
    assert score(*options, "--output", "scores.json", model="calibrated.onnx") == 1
    from_json = json.loads((here / "scores.json").read_text())
    from_csv = rows("scores.csv")
    assert len(from_json) == len(from_csv) == 6
    for ours, theirs in zip(from_csv, from_json, strict=True):
        cells = {True: "true", False: "false", None: ""}
        assert ours == {
            name: cells[value] if value is None or value is True or value is False else str(value)
            for name, value in theirs.items()
        }


def test_models_that_embed_are_scored_as_well(here: Path) -> None:
    write_model(here / "both.onnx", {"embedding": 8, "quality": 1}, size=SIZE)
    images = write_aligned(here / "people", 3)
    assert score("people", "--output", "scores.csv", model="both.onnx") == 0
    assert column("scores.csv") == pytest.approx(qualities(images), rel=1e-4)


def test_every_face_of_a_photograph(here: Path) -> None:
    images = write_aligned(here / "images", 1)
    photograph = write_photograph(here / "images/photo.png")
    assert score("images", "--pack", "models/testpack", "--output", "scores.csv") == 0
    crop, *faces = rows("scores.csv")
    assert float(crop["quality"]) == pytest.approx(qualities(images)[0], rel=1e-4)
    assert (crop["x1"], crop["detection_score"]) == ("", "")
    found = FaceDetector("models/testpack", face_size=SIZE).find(photograph)
    assert [float(face["quality"]) for face in faces] == pytest.approx(
        qualities([face.aligned[..., ::-1] for face in found]), rel=1e-4
    )
    for number, (row, face) in enumerate(zip(faces, FACES, strict=True)):
        assert (row["source"], row["face"]) == ("images/photo.png", str(number))
        assert [float(row[side]) for side in ("x1", "y1", "x2", "y2")] == pytest.approx(face.box, abs=0.01)
        assert float(row["detection_score"]) == pytest.approx(face.score, abs=1e-4)


@pytest.mark.parametrize(("every", "top"), [(1, 1), (3, 2)])
def test_best_frames_of_each_face_of_a_video(here: Path, every: int, top: int) -> None:
    shots = [picture(seed) // (1 + seed % 4) for seed in range(12)]
    shots[5] = np.zeros((SIDE, SIDE, 3), np.uint8)
    write_video(here / "clip.avi", shots)
    options = ("--pack", "models/testpack", "--every", str(every), "--top", str(top))
    assert score("clip.avi", *options, "--output", "scores.csv") == 0
    found = rows("scores.csv")

    capture = cv2.VideoCapture("clip.avi")
    frames = [capture.read()[1] for _ in shots]
    detector, model = FaceDetector("models/testpack", face_size=SIZE), QualityModel("quality.onnx")
    for track in range(2):
        of_frame = {}
        for frame in range(0, 12, every):
            faces = detector.find(frames[frame])
            if faces:
                of_frame[frame] = float(model.score(faces[track].aligned[None])[0])
        best = sorted(of_frame, key=lambda frame: -of_frame[frame])[:top]
        got = {int(row["frame"]): float(row["quality"]) for row in found if row["face"] == str(track)}
        assert got == pytest.approx({frame: of_frame[frame] for frame in sorted(best)}, rel=1e-5)
    assert len(found) == 2 * top
    assert [int(row["frame"]) for row in found] == sorted(int(row["frame"]) for row in found)


def test_a_video_of_aligned_faces_is_one_track(here: Path) -> None:
    shots = [np.full((SIZE, SIZE, 3), grey, np.uint8) for grey in (40, 200, 120)]
    write_video(here / "crops.avi", shots)
    assert score("crops.avi", "--every", "1", "--top", "3", "--output", "scores.csv") == 0
    found = rows("scores.csv")
    assert [(row["face"], row["frame"]) for row in found] == [("0", "0"), ("0", "1"), ("0", "2")]
    assert score("crops.avi", "--every", "1", "--output", "scores.csv") == 0
    best = max(found, key=lambda row: float(row["quality"]))
    assert rows("scores.csv") == [best]


def test_records_and_verification_sets(here: Path) -> None:
    images = [aligned(seed) for seed in range(6)]
    encoded = [encode_image(image, ".png") for image in images]
    (here / "set").mkdir()
    write_records(here / "set", encoded, [0, 0, 0, 1, 1, 2], image_size=SIZE)
    write_verification_bin(here / "pairs.bin", encoded, np.array([True, False, True]))
    arguments = ("set", "pairs.bin", "--output", "scores.csv", "--best-per-folder", "best.json")
    assert score(*arguments) == 0
    assert column("scores.csv") == pytest.approx(qualities(images) * 2, rel=1e-4, abs=1e-6)
    sources = [f"set/train.rec/{key}" for key in range(1, 7)] + [f"pairs.bin/{index}" for index in range(6)]
    assert [row["source"] for row in rows("scores.csv")] == sources
    best = json.loads((here / "best.json").read_text())
    assert [row["folder"] for row in best] == [
        *(f"set/train.rec/{label}" for label in range(3)),
        "pairs.bin",
    ]
    values = np.array(qualities(images))
    keys = [np.argmax(values[:3]) + 1, np.argmax(values[3:5]) + 4, 6]
    assert [row["source"] for row in best] == [
        *(f"set/train.rec/{key}" for key in keys),
        f"pairs.bin/{np.argmax(values)}",
    ]


def test_best_image_of_each_folder(here: Path) -> None:
    images = {name: write_aligned(here / "people" / name, 4, first) for name, first in (("b", 0), ("a", 9))}
    (here / "people/a/bad.png").write_bytes(b"x")
    (here / "people/c").mkdir()
    (here / "people/c/bad.png").write_bytes(b"x")
    assert score("people", "--best-per-folder", "best.csv") == 1
    best = rows("best.csv")
    assert [row["folder"] for row in best] == ["people/a", "people/b"]
    for row in best:
        values = qualities(images[row["folder"][-1]])
        assert row["source"] == f"{row['folder']}/{int(np.argmax(values)):03}.png"


def test_percentages_and_the_least_quality(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_aligned(here / "people", 8)
    values = np.array(qualities(images))
    arguments = ("people", "--output", "scores.csv", "--min-quality", "55%")
    assert score(*arguments, model="calibrated.onnx") == 0
    percents = CALIBRATION.percent(values)
    assert 0 < (percents < 55).sum() < 8
    assert column("scores.csv", "percent") == pytest.approx(percents, abs=0.01)
    assert [row["accepted"] == "true" for row in rows("scores.csv")] == (percents >= 55).tolist()
    assert f"below --min-quality: {(percents < 55).sum()}" in capsys.readouterr().out

    CALIBRATION.save(here / "calibration.json")
    content = (here / "scores.csv").read_bytes()
    assert score(*arguments, "--calibration", "calibration.json") == 0
    assert (here / "scores.csv").read_bytes() == content

    assert score("people", "--output", "scores.csv", "--min-quality", "-0.05") == 0
    assert [row["accepted"] == "true" for row in rows("scores.csv")] == (values >= -0.05).tolist()
    assert "percent" not in rows("scores.csv")[0]

    third = rows("scores.csv")[3]["quality"]
    assert score("people", "--output", "scores.csv", "--min-quality", third) == 0
    assert rows("scores.csv")[3]["accepted"] == "true"


def test_sheets(here: Path) -> None:
    write_aligned(here / "people", 30)
    assert score("people", "--sheet", "sheet.png") == 0
    assert (here / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert score("people", "--sheet", "sheet.pdf") == 0
    assert (here / "sheet.pdf").read_bytes().startswith(b"%PDF")


def test_a_sheet_runs_from_low_to_high(here: Path) -> None:
    (here / "people").mkdir()
    greys = (200, 30, 110)
    for grey in greys:
        cv2.imwrite(f"people/{grey}.png", np.full((SIZE, SIZE, 3), grey, np.uint8))
    assert score("people", "--sheet", "sheet.png") == 0
    sheet = cv2.imread("sheet.png", cv2.IMREAD_GRAYSCALE)
    centres = {grey: np.argwhere(np.abs(sheet.astype(int) - grey) < 3)[:, 1].mean() for grey in greys}
    values = qualities([np.full((SIZE, SIZE, 3), grey, np.uint8) for grey in greys])
    assert sorted(greys, key=lambda grey: centres[grey]) == [greys[i] for i in np.argsort(values)]


LFW = Path(__file__).resolve().parents[4] / "shared/data/lfw_dev_test"


@pytest.mark.skipif(not LFW.exists(), reason="needs ../shared/data")
def test_real_faces_at_the_usual_size(here: Path) -> None:
    write_model(here / "full.onnx", {"quality": 1}, size=112)
    assert score(LFW, "--output", "scores.csv", model="full.onnx") == 0
    assert len(set(column("scores.csv"))) > 900


def test_the_frames_of_a_bluish_face_raise_no_doubt_of_the_channels(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command decodes has its channels in the right order, whatever the light was."""
    write_video(here / "clip.avi", [np.full((SIZE, SIZE, 3), (150, 130, 130), np.uint8)] * 30)
    assert score("clip.avi", "--every", "1", "--top", "30") == 0
    assert capsys.readouterr().err == ""


def test_faces_of_videos_are_counted_by_tracks_and_frames(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(here / "clip.avi", [np.full((SIZE, SIZE, 3), grey, np.uint8) for grey in range(90, 140, 10)])
    write_aligned(here / "people", 2)
    for inputs, told in (
        (["clip.avi"], "1 face in 3 frames of 1 video\n"),
        (["clip.avi", "people"], "3 faces in 2 images and 3 frames of 1 video\n"),
        (["people"], "2 faces in 2 images\n"),
    ):
        assert score(*inputs, "--every", "1", "--top", "3") == 0
        assert capsys.readouterr().out.startswith(told)


def test_the_list_says_what_its_columns_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_aligned(here / "people", 3)
    assert score("people", model="calibrated.onnx") == 0
    _, distribution, heading, *faces = capsys.readouterr().out.splitlines()
    assert "90 %" not in distribution  # of three faces
    assert heading == "     quality  % of the reference below  file"
    values = qualities(images)
    best = int(np.argmax(values))
    assert faces[0].split() == [
        f"{values[best]:.4g}",
        f"{CALIBRATION.percent(values[best]):.1f}",
        f"people/{best:03}.png",
    ]
    assert faces[0].index("people/") == heading.index("file")

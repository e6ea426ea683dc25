"""Faces of pictures and of videos, before they are scored."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from igfiqa_head.faces import Face, FaceDetector
from igfiqa_head.scoring.finding import FaceFinder
from igfiqa_head.scoring.sources import open_sources
from tests.packs import FACES, SIDE, make_pack, picture


class Shuffling(FaceDetector):
    """Gives the faces of every second picture in the other order, as detection scores may well do."""

    calls = 0

    def find(self, image: NDArray[np.uint8]) -> list[Face]:
        self.calls += 1
        return super().find(image)[:: 1 if self.calls % 2 else -1]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (SIDE, SIDE))
    for seed in range(4):
        writer.write(picture(seed))
    writer.release()
    return path


def test_faces_of_a_video_keep_their_numbers(clip: Path, tmp_path: Path) -> None:
    detector = Shuffling(make_pack(tmp_path))
    found = [
        face for faces in FaceFinder((112, 112), detector).find(open_sources([clip])) for face, _ in faces
    ]
    assert [face.frame for face in found] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [face.face for face in found] == [0, 1, 1, 0, 0, 1, 1, 0]
    for face in found:
        assert face.is_in_video
        assert face.face is not None
        np.testing.assert_allclose(face.box, FACES[face.face].box, atol=1e-3)


class Failing(FaceDetector):
    def find(self, image: NDArray[np.uint8]) -> list[Face]:
        raise ValueError("out of\norder")


def test_a_detector_that_fails_costs_a_picture_not_the_run(clip: Path, tmp_path: Path) -> None:
    photograph = tmp_path / "photo.png"
    cv2.imwrite(str(photograph), picture())
    finder = FaceFinder((112, 112), Failing(make_pack(tmp_path)))
    found = [face for faces in finder.find(open_sources([clip, photograph], every=2)) for face, _ in faces]
    assert [(face.source, face.frame, face.problem) for face in found] == [
        (str(clip), 0, "out of order"),
        (str(clip), 2, "out of order"),
        (str(photograph), None, "out of order"),
    ]

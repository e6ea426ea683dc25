"""Finding faces with the real insightface and a pack that the tests make."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from igfiqa_head import faces
from igfiqa_head.alignment import align
from igfiqa_head.faces import FaceDetector, find_pack
from tests.onnx_models import write_model
from tests.packs import FACES, SIDE, make_pack, open_pack, picture


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("insightface"))


@pytest.fixture(scope="module")
def detector(pack: Path) -> FaceDetector:
    return FaceDetector(pack, providers=["CPUExecutionProvider"], threads=1)


def test_every_face_is_found_and_aligned_by_its_landmarks(detector: FaceDetector) -> None:
    image = picture()
    found = detector.find(image)
    assert [face.detection_score for face in found] == pytest.approx([face.score for face in FACES])
    for face, wanted in zip(found, FACES, strict=True):
        np.testing.assert_allclose(face.box, wanted.box, atol=1e-3)
        np.testing.assert_allclose(face.landmarks, wanted.landmarks, atol=1e-3)
        np.testing.assert_array_equal(face.aligned, align(image, face.landmarks))


def test_it_finds_what_insightface_finds(detector: FaceDetector, pack: Path) -> None:
    image = picture(1)
    for ours, theirs in zip(detector.find(image), open_pack(pack).get(image), strict=True):
        np.testing.assert_array_equal(ours.box, theirs.bbox)
        np.testing.assert_array_equal(ours.landmarks, theirs.kps)


def test_nothing_is_found_in_a_black_picture(detector: FaceDetector) -> None:
    assert detector.find(np.zeros((SIDE, SIDE, 3), np.uint8)) == []


def test_threshold_and_face_size(pack: Path) -> None:
    found = FaceDetector(pack, threshold=0.85, face_size=160, search_size=320).find(picture())
    assert len(found) == 1
    assert found[0].aligned.shape == (160, 160, 3)


def test_boxes_are_those_of_the_photograph_not_of_the_search(detector: FaceDetector) -> None:
    large = picture().repeat(2, axis=0).repeat(2, axis=1)
    for face, wanted in zip(detector.find(large), FACES, strict=True):
        np.testing.assert_allclose(face.box, 2 * wanted.box, atol=1e-3)


def test_a_pack_is_found_by_name_and_the_recogniser_is_not_kept(
    pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "PACKS", pack.parent)
    assert find_pack(pack.name) == pack.resolve()
    assert len(FaceDetector(pack.name).find(picture())) == 2


def test_a_missing_pack_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "PACKS", tmp_path)
    (tmp_path / "antelopev2").mkdir()
    with pytest.raises(
        ValueError, match=r"no insightface pack 'buffalo_l'.*there: antelopev2.*model\.download"
    ):
        FaceDetector("buffalo_l")
    with pytest.raises(ValueError, match="no insightface pack ''"):
        FaceDetector("")
    assert [path.name for path in tmp_path.iterdir()] == ["antelopev2"]


def test_without_insightface_the_extra_is_named(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(ValueError, match=r'pip install "igfiqa-head\[insightface\]"'):
        FaceDetector(pack)


def test_folders_that_are_no_pack(tmp_path: Path) -> None:
    pack = make_pack(tmp_path)
    with pytest.raises(ValueError, match="holds no .onnx file, but .*testpack does"):
        FaceDetector(pack.parent)
    (pack / "det_10g.onnx").unlink()
    with pytest.raises(ValueError, match=r"no detector in .*\(w600k_r50.onnx\): none of the files is one"):
        FaceDetector(pack)
    (pack / "det_10g.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="det_10g.onnx is not a complete ONNX model"):
        FaceDetector(pack)


def test_a_detector_without_landmarks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives no landmarks"):
        FaceDetector(make_pack(tmp_path, landmarks=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "threshold must lie between 0 and 1, got 0"),
        ({"search_size": 100}, "multiple of 32, got 100"),
        ({"threads": 0}, "threads must be an integer from 1 to 1024"),
        ({"providers": ["NoSuchProvider"]}, "onnxruntime knows no provider 'NoSuchProvider'"),
    ],
)
def test_arguments_out_of_range(pack: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceDetector(pack, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"BGR uint8 image \[H, W, 3\], got uint8 \[8, 8\]"),
        (np.zeros((8, 8, 3), np.float32), "got float32"),
        (np.zeros((0, 8, 3), np.uint8), r"got uint8 \[0, 8, 3\]"),
        (np.zeros((1, 5000, 3), np.uint8), "fails on an image of 5000 x 1"),
    ],
)
def test_images_that_cannot_be_searched(detector: FaceDetector, image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector.find(image)


def test_no_file_of_a_pack_reads_outside_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = make_pack(tmp_path)
    write_model(pack / "other.onnx", size=112, external=True)
    (tmp_path / "secret").write_bytes((pack / "other.onnx.data").read_bytes())
    (pack / "other.onnx.data").unlink()
    (pack / "other.onnx.data").symlink_to(tmp_path / "secret")
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("one was opened"))
    with pytest.raises(ValueError, match=r"other.onnx keeps weights in .* no regular file in its folder"):
        FaceDetector(pack)


def test_a_detector_that_does_not_end_is_given_up(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "first_run", given_up)
    with pytest.raises(ValueError, match=r"the detector of .*testpack does not run: it was given up after"):
        FaceDetector(pack)


@contextmanager
def given_up() -> Iterator[onnxruntime.RunOptions]:
    options = onnxruntime.RunOptions()
    options.terminate = True
    yield options


def test_a_detector_of_a_size_that_nobody_has_is_refused(pack: Path) -> None:
    model = onnx.load(pack / "det_10g.onnx")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 100_000
    onnx.save(model, pack / "det_10g.onnx")
    with pytest.raises(
        ValueError, match=r"takes \[1, 3, 100000, 100000\], expected at most 16,777,216 pixels"
    ):
        FaceDetector(pack)

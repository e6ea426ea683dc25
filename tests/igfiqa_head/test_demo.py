"""The page to try a model on: its parts and its refusals."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import gradio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from igfiqa_head import demo
from igfiqa_head.demo import Results, ScoredFace, add_photographs, slider_range
from igfiqa_head.demo.drawing import counts_html, faces_html, problems_html
from igfiqa_head.demo.server import listen, own_requests_only, serve
from igfiqa_head.faces import FaceDetector
from igfiqa_head.io.images import decode_image
from igfiqa_head.runtime import QualityModel
from tests.demo_files import CALIBRATION, make_demo_folder
from tests.onnx_models import expected, write_model
from tests.packs import FACES, picture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_folder(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def model(folder: Path) -> QualityModel:
    return QualityModel(folder / "quality.onnx", threads=1)


def results_of(scores: Sequence[float]) -> Results:
    faces = [ScoredFace(f"{score}.png", "data:,", score, None) for score in sorted(scores, reverse=True)]
    return Results(tuple(faces))


def test_crops_are_scored_and_stand_best_first(folder: Path, model: QualityModel) -> None:
    paths = sorted(folder.glob("crop_*.png"))
    results = add_photographs(Results(), paths[:4], model)
    results = add_photographs(results, paths[4:], model)
    images = np.stack([decode_image(path.read_bytes()) for path in paths])
    scores = expected(images, 1)[:, 0]
    order = np.argsort(-scores)
    assert [face.name for face in results.faces] == [paths[index].name for index in order]
    np.testing.assert_allclose([face.score for face in results.faces], scores[order], rtol=1e-4)
    percents = CALIBRATION.percent([face.score for face in results.faces])
    assert [face.percent for face in results.faces] == percents.tolist()
    assert not results.problems


def test_a_model_without_calibration_gives_no_percentages(folder: Path, tmp_path: Path) -> None:
    model = QualityModel(write_model(tmp_path / "plain.onnx", {"quality": 1}, size=112), threads=1)
    results = add_photographs(Results(), [folder / "crop_0.png"], model)
    assert [face.percent for face in results.faces] == [None]
    assert "of 100" not in counts_html(results, 0.0, model) + faces_html(results, 0.01)


def test_every_face_of_a_photograph_is_found(folder: Path, model: QualityModel) -> None:
    detector = FaceDetector(folder / "models" / "testpack", threads=1)
    results = add_photographs(Results(), [folder / "group.png"], model, detector)
    aligned = [face.aligned for face in detector.find(picture())]
    assert len(aligned) == len(FACES)
    assert {face.name: face.score for face in results.faces} == pytest.approx(
        dict(zip(("group.png (1)", "group.png (2)"), model.score(aligned).tolist(), strict=True))
    )


def test_what_cannot_be_scored_is_told_and_stops_nothing(folder: Path, model: QualityModel) -> None:
    names = ("letter <b>.jpg", "group.png", "missing.png", "crop_0.png")
    results = add_photographs(Results(), [folder / name for name in names], model)
    assert [face.name for face in results.faces] == ["crop_0.png"]
    assert [name for name, _ in results.problems] == list(names[:3])
    reasons = [reason for _, reason in results.problems]
    assert "not a JPEG, PNG, BMP or WebP image" in reasons[0]
    assert "256 × 256 pixels, not an aligned crop of 112 × 112" in reasons[1]
    detector = FaceDetector(folder / "models" / "testpack", threads=1)
    nobody = add_photographs(Results(), [folder / "nobody.png"], model, detector)
    assert nobody.problems == (("nobody.png", "no face was found in it"),)


def test_scores_that_are_no_numbers_are_problems(folder: Path) -> None:
    class Broken(QualityModel):
        def score(self, aligned: object) -> NDArray[np.float32]:
            return np.array([np.nan, 1.0], np.float32)

    model = Broken(folder / "quality.onnx", threads=1)
    results = add_photographs(Results(), [folder / "crop_0.png", folder / "crop_1.png"], model)
    assert [face.name for face in results.faces] == ["crop_1.png"]
    assert results.problems == (("crop_0.png", "the model gives it a score of nan"),)


def test_the_page_takes_so_many_faces(
    folder: Path, model: QualityModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("igfiqa_head.demo.results.MAX_FACES", 4)
    results = add_photographs(Results(), sorted(folder.glob("crop_*.png")), model)
    assert len(results.faces) == 4
    assert [name for name, _ in results.problems] == ["crop_4.png", "crop_5.png"]
    assert "full (4 faces)" in results.problems[0][1]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1))
def test_the_slider_reaches_from_all_to_none(scores: list[float]) -> None:
    low, high, step = slider_range(scores)
    assert results_of(scores).kept(low) == len(scores)
    assert results_of(scores).kept(high) == 0
    assert math.log10(step) == pytest.approx(round(math.log10(step)))
    assert (high - low) / step < 1100


def test_the_slider_stands_on_short_decimals() -> None:
    assert slider_range([0.17694697, 0.49444294]) == (0.176, 0.495, 0.001)
    assert slider_range([1200.0, 88.0]) == (80.0, 1210.0, 10.0)
    assert slider_range([]) == (0.0, 1.0, 0.01)


def test_a_threshold_parts_the_faces_and_ties_stay_together(model: QualityModel) -> None:
    results = results_of([0.1, 0.5, 0.5, 0.9])
    html = counts_html(results, 0.5, model)
    assert "<b>3</b> kept" in html
    assert "<b>1</b> turned away" in html
    assert "threshold 0.5, 62 of 100" in html
    assert "nth-of-type(n+4)" in html
    assert "display: none" not in html
    assert "h2.away { display: none }" in counts_html(results, 0.1, model)
    assert "h2.kept { display: none }" in counts_html(results, 1.0, model)


def test_names_are_text_and_nothing_else() -> None:
    name = '"><img src=x onerror=alert(1)>'
    html = faces_html(Results((ScoredFace(name, "data:,", 1.0, 50.0),)), 0.01)
    html += problems_html(Results(problems=((name, name),)))
    assert html.count("<img") == 1
    assert html.count("&quot;&gt;&lt;img src=x onerror=alert(1)&gt;") == 5


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_only_this_computer_is_served(host: str, folder: Path) -> None:
    with pytest.raises(ValueError, match="must be localhost or a loopback address"):
        demo.launch(folder / "quality.onnx", host=host)


def test_bad_input_is_one_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        demo.launch(folder / "none.onnx")
    with pytest.raises(ValueError, match="no insightface pack 'none'"):
        demo.launch(folder / "quality.onnx", pack="none")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match=r'pip install "igfiqa-head\[demo\]"'):
        demo.launch(folder / "quality.onnx")


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError, match="port"):
        demo.launch(folder / "quality.onnx", port=server.getsockname()[1], open_browser=False)
    assert os.environ["no_proxy"] == "example.org"
    assert "GRADIO_TEMP_DIR" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_importing_it_loads_neither_gradio_nor_torch() -> None:
    code = (
        "import sys, igfiqa_head.demo; sys.exit(bool({'gradio', 'torch', 'insightface'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_a_port_that_cannot_be_is_an_error(port: int, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"port must be from 1 to 65535, got {port}"):
        demo.launch(folder / "quality.onnx", port=port)


@pytest.mark.parametrize(
    ("host", "origin", "is_answered"),
    [
        ("127.0.0.1:7860", None, True),
        ("localhost:8000", "http://localhost:8000", True),
        ("[::1]:7860", "http://[::1]:7860", True),
        ("127.0.0.1:7860", "http://127.0.0.1:7861", False),
        ("127.0.0.1:7860", "http://evil.example", False),
        ("127.0.0.1:7860", "null", False),
        ("evil.example:7860", "http://evil.example:7860", False),
        ("127.0.0.1.evil.example", None, False),
        ("localhost.evil.example", None, False),
        ("192.168.1.5:7860", None, False),
        ("[::1", None, False),
        ("", None, False),
    ],
)
def test_only_requests_of_the_page_itself_are_answered(
    host: str, origin: str | None, is_answered: bool
) -> None:
    client = TestClient(own_requests_only(PlainTextResponse("a face")))
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    answer = client.get("/", headers=headers)
    assert (answer.status_code == 200, answer.text == "a face") == (is_answered, is_answered)


def test_uploads_are_removed_though_the_model_fails(
    folder: Path, model: QualityModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "score", lambda _: 1 / 0)
    upload = Path(shutil.copy(folder / "crop_0.png", tmp_path / "upload.png"))
    page = demo.build_page(model)
    add = next(function.fn for function in page.fns.values() if function.name == "add")
    with pytest.raises(ZeroDivisionError):
        add(Results(), [str(upload)], 0.0, progress=gradio.Progress())
    assert not upload.exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "broken"})

    with listen("127.0.0.1", None) as listener, pytest.raises(OSError, match="server has ended by itself"):
        serve(broken, listener, tmp_path)

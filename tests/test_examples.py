"""The examples do what they say, on pictures of one colour: it decides the quality and the embedding."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from tests.onnx_models import projection, write_model
from tests.packs import SIDE, PackFace, make_pack

pytest.importorskip("insightface")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:insightface", "ignore:.*more blue than red")

ROOT = Path(__file__).resolve().parents[1]
# RGB in [-1, 1]. The small networks give colour @ projection(1) as the quality, colour @ projection(8) as the
# embedding; a stranger's colour has a good quality, too, and an embedding at right angles.
BETTER = projection(1)[:, 0]
GOOD, POOR = np.sign(BETTER) * 0.8, np.sign(BETTER) * -0.8
_ALIKE = projection(8) @ projection(8).T @ GOOD
STRANGER = BETTER - _ALIKE * (_ALIKE @ BETTER) / (_ALIKE @ _ALIKE)
STRANGER *= 0.8 / np.abs(STRANGER).max()


def example(name: str) -> ModuleType:
    """A script of the folder examples, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def photograph(colour: np.ndarray) -> np.ndarray:
    """BGR uint8 [SIDE, SIDE, 3]."""
    return np.broadcast_to(np.rint(colour[::-1] * 127.5 + 127.5), (SIDE, SIDE, 3)).astype(np.uint8)


def save(path: Path, colour: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), photograph(colour))
    return path


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """The options that name a pack with one face and a quality model."""
    pack = make_pack(tmp_path, faces=[PackFace(128, 128, 100)])
    quality = write_model(tmp_path / "quality.onnx", {"quality": 1}, size=112)
    return ["--pack", str(pack), "--quality", str(quality)]


def test_every_example_is_tested_and_listed() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    for path in (ROOT / "examples").glob("*.py"):
        assert f'example("{path.stem}")' in Path(__file__).read_text()
        assert f"]({path.name})" in listed


def test_enrolment_gate(tmp_path: Path, models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    gate = example("enrolment_gate")
    assert gate.main([str(save(tmp_path / "good.png", GOOD)), *models, "--lowest", "0"]) == 0
    assert capsys.readouterr().out == "accepted\n"
    assert gate.main([str(save(tmp_path / "poor.png", POOR)), *models, "--lowest", "0"]) == 1
    assert "refused: the quality is -" in capsys.readouterr().out
    assert gate.main([str(save(tmp_path / "dark.png", -np.ones(3))), *models, "--lowest", "0"]) == 1
    assert "refused: no face found" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gate.main([str(tmp_path / "missing.png"), *models, "--lowest", "0"])
    assert "cannot be read as an image" in capsys.readouterr().err


def test_enrolment_gate_wants_one_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = make_pack(tmp_path)
    quality = write_model(tmp_path / "quality.onnx", {"quality": 1}, size=112)
    photo = save(tmp_path / "good.png", GOOD)
    options = [str(photo), "--pack", str(pack), "--quality", str(quality), "--lowest", "0"]
    assert example("enrolment_gate").main(options) == 1
    assert "refused: 2 faces found" in capsys.readouterr().out


def test_best_frame(tmp_path: Path, models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 25, (SIDE, SIDE))
    assert writer.isOpened()
    shades = [-1.0, 0.2, 0.5, 1.0, 0.7, -0.5]
    for shade in shades:
        writer.write(photograph(-np.ones(3) if shade == -1 else GOOD * shade))
    writer.release()

    script, best = example("best_frame"), tmp_path / "best.png"
    for every, want in ((1, 3), (2, 4), (5, 5)):
        assert script.main([str(video), *models, "--output", str(best), "--every", str(every)]) == 0
        assert capsys.readouterr().out.startswith(f"frame {want}, quality ")
        saved = cv2.imread(str(best)).mean(axis=(0, 1))
        np.testing.assert_allclose(saved, photograph(GOOD * shades[want])[0, 0], atol=8)
    for wrong in ([str(tmp_path / "missing.avi")], [str(video), "--every", "0"]):
        with pytest.raises(SystemExit):
            script.main([*wrong, *models])


def test_clean_gallery(tmp_path: Path, models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    gallery = tmp_path / "gallery"
    for index in range(4):
        save(gallery / "anna" / f"{index}.png", GOOD * (1 - index / 10))
        save(gallery / "berta" / f"{index}.png", STRANGER * (1 - index / 10))
    clean = example("clean_gallery")
    assert clean.main([str(gallery), *models, "--lowest", "-0.1"]) == 0
    assert capsys.readouterr().out == "0 photographs to look at\n"

    save(gallery / "anna" / "stranger.png", STRANGER)
    save(gallery / "anna" / "poor.png", POOR)
    save(gallery / "anna" / "dark.png", -np.ones(3))
    (gallery / "anna" / "notes.txt").write_text("no image")
    assert clean.main([str(gallery), *models, "--lowest", "-0.1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    reasons = {Path(line.partition(": ")[0]).name: line.partition(": ")[2] for line in lines[:-1]}
    assert reasons.pop("stranger.png").startswith("another person? similarity ")
    assert reasons.pop("poor.png").startswith("quality -")
    assert reasons == {"dark.png": "shows no faces", "notes.txt": "cannot be read as an image"}
    assert lines[-1] == "4 photographs to look at"
    with pytest.raises(SystemExit):
        clean.main([str(tmp_path / "missing"), *models, "--lowest", "0"])


def test_template_pooling(tmp_path: Path, models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        save(tmp_path / "a" / f"{index}.png", GOOD)
        save(tmp_path / "b" / f"{index}.png", GOOD * 0.9)
    save(tmp_path / "b" / "poor.png", POOR)
    (tmp_path / "b" / "phone.heic").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    pooling = example("template_pooling")
    assert pooling.main([str(tmp_path / "a"), str(tmp_path / "b"), *models]) == 0
    printed = capsys.readouterr()
    assert "phone.heic is left out: it cannot be read" in printed.err
    weighted, plain = (float(line.split()[-1]) for line in printed.out.splitlines())
    assert weighted > 0.999
    assert plain <= weighted
    with pytest.raises(SystemExit, match="no face found"):
        pooling.main([str(tmp_path / "a"), str(tmp_path / "empty"), *models])
    with pytest.raises(SystemExit):
        pooling.main([str(tmp_path / "a"), str(tmp_path / "b"), *models, "--temperature", "0"])


def test_templates_are_weighted_means() -> None:
    template = example("template_pooling").template
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(5, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    qualities = rng.normal(size=5)
    want = sum(np.exp(q / 0.5) * e for q, e in zip(qualities, embeddings, strict=True))
    np.testing.assert_allclose(template(embeddings, qualities, 0.5), want / np.linalg.norm(want))
    mean = embeddings.mean(axis=0)
    np.testing.assert_allclose(template(embeddings, qualities, np.inf), mean / np.linalg.norm(mean))
    # Adding a constant to all qualities changes nothing, however large they are.
    np.testing.assert_allclose(
        template(embeddings, qualities + 1e3, 0.5), template(embeddings, qualities, 0.5), rtol=1e-6
    )

"""Recognisers and quality methods, and how they are opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from eval_tools.cache import apply_cached
from eval_tools.models import (
    EmbeddingNorm,
    ImageFunction,
    OnnxQuality,
    OnnxRecogniser,
    RandomQuality,
    Sharpness,
    open_quality,
    open_recogniser,
)
from eval_tools.precomputed import PrecomputedEmbeddings, PrecomputedQuality
from tests.onnx_models import expected, write_identity, write_model

SIZE = 16


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("flip", [True, False])
def test_a_recogniser_gives_upright_and_mirrored_views(tmp_path: Path, flip: bool) -> None:
    recogniser = OnnxRecogniser(write_model(tmp_path / "r.onnx", {"embedding": 8, "quality": 1}), flip=flip)
    images = faces(5)
    embeddings = recogniser(images)
    assert embeddings.shape == (5, *recogniser.row_shape) == (5, 2 if flip else 1, 8)
    assert recogniser.image_size == (SIZE, SIZE)
    views = [images, images[:, :, ::-1]][: 1 + flip]
    for index, view in enumerate(views):
        np.testing.assert_allclose(embeddings[:, index], expected(view, 8), rtol=1e-4, atol=1e-5)
    assert np.abs(expected(images, 8) - expected(images[:, :, ::-1], 8)).max() > 1e-3


def test_fingerprints_tell_what_changes_a_result(tmp_path: Path) -> None:
    path = write_model(tmp_path / "r.onnx", {"embedding": 8, "quality": 1})
    functions = [
        OnnxRecogniser(path),
        OnnxRecogniser(path, flip=False),
        OnnxRecogniser(path, normalisation=(0.0, 1.0)),
        OnnxRecogniser(write_model(tmp_path / "s.onnx", {"embedding": 8, "quality": 1}, seed=1)),
        OnnxQuality(path),
        Sharpness(),
    ]
    assert len({function.fingerprint for function in functions}) == len(functions)
    assert OnnxRecogniser(path, threads=1).fingerprint == functions[0].fingerprint
    assert all(isinstance(function, ImageFunction) for function in functions)


@pytest.mark.parametrize("outputs", [{"quality": 1}, {"a": 8, "b": 8}, {"a": 1, "b": 1}])
def test_a_model_without_one_embedding_is_no_recogniser(tmp_path: Path, outputs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"m.onnx is no recogniser: its outputs are .*embeddings \[N, D\]"):
        OnnxRecogniser(write_model(tmp_path / "m.onnx", outputs))


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    images = faces(3)
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float64)
    for image, sharpness in zip(images, Sharpness()(images), strict=True):
        grey = np.pad(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64), 1, mode="reflect")
        laplacian = [(grey[y : y + 3, x : x + 3] * kernel).sum() for y in range(SIZE) for x in range(SIZE)]
        assert sharpness == pytest.approx(np.var(laplacian), rel=1e-5)
    blurred = np.stack([cv2.GaussianBlur(image, (5, 5), 0) for image in images])
    assert (Sharpness()(blurred) < Sharpness()(images)).all()
    assert Sharpness()(np.full((1, 8, 8, 3), 90, np.uint8)) == 0


def test_the_norm_is_that_of_the_upright_view(tmp_path: Path) -> None:
    recogniser = OnnxRecogniser(write_model(tmp_path / "r.onnx"))
    arrays, _ = apply_cached({"r": recogniser}, faces(9), None, chunk=4, progress=False)
    norms = np.linalg.norm(expected(faces(9), 8), axis=1)
    for embeddings in (arrays["r"], np.asarray(arrays["r"])):
        np.testing.assert_allclose(EmbeddingNorm().score(embeddings), norms, rtol=1e-4)


def test_random_qualities_depend_on_seed_and_position_alone() -> None:
    many = RandomQuality(3).score(1000)
    np.testing.assert_array_equal(RandomQuality(3).score(10), many[:10])
    assert not np.isin(RandomQuality(4).score(1000), many).any()
    assert 0 <= many.min() < 0.05
    assert 0.95 < many.max() < 1
    assert abs(many.mean() - 0.5) < 0.05


def test_specifications_open_what_they_say(tmp_path: Path) -> None:
    recogniser = write_model(tmp_path / "r.onnx")
    quality = write_model(tmp_path / "q.onnx", {"quality": 1})
    np.savez(tmp_path / "e.npz", embeddings=np.ones((2, 3)))
    np.savez(tmp_path / "s.npz", quality=np.ones(2))
    (tmp_path / "s.csv").write_text("name,quality,other\na,1,3\nb,2,4\n")
    (tmp_path / "s.txt").write_text("a 1\nb 2\n")
    flat = open_recogniser(str(recogniser), flip=False, threads=1)
    assert isinstance(flat, OnnxRecogniser)
    assert not flat.flip
    assert isinstance(open_recogniser(str(tmp_path / "e.npz")), PrecomputedEmbeddings)
    assert isinstance(open_quality(str(quality), threads=1), OnnxQuality)
    for name in ("s.npz", "s.csv", "s.txt"):
        assert isinstance(open_quality(str(tmp_path / name)), PrecomputedQuality)
    chosen = open_quality(f"{tmp_path / 's.csv'}:other")
    assert isinstance(chosen, PrecomputedQuality)
    assert chosen.lookup(["b", "a"]).values.tolist() == [4, 3]
    assert isinstance(open_quality("norm"), EmbeddingNorm)
    assert isinstance(open_quality("sharpness"), Sharpness)
    random = open_quality("random", seed=5)
    assert isinstance(random, RandomQuality)
    assert random.seed == 5


def test_mistaken_specifications_say_what_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".insightface" / "models" / "buffalo_l").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"'shrapness' is no quality.*norm, random, sharpness.*'sharpness'\?"
    ):
        open_quality("shrapness")
    with pytest.raises(
        ValueError, match=r"'bufalo_l' is no recogniser.*ONNX file.*Did you mean 'buffalo_l'\?"
    ):
        open_recogniser("bufalo_l")
    (tmp_path / "notes.md").write_text("hello")
    (tmp_path / "s.csv").write_text("name,quality\na,1\n")
    for path in ("notes.md", "s.csv"):
        with pytest.raises(ValueError, match="is no recogniser: expected an ONNX file"):
            open_recogniser(str(tmp_path / path))
    for path in ("notes.md", "."):
        with pytest.raises(ValueError, match="is no quality method: expected an ONNX file"):
            open_quality(str(tmp_path / path))
    for spec in ("", "~nouser/x.onnx", "~nouser/s.csv:q", "x" * 5000, "\0"):
        with pytest.raises(ValueError, match="no file of that name"):
            open_quality(spec)
        if spec:
            with pytest.raises(ValueError, match="no file of that name"):
                open_recogniser(spec)


def pack(folder: Path, **files: tuple[list[int | str], int, int]) -> Path:
    """A folder of models with these input shapes, and numbers of inputs and outputs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, inputs, outputs) in files.items():
        write_identity(folder / f"{name}.onnx", shape, inputs=inputs, outputs=outputs)
    return folder


BUFFALO: dict[str, tuple[list[int | str], int, int]] = {
    "1k3d68": ([1, 3, 192, 192], 1, 1),
    "2d106det": (["N", 3, 192, 192], 1, 1),
    "det_10g": ([1, 3, "?", "?"], 1, 9),
    "genderage": (["N", 3, 96, 96], 1, 1),
    "inswapper_128": ([1, 3, 128, 128], 2, 1),
    "odd_size": ([1, 3, 120, 120], 1, 1),
    "oblong": ([1, 3, 128, 112], 1, 1),
    "open_size": ([1, 3, "H", "W"], 1, 1),
    "small": ([1, 3, 64, 64], 1, 1),
}


def test_a_pack_gives_the_recogniser_that_insightface_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = pack(tmp_path / ".insightface" / "models" / "buffalo_x", **BUFFALO)
    write_model(folder / "w600k_r50.onnx", {"embedding": 8}, size=112)
    write_model(folder / "x_later.onnx", {"embedding": 4}, size=112)
    write_model(folder / ".hidden.onnx", {"embedding": 4}, size=112)
    for spec in ("buffalo_x", str(folder)):
        recogniser = open_recogniser(spec)
        assert isinstance(recogniser, OnnxRecogniser)
        assert recogniser.network.path == folder / "w600k_r50.onnx"


@pytest.mark.parametrize("name", [*BUFFALO, "w600k_r50"])
def test_each_model_is_routed_as_insightface_routes_it(tmp_path: Path, name: str) -> None:
    model_zoo = pytest.importorskip("insightface.model_zoo.model_zoo")
    shape, inputs, outputs = BUFFALO.get(name, (["N", 3, 112, 112], 1, 1))
    folder = pack(tmp_path / "pack", **{name: (shape, inputs, outputs)})
    try:
        theirs = model_zoo.ModelRouter(str(folder / f"{name}.onnx")).get_model(
            providers=["CPUExecutionProvider"]
        )
    except Exception:  # it opens detectors and face swappers, whose other needs these files do not meet
        theirs = None
    is_recogniser = getattr(theirs, "taskname", None) == "recognition"
    assert is_recogniser == (name == "w600k_r50")
    with pytest.raises(
        ValueError, match="is no recogniser" if is_recogniser else "no insightface pack with a"
    ):
        open_recogniser(str(folder))


def test_a_quality_model_in_a_pack_is_noticed(tmp_path: Path) -> None:
    folder = pack(tmp_path / "pack", **BUFFALO)
    write_model(folder / "quality.onnx", {"quality": 1}, size=112)
    write_model(folder / "w600k_r50.onnx", {"embedding": 8}, size=112)
    message = "insightface takes quality.onnx for the recogniser of .*pack, but .* move it to another folder"
    with pytest.raises(ValueError, match=message):
        open_recogniser(str(folder))
    (folder / "quality.onnx").rename(tmp_path / "quality.onnx")
    assert open_recogniser(str(folder))


def test_a_folder_without_models_or_with_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no insightface pack with a recogniser: it holds no .onnx file"):
        open_recogniser(str(tmp_path))
    (tmp_path / "det.onnx").write_bytes(b"cut")
    with pytest.raises(ValueError, match="det.onnx is not a complete ONNX model"):
        open_recogniser(str(tmp_path))


def manifest(folder: Path, task: object, version: object = 2) -> None:
    folder.mkdir(exist_ok=True)
    content = {"manifest_version": version, "model_id": "m", "tasks": {"recognition": task}, "license": "x"}
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_manifest_names_the_recogniser(tmp_path: Path) -> None:
    folder = tmp_path / "raccoon"
    manifest(folder, {"file": "sub/z.onnx", "preprocessing": {"mean": 10.0, "std": 20.0}})
    (folder / "sub").mkdir()
    path = write_model(folder / "sub" / "z.onnx", {"embedding": 8}, size=112)
    write_model(folder / "a.onnx", {"embedding": 4}, size=112)
    recogniser = open_recogniser(str(folder))
    assert isinstance(recogniser, OnnxRecogniser)
    assert (recogniser.network.path, recogniser.network.mean, recogniser.network.std) == (path, 10.0, 20.0)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest(folder, {"file": "sub/z.onnx", "preprocessing": "embedded", "sha256": digest})
    embedded = open_recogniser(str(folder))
    assert isinstance(embedded, OnnxRecogniser)
    assert (embedded.network.mean, embedded.network.std) == (0.0, 1.0)
    manifest(folder, {"file": "sub/z.onnx", "sha256": "0" * 64})
    with pytest.raises(ValueError, match="its SHA-256 differs"):
        open_recogniser(str(folder))


@pytest.mark.parametrize("task", [None, [], {}, {"file": 3}, {"file": "a.onnx", "preprocessing": "odd"}])
def test_a_damaged_manifest_is_one_error(tmp_path: Path, task: object) -> None:
    manifest(tmp_path / "p", task)
    with pytest.raises(ValueError, match="manifest.json describes no recogniser"):
        open_recogniser(str(tmp_path / "p"))


def test_a_manifest_that_divides_by_zero_is_one_error(tmp_path: Path) -> None:
    manifest(tmp_path / "p", {"file": "r.onnx", "preprocessing": {"mean": 127.5, "std": 0}})
    write_model(tmp_path / "p" / "r.onnx", {"embedding": 8}, size=112)
    with pytest.raises(ValueError, match="normalisation must be"):
        open_recogniser(str(tmp_path / "p"))


def test_a_manifest_stays_within_its_folder(tmp_path: Path) -> None:
    write_model(tmp_path / "r.onnx", {"embedding": 8}, size=112)
    for file in ("../r.onnx", str(tmp_path / "r.onnx"), "missing.onnx"):
        manifest(tmp_path / "p", {"file": file})
        with pytest.raises(ValueError, match="which is no file of the pack"):
            open_recogniser(str(tmp_path / "p"))


def test_other_manifests_are_ignored(tmp_path: Path) -> None:
    manifest(tmp_path / "p", {"file": "missing.onnx"}, version=1)
    write_model(tmp_path / "p" / "r.onnx", {"embedding": 8}, size=112)
    assert open_recogniser(str(tmp_path / "p"))
    (tmp_path / "p" / "manifest.json").write_text("{")
    assert open_recogniser(str(tmp_path / "p"))

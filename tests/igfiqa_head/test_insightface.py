"""The hook within the real insightface, and the traps of its model packs."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from igfiqa_head.alignment import align
from igfiqa_head.calibration import Calibration, PercentScale
from igfiqa_head.insightface import attach, install
from igfiqa_head.runtime import QualityModel
from tests.onnx_models import expected, write_model
from tests.packs import FACES, PackFace, make_pack, open_pack, picture, write_detector

pytest.importorskip("insightface")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:insightface")

of_insightface_2 = pytest.mark.skipif(
    int(version("insightface").partition(".")[0]) < 2, reason="liveness and manifests came with insightface 2"
)
ROOT = Path(__file__).resolve().parents[2]
CALIBRATION = Calibration("ig_fiqa", "test faces", PercentScale(100, (-1.0, 0.0, 1.0), (0.0, 50.0, 100.0)))
QUALITY, BOTH = {"quality": 1}, {"embedding": 8, "quality": 1}


def write_quality(path: Path, outputs: Mapping[str, int] = QUALITY, **options: Any) -> Path:
    return write_model(path, outputs, size=112, **options)


def crops(image: NDArray[np.uint8], faces: Sequence[PackFace] = FACES) -> NDArray[np.uint8]:
    """RGB [N, 112, 112, 3], made without insightface."""
    return np.stack([align(image, face.landmarks) for face in faces])[..., ::-1]


def qualities(faces: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([face.quality for face in faces])


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return make_pack(tmp_path)


@pytest.fixture
def quality(tmp_path: Path) -> Path:
    return write_quality(tmp_path / "quality.onnx")


@pytest.mark.parametrize("modules", [None, ["detection"], ["detection", "recognition"]])
@pytest.mark.parametrize("prepared_first", [True, False])
def test_every_face_has_its_quality(
    pack: Path, quality: Path, modules: list[str] | None, prepared_first: bool
) -> None:
    app = open_pack(pack, allowed_modules=modules)
    hook = attach(app, quality)
    if not prepared_first:
        app.prepare(ctx_id=-1)
    assert app.models["quality"] is hook
    for seed in range(3):
        faces = app.get(picture(seed))
        want = expected(crops(picture(seed)), 1)[:, 0]
        assert len(set(want.round(3))) == len(FACES)
        np.testing.assert_allclose(qualities(faces), want, atol=1e-4)
        assert all(type(face.quality) is float and face.quality_percent is None for face in faces)
        assert all((face.embedding is not None) is (modules != ["detection"]) for face in faces)
    assert app.get(np.zeros_like(picture())) == []


def test_the_crop_is_insightfaces_to_the_last_bit(pack: Path, quality: Path) -> None:
    from insightface.utils.face_align import norm_crop

    app = open_pack(pack)
    hook = attach(app, quality)
    for face in app.get(picture(5)):
        assert face.quality == float(hook.model.score(norm_crop(picture(5), face.kps)[None])[0])


@pytest.mark.parametrize("size", [112, 128, 224])
def test_a_larger_network_gets_the_larger_crop_of_insightface(pack: Path, tmp_path: Path, size: int) -> None:
    from insightface.utils.face_align import norm_crop

    app = open_pack(pack)
    model = QualityModel(write_model(tmp_path / "q.onnx", {"quality": 1}, size=size))
    attach(app, model)
    faces = app.get(picture())
    crop = np.stack([norm_crop(picture(), face.kps, size) for face in faces])
    np.testing.assert_allclose(qualities(faces), expected(crop[..., ::-1], 1)[:, 0], atol=1e-4)


def test_a_calibrated_model_gives_percentages(pack: Path, tmp_path: Path) -> None:
    path = write_quality(tmp_path / "q.onnx", metadata={"calibration": CALIBRATION.to_json()})
    app = open_pack(pack)
    attach(app, path)
    faces = app.get(picture())
    np.testing.assert_allclose([f.quality_percent for f in faces], 50 + 50 * qualities(faces), rtol=1e-6)
    assert all(0 < face.quality_percent < 100 and type(face.quality_percent) is float for face in faces)


def test_a_model_with_embeddings_stands_in_for_the_recogniser(pack: Path, tmp_path: Path) -> None:
    app = open_pack(pack)
    theirs = np.stack([face.embedding for face in app.get(picture())])
    recogniser = app.models["recognition"]
    hook = attach(app, write_quality(tmp_path / "both.onnx", BOTH, seed=7))
    assert "recognition" not in app.models

    faces = app.get(picture())
    embeddings = np.stack([face.embedding for face in faces])
    means = expected(crops(picture()), 3) @ np.linalg.inv(_projection(3))
    np.testing.assert_allclose(embeddings, means @ _projection(8, 7), atol=1e-4)
    np.testing.assert_allclose(qualities(faces), (means @ _projection(1, 7))[:, 0], atol=1e-4)
    assert np.abs(embeddings - theirs).max() > 0.01
    assert faces[0].normed_embedding.shape == (8,)

    app.models["recognition"] = hook.recogniser
    np.testing.assert_array_equal([face.embedding for face in app.get(picture())], theirs)
    assert hook.recogniser is recogniser


def _projection(width: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(3, width)).astype(np.float32).astype(np.float64)


def test_another_model_replaces_the_first_and_the_recogniser_comes_back(
    pack: Path, quality: Path, tmp_path: Path
) -> None:
    app = open_pack(pack)
    recogniser = app.models["recognition"]
    both = write_quality(tmp_path / "both.onnx", BOTH)
    attach(app, both)
    assert attach(app, both).recogniser is recogniser
    hook = attach(app, quality)
    assert hook.recogniser is None
    assert app.models["recognition"] is recogniser
    assert app.get(picture())[0].embedding.shape == (8,)


def test_without_a_recogniser_the_embedding_is_there_all_the_same(pack: Path, tmp_path: Path) -> None:
    app = open_pack(pack, allowed_modules=["detection"])
    hook = attach(app, write_quality(tmp_path / "both.onnx", BOTH))
    assert hook.recogniser is None
    assert [face.embedding.shape for face in app.get(picture())] == [(8,), (8,)]


class Liveness:
    """Takes the first face of the pack for a photograph of a face, as insightface's addon reports it."""

    def prepare(self, ctx_id: int) -> None: ...

    def get(self, image: NDArray[np.uint8], face: Any) -> None:
        face.liveness = {"is_live": bool(face.bbox[0] > 100)}


@of_insightface_2
@pytest.mark.parametrize("mode", ["normal", "observe"])
def test_a_face_that_insightface_rejects_has_a_quality_but_no_embedding(
    pack: Path, tmp_path: Path, mode: str
) -> None:
    app = open_pack(pack, liveness_mode=mode)
    app.addons["liveness"] = Liveness()
    attach(app, write_quality(tmp_path / "both.onnx", BOTH))
    fake, real = app.get(picture())
    assert fake.quality is not None
    assert (fake.embedding is None) is (mode == "normal")
    assert real.embedding.shape == (8,)


def test_a_negative_ctx_id_means_the_cpu(pack: Path, quality: Path) -> None:
    app = open_pack(pack)
    hook = attach(app, quality, threads=1)
    asked: list[bool] = []
    hook.model.network.use_cpu = lambda: asked.append(True)  # type: ignore[method-assign]
    app.prepare(ctx_id=0)
    assert asked == []
    app.prepare(ctx_id=-1)
    assert asked == [True]


def test_running_on_the_cpu_changes_nothing_on_a_machine_without_gpu(quality: Path) -> None:
    model, images = QualityModel(quality), crops(picture())
    before = model.score_rgb(images)
    model.network.use_cpu()
    np.testing.assert_array_equal(model.score_rgb(images), before)


def test_pictures_with_swapped_channels_are_noticed(pack: Path, quality: Path) -> None:
    app = open_pack(pack)
    attach(app, quality)
    skin = np.full_like(picture(), (120, 140, 190))
    for image, pictures, complaints in ((skin, 4, 0), (skin[..., ::-1].copy(), 5, 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(pictures):
                app.get(image)
        messages = [str(item.message) for item in caught if item.category is UserWarning]
        assert len(messages) == complaints
    assert "8 of 8 faces are more blue than red" in messages[0]
    assert "Pass BGR, as cv2.imread gives it" in messages[0]


# What is refused


def test_a_face_without_landmarks_is_one_clear_error(tmp_path: Path, quality: Path) -> None:
    app = open_pack(make_pack(tmp_path, landmarks=False), allowed_modules=["detection"])
    attach(app, quality)
    with pytest.raises(ValueError, match="landmarks None: expected five points. Take a pack"):
        app.get(picture())


def test_landmarks_that_are_not_finite_are_refused(pack: Path, quality: Path) -> None:
    from insightface.app.common import Face

    hook = attach(open_pack(pack), quality)
    with pytest.raises(ValueError, match="expected five points"):
        hook.get(picture(), Face(kps=np.full((5, 2), np.nan)))


def test_float_pictures_are_refused(pack: Path, quality: Path) -> None:
    app = open_pack(pack, allowed_modules=["detection"])
    attach(app, quality)
    with pytest.raises(ValueError, match="pass pixels from 0 to 255 as uint8"):
        app.get(picture().astype(np.float32))


@pytest.mark.parametrize(
    ("outputs", "kind", "message"),
    [
        ({"embedding": 8}, "embedding", "no quality model: .* is a recogniser"),
        ({"embedding": 8}, "fused", "a fused recogniser, whose quality is the norm"),
    ],
)
def test_a_recogniser_is_no_quality_model(
    pack: Path, tmp_path: Path, outputs: dict[str, int], kind: str, message: str
) -> None:
    path = write_quality(tmp_path / "m.onnx", outputs, metadata={"kind": kind})
    with pytest.raises(ValueError, match=message):
        attach(open_pack(pack), path)
    with pytest.raises(ValueError, match=message):
        install(pack, path)
    assert not (pack / "quality").exists()


def test_a_size_to_which_insightface_cannot_align_is_refused(pack: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "q.onnx", {"quality": 1}, size=16)
    with pytest.raises(ValueError, match="faces of 16 x 16; insightface aligns to squares of 112"):
        attach(open_pack(pack), path)
    with pytest.raises(ValueError, match="faces of 16 x 16"):
        install(pack, path)


def test_what_is_no_app_is_refused(quality: Path) -> None:
    with pytest.raises(ValueError, match="app must be insightface's FaceAnalysis, got str"):
        attach("buffalo_l", quality)


def test_without_insightface_the_extra_is_named(
    pack: Path, quality: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_pack(pack)
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(ValueError, match=r'pip install "igfiqa-head\[insightface\]"'):
        attach(app, quality)
    install(pack, quality)


def test_an_open_model_takes_no_options(pack: Path, quality: Path) -> None:
    with pytest.raises(ValueError, match="the QualityModel given is open already"):
        attach(open_pack(pack), QualityModel(quality), threads=1)


def test_a_failed_attach_leaves_the_app_as_it_was(pack: Path, tmp_path: Path) -> None:
    app = open_pack(pack)
    models = dict(app.models)
    with pytest.raises(ValueError, match="No such file"):
        attach(app, tmp_path / "missing.onnx")
    assert app.models == models


# The pack's folder: which file insightface takes for what


def test_trap_a_quality_file_in_the_packs_folder_becomes_the_recogniser(pack: Path, quality: Path) -> None:
    from insightface.model_zoo import get_model

    assert get_model(str(quality)).taskname == "recognition"
    misplaced = write_quality(pack / "quality.onnx")
    app = open_pack(pack)
    assert app.models["recognition"].model_file == str(misplaced)
    assert app.get(picture())[0].embedding.shape == (1,)
    for model in (quality, None):  # wherever the model to attach lies, this app's embeddings are qualities
        with pytest.raises(ValueError, match=r"insightface took .*quality.onnx for the recogniser") as caught:
            attach(app, model)
        assert f"`igfiqa install {pack} {misplaced}`" in str(caught.value)


@pytest.mark.parametrize(("name", "wins"), [("a.onnx", True), ("w600k_r49.onnx", True), ("z.onnx", False)])
def test_trap_the_first_file_by_name_wins(pack: Path, name: str, wins: bool) -> None:
    misplaced = write_quality(pack / name)
    taken = Path(open_pack(pack).models["recognition"].model_file)
    assert taken.name == (name if wins else "w600k_r50.onnx")
    # One that loses today may win in another pack, and does as soon as there is no other.
    with pytest.raises(ValueError, match="insightface would take"):
        attach(open_pack(pack, allowed_modules=["detection"]), misplaced)
    with pytest.raises(ValueError, match="insightface would take"):
        attach(open_pack(pack, allowed_modules=["detection"]), QualityModel(misplaced))


def test_trap_a_link_in_the_packs_folder_is_a_file_there(pack: Path, quality: Path) -> None:
    (pack / "q.onnx").symlink_to(quality)
    assert open_pack(pack).models["recognition"].model_file == str(pack / "q.onnx")
    with pytest.raises(ValueError, match="insightface would take"):
        attach(open_pack(pack, allowed_modules=["detection"]), pack / "q.onnx")


def test_trap_two_outputs_in_the_packs_folder_and_the_app_does_not_open(pack: Path, tmp_path: Path) -> None:
    both = write_quality(pack / "zz_both.onnx", BOTH)
    for modules in (None, ["detection"]):
        with pytest.raises(AssertionError):
            open_pack(pack, allowed_modules=modules)
    install(pack, both)
    app = open_pack(pack)
    attach(app)
    assert app.get(picture())[0].embedding.shape == (8,)


@pytest.mark.parametrize(
    ("names", "normalisation"),
    [(["Sub_0", "Mul_0"], (0.0, 1.0)), (["sub", "mul"], (127.5, 127.5)), (["Sub_0"], (127.5, 127.5))],
)
def test_trap_node_names_decide_whether_insightface_normalises(
    pack: Path, names: list[str], normalisation: tuple[float, float]
) -> None:
    write_quality(pack / "a.onnx", {"embedding": 8}, names=names)
    recogniser = open_pack(pack).models["recognition"]
    assert (recogniser.input_mean, recogniser.input_std) == normalisation


def test_trap_without_landmarks_insightface_itself_says_nothing_of_them(tmp_path: Path) -> None:
    app = open_pack(make_pack(tmp_path, landmarks=False))
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'shape'"):
        app.get(picture())


@pytest.mark.parametrize(
    ("size", "outputs", "task"),
    [(96, 1, "genderage"), (192, 1, "landmark"), (112, 5, "detection"), (100, 1, None)],
)
def test_trap_size_and_number_of_outputs_decide_the_task(
    tmp_path: Path, size: int, outputs: int, task: str | None
) -> None:
    from insightface.model_zoo import get_model

    names = {f"output_{index}": 3 for index in range(outputs)}
    model = get_model(str(write_model(tmp_path / "m.onnx", names, size=size)))
    assert (model.taskname.partition("_")[0] if task else model) == task


def test_a_fused_recogniser_needs_no_code_of_ours(pack: Path) -> None:
    (pack / "w600k_r50.onnx").unlink()
    write_quality(pack / "fused.onnx", {"embedding": 8}, metadata={"kind": "fused"})
    for face, want in zip(open_pack(pack).get(picture()), expected(crops(picture()), 8), strict=True):
        np.testing.assert_allclose(face.embedding_norm, np.linalg.norm(want), rtol=1e-3)
        np.testing.assert_allclose(face.normed_embedding, want / np.linalg.norm(want), atol=1e-3)


@of_insightface_2
def test_in_a_pack_with_a_manifest_the_folder_is_not_searched(pack: Path) -> None:
    manifest = {
        "manifest_version": 2,
        "model_id": "testpack",
        "license": "MODEL.LICENSE",
        "tasks": {"detection": {"file": "det_10g.onnx"}, "recognition": {"file": "w600k_r50.onnx"}},
    }
    (pack / "MODEL.LICENSE").write_text("none")
    (pack / "manifest.json").write_text(json.dumps(manifest))
    beside = write_quality(pack / "a.onnx")
    app = open_pack(pack)
    attach(app, beside)
    assert Path(app.models["recognition"].model_file).name == "w600k_r50.onnx"
    assert app.get(picture())[0].quality is not None


# install


def test_an_installed_model_is_found_and_taken_for_nothing_else(pack: Path, quality: Path) -> None:
    with pytest.raises(
        ValueError, match=r"has no quality model: run `igfiqa install .*testpack quality.onnx`"
    ):
        attach(open_pack(pack))
    target = install(pack, quality)
    assert target == pack / "quality" / "quality.onnx"
    assert target.read_bytes() == quality.read_bytes()
    app = open_pack(pack)
    assert list(app.models) == ["detection", "recognition"]
    assert attach(app).model.network.path == target
    np.testing.assert_allclose(qualities(app.get(picture())), expected(crops(picture()), 1)[:, 0], atol=1e-4)


def test_a_pack_may_be_named_as_insightface_names_it(
    tmp_path: Path, quality: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pack = make_pack(tmp_path / ".insightface", "buffalo_x")
    assert install("buffalo_x", quality) == pack / "quality" / "quality.onnx"


def test_a_file_of_the_packs_folder_is_moved(pack: Path) -> None:
    misplaced = write_quality(pack / "a.onnx")
    install(pack, misplaced)
    assert not misplaced.exists()
    app = open_pack(pack)
    attach(app)
    assert Path(app.models["recognition"].model_file).name == "w600k_r50.onnx"


def test_links_in_a_strangers_pack_lead_nowhere(pack: Path, quality: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "quality.onnx").write_text("mine")
    (pack / "quality").symlink_to(precious)
    with pytest.raises(ValueError, match="quality is a link, expected a folder"):
        install(pack, quality)
    (pack / "quality").unlink()
    (pack / "quality").mkdir()
    (pack / "quality" / "quality.onnx").symlink_to(precious / "quality.onnx")
    assert install(pack, quality).read_bytes() == quality.read_bytes()
    assert (precious / "quality.onnx").read_text() == "mine"


def test_a_new_model_replaces_the_installed_one_and_a_bad_one_does_not(
    pack: Path, quality: Path, tmp_path: Path
) -> None:
    install(pack, quality)
    newer = write_quality(tmp_path / "newer.onnx", seed=3)
    target = install(pack, newer)
    assert target.read_bytes() == newer.read_bytes()
    install(pack, target)
    (tmp_path / "cut.onnx").write_bytes(newer.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cut.onnx is not a complete ONNX model"):
        install(pack, tmp_path / "cut.onnx")
    assert target.read_bytes() == newer.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["quality.onnx"]


def test_weights_beside_the_file_are_refused(pack: Path, tmp_path: Path) -> None:
    path = write_quality(tmp_path / "q.onnx", external=True)
    with pytest.raises(ValueError, match=r"keeps its weights in q.onnx.data: export it as one file"):
        install(pack, path)


def test_what_is_no_pack_is_refused(tmp_path: Path, quality: Path) -> None:
    with pytest.raises(ValueError, match="no insightface pack 'no_such_pack'"):
        install("no_such_pack", quality)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is no insightface pack: it holds no .onnx file"):
        install(tmp_path / "empty", quality)


def test_a_pack_with_nothing_but_a_detector_will_do(tmp_path: Path, quality: Path) -> None:
    pack = tmp_path / "models" / "slim"
    pack.mkdir(parents=True)
    write_detector(pack / "det.onnx", [PackFace(100, 100)])
    install(pack, quality)
    app = open_pack(pack)
    attach(app)
    assert [face.embedding for face in app.get(picture())] == [None]
    assert len(app.get(picture())) == 1


EXAMPLES = [
    (page.name, block)
    for page in (ROOT / "README.md", ROOT / "docs" / "insightface.md")
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    if "FaceAnalysis(" in block and "attach(app" in block
]


@pytest.mark.parametrize(("page", "block"), EXAMPLES, ids=[page for page, _ in EXAMPLES])
def test_the_lines_of_the_documents_work_when_pasted(
    page: str,
    block: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make_pack(tmp_path / ".insightface", "buffalo_l")
    write_quality(tmp_path / "quality.onnx")
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture())
    exec(compile(block, page, "exec"), {})
    numbers = capsys.readouterr().out
    for want in expected(crops(cv2.imread(str(tmp_path / "photo.jpg"))), 1)[:, 0]:
        assert f"{want:.3f}"[:-1] in numbers

"""A whole run on top of a recogniser, as ``train.py`` does it, and what a user sees when it cannot be."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import train
from eval_tools.cache import CHUNK
from eval_tools.models import OnnxRecogniser
from igfiqa_head.feature_regressor import FeatureRegressor
from igfiqa_head.insightface import attach
from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import RecordWriter, write_records
from igfiqa_head.io.verification_bin import write_verification_bin
from igfiqa_head.io.written_files import LIST_FILE
from igfiqa_head.recogniser_graph import RecogniserGraph
from igfiqa_head.registry import DATASETS
from igfiqa_head.runtime import QualityModel
from plugins.datasets.synthetic import SyntheticFaces
from tests.onnx_models import projection, write_model
from tests.packs import make_pack, open_pack, picture
from trainer import run_on_top
from trainer.on_top import Features
from trainer.recipe import load_recipe
from trainer.run import run

ROOT = Path(__file__).resolve().parents[2]
RECIPE = str(ROOT / "recipes/on_top.py")
SHARED = ROOT.parent / "shared"
SMALL = [
    "rec=synthetic", "synthetic.num_identities=14", "synthetic.images_per_identity=6", "on_top.held_out=0.3",
    "on_top.replicas=2", "on_top.hidden=4", "num_epoch=2", "batch_size=32", "warmup_epoch=0", "frequent=2",
    "erc_fmr=0.01", "seed=0", "on_top.reads=embedding,norm,maps",
]  # fmt: skip
REPLICATED = 60 * 3  # images of 10 identities, as they are and twice degraded
ALWAYS = {
    "quality.onnx", "both.onnx", "quality_head.pt", "metrics.json", "recipe.json", "model_card.md",
    "training.log", "tensorboard", LIST_FILE,
}  # fmt: skip

Start = Callable[..., int]


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("recogniser") / "mine.onnx", size=112)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, recogniser: Path) -> Path:
    """The output folder of one run, with its cache beside it; not to be changed."""
    folder = tmp_path_factory.mktemp("on_top")
    assert train.main(arguments(recogniser, folder)) == 0
    return folder / "run"


@pytest.fixture
def start(recogniser: Path, tmp_path: Path) -> Start:
    """``start("key=value", ...)`` is ``train.py`` with an output folder and a cache of its own."""
    return lambda *overrides: train.main(arguments(recogniser, tmp_path, *overrides))


def arguments(recogniser: Path, folder: Path, *overrides: str) -> list[str]:
    places = [f"recognizer={recogniser}", f"output={folder / 'run'}", f"on_top.cache={folder / 'cache'}"]
    return [RECIPE, *SMALL, *places, *overrides]


def read_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def in_cache(folder: Path) -> int:
    """How many of the last run's features were in the cache, by its log."""
    return int(re.findall(r"(\d+) were in the cache", (folder / "run" / "training.log").read_text())[-1])


class TestFinishedRun:
    def test_all_files_are_there(self, finished: Path) -> None:
        assert {path.name for path in finished.iterdir()} == ALWAYS | {"erc.png", "quality_sheet.png"}

    def test_metrics(self, finished: Path) -> None:
        metrics = read_json(finished / "metrics.json")
        assert metrics["data"] == {
            "learned_images": 60, "held_out_images": 24, "learned_identities": 10, "held_out_identities": 4,
        }  # fmt: skip
        erc = metrics["erc"]["held_out_degraded"]
        assert set(erc["area"]) == {"IG-FIQA on top", "embedding norm", "sharpness", "random"}
        assert erc["n_genuine"] == 4 * 15
        assert 0 <= metrics["weights"]["mean"] <= 1
        assert 0 < metrics["verification"]["held_out_degraded"]["eer"] < 1

    def test_recipe_json_has_the_keys_that_were_read(self, finished: Path) -> None:
        recipe = read_json(finished / "recipe.json")["recipe"]
        assert recipe["on_top"]["hidden"] == 4
        assert recipe["num_image"] == 84
        assert not {"margin_list", "scale", "cr_fiqa", "num_workers"} & set(recipe)
        assert "sub_batch" not in recipe["ig_fiqa"]

    @pytest.mark.parametrize("name", ["erc.png", "quality_sheet.png"])
    def test_pictures_are_pictures(self, finished: Path, name: str) -> None:
        image = cv2.imread(str(finished / name))
        assert image is not None
        assert min(image.shape[:2]) > 100
        assert image.std() > 5

    def test_the_log_says_what_happened(self, finished: Path) -> None:
        log = (finished / "training.log").read_text()
        assert "60 images of 10 identities to learn from, 24 of 4 others to judge by" in log
        assert "R reads 15 numbers (embedding, norm, maps)" in log
        assert "epoch 2/2" in log
        assert "held_out_degraded: ERC area over that FNMR, lower is better: IG-FIQA on top" in log
        assert log.splitlines()[-1].endswith(f"done; everything is in {finished}")

    def test_tensorboard_has_the_recipe_the_results_and_the_pictures(self, finished: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(finished / "tensorboard"))
        events.Reload()
        assert set(events.Tags()["images"]) == {"erc", "quality_sheet"}
        (scalar,) = events.Scalars("final/erc/held_out_degraded/area/embedding norm")
        areas = read_json(finished / "metrics.json")["erc"]["held_out_degraded"]["area"]
        assert scalar.value == pytest.approx(areas["embedding norm"])
        assert events.Tensors("recipe/text_summary")

    def test_the_file_says_what_r_says(self, finished: Path, recogniser: Path) -> None:
        faces = SyntheticFaces(3, 4, split="test").render()
        features = torch.from_numpy(Features(RecogniserGraph(recogniser))(faces))
        state = torch.load(finished / "quality_head.pt", weights_only=True)
        regressor = FeatureRegressor(state["mean"], state["scale"], columns=state["columns"], hidden=4)
        regressor.load_state_dict(state)
        with torch.no_grad():
            expected = regressor(features).numpy()
        for name in ("quality.onnx", "both.onnx"):
            score = QualityModel(finished / name).score_rgb(faces)
            np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-5)
            assert np.ptp(score) > 0

    def test_the_embedding_is_the_recognisers_own(self, finished: Path, recogniser: Path) -> None:
        faces = SyntheticFaces(3, 4, split="test").render()
        own = OnnxRecogniser(recogniser, flip=False)(faces)[:, 0]
        _, embeddings = QualityModel(finished / "both.onnx").score_and_embed(faces[..., ::-1])
        np.testing.assert_allclose(embeddings, own, atol=1e-5)

    def test_it_is_calibrated_and_keeps_paths_to_itself(self, finished: Path, recogniser: Path) -> None:
        model = QualityModel(finished / "quality.onnx")
        assert model.calibration is not None
        assert model.calibration.reference == "held_out_degraded"
        assert model.calibration.fnmr is not None
        assert model.calibration.fnmr.recogniser == "mine.onnx"
        words = " ".join(model.network.metadata.values())
        assert str(finished.parent) not in words
        assert str(recogniser.parent) not in words
        assert json.loads(model.network.metadata["recipe"])["on_top"]["replicas"] == 2
        assert str(finished.parent) not in (finished / "model_card.md").read_text()

    def test_insightface_takes_it_by_attach(self, finished: Path, recogniser: Path, tmp_path: Path) -> None:
        pack = make_pack(tmp_path, recogniser=None)
        shutil.copy(recogniser, pack / "w600k_r50.onnx")
        image = picture()
        before = [face.embedding for face in open_pack(pack).get(image)]
        for name in ("quality.onnx", "both.onnx"):
            app = open_pack(pack)
            attach(app, finished / name)
            faces = app.get(image)
            assert len(faces) == len(before) == 2
            for face, embedding in zip(faces, before, strict=True):
                assert np.isfinite(face.quality)
                assert 0 <= face.quality_percent <= 100
                np.testing.assert_allclose(face.embedding, embedding, atol=1e-5)

    def test_an_export_of_the_run_points_to_its_files(
        self, finished: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from trainer.export import main

        assert main([str(finished)]) == 1
        assert "is a run on top of a recognizer and trained no network" in capsys.readouterr().err


class TestAgain:
    def test_a_second_run_computes_nothing_and_gives_the_same_bytes(
        self, finished: Path, start: Start, tmp_path: Path
    ) -> None:
        shutil.copytree(finished.parent / "cache", tmp_path / "cache")
        assert start() == 0
        assert in_cache(tmp_path) == REPLICATED
        for name in ("quality.onnx", "both.onnx", "metrics.json", "model_card.md"):
            assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()

    def test_another_seed_gives_another_head(self, finished: Path, start: Start, tmp_path: Path) -> None:
        assert start("seed=1") == 0
        assert (tmp_path / "run" / "quality.onnx").read_bytes() != (finished / "quality.onnx").read_bytes()

    def test_other_settings_are_computed_anew(self, finished: Path, start: Start, tmp_path: Path) -> None:
        """The first chunk holds mostly images as they are, but is one of pixels that changed."""
        shutil.copytree(finished.parent / "cache", tmp_path / "cache")
        assert start("ig_fiqa.degradation_p=0.9") == 0
        assert in_cache(tmp_path) == 0
        without = tmp_path / "without"
        assert start("ig_fiqa.degradation_p=0.9", "on_top.cache=None", f"output={without}") == 0
        assert (tmp_path / "run" / "metrics.json").read_bytes() == (without / "metrics.json").read_bytes()

    def test_damaged_files_are_computed_anew(self, finished: Path, start: Start, tmp_path: Path) -> None:
        shutil.copytree(finished.parent / "cache", tmp_path / "cache")
        for number, path in enumerate(sorted((tmp_path / "cache").iterdir())):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content if number % 2 else content[: len(content) // 2])
        assert start() == 0
        assert in_cache(tmp_path) == 0
        assert (tmp_path / "run" / "quality.onnx").read_bytes() == (finished / "quality.onnx").read_bytes()

    def test_a_killed_run_goes_on(self, recogniser: Path, start: Start, tmp_path: Path) -> None:
        """SIGKILL at the second chunk of features."""
        command = arguments(recogniser, tmp_path)
        script = f"""
import os, signal, train
from trainer.on_top import Features

compute = Features.__call__
def killed(self, images):
    if len(images) == {REPLICATED - CHUNK}:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute(self, images)
Features.__call__ = killed
train.main({command!r})
"""
        result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=120)
        assert result.returncode == -signal.SIGKILL
        assert not (tmp_path / "run" / "quality.onnx").exists()
        assert start("resume=auto") == 0
        assert in_cache(tmp_path) == CHUNK

    def test_ctrl_c_is_one_line_and_the_run_goes_on(
        self,
        request: pytest.FixtureRequest,
        start: Start,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        # A shell that starts the tests in the background leaves SIGINT ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
        compute = Features.__call__

        def interrupted(self: Features, images: Any) -> Any:
            if len(images) == REPLICATED - CHUNK:
                signal.raise_signal(signal.SIGINT)
            return compute(self, images)

        with monkeypatch.context() as patch:
            patch.setattr(Features, "__call__", interrupted)
            assert start() == 128 + signal.SIGINT
        assert capsys.readouterr().err.splitlines()[-1] == "stopped by SIGINT"
        assert start() == 1
        assert "go on with it by resume=True" in capsys.readouterr().err
        assert start("resume=True") == 0
        assert in_cache(tmp_path) == CHUNK


class TestSettings:
    def test_nothing_held_out(self, start: Start, tmp_path: Path) -> None:
        assert start("on_top.held_out=0", "on_top.hidden=0") == 0
        assert {path.name for path in (tmp_path / "run").iterdir()} == ALWAYS
        assert read_json(tmp_path / "run" / "metrics.json")["erc"] == {}
        card = (tmp_path / "run" / "model_card.md").read_text()
        assert "nothing was measured" in card
        assert "84 images of 14 identities" in card
        assert QualityModel(tmp_path / "run" / "quality.onnx").calibration is None

    def test_without_degradations_and_weights(self, start: Start, tmp_path: Path) -> None:
        overrides = ["on_top.replicas=0", "on_top.degraded_share=0", "ig_fiqa.variance_weights=False"]
        assert start(*overrides) == 0
        metrics = read_json(tmp_path / "run" / "metrics.json")
        assert metrics["weights"] == {"mean": 1.0, "share_below_0.1": 0.0}
        assert set(metrics["erc"]) == {"held_out"}
        assert "| degradations | none |" in (tmp_path / "run" / "model_card.md").read_text()

    @pytest.mark.parametrize("reads", ["norm", "maps", "maps,embedding"])
    def test_what_r_reads(self, start: Start, tmp_path: Path, reads: str) -> None:
        assert start(f"on_top.reads={reads}", "on_top.held_out=0", "num_epoch=1") == 0
        state = torch.load(tmp_path / "run" / "quality_head.pt", weights_only=True)
        widths = {"embedding": 8, "norm": 1, "maps": 6}  # the weighted pixels of 3 channels are a map
        assert len(state["columns"]) == sum(widths[name] for name in reads.split(","))

    def test_keys_of_a_training_mean_nothing(
        self, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = ["scale=32", "verbose=7", "ig_fiqa.sub_batch=mirror", "lr_factor.backbone=0.1"]
        assert start(*given, "on_top.held_out=0", "num_epoch=1") == 0
        (warning,) = [line for line in capsys.readouterr().err.splitlines() if "without meaning" in line]
        assert "scale, verbose, ig_fiqa.sub_batch, lr_factor.backbone: without meaning" in warning

    def test_a_record_file_and_a_bin_target(self, start: Start, tmp_path: Path) -> None:
        faces = SyntheticFaces(5, 6, seed=3)
        encoded = [encode_image(faces[i][0], ".png") for i in range(30)]
        write_records(tmp_path, encoded, faces.labels)
        genuine = [True, False] * 10
        pairs = [(k % 5, k % 5 + 1) if same else (k % 6, 29 - k % 6) for k, same in enumerate(genuine)]
        write_verification_bin(tmp_path / "mine.bin", [encoded[i] for pair in pairs for i in pair], genuine)
        assert start(f"rec={tmp_path}", "val_targets=mine", "on_top.held_out=0") == 0
        metrics = read_json(tmp_path / "run" / "metrics.json")
        assert set(metrics["erc"]) == {"mine_degraded"}
        assert 0 <= metrics["verification"]["mine_degraded"]["accuracy"] <= 1
        assert "`" + tmp_path.name + "`" in (tmp_path / "run" / "model_card.md").read_text()

    def test_a_recogniser_without_errors(
        self, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """There is nothing to divide by: null in metrics.json, and words in the card."""
        write_colours(tmp_path / "faces", identities=8)
        assert start(f"rec={tmp_path / 'faces'}", "on_top.degraded_share=0", "on_top.max_images=64") == 0
        result = read_json(tmp_path / "run" / "metrics.json")["erc"]["held_out"]
        assert result["fnmr_at_0"] == 0
        assert set(result["area"].values()) == {None}
        assert "no errors" in (tmp_path / "run" / "model_card.md").read_text()
        assert "UserWarning" not in capsys.readouterr().err


def write_colours(folder: Path, identities: int, images: int = 4, side: int = 112) -> None:
    """An image folder of plain colours, which the recogniser tells apart without an error."""
    rng = np.random.default_rng(0)
    for identity in range(identities):
        (folder / f"p{identity}").mkdir(parents=True)
        colour = rng.integers(20, 220, 3)
        for number in range(images):
            image = np.full((side, side, 3), colour + 2 * number, np.uint8)
            cv2.imwrite(str(folder / f"p{identity}" / f"{number}.png"), image)


class Million:
    """Far more images than are wanted; remembers which were decoded."""

    asked: ClassVar[set[int]] = set()

    def __init__(self, root: str) -> None:
        self.labels = np.repeat(np.arange(100_000), 10)
        self.num_classes = 100_000

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        self.asked.add(index)
        image = np.full((112, 112, 3), self.labels[index] % 200, np.uint8)
        image[:, index % 112] = 255
        return image, int(self.labels[index])


def test_of_a_large_set_only_what_is_used_is_decoded(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS._entries, "million", Million)
    monkeypatch.setattr(Million, "asked", set())
    assert start("dataset=million", "on_top.max_images=100", "on_top.replicas=1") == 0
    assert len(Million.asked) == 100 + 30
    assert read_json(tmp_path / "run" / "metrics.json")["data"]["learned_images"] == 100


class TestErrors:
    """Each mistake gives one line."""

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            ("rec={tmp}/empty", "has no sub-folders; expected one folder of images per identity"),
            ("rec={tmp}/nobody", "has no images"),
            ("rec={tmp}/records", r"record 0 holds \[1.0, 1.0\] and no image, expected a header a, b"),
            ("rec={tmp}/one", "leave . identities to learn from and . to judge by, each needs 2"),
            ("rec={tmp}/one on_top.held_out=0", "leave 1 identities to learn from and 0 to judge by"),
            ("rec={tmp}/single", "the . identities to learn from has a single image"),
            ("rec={tmp}/single on_top.held_out=0", "the 8 identities to learn from has a single image"),
            ("rec={tmp}/large", r"0.png is 120 x 120, expected 112 x 112: align"),
            ("rec={tmp}/damaged", r"image \d+: .*p5/1.png: the image .20 bytes. .*; repair it"),
            ("rec={tmp}/lonely", "judged by: 2 images of 2 identities make 0 genuine .* set it to 0"),
            ("val_targets=lfw", "lfw.bin does not exist; .* take it out of val_targets"),
            ("rec={tmp}/named val_targets=held_out", "'held_out', which is the name of the identities held"),
            ("on_top.cache={tmp}/file", "the cache .*file cannot be used: .*File exists; .*cache=None"),
            ("on_top.cache=/proc/cache", "the cache /proc/cache cannot be used"),
            ("on_top.reads=[]", "'on_top.reads' accepts a list of some of 'embedding', 'norm', 'maps', each"),
            ("on_top.reads=norm,norm", "'on_top.reads' accepts a list of some of"),
            ("quality_head=cr_fiqa", "quality_head='cr_fiqa' cannot be put on top.*variance_weights=False"),
            ("quality_head=None", "quality_head=None cannot be put on top of a recognizer"),
            ("recognizer=nowhere.onnx", "recognizer='nowhere.onnx': there is no such file"),
            ("recognizer=", "'recognizer' accepts a pack of insightface"),
            ("lr=1e30", "L_IG is .* lower lr"),
        ],
    )  # fmt: skip
    def test_one_line(
        self,
        start: Start,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        overrides: str,
        message: str,
    ) -> None:
        write_unusable(tmp_path)
        assert start("num_epoch=4", *overrides.format(tmp=tmp_path).split()) == 1
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert re.search(message, error), error
        assert not (tmp_path / "run" / "quality.onnx").exists()

    def test_nothing_of_what_is_to_be_read(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = without_maps(tmp_path / "flat.onnx")
        assert train.main(arguments(path, tmp_path, "on_top.reads=maps")) == 1
        assert "gives embedding, norm, none of which is to be read: got maps" in capsys.readouterr().err

    def test_torchrun_is_refused(
        self, recogniser: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ValueError, match="one process, got WORLD_SIZE=2"):
            run(load_recipe(RECIPE, arguments(recogniser, tmp_path)[1:]))
        assert not (tmp_path / "run").exists()


def write_unusable(folder: Path) -> None:
    """Data sets and files that no run can use."""
    (folder / "empty").mkdir()
    (folder / "nobody" / "somebody").mkdir(parents=True)
    (folder / "records").mkdir()
    with RecordWriter(folder / "records" / "train.rec", folder / "records" / "train.idx") as writer:
        writer.write(0, (1, 1))
    (folder / "file").write_text("no folder")
    write_colours(folder / "one", identities=1)
    write_colours(folder / "single", identities=8, images=1)
    write_colours(folder / "large", identities=8, side=120)
    write_colours(folder / "damaged", identities=20)
    damaged = folder / "damaged" / "p5" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:20])
    write_colours(folder / "named", identities=8)
    face = (folder / "named" / "p0" / "0.png").read_bytes()
    write_verification_bin(folder / "named" / "held_out.bin", [face] * 4, [True, False])
    write_colours(folder / "lonely", identities=8, images=1)
    shutil.copy(folder / "lonely" / "p0" / "0.png", folder / "lonely" / "p0" / "1.png")


def without_maps(path: Path) -> Path:
    """A recogniser that sees nothing but the mean of each channel."""
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["means"], "average", keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["embedding"], "project"),
    ]
    weights = {"axes": np.array([2, 3]), "weight": projection(8)}
    graph = helper.make_graph(
        nodes,
        "flat",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(path))
    return path


MOBILEFACENET, LFW_DEV = SHARED / "models" / "mobilefacenet_fr.onnx", SHARED / "data" / "lfw_dev"
needs_real_faces = pytest.mark.skipif(
    not (MOBILEFACENET.is_file() and LFW_DEV.is_dir()), reason="needs ../shared"
)


def real(folder: Path, *overrides: str) -> dict[str, Any]:
    """The metrics of a run on photographs, with the recipe as it is."""
    places = [f"recognizer={MOBILEFACENET}", f"rec={LFW_DEV}", f"output={folder / 'run'}"]
    return run(load_recipe(RECIPE, [*places, f"on_top.cache={folder / 'cache'}", *overrides]))


@needs_real_faces
def test_some_photographs(tmp_path: Path) -> None:
    """Too few to learn much from, but more than nothing."""
    metrics = real(tmp_path, "on_top.max_images=500", "on_top.replicas=1", "on_top.held_out=0.3")
    area = metrics["erc"]["held_out_degraded"]["area"]
    assert area["IG-FIQA on top"] < 0.8 * area["random"]
    faces = SyntheticFaces(3, 4, split="test").render()
    own = OnnxRecogniser(MOBILEFACENET, flip=False)(faces)[:, 0]
    _, embeddings = QualityModel(tmp_path / "run" / "both.onnx").score_and_embed(faces[..., ::-1])
    np.testing.assert_allclose(embeddings, own, atol=1e-5)


@pytest.mark.slow
@needs_real_faces
def test_photographs(tmp_path: Path) -> None:
    """Better than what the recogniser gives by itself, on people that R did not learn from."""
    metrics = real(tmp_path, "val_targets=lfw_dev")
    for result in metrics["erc"].values():
        assert result["area"]["IG-FIQA on top"] < 0.9 * result["area"]["embedding norm"]


@pytest.mark.parametrize(("spread", "lines"), [(0.0, 1), (1e-6, 1), (0.01, 0)])
def test_labels_without_spread_are_told_of(log_lines: list[str], spread: float, lines: int) -> None:
    run_on_top._warn_if_equal(0.5 + spread * torch.arange(10.0))
    assert sum("are the same for all images and teach nothing" in line for line in log_lines) == lines

"""A whole run, as ``train.py`` does it, and what a user sees when something is wrong."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from easydict import EasyDict

import train
from igfiqa_head.io.record_writer import write_records
from igfiqa_head.io.written_files import LIST_FILE
from igfiqa_head.quality_head import QualityRegressor
from igfiqa_head.runtime import QualityModel
from trainer import build, build_data
from trainer.run import run

Recipe = Callable[..., EasyDict]
ROOT = Path(__file__).resolve().parents[2]
LFW_DEV = ROOT.parent / "shared" / "data" / "lfw_dev"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one run of the tiny recipe."""
    from tests.trainer.conftest import RECIPE

    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.py").write_text(RECIPE)
    assert train.main([str(folder / "tiny.py"), f"output={folder / 'run'}"]) == 0
    return folder / "run"


def test_all_files_are_there(finished: Path) -> None:
    assert {p.name for p in finished.iterdir()} == {
        "model.pt",
        "quality_head.pt",
        "checkpoint_gpu_0.pt",
        "quality.onnx",
        "embedding.onnx",
        "metrics.json",
        "recipe.json",
        "training.log",
        "tensorboard",
        "erc.png",
        "quality_sheet.png",
        LIST_FILE,
    }


def test_metrics(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert 0 <= metrics["verification"]["synthetic"]["accuracy"] <= 1
    assert metrics["erc"]["synthetic"]["auc"] >= 0
    assert metrics["erc"]["synthetic"]["auc_random"] > 0
    assert -1 <= metrics["spearman_severity"] <= 1
    assert 0 <= metrics["weight_low_variance"] <= 1
    assert 0 <= metrics["weight_diverse"] <= 1


def test_recipe_json_tells_what_was_run(finished: Path) -> None:
    resolved = json.loads((finished / "recipe.json").read_text())
    assert resolved["recipe"]["num_classes"] == 6
    assert resolved["recipe"]["num_image"] == 48
    assert resolved["recipe"]["ig_fiqa"]["loss_weight"] == 10.0
    assert resolved["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert resolved["device"] == "cpu"


@pytest.mark.parametrize(("kind", "width"), [("quality", 1), ("embedding", 16)])
def test_onnx_contract(finished: Path, kind: str, width: int) -> None:
    session = onnxruntime.InferenceSession(str(finished / f"{kind}.onnx"), providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("input", "tensor(float)", [3, 112, 112])
    assert returned.name == kind
    faces = np.random.default_rng(0).uniform(-1, 1, (5, 3, 112, 112)).astype(np.float32)
    together = session.run(None, {"input": faces})[0]
    assert together.shape == (5, width)
    one_by_one = np.concatenate([session.run(None, {"input": face[None]})[0] for face in faces])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert "RGB" in metadata["input"]
    assert "calibration" not in metadata  # the test set is of drawn faces


def test_onnx_quality_is_the_trained_networks(finished: Path, tiny_recipe: Recipe) -> None:
    config = tiny_recipe()
    build.load_plugins(config)
    backbone = build.build_backbone(config).eval()
    backbone.load_state_dict(torch.load(finished / "model.pt", weights_only=True))
    head = build.build_quality_head(config, 6)
    assert head is not None
    head.load_state_dict(torch.load(finished / "quality_head.pt", weights_only=True))
    faces = torch.rand(4, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        expected = head.regressor(backbone(faces)).numpy()
    session = onnxruntime.InferenceSession(str(finished / "quality.onnx"), providers=["CPUExecutionProvider"])
    got = session.run(None, {"input": faces.numpy()})[0][:, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_pictures_are_pictures(finished: Path) -> None:
    for name in ("erc.png", "quality_sheet.png"):
        picture = cv2.imread(str(finished / name))
        assert picture is not None
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 5


def test_the_log_and_tensorboard_with_the_recipe_the_results_and_the_pictures(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = (finished / "training.log").read_text()
    assert "epoch 2/2" in log
    assert "verification accuracy" in log
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"erc", "quality_sheet"}
    sheet = cv2.imread(str(finished / "quality_sheet.png"))
    assert sheet is not None
    (shown,) = events.Images("quality_sheet")
    assert (shown.height, shown.width, shown.step) == (*sheet.shape[:2], 8)
    shown_pixels = cv2.imdecode(np.frombuffer(shown.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown_pixels, sheet)
    (text,) = events.Tensors("recipe/text_summary")
    assert b'"num_image": 48' in text.tensor_proto.string_val[0]
    metrics = json.loads((finished / "metrics.json").read_text())
    for name, value in (
        ("erc/synthetic/auc", metrics["erc"]["synthetic"]["auc"]),
        ("erc/synthetic/area/ig_fiqa", metrics["erc"]["synthetic"]["area"]["ig_fiqa"]),
        ("verification/synthetic/accuracy", metrics["verification"]["synthetic"]["accuracy"]),
        ("spearman_severity", metrics["spearman_severity"]),
    ):
        (scalar,) = events.Scalars(f"final/{name}")
        assert (scalar.step, scalar.value) == (8, pytest.approx(value))
    assert set(events.Tags()["scalars"]) >= {
        f"train/{name}"
        for name in (
            "loss", "loss_recognition", "loss_quality", "cr", "ccs", "nnccs", "variance_mean", "variance_std",
            "zero_weights", "momentum", "learning_rate", "images_per_second", "gradient_norm",
        )
    }  # fmt: skip


def test_plain_recognition(tiny_recipe: Recipe) -> None:
    config = tiny_recipe("quality_head=None", "num_epoch=1")
    metrics = run(config)
    assert metrics["erc"] == {}
    names = {p.name for p in Path(config.output).iterdir()}
    assert "embedding.onnx" in names
    assert not names & {"quality.onnx", "quality_head.pt", "erc.png"}


@pytest.mark.parametrize("head", ["cr_fiqa", "ig_fiqa"])
def test_record_files_and_bin_targets(tmp_path: Path, tiny_recipe: Recipe, head: str) -> None:
    from igfiqa_head.io.images import encode_image
    from igfiqa_head.io.verification_bin import write_verification_bin
    from plugins.datasets.synthetic import SyntheticFaces

    faces = SyntheticFaces(4, 8, seed=3)
    encoded = [encode_image(faces[i][0], ".png") for i in range(len(faces))]
    write_records(tmp_path, encoded, faces.labels)
    genuine = [True, False] * 10
    images = [
        encoded[i]
        for k, same in enumerate(genuine)
        for i in ((k % 8, (k + 1) % 8) if same else (0, 31 - k % 8))
    ]
    write_verification_bin(tmp_path / "mine.bin", images, genuine)
    metrics = run(tiny_recipe(f"rec={tmp_path}", "val_targets=mine", f"quality_head={head}", "num_epoch=1"))
    assert set(metrics["verification"]) == {"mine"}
    calibration = QualityModel(tmp_path / "run" / "quality.onnx").calibration
    assert calibration is not None
    assert (calibration.method, calibration.reference) == (head, "mine")
    assert "spearman_severity" not in metrics


class TestErrors:
    """Each mistake gives one line, before any training."""

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("rec=nowhere", "rec='nowhere' is no folder"),
            ("val_targets=lfw", "lfw.bin does not exist"),
            ("network=r51", "unknown backbone 'r51'. Did you mean 'r50'"),
            ("quality_head=igfiqa", "unknown quality head 'igfiqa'. Did you mean 'ig_fiqa'"),
            ("classifier=fc", "unknown classifier 'fc'"),
            ("dataset=recordoi", "unknown data set 'recordoi'. Did you mean 'recordio'"),
            ("device=cuda:99", "device 'cuda:99' cannot be used here"),
            ("device=tpu9", "device 'tpu9' cannot be used here"),
            ("batch_size=13", "batch_size must be even"),
            ("batch_size=1000", "48 images, fewer than the 1000"),
            ("resume=True", "nothing to resume"),
            ("plugins=nothing.py", "plugin file 'nothing.py' does not exist"),
            ("lr=-1", "'lr' accepts a number > 0"),
        ],
    )
    def test_error_is_one_line(
        self,
        recipe_path: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        override: str,
        message: str,
    ) -> None:
        status = train.main([str(recipe_path), f"output={tmp_path / 'run'}", override])
        assert status == 1
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(error) == 1
        assert message in error[0]
        assert not (tmp_path / "run" / "checkpoint_gpu_0.pt").exists()

    def test_an_incomplete_environment_of_torchrun(
        self, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.delenv("RANK", raising=False)
        with pytest.raises(ValueError, match="environment variable RANK expected, but not set"):
            run(tiny_recipe())

    def test_label_beyond_num_classes(self, tmp_path: Path, tiny_recipe: Recipe) -> None:
        for name in "abc":
            (tmp_path / "faces" / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / "faces" / name / "1.png"), np.zeros((112, 112, 3), np.uint8))
        with pytest.raises(ValueError, match="has a label 2, but num_classes is 2.*num_classes=3"):
            run(tiny_recipe(f"rec={tmp_path / 'faces'}", "num_classes=2"))

    def test_other_num_image_warns(self, tiny_recipe: Recipe, tmp_path: Path) -> None:
        for name in "ab":
            (tmp_path / "faces" / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / "faces" / name / "1.png"), np.zeros((112, 112, 3), np.uint8))
        records: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("igfiqa")
        logger.addHandler(handler)
        try:
            build.load_plugins(config := tiny_recipe(f"rec={tmp_path / 'faces'}", "num_image=7"))
            assert len(build_data.build_train_set(config)) == 2
        finally:
            logger.removeHandler(handler)
        assert any("num_image=7" in message and "2 images" in message for message in records)


def test_synthetic_counts_are_the_recipes(tiny_recipe: Recipe) -> None:
    config = tiny_recipe("num_classes=5", "num_image=30")
    faces = build_data.build_train_set(config)
    assert (len(faces), faces.num_classes) == (30, 5)
    # arcface_torch's speed tests name more classes than images
    more_classes = tiny_recipe("num_classes=300000", "num_image=100000")
    assert len(build_data.build_train_set(more_classes)) == 100000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_can_go_on(
    recipe_path: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """With loader workers; Ctrl-C goes to the whole process group, as from a terminal."""
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        str(recipe_path),
        f"output={tmp_path / 'run'}",
        "num_epoch=4000",
        "num_workers=1",
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
    )
    checkpoint = tmp_path / "run" / "checkpoint_gpu_0.pt"
    for _ in range(600):
        if checkpoint.exists():
            break
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; state saved in" in error
    state = torch.load(checkpoint, weights_only=True)
    assert state["global_step"] > 0


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        train.main(["--help"])
    assert exit_status.value.code == 0
    text = capsys.readouterr().out
    assert "recipes/quickstart.py" in text
    assert "key=value" in text


def test_a_quality_that_ranks_nothing_is_told_at_the_end(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def constant(self: QualityRegressor, embeddings: torch.Tensor) -> torch.Tensor:
        return 0 * embeddings.sum(1) + self.bias

    monkeypatch.setattr(QualityRegressor, "forward", constant)
    config = tiny_recipe("num_epoch=1")
    run(config)
    text = (Path(config.output) / "training.log").read_text()
    assert "synthetic: the quality cannot rank its faces: all 25 values are" in text


def test_a_mistyped_key_is_told_without_waiting_for_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import train; sys.exit(train.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "recipes/quickstart.py", "batchsize=8"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: unknown recipe key 'batchsize'. Did you mean 'batch_size'?")


@pytest.mark.slow
@pytest.mark.skipif(not LFW_DEV.is_dir(), reason="needs ../shared/data/lfw_dev")
def test_real_photographs(tmp_path: Path) -> None:
    """Nothing but rec and val_targets changes."""
    from trainer.recipe import load_recipe

    overrides = [f"rec={LFW_DEV}", "val_targets=lfw_dev", f"output={tmp_path / 'run'}"]
    metrics = run(load_recipe(ROOT / "recipes/quickstart.py", overrides))
    assert metrics["verification"]["lfw_dev"]["accuracy"] >= 0.60
    losses = [
        float(line.split("loss ")[1].split()[0])
        for line in (tmp_path / "run" / "training.log").read_text().splitlines()
        if " loss " in line
    ]
    assert losses[-1] < 0.7 * losses[0]

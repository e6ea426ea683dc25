"""``python -m trainer.export``: what it writes and says, and what a user sees when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from igfiqa_head.calibration import Calibration, PercentScale
from igfiqa_head.io.written_files import LIST_FILE
from igfiqa_head.runtime import INPUT_CONTRACT, FaceNetwork, QualityModel
from plugins.backbones import get_model
from tests.plugins.backbones.filling import fill
from tests.trainer.conftest import TINY_PLUGIN
from tests.trainer.test_crops import write
from trainer.crops import rendered_crops
from trainer.evaluation import embed
from trainer.export import main
from trainer.sources import open_source

ROOT = Path(__file__).resolve().parents[2]
FACTS = ROOT.parent / "shared" / "facts" / "crfiqa_state_dicts.json"
LFW_DEV = ROOT.parent / "shared" / "data" / "lfw_dev"
PLUGIN = ["--plugin", str(TINY_PLUGIN)]
CALIBRATION = Calibration("ig_fiqa", "test faces", PercentScale(100, (-1.0, 0.0, 1.0), (0.0, 50.0, 100.0)))

Floats = NDArray[np.float32]


def torch_says(source: Path, crops: NDArray[np.uint8], **options: object) -> tuple[Floats, Floats | None]:
    """(embeddings, qualities) of the crops by the trainer's own code."""
    loaded = open_source(source, plugins=[str(TINY_PLUGIN)], **options)  # type: ignore[arg-type]
    embeddings, quality = embed(loaded.backbone, loaded.regressor, list(crops), torch.device("cpu"))
    return embeddings[:, 0], quality


@pytest.mark.parametrize("kind", ["quality", "embedding", "both", "fused"])
def test_every_kind_from_a_run(a_run: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(a_run), "--kind", kind, *PLUGIN]) == 0
    written = capsys.readouterr()
    assert written.err == ""
    assert f"wrote {a_run / f'{kind}.onnx'}" in written.out
    assert "relative error against torch" in written.out
    crops = rendered_crops(5)
    outputs = FaceNetwork(a_run / f"{kind}.onnx").run(crops)
    embedding, quality = torch_says(a_run, crops)
    assert quality is not None
    if kind in ("quality", "both"):
        np.testing.assert_allclose(outputs["quality"][:, 0], quality, rtol=1e-4, atol=1e-5)
    if kind in ("embedding", "both"):
        np.testing.assert_allclose(outputs["embedding"], embedding, rtol=1e-3, atol=1e-4)
    if kind == "fused":
        norms = np.linalg.norm(outputs["embedding"], axis=1)
        np.testing.assert_allclose(norms, np.log1p(np.exp(quality)), rtol=1e-4)
        directions = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
        np.testing.assert_allclose(outputs["embedding"] / norms[:, None], directions, atol=1e-4)


def test_a_run_exports_the_same_by_itself(a_run: Path) -> None:
    """The files at the end of a training and those of the command say the same of their origin."""
    assert main([str(a_run), "--output", str(a_run / "again"), *PLUGIN]) == 0
    first, again = (FaceNetwork(path / "quality.onnx") for path in (a_run, a_run / "again"))
    assert first.metadata == again.metadata
    crops = rendered_crops(5)
    np.testing.assert_allclose(first.run(crops)["quality"], again.run(crops)["quality"], rtol=1e-5)


def test_copies_of_an_earlier_export_are_told_of(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = a_run / "quality.fp16.onnx"
    copy.write_bytes(b"of other weights")
    assert main([str(a_run), *PLUGIN]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "fp16" in line]
    assert line.startswith(f"{copy} is older than quality.onnx and not made from it: --fp16 replaces it")
    assert copy.read_bytes() == b"of other weights"


def test_metadata_from_the_command_line(a_run: Path, tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path / "calibration.json")
    output = tmp_path / "models" / "mine.onnx"
    arguments = ["--calibration", str(tmp_path / "calibration.json"), "--license", "CC0-1.0"]
    assert main([str(a_run), "--kind", "both", "--output", str(output), *arguments, *PLUGIN]) == 0
    model = QualityModel(output)
    assert model.calibration == CALIBRATION
    expected = {"input": INPUT_CONTRACT, "kind": "both", "method": "ig_fiqa", "licence": "CC0-1.0"}
    assert model.network.metadata.items() >= expected.items()
    assert set(model.network.metadata) == {*expected, "recipe", "calibration", "source_sha256", "version"}


def check_cr_fiqa(path: Path, kind: str) -> None:
    """A checkpoint of CR-FIQA loads, scores and exports."""
    crops = rendered_crops(3)
    embedding, quality = torch_says(path, crops)
    assert quality is not None
    assert np.isfinite(quality).all()
    assert main([str(path), "--kind", kind, "--licence", "CC BY-NC 4.0"]) == 0
    written = path.with_name(f"{path.stem}.{kind}.onnx")
    model = QualityModel(written)
    assert model.network.metadata["method"] == "cr_fiqa"
    np.testing.assert_allclose(model.score_rgb(crops), quality, atol=1e-4 * np.abs(quality).max())
    if kind == "both":
        found = model.network.run(crops)["embedding"]
        np.testing.assert_allclose(found, embedding, atol=1e-4 * np.abs(embedding).max())


def test_a_checkpoint_of_cr_fiqa(tmp_path: Path) -> None:
    backbone = get_model("r18")
    fill(backbone)
    state = backbone.state_dict() | {"qs.weight": torch.rand(1, 512) / 10, "qs.bias": torch.rand(1)}
    torch.save(state, tmp_path / "181952backbone.pth")
    check_cr_fiqa(tmp_path / "181952backbone.pth", "both")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50, 100])
def test_checkpoints_of_cr_fiqa_by_their_listed_names_and_shapes(tmp_path: Path, depth: int) -> None:
    if not FACTS.is_file():
        pytest.skip("the listing of CR-FIQA's names is not at hand")
    shapes = json.loads(FACTS.read_text(encoding="utf-8"))[f"iresnet{depth}"]
    generator = torch.Generator().manual_seed(depth)
    state = {name: random_entry(name, shape, generator) for name, shape in shapes.items()}
    torch.save(state, tmp_path / "181952backbone.pth")
    check_cr_fiqa(tmp_path / "181952backbone.pth", "quality")


def random_entry(name: str, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    """Contents under which activations neither vanish nor explode."""
    if name.endswith("tracked"):
        return torch.tensor(7)
    if name.endswith("bn3.weight"):  # the branches that are added up
        return torch.full(shape, 0.2)
    numbers = torch.rand(shape, generator=generator)
    if len(shape) > 1:
        return (2 * numbers - 1) * (3 / np.prod(shape[1:])) ** 0.5
    return 0.5 + numbers if name.endswith(("weight", "running_var")) else 0.2 * numbers - 0.1


def test_a_checkpoint_of_arcface_torch_with_a_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = get_model("timm:test_resnet", num_features=24)
    fill(backbone)
    torch.save({"epoch": 1, "state_dict_backbone": backbone.state_dict()}, tmp_path / "checkpoint_gpu_0.pt")
    torch.save({"regressor.weight": torch.rand(1, 24), "regressor.bias": torch.rand(1)}, tmp_path / "head.pt")
    source, head = tmp_path / "checkpoint_gpu_0.pt", tmp_path / "head.pt"
    arguments = [str(source), "--network", "timm:test_resnet"]

    assert main(arguments) == 1
    assert "comes without a quality head, which --kind quality needs" in capsys.readouterr().err
    assert main([*arguments, "--quality-head", str(head)]) == 0
    crops = rendered_crops(3)
    _, quality = torch_says(source, crops, network="timm:test_resnet", quality_head=head)
    model = QualityModel(tmp_path / "checkpoint_gpu_0.quality.onnx")
    np.testing.assert_allclose(model.score_rgb(crops), quality, rtol=1e-4, atol=1e-5)
    assert main([*arguments, "--kind", "embedding"]) == 0
    assert (tmp_path / "checkpoint_gpu_0.embedding.onnx").is_file()


def test_images_of_the_users(a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    images = write("folder", tmp_path / "mine")
    assert main([str(a_run), "--images", str(images), *PLUGIN]) == 0
    assert f"comparing on 4 images of {images}" in capsys.readouterr().out


def test_the_runs_own_images_where_they_still_are(
    a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    images = write("rec folder", tmp_path / "data")
    document = json.loads((a_run / "recipe.json").read_text())
    document["recipe"]["rec"] = str(images)
    (a_run / "recipe.json").write_text(json.dumps(document))
    (a_run / LIST_FILE).unlink()
    assert main([str(a_run), *PLUGIN]) == 0
    assert f"comparing on 4 images of {images}" in capsys.readouterr().out
    (images / "train.rec").rename(tmp_path / "elsewhere")
    (images / "train.idx").unlink()
    images.rename(tmp_path / "gone")
    assert main([str(a_run), *PLUGIN]) == 0
    assert "comparing on 8 rendered faces; --images PATH takes real ones" in capsys.readouterr().out


def test_smaller_copies(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(a_run), "--kind", "both", "--fp16", "--int8", *PLUGIN]) == 0
    out = capsys.readouterr().out
    for name in ("both.fp16.onnx", "both.int8.onnx"):
        assert QualityModel(a_run / name).embeds
        (line,) = [line for line in out.splitlines() if line.startswith(f"wrote {a_run / name}")]
        assert "rank correlation of the qualities 0.99" in line or "qualities 1.0000" in line
        assert "mean cosine of the embeddings" in line


def test_a_copy_that_is_refused(
    a_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("igfiqa_head.compression.MIN_AGREEMENT", 2.0)
    assert main([str(a_run), "--fp16", "--int8", *PLUGIN]) == 1
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert [line.split(" was not written")[0] for line in errors] == [
        f"error: {a_run / 'quality.fp16.onnx'}",
        f"error: {a_run / 'quality.int8.onnx'}",
    ]
    assert captured.out.count("not good enough: int8") == 5
    assert (a_run / "quality.onnx").is_file()
    assert not list(a_run.glob("*.fp16.onnx")) + list(a_run.glob("*.int8.onnx"))


def test_a_copy_that_cannot_be_written_is_told_before_the_work(
    a_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (a_run / "quality.int8.onnx").mkdir()
    assert main([str(a_run), "--int8", *PLUGIN]) == 1
    captured = capsys.readouterr()
    assert "quality.int8.onnx cannot be written: it is a folder" in captured.err
    assert "exporting" not in captured.out


def test_a_name_commands_no_terminal(a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = a_run.rename(tmp_path / "run\x1b[2J\nwrote all")
    assert main([str(hostile), "--kind", "embedding", "--quality-head", "nowhere.pt", *PLUGIN]) == 1
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert r"run\x1b[2J\nwrote all" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "embedding", "--calibration", "CALIBRATION"], "--kind embedding has no output of"),
        (["--kind", "fused", "--calibration", "CALIBRATION"], "--kind fused has no output of"),
        (["--calibration", "RECIPE"], "not a calibration"),
        (["--calibration", "nowhere.json"], "nowhere.json"),
        (["--images", "nowhere"], "there are no images in nowhere"),
        (["--network", "r50"], "leave out --network r50"),
        (["--quality-head", "nowhere.pt"], "nowhere.pt"),
        (["--output", "RECIPE"], "recipe.json cannot be made: File exists"),
        (
            ["--int8", "--images", "FOUR"],
            "has 4 images; the comparison needs at least 132 with --fp16 or --int8",
        ),
    ],
)
def test_errors_are_one_line(
    a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "four").mkdir()
    CALIBRATION.save(tmp_path / "calibration.json")
    paths = {
        "CALIBRATION": str(tmp_path / "calibration.json"),
        "RECIPE": str(a_run / "recipe.json"),
        "FOUR": str(write("folder", tmp_path / "four")),
    }
    assert main([str(a_run), *[paths.get(a, a) for a in arguments], *PLUGIN]) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert error[0].startswith("error: ")
    assert message in error[0]


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from trainer.export import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0 and 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "python -m trainer.export work_dirs/quickstart --kind both" in result.stdout


@pytest.mark.slow
def test_real_crops(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not LFW_DEV.is_dir():
        pytest.skip("the faces for development are not at hand")
    for images in (LFW_DEV, LFW_DEV / "lfw_dev.bin"):
        assert main([str(a_run), "--kind", "fused", "--fp16", "--images", str(images), *PLUGIN]) == 0
        assert f"comparing on 544 images of {images}" in capsys.readouterr().out

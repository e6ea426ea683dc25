"""Smaller copies order faces as the float32 network does, or are not written."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from igfiqa_head import compression
from igfiqa_head.compression import CompressionError, compress_to_fp16, compress_to_int8
from igfiqa_head.export import export_onnx
from igfiqa_head.quality_head import QualityHead, QualityRegressor
from igfiqa_head.runtime import FaceNetwork, QualityModel
from plugins.backbones import get_model
from plugins.datasets.synthetic import SyntheticFaces
from tests.onnx_models import write_model
from tests.plugins.backbones.filling import fill

CALIBRATION_JSON = (
    '{"format":"igfiqa calibration","version":1,"method":"m","reference":"r",'
    '"percentile":{"n_images":9,"scores":[0.0,1.0],"percents":[0.0,100.0]},"fnmr":null}'
)


@functools.cache
def crops() -> NDArray[np.uint8]:
    """RGB uint8 [140, 112, 112, 3]."""
    return SyntheticFaces(140, 1, split="test", low_variance_share=0).render()


def network_input(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


class Difficult(nn.Module):
    """Embeddings [N, 2] of the mean colour, by way of numbers that 8 or 16 bits cannot hold."""

    def __init__(self, scale: float, offset: float = 0.0, colours: Sequence[float] = (1, 1, 1)) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.second = nn.Conv2d(2, 2, 1)
        self.first.weight = nn.Parameter(scale * torch.tensor(colours).expand(2, 3)[..., None, None].clone())
        nn.init.constant_(self.first.bias, offset)
        nn.init.constant_(self.second.weight, 1 / scale)
        nn.init.constant_(self.second.bias, -2 * offset / scale)

    def forward(self, images: Tensor) -> Tensor:
        # Without the activation the two convolutions would be one.
        return self.second(F.relu(self.first(F.avg_pool2d(images, 112)))).flatten(1)


def export(path: Path, backbone: nn.Module, regressor: nn.Module, kind: str) -> Path:
    metadata = {"calibration": CALIBRATION_JSON, "method": "m"}
    images = network_input(crops()[:8])
    export_onnx(backbone, regressor, path, kind=kind, images=images, metadata=metadata)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """``exported(kind)`` is a file of a small residual network."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    backbone, head = get_model("timm:test_resnet", num_features=32), QualityHead(32, 2)
    fill(backbone)
    with torch.no_grad():
        backbone.train()(network_input(crops()))  # so that the statistics are those of faces
        embeddings = backbone.eval()(network_input(crops()))
        # The direction in which faces differ most, so that their qualities do too.
        head.regressor.weight.copy_(torch.pca_lowrank(embeddings, q=1)[2].T)
        head.regressor.bias.copy_(1 - (embeddings @ head.regressor.weight.T).mean())

    @functools.cache
    def make(kind: str) -> Path:
        return export(folder / f"{kind}.onnx", backbone, head, kind)

    return make


def quality(outputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    return outputs["quality"][:, 0] if "quality" in outputs else np.linalg.norm(outputs["embedding"], axis=1)


@pytest.mark.parametrize("kind", ["quality", "embedding", "both", "fused"])
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_copy_says_nearly_the_same_and_is_smaller(  # type: ignore[no-untyped-def]
    exported, tmp_path: Path, kind: str, precision: str
) -> None:
    path, images = tmp_path / "copy.onnx", crops()[32:]
    if precision == "int8":
        agreement = compress_to_int8(exported(kind), path, calibration=crops()[:32], images=images)
    else:
        agreement = compress_to_fp16(exported(kind), path, images=images)
    assert path.stat().st_size < exported(kind).stat().st_size * (0.55 if precision == "float16" else 0.45)
    original, copy = FaceNetwork(exported(kind)), FaceNetwork(path)
    assert copy.metadata["precision"] == precision
    assert copy.output_shapes == original.output_shapes
    model = onnx.load(path)
    kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert kinds == {onnx.TensorProto.FLOAT}
    theirs, ours = original.run(images), copy.run(images)
    if kind == "embedding":
        assert agreement.rank_correlation is None
    else:
        expected = spearmanr(quality(theirs), quality(ours)).statistic
        assert agreement.rank_correlation == pytest.approx(expected, abs=1e-6)
        assert agreement.rank_correlation >= 0.99
    if kind == "quality":
        assert agreement.cosine is None
    else:
        rows = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for a, b in zip(*[o["embedding"] for o in (theirs, ours)], strict=True)
        ]
        assert agreement.cosine == pytest.approx(np.mean(rows), abs=1e-5)
        assert agreement.cosine >= 0.99


def test_int8_is_int8_but_for_the_regressor(exported, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    compress_to_int8(exported("both"), tmp_path / "q.onnx", calibration=crops()[:32], images=crops()[32:])
    model = onnx.load(tmp_path / "q.onnx")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}

    def weights_in_int8(node: onnx.NodeProto) -> bool:
        source = producers.get(node.input[1])
        return source is not None and types[source.input[0]] == onnx.TensorProto.INT8

    matrices = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert [weights_in_int8(node) for node in matrices] == [True] * (len(matrices) - 1) + [False]
    assert len(matrices) > 10


def test_a_calibration_goes_with_the_scores_it_was_made_for(exported, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    compress_to_fp16(exported("quality"), tmp_path / "half.onnx", images=crops())
    compress_to_int8(exported("quality"), tmp_path / "int8.onnx", calibration=crops()[:32], images=crops())
    assert QualityModel(tmp_path / "half.onnx").calibration is not None
    assert QualityModel(tmp_path / "int8.onnx").calibration is None
    assert QualityModel(tmp_path / "int8.onnx").network.metadata["method"] == "m"


@pytest.mark.parametrize(
    ("precision", "backbone", "message"),
    [
        ("float16", Difficult(1.0, 1e6), "activations of .* reach 1e.06, which is more than float16 holds"),
        (
            "float16",
            Difficult(1e-9, colours=(1, -0.8, 0.1)),
            ".*0.99; the best was float16: rank correlation",
        ),
        ("int8", Difficult(1.0, 300.0), ".*0.99; the best was int8"),
    ],
    ids=["float16 range", "float16", "int8"],
)
def test_a_copy_that_orders_faces_differently_is_not_written(
    tmp_path: Path, precision: str, backbone: nn.Module, message: str
) -> None:
    """Most of the range is taken by an offset, or weights lie outside of it."""
    regressor = QualityRegressor(2)
    nn.init.constant_(regressor.weight, 1.0)
    source = tmp_path / "quality.onnx"
    export(source, backbone, regressor, "quality")
    target, tried = tmp_path / "copy.onnx", []
    target.write_bytes(b"earlier")
    compress = {
        "float16": compress_to_fp16,
        "int8": partial(compress_to_int8, calibration=crops(), tell=tried.append),
    }[precision]
    with pytest.raises(CompressionError, match=f"copy.onnx was not written: {message}") as caught:
        compress(source, target, images=crops())
    assert {path.name for path in tmp_path.iterdir()} == {"quality.onnx", "copy.onnx"}
    assert target.read_bytes() == b"earlier"
    if precision == "int8":
        assert len(tried) == len(set(tried)) == len(compression._SETTINGS)
        figures = [float(re.search(r"qualities (-?[\d.]+)", line)[1]) for line in tried]  # type: ignore[index]
        assert f"qualities {max(figures):.4f}" in str(caught.value)


def test_more_careful_settings_follow_those_that_do_not_hold(  # type: ignore[no-untyped-def]
    exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of them hold depends on the processor: here those that leave nothing in float do not."""
    compare = compression._Original.compare

    def compared(original: compression._Original, path: Path, setting: str) -> compression.Agreement:
        agreement = compare(original, path, setting)
        return agreement if "in float" in setting else dataclasses.replace(agreement, rank_correlation=0.98)

    monkeypatch.setattr(compression._Original, "compare", compared)
    tried: list[str] = []
    agreement = compress_to_int8(
        exported("quality"), tmp_path / "q.onnx", calibration=crops()[:32], images=crops(), tell=tried.append
    )
    assert len(tried) == 2
    assert "in float" in agreement.setting
    assert agreement.worst >= 0.99
    assert (tmp_path / "q.onnx").is_file()


@pytest.mark.parametrize(
    ("calibration", "images", "message"),
    [(31, 100, "at least 32 crops to calibrate on, got 31"), (32, 99, "at least 100 crops, got 99")],
)
def test_too_few_crops(exported, tmp_path: Path, calibration: int, images: int, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        compress_to_int8(
            exported("quality"),
            tmp_path / "q.onnx",
            calibration=crops()[:calibration],
            images=crops()[:images],
        )
    assert list(tmp_path.iterdir()) == []


def test_other_peoples_files_are_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m.onnx", {"quality": 1}, size=112)
    with pytest.raises(ValueError, match="m.onnx was not written by export_onnx"):
        compress_to_fp16(source, tmp_path / "half.onnx", images=crops())

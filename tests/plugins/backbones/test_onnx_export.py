"""Backbones export to ONNX with a free batch size and agree with onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from plugins.backbones import get_model
from tests.plugins.backbones.filling import images

FAST = ["timm:test_resnet"]
SLOW = ["r18", "mbf", "vit_t", "timm:mobilenetv3_small_050", "timm:vit_tiny_patch16_224"]


@pytest.mark.parametrize("name", FAST + [pytest.param(name, marks=pytest.mark.slow) for name in SLOW])
def test_exported_network_agrees(name: str, tmp_path: Path) -> None:
    # fp16 is a setting of training: it must leave no trace in the file.
    model = get_model(name, num_features=64, fp16=True).eval()
    path = tmp_path / "embedding.onnx"
    torch.onnx.export(
        model,
        (images(2).float(),),
        path,
        dynamo=True,
        external_data=False,
        input_names=["input"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert list(tmp_path.iterdir()) == [path]
    types = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert not types & {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    model.fp16 = False
    for batch in (1, 3):
        inputs = images(batch).float()
        with torch.no_grad():
            expected = model(inputs).numpy()
        (found,) = session.run(None, {"input": inputs.numpy()})
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

"""Small ONNX face networks whose outputs NumPy can work out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def ramp(size: int) -> NDArray[np.float32]:
    """Weights [1, 1, size, size] of the pixels, different for every pixel, so that mirror images differ."""
    return np.linspace(0.5, 1.5, size * size, dtype=np.float32).reshape(1, 1, size, size)


def projection(width: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(3, width)).astype(np.float32)


def expected(images: NDArray[np.uint8], width: int, *, mean: float = 127.5, std: float = 127.5) -> NDArray:
    """What the network says of RGB images [N, H, W, 3]: float64 [N, width]."""
    normalised = (images.astype(np.float64).transpose(0, 3, 1, 2) - mean) / std
    return (normalised * ramp(images.shape[1])).mean(axis=(2, 3)) @ projection(width)


def write_model(
    path: Path,
    outputs: Mapping[str, int] = {"embedding": 8},
    *,
    batch: int | str = "N",
    size: int = 16,
    input_shape: Sequence[int | str] | None = None,
    dtype: int = TensorProto.FLOAT,
    names: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    flat: bool = False,
    seed: int = 0,
    external: bool = False,
) -> Path:
    """images -> mean of the weighted pixels of each channel -> a linear map to each output.

    ``names`` are those of identity nodes before the first operation; ``flat`` outputs have shape [N].
    """
    nodes = []
    tensor = "input"
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [tensor], ["as_float"], "cast", to=TensorProto.FLOAT))
        tensor = "as_float"
    for index, name in enumerate(names):
        nodes.append(helper.make_node("Identity", [tensor], [f"same_{index}"], name=name))
        tensor = f"same_{index}"
    weights = [numpy_helper.from_array(ramp(size), "ramp"), numpy_helper.from_array(np.array([2, 3]), "axes")]
    nodes.append(helper.make_node("Mul", [tensor, "ramp"], ["weighted"], "weigh"))
    nodes.append(helper.make_node("ReduceMean", ["weighted", "axes"], ["means"], "average", keepdims=0))
    for name, width in outputs.items():
        weights.append(numpy_helper.from_array(projection(width, seed), f"weight_{name}"))
        linear = f"linear_{name}" if flat else name
        nodes.append(helper.make_node("MatMul", ["means", f"weight_{name}"], [linear], f"project_{name}"))
        if flat:
            weights.append(numpy_helper.from_array(np.array([-1]), f"shape_{name}"))
            nodes.append(helper.make_node("Reshape", [linear, f"shape_{name}"], [name], f"flatten_{name}"))
    graph = helper.make_graph(
        nodes,
        "faces",
        [helper.make_tensor_value_info("input", dtype, input_shape or [batch, 3, size, size])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch] if flat else [batch, width])
            for name, width in outputs.items()
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save_model(
        model, str(path), save_as_external_data=external, location=f"{path.name}.data", size_threshold=64
    )
    return path


def write_identity(
    path: Path,
    shape: Sequence[int | str],
    *,
    dtype: int = TensorProto.FLOAT,
    inputs: int = 1,
    outputs: int = 1,
) -> Path:
    """A model of any shape that gives its first input back."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["in_0"], [f"out_{index}"]) for index in range(outputs)],
        "identity",
        [helper.make_tensor_value_info(f"in_{index}", dtype, shape) for index in range(inputs)],
        [helper.make_tensor_value_info(f"out_{index}", dtype, shape) for index in range(outputs)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(path))
    return path

"""A small convolutional recogniser in ONNX, in the many forms such files have, and what NumPy says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

SIDES, CHANNELS, STRIDES, WIDTH = (28, 14, 7), (6, 8, 10), (4, 2, 2), 12
MXNET_MEAN, MXNET_SCALE = 127.5, 1 / 128
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Form:
    """How the file is written; the network is the same.

    Attributes:
        batch: its declared first dimension.
        opset, ir_version: of ONNX.
        half: weights and activations are in float16.
        half_faces: so are the faces and the embedding.
        input_name: of the faces.
        embedding_axes: [N, WIDTH], or [N, WIDTH, 1, 1] from a convolution as the last layer.
        normalises: as MXNet's files do, which take 0 .. 255.
        weights_are_inputs: as ir_version 3 asks for.
        weights_are_nodes: of type Constant.
        branch: the first ReLU is within an If, which reads the tensor around it.
        function: the first ReLU is a function of the file.
        external: weights are beside the file.
    """

    batch: int | str = "N"
    opset: int = 18
    ir_version: int = 8
    half: bool = False
    half_faces: bool = False
    input_name: str = "input"
    embedding_axes: int = 2
    normalises: bool = False
    weights_are_inputs: bool = False
    weights_are_nodes: bool = False
    branch: bool = False
    function: bool = False
    external: bool = False

    @property
    def keeps_faces(self) -> bool:
        """Whether its first tensors are the faces themselves, which then count as maps."""
        return self.normalises or (self.half and not self.half_faces)


FORMS = {
    "plain": Form(),
    "opset 7": Form(opset=7, ir_version=3, weights_are_inputs=True),
    "opset 11": Form(opset=11, ir_version=6),
    "opset 23": Form(opset=23, ir_version=10),
    "batch 1": Form(batch=1),
    "batch 4": Form(batch=4),
    "unnamed batch": Form(batch=""),
    "half": Form(half=True, half_faces=True),
    "half inside": Form(half=True),
    "data": Form(input_name="data"),
    "quality": Form(input_name="quality"),
    "axes 4": Form(embedding_axes=4),
    "mxnet": Form(
        opset=8, ir_version=3, weights_are_inputs=True, normalises=True, input_name="data", batch=1
    ),
    "weights are nodes": Form(weights_are_nodes=True),
    "branch": Form(branch=True),
    "function": Form(function=True),
    "external": Form(external=True),
}


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """RGB [N, 112, 112, 3]: tiles of random colours, every other one darker and of less contrast."""
    tiles = np.random.default_rng(seed).integers(0, 256, (count, 14, 14, 3))
    tiles[1::2] = 40 + tiles[1::2] // 6
    return tiles.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


def weights() -> dict[str, NDArray[np.float32]]:
    """Kernels [C, C_in, K, K] and biases of the convolutions, and the last layer [490, WIDTH]."""
    generator = np.random.default_rng(1)
    values = {}
    for i, (inputs, outputs, stride) in enumerate(zip((3, *CHANNELS), CHANNELS, STRIDES, strict=False)):
        scale = (inputs * stride**2) ** -0.5
        values[f"kernel_{i}"] = generator.normal(scale=scale, size=(outputs, inputs, stride, stride))
        values[f"bias_{i}"] = generator.normal(scale=0.3, size=outputs)
    values["last"] = generator.normal(scale=0.05, size=(CHANNELS[-1] * SIDES[-1] ** 2, WIDTH))
    return {name: value.astype(np.float32) for name, value in values.items()}


def activations(images: NDArray[np.uint8], form: Form = FORMS["plain"]) -> list[Array]:
    """The maps [N, C, S, S] of every resolution, and then the embedding [N, WIDTH]."""
    mean, scale = (MXNET_MEAN, MXNET_SCALE) if form.normalises else (127.5, 1 / 127.5)
    x = (images.transpose(0, 3, 1, 2).astype(np.float64) - mean) * scale
    maps, values = [x] if form.keeps_faces else [], weights()
    for i, (side, stride) in enumerate(zip(SIDES, STRIDES, strict=True)):
        patches = x.reshape(len(x), -1, side, stride, side, stride)
        x = np.einsum("nchawb,dcab->ndhw", patches, values[f"kernel_{i}"].astype(np.float64))
        x = np.maximum(x + values[f"bias_{i}"][:, None, None], 0)
        maps.append(x)
    return [*maps, x.reshape(len(x), -1) @ values["last"].astype(np.float64)]


def features(images: NDArray[np.uint8], form: Form = FORMS["plain"]) -> Array:
    """[N, F]: embedding, its length, means of all maps, standard deviations of all maps."""
    *maps, embedding = activations(images, form)
    means = [values.mean(axis=(2, 3)) for values in maps]
    stds = [values.std(axis=(2, 3)) for values in maps]
    return np.hstack([embedding, np.linalg.norm(embedding, axis=1, keepdims=True), *means, *stds])


def write_recogniser(path: Path, form: Form = FORMS["plain"]) -> Path:
    """input -> three convolutions with ReLU -> ``embedding``."""
    dtype = TensorProto.FLOAT16 if form.half else TensorProto.FLOAT
    values = weights()
    if form.embedding_axes == 4:
        values["last"] = values["last"].T.reshape(WIDTH, CHANNELS[-1], SIDES[-1], SIDES[-1])
    if form.normalises:
        values |= {"mean": np.float32([MXNET_MEAN]), "scale": np.float32([MXNET_SCALE])}
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    tensors = [numpy_helper.from_array(value.astype(numpy_type), name) for name, value in values.items()]
    nodes = _nodes(form, dtype)
    if form.weights_are_nodes:
        constants = [helper.make_node("Constant", [], [t.name], t.name, value=t) for t in tensors]
        nodes, tensors = constants + nodes, []
    io_type = TensorProto.FLOAT16 if form.half_faces else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(form.input_name, io_type, [form.batch or None, 3, 112, 112])]
    if form.weights_are_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    shape = [form.batch or None, WIDTH, 1, 1][: form.embedding_axes]
    outputs = [helper.make_tensor_value_info("embedding", io_type, shape)]
    graph = helper.make_graph(nodes, "recogniser", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", form.opset)]
    functions = []
    if form.function:
        relu = [helper.make_node("Relu", ["x"], ["y"])]
        functions = [helper.make_function("test.local", "Rectify", ["x"], ["y"], relu, opsets)]
        opsets = [*opsets, helper.make_opsetid("test.local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=form.ir_version)
    onnx.save_model(
        model, str(path), save_as_external_data=form.external, location=f"{path.name}.data", size_threshold=64
    )
    return path


def _nodes(form: Form, dtype: int) -> list[NodeProto]:
    nodes, x, y = [], form.input_name, "embedding"
    if form.half and not form.half_faces:
        nodes.append(helper.make_node("Cast", [x], ["half_faces"], "enter", to=TensorProto.FLOAT16))
        x, y = "half_faces", "half_embedding"
    if form.normalises:
        nodes.append(helper.make_node("Sub", [x, "mean"], ["centred"], "_minusscalar0"))
        nodes.append(helper.make_node("Mul", ["centred", "scale"], ["scaled"], "_mulscalar0"))
        x = "scaled"
    for i, stride in enumerate(STRIDES):
        convolution = [x, f"kernel_{i}", f"bias_{i}"]
        nodes.append(
            helper.make_node("Conv", convolution, [f"conv_{i}"], f"convolve_{i}", strides=[stride, stride])
        )
        nodes += _relu(form, dtype, f"conv_{i}", f"relu_{i}") if i == 0 else _plain(f"conv_{i}", f"relu_{i}")
        x = f"relu_{i}"
    if form.embedding_axes == 4:
        nodes.append(helper.make_node("Conv", [x, "last"], [y], "last"))
    else:
        nodes.append(helper.make_node("Flatten", [x], ["flat"], "flatten"))
        nodes.append(helper.make_node("MatMul", ["flat", "last"], [y], "last"))
    if form.half and not form.half_faces:
        nodes.append(helper.make_node("Cast", [y], ["embedding"], "leave", to=TensorProto.FLOAT))
    return nodes


def _plain(x: str, y: str) -> list[NodeProto]:
    return [helper.make_node("Relu", [x], [y], f"rectify_{y}")]


def _relu(form: Form, dtype: int, x: str, y: str) -> Sequence[NodeProto]:
    if form.function:
        return [helper.make_node("Rectify", [x], [y], f"rectify_{y}", domain="test.local")]
    if not form.branch:
        return _plain(x, y)
    branches = {}
    for name, operator in (("then_branch", "Relu"), ("else_branch", "Neg")):
        output = f"{y}_{name}"
        child = helper.make_node(operator, [x], [output])
        branches[name] = helper.make_graph(
            [child], name, [], [helper.make_tensor_value_info(output, dtype, None)]
        )
    yes = numpy_helper.from_array(np.array(True), "yes")
    return [
        helper.make_node("Constant", [], ["condition"], "condition", value=yes),
        helper.make_node("If", ["condition"], [y], f"rectify_{y}", **branches),
    ]

"""Adding nodes and outputs to an ONNX graph that somebody else wrote. Needs the onnx package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from igfiqa_head.onnx_file import OnnxFile
from igfiqa_head.onnx_session import session_options

INPUT = "input"
"""What :class:`GraphExtension` calls the input, as :func:`igfiqa_head.export.export_onnx` does."""

_ORIGINAL, _ADDED = "network/", "added/"
_MIN_OPSET = 7  # from here on operators broadcast as NumPy does
_MIN_IR_VERSION = 4  # before, weights had to be listed among the inputs
_MAX_BYTES = 2**31 - 2**24  # of a Protocol Buffers message, less room for what is added

FloatArray = NDArray[np.float32]


class GraphExtension:
    """A copy of a graph, with other outputs than it had; it starts without any.

    The input becomes ``input`` and every other tensor ``network/NAME``, which leaves the names to outputs.
    Nodes keep their names and stay first: insightface reads in the names of the first 8 whether a graph
    normalises its input.
    """

    def __init__(self, proto: ModelProto) -> None:
        """Take a copy of what :func:`load_graph` gives."""
        self._proto = ModelProto()
        self._proto.CopyFrom(proto)
        self._graph = self._proto.graph
        del self._graph.output[:]
        faces = self._graph.input[0].name
        _rename(self._graph, lambda name: INPUT if name == faces else name and _ORIGINAL + name)
        self._known: dict[tuple[object, ...], str] = {}

    def tensor(self, name: str) -> str:
        """The tensor that the original graph calls ``name``, as float32."""
        return self.add("Cast", _ORIGINAL + name, to=TensorProto.FLOAT)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, or find the same one; returns its output."""
        key = (operator, *inputs, *attributes.items())
        if key not in self._known:
            name = self._known[key] = f"{_ADDED}{operator}_{len(self._known)}"
            self._graph.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return self._known[key]

    def constant(self, value: FloatArray) -> str:
        key = ("constant", value.shape, value.tobytes())
        if key not in self._known:
            name = self._known[key] = f"{_ADDED}constant_{len(self._known)}"
            self._graph.initializer.append(numpy_helper.from_array(value, name))
        return self._known[key]

    # What follows is made of operators that mean the same in every opset.

    def norm(self, rows: str, width: int) -> str:
        """Length [N, 1] of rows [N, ``width``]."""
        squares = self.add("Mul", rows, rows)
        return self.add("Sqrt", self.add("MatMul", squares, self.constant(np.ones((width, 1), np.float32))))

    def mean_and_std(self, maps: Sequence[str]) -> str:
        """[N, 2C]: mean of each of the C channels of maps [N, C_i, H_i, W_i], then the standard deviations.

        The variance is E[x^2] - E[x]^2. To centre the maps first would double the costs, since onnxruntime
        would have to change the layout of its convolutions for it. Rounding is then up to 5e-4 of the mean,
        which matters where a map is all but constant; activations on faces vary by a few percent and more.
        """
        mean = self._pooled(maps)
        squares = self._pooled([self.add("Mul", values, values) for values in maps])
        variance = self.add("Sub", squares, self.add("Mul", mean, mean))
        std = self.add("Sqrt", self.add("Relu", variance))  # rounding may have made it negative
        return self.add("Concat", mean, std, axis=1)

    def _pooled(self, maps: Sequence[str]) -> str:
        means = [self.add("GlobalAveragePool", values) for values in maps]
        return self.add("Flatten", self.add("Concat", *means, axis=1), axis=1)

    def output(self, tensor: str, name: str, width: int) -> None:
        """Make a tensor [N, ``width``] an output."""
        batch = self._graph.input[0].type.tensor_type.shape.dim[0]
        shape = [batch.dim_value or batch.dim_param or None, width]
        self._graph.node.append(helper.make_node("Identity", [tensor], [name], _ADDED + name))
        self._graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph as one file with these key-value pairs and no others."""
        helper.set_model_props(self._proto, dict(metadata))
        onnx.save_model(self._proto, str(path))


def load_graph(path: Path) -> ModelProto:
    """A graph with all weights, wherever its file keeps them, and the faces as its only input.

    Raises:
        ValueError: see :class:`igfiqa_head.onnx_file.OnnxFile`; onnx cannot read it, its opset is too old, or
            it has more than 2 GiB.
    """
    size = OnnxFile(path).size
    if size > _MAX_BYTES:
        raise ValueError(
            f"{path} has {size / 2**30:.1f} GiB of weights and cannot be extended: one ONNX file can hold 2"
        )
    try:
        proto = onnx.load(str(path))
    except Exception as error:  # of Protocol Buffers, of onnx's checker, of the system: no common base
        raise ValueError(f"onnx cannot read {path}, which onnxruntime can: {error}") from error
    opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 1)
    if opset < _MIN_OPSET:
        raise ValueError(
            f"{path} is of opset {opset} and cannot be extended: expected at least {_MIN_OPSET}; "
            "onnx.version_converter converts it"
        )
    weights = {tensor.name for tensor in proto.graph.initializer}
    faces = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(faces)
    proto.ir_version = max(proto.ir_version, _MIN_IR_VERSION)
    return proto


def computed_tensors(proto: ModelProto, faces: FloatArray) -> dict[str, Any]:
    """Every tensor that a graph of :func:`load_graph` computes of its input, in the order of computing.

    What does not depend on the input, such as weights that are kept as nodes, is left out.

    Raises:
        ValueError: the graph does not run on these faces.
    """
    probe = ModelProto()
    probe.CopyFrom(proto)
    source = probe.graph.input[0]
    dependent = {source.name: None}
    for node in probe.graph.node:
        if not dependent.keys().isdisjoint(_read_by(node)):
            dependent |= dict.fromkeys(filter(None, node.output))
    names = list(dependent)[1:]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = session_options()
    options.log_severity_level = 4  # what goes wrong is told below, and not printed too
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    values = faces.astype(helper.tensor_dtype_to_np_dtype(source.type.tensor_type.elem_type))
    try:
        session = onnxruntime.InferenceSession(
            probe.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        return dict(zip(names, session.run(names, {source.name: values}), strict=True))
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise ValueError(f"the graph does not run on {len(faces)} faces: {error}") from error


def _rename(graph: GraphProto, renamed: Callable[[str], str]) -> None:
    """Rename the tensors of a graph and of the branches and loops in it; forget what tools once inferred."""
    del graph.value_info[:], graph.quantization_annotation[:]
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for item in (*graph.input, *graph.output, *graph.initializer, *sparse):
        item.name = renamed(item.name)
    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        for inner in _graphs_in(node):
            _rename(inner, renamed)


def _read_by(node: NodeProto) -> Iterator[str]:
    """Names of a node's inputs; branches and loops also read tensors around them by name."""
    yield from node.input
    for inner in _graphs_in(node):
        for child in inner.node:
            yield from _read_by(child)


def _graphs_in(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs

"""Adding nodes and outputs to an ONNX graph that somebody else wrote. Needs the onnx package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from onnx.compose import add_prefix

_PREFIX, _ADDED = "network/", "added/"
_MIN_OPSET = 7  # from here on operators broadcast as NumPy does

FloatArray = NDArray[np.float32]


class GraphExtension:
    """A copy of a graph, with other outputs than it had.

    Tensors of the graph are renamed to ``network/NAME``, so that outputs may have any name. Names of nodes
    stay: insightface reads in those of the first 8 whether a graph normalises its input.
    """

    def __init__(self, proto: ModelProto) -> None:
        """Take a copy.

        Raises:
            ValueError: its opset is too old.
        """
        opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 1)
        if opset < _MIN_OPSET:
            raise ValueError(
                f"the graph is of opset {opset}, expected at least {_MIN_OPSET}: onnx.version_converter "
                "converts it"
            )
        self._proto = add_prefix(
            proto, _PREFIX, rename_nodes=False, rename_inputs=False, rename_functions=False
        )
        self._graph = self._proto.graph
        del self._graph.output[:]
        self._known: dict[tuple[object, ...], str] = {}

    def tensor(self, name: str) -> str:
        """The tensor that the original graph calls ``name``, as float32."""
        return self.add("Cast", _PREFIX + name, to=onnx.TensorProto.FLOAT)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, or find the same one; returns its output."""
        key = (operator, *inputs, *attributes.items())
        if key not in self._known:
            name = self._known[key] = f"{_ADDED}{operator}_{len(self._known)}"
            self._graph.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return self._known[key]

    def constant(self, value: FloatArray) -> str:
        name = _ADDED + hashlib.sha256(repr(value.shape).encode() + value.tobytes()).hexdigest()[:16]
        if name not in (known.name for known in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def norm(self, rows: str, width: int) -> str:
        """Length [N, 1] of rows [N, ``width``]; of operators that mean the same in every opset."""
        squares = self.add("Mul", rows, rows)
        return self.add("Sqrt", self.add("MatMul", squares, self.constant(np.ones((width, 1), np.float32))))

    def mean_and_std(self, maps: str) -> tuple[str, str]:
        """Mean and standard deviation [N, C] of maps [N, C, H, W] over all positions, in two passes."""
        mean = self.add("GlobalAveragePool", maps)
        centred = self.add("Sub", maps, mean)
        variance = self.add("GlobalAveragePool", self.add("Mul", centred, centred))
        return self.add("Flatten", mean, axis=1), self.add("Flatten", self.add("Sqrt", variance), axis=1)

    def output(self, tensor: str, name: str, width: int) -> None:
        """Make a tensor [N, ``width``] an output."""
        batch = self._graph.input[0].type.tensor_type.shape.dim[0]
        shape = [batch.dim_value or batch.dim_param or None, width]
        self._graph.node.append(helper.make_node("Identity", [tensor], [name], _ADDED + name))
        self._graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph as one file."""
        del self._graph.value_info[:]  # what other tools once inferred; onnxruntime does so by itself
        helper.set_model_props(self._proto, dict(metadata))
        onnx.checker.check_model(self._proto)
        onnx.save_model(self._proto, str(path))


def all_tensors(proto: ModelProto, image: FloatArray) -> dict[str, NDArray[Any]]:
    """Every tensor that a graph with one input computes of it, in the order of computing."""
    probe = ModelProto()
    probe.CopyFrom(proto)
    names = [name for node in probe.graph.node for name in node.output if name]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))

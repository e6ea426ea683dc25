"""The few facts of an ONNX file that onnxruntime does not tell, read without the onnx package.

The onnx package is no dependency of scoring faces. An ONNX file is a Protocol Buffers message: a sequence of
fields, each a tag and a value (https://protobuf.dev/programming-guides/encoding), so what is not needed is
skipped by its length. Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PARTS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto", 22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}  # fmt: skip
"""Kind of message -> number of a field -> kind of message in it: all ways to a tensor, or to a node."""

_NODE_NAME, _NODE_OPERATOR = 3, 4
_TENSOR_EXTERNAL_DATA = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_TAG = 2**32  # readers of Protocol Buffers drop what is above, and would see another field than we
_MAX_DEPTH = 100  # theirs, too


@dataclass(frozen=True)
class OnnxGraph:
    """The names, operators and external files of a graph.

    Attributes:
        node_names: of the nodes, in file order, without those of branches, loops and functions.
        operators: what the nodes do, anywhere in the file, each kind once.
        external_files: names of the files that hold tensors outside of it, wherever the tensors are: weights,
            constants, branches, loops, functions.
    """

    node_names: tuple[str, ...]
    operators: frozenset[str]
    external_files: tuple[str, ...]


def read_onnx_graph(content: bytes) -> OnnxGraph:
    """Read the graph of an ONNX file.

    Raises:
        ValueError: the bytes are no such message, are cut off, or hold no graph.
    """
    names: list[str] = []
    operators: set[str] = set()
    external: dict[str, None] = {}
    has_graph = False
    for above, kind, message in _parts(memoryview(content)):
        has_graph |= kind == "GraphProto"
        if kind == "NodeProto":
            operators.add(_text(message, _NODE_OPERATOR))
            if above == ("ModelProto", "GraphProto"):
                names.append(_text(message, _NODE_NAME))
        elif kind == "TensorProto":
            external |= dict.fromkeys(_locations(message))
    if not has_graph:
        raise ValueError(f"the {len(content)} bytes hold no ONNX graph")
    return OnnxGraph(tuple(names), frozenset(operators), tuple(external))


def _parts(content: memoryview) -> Iterator[tuple[tuple[str, ...], str, memoryview]]:
    """(kinds of the messages around it, kind, message) of all messages of :data:`PARTS`, in file order."""
    waiting: list[tuple[tuple[str, ...], str, memoryview]] = [((), "ModelProto", content)]
    while waiting:
        above, kind, message = waiting.pop()
        yield above, kind, message
        if len(above) > _MAX_DEPTH:
            raise ValueError(f"its graphs lie within each other more than {_MAX_DEPTH} deep")
        parts = PARTS[kind]
        inner = [
            ((*above, kind), parts[number], part)
            for number, part in (_fields(message) if parts else ())
            if number in parts
        ]
        waiting.extend(reversed(inner))


def _locations(tensor: memoryview) -> list[str]:
    entries = _messages(tensor, _TENSOR_EXTERNAL_DATA)
    return [_text(entry, _ENTRY_VALUE) for entry in entries if _text(entry, _ENTRY_KEY) == "location"]


def _messages(message: memoryview, field: int) -> list[memoryview]:
    return [value for number, value in _fields(message) if number == field]


def _text(message: memoryview, field: int) -> str:
    """A text, the bytes that are no UTF-8 as Python has them in names of files."""
    values = _messages(message, field)
    return str(values[-1], "utf-8", "surrogateescape") if values else ""


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, value) of the fields that have a length: strings, bytes and messages."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES and tag < _MAX_TAG:
            length, position = _varint(message, position)
            if length > len(message) - position:
                raise ValueError(f"a field of {length} bytes is cut off after {len(message) - position}")
            yield number, message[position : position + length]
            position += length
        elif kind == _VARINT:
            _, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"byte {position} starts no field: its tag is {tag}")
    if position > len(message):
        raise ValueError("the last field is cut off")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, lowest first, and the position after it."""
    value = 0
    for index, byte in enumerate(message[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError(f"the integer at byte {position} does not end")

"""The few facts of an ONNX file that onnxruntime does not tell, read without the onnx package.

The onnx package is no dependency of scoring faces. An ONNX file is a Protocol Buffers message: a sequence of
fields, each a tag and a value (https://protobuf.dev/programming-guides/encoding), so what is not needed is
skipped by its length. Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_NAME, _NODE_OPERATOR = 3, 4
_TENSOR_EXTERNAL_DATA = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxGraph:
    """The names, operators and external files of a graph.

    Attributes:
        node_names: of the nodes, in file order.
        operators: what the nodes do, each kind once.
        external_files: names of the files that hold weights outside of it.
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
    graphs = _messages(memoryview(content), _MODEL_GRAPH)
    if not graphs:
        raise ValueError(f"the {len(content)} bytes hold no ONNX graph")
    for field, value in _fields(graphs[-1]):
        if field == _GRAPH_NODE:
            names.append(_text(value, _NODE_NAME))
            operators.add(_text(value, _NODE_OPERATOR))
        elif field == _GRAPH_INITIALIZER:
            for entry in _messages(value, _TENSOR_EXTERNAL_DATA):
                if _text(entry, _ENTRY_KEY) == "location":
                    external[_text(entry, _ENTRY_VALUE)] = None
    return OnnxGraph(tuple(names), frozenset(operators), tuple(external))


def _messages(message: memoryview, field: int) -> list[memoryview]:
    return [value for number, value in _fields(message) if number == field]


def _text(message: memoryview, field: int) -> str:
    values = _messages(message, field)
    return str(values[-1], "utf-8", "replace") if values else ""


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, value) of the fields that have a length: strings, bytes and messages."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
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
            raise ValueError(f"byte {position} starts no field: wire type {kind} is unknown")
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

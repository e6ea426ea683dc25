"""An insightface model pack whose detector finds faces where a test wants them.

The detector has SCRFD's nine outputs, all constant but for one thing: it finds nothing in a black picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from igfiqa_head.alignment import TEMPLATE
from tests.onnx_models import write_model

SIDE = 256
"""Height and width of the pictures: of this size the detector sees them as they are."""

STRIDES, ANCHORS = (8, 16, 32), 2


@dataclass(frozen=True)
class PackFace:
    """A face to be found: the template shrunk to ``size`` pixels and turned about (x, y), in degrees."""

    x: float
    y: float
    size: float = 70.0
    angle: float = 0.0
    score: float = 0.9

    @property
    def landmarks(self) -> NDArray[np.float64]:
        """[5, 2] as (x, y)."""
        turn = np.deg2rad(self.angle)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return (TEMPLATE - 56) * (self.size / 112) @ rotation.T + [self.x, self.y]

    @property
    def box(self) -> NDArray[np.float64]:
        """[4]: left, top, right, bottom."""
        half = self.size / 2
        return np.array([self.x - half, self.y - half, self.x + half, self.y + half])


FACES = (PackFace(70, 80, 80, angle=8, score=0.9), PackFace(180, 150, 90, angle=-12, score=0.8))


def make_pack(
    root: Path,
    name: str = "testpack",
    faces: Sequence[PackFace] = FACES,
    *,
    recogniser: Mapping[str, int] | None = {"embedding": 8},
    landmarks: bool = True,
) -> Path:
    """Write ``root/models/name``, which ``FaceAnalysis(name, root=root)`` opens, and return it.

    ``det_10g.onnx`` finds ``faces`` in pictures of SIDE x SIDE pixels, the highest score first;
    ``w600k_r50.onnx`` has the outputs of ``recogniser`` (see :func:`tests.onnx_models.write_model`).
    """
    pack = root / "models" / name
    pack.mkdir(parents=True)
    write_detector(pack / "det_10g.onnx", faces, landmarks=landmarks)
    if recogniser is not None:
        write_model(pack / "w600k_r50.onnx", recogniser, size=112)
    return pack


def open_pack(pack: Path, **options: Any) -> Any:
    """A ``FaceAnalysis`` of a pack, on the CPU and prepared."""
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(
        name=pack.name, root=str(pack.parents[1]), providers=["CPUExecutionProvider"], **options
    )
    app.prepare(ctx_id=-1, det_size=(SIDE, SIDE))
    return app


def picture(seed: int = 0) -> NDArray[np.uint8]:
    """BGR uint8 [SIDE, SIDE, 3]: coloured tiles, different everywhere."""
    tiles = np.random.default_rng(seed).integers(20, 236, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    return tiles.repeat(8, axis=0).repeat(8, axis=1)


def write_detector(path: Path, faces: Sequence[PackFace], *, landmarks: bool = True) -> Path:
    """SCRFD's layout: for each stride the scores, then the boxes, then the landmarks of every anchor."""
    tables = [_anchors(stride, faces if stride == STRIDES[0] else ()) for stride in STRIDES]
    columns = {"score": slice(0, 1), "box": slice(1, 5)} | ({"landmarks": slice(5, 15)} if landmarks else {})
    weights = [numpy_helper.from_array(np.float32(-0.9), "dark")]
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["brightest"], "brightest", keepdims=0),
        helper.make_node("Greater", ["brightest", "dark"], ["is_lit"], "compare"),
        helper.make_node("Cast", ["is_lit"], ["lit"], "cast", to=TensorProto.FLOAT),
    ]
    outputs = []
    for name, part in columns.items():
        for stride, table in zip(STRIDES, tables, strict=True):
            output, constant = f"{name}_{stride}", f"constant_{name}_{stride}"
            values = np.ascontiguousarray(table[:, part])
            weights.append(numpy_helper.from_array(values, constant))
            gate = ["Mul", [constant, "lit"]] if name == "score" else ["Identity", [constant]]
            nodes.append(helper.make_node(gate[0], gate[1], [output], f"give_{output}"))
            outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, values.shape))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    graph = helper.make_graph(nodes, "detector", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(path))
    return path


def _anchors(stride: int, faces: Sequence[PackFace]) -> NDArray[np.float32]:
    """[cells * ANCHORS, 15]: score, distances to the box's sides and offsets of the landmarks in strides."""
    cells = SIDE // stride
    table = np.zeros((cells, cells, ANCHORS, 15), np.float32)
    for face in faces:
        column, row = int(face.x // stride), int(face.y // stride)
        anchor = np.array([column, row]) * stride
        sides = np.concatenate([anchor - face.box[:2], face.box[2:] - anchor])
        offsets = (face.landmarks - anchor).ravel()
        table[row, column, 0] = np.concatenate([[face.score], sides / stride, offsets / stride])
    return table.reshape(-1, 15)

"""A recogniser's ONNX graph: what a quality regressor can read in it, and files with the regressor inside.

Nodes are only ever added, behind those that are there: the embedding stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from igfiqa_head.export import MAX_RELATIVE_ERROR, ExportError
from igfiqa_head.graph_extension import GraphExtension, all_tensors
from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.kinds import OUTPUTS
from igfiqa_head.runtime import DEFAULT_SIZE, INPUT_CONTRACT, FaceNetwork

RAW_INPUT = "float32 [N, 3, 112, 112], RGB, 0 .. 255"
"""The metadata ``input`` of a file whose graph normalises its input itself."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """``features @ weight + bias``, weight [in, out], bias [out], float32."""

    weight: FloatArray
    bias: FloatArray


class RecogniserGraph:
    """A recogniser as insightface takes it, from an ONNX file.

    Its *features* [N, F] of a face come in groups:

    - ``embedding``, D numbers, not normalised;
    - ``norm``, the length of the embedding;
    - ``maps``, mean and standard deviation over all positions of every channel of the last activations at
      each resolution. They still see what the embedding was taught to overlook, such as blur.

    Attributes:
        network: the recogniser by itself; ``network.fingerprint`` tells it from others.
        embedding_size: D.
        maps: names of the tensors that ``maps`` reads, from early to late, and their numbers of channels.
        groups: name of a group -> its columns.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file.

        Raises:
            ValueError: see :class:`igfiqa_head.runtime.FaceNetwork`; it does not have exactly one output, of
                embeddings [N, D]; its faces are not 112 x 112; or its opset is too old.
        """
        self.network = FaceNetwork(path)
        self._output, self.embedding_size = _embedding_output(self.network)
        try:
            self._proto = _with_its_input_first(onnx.load(str(path)))
            GraphExtension(self._proto)
        except (ValueError, onnx.checker.ValidationError) as error:
            raise ValueError(f"{path} cannot be extended: {error}") from error
        self.maps = self._last_maps()
        widths = {"embedding": self.embedding_size, "norm": 1, "maps": 2 * sum(self.maps.values())}
        ends = np.cumsum([0, *widths.values()]).tolist()
        self.groups = {name: slice(*ends[i : i + 2]) for i, name in enumerate(widths)}

    @property
    def num_features(self) -> int:
        """F."""
        return self.groups["maps"].stop

    def write_features(self, path: Path) -> None:
        """Write the recogniser with one output, ``features`` [N, F]."""
        graph = GraphExtension(self._proto)
        graph.output(self._features(graph, list(self.groups)), "features", self.num_features)
        with atomic_path(path) as temporary:
            graph.save(temporary, {})

    def write_quality(
        self,
        path: Path,
        *,
        kind: str,
        layers: Sequence[Layer],
        reads: Sequence[str],
        images: NDArray[np.uint8],
        quality: FloatArray,
        metadata: Mapping[str, str],
    ) -> float:
        """Write the recogniser with a regressor inside, unless it says something else than it should.

        Args:
            path: the file to write.
            kind: "quality" or "both", see :data:`igfiqa_head.kinds.OUTPUTS`.
            layers: the regressor, with ReLU between them; the last gives one number.
            reads: the groups that the first layer reads, in the order of :attr:`groups`.
            images: RGB uint8 [N, 112, 112, 3] to compare on.
            quality: [N], what the regressor says of them.
            metadata: further key-value pairs of the file.

        Returns:
            The largest difference of a quality, relative to the largest quality.

        Raises:
            ExportError: a quality or embedding differs by more than a relative 1e-4; nothing was written.
        """
        graph = GraphExtension(self._proto)
        tensor = self._features(graph, reads)
        for number, layer in enumerate(layers):
            tensor = graph.add("Relu", tensor) if number else tensor
            product = graph.add("MatMul", tensor, graph.constant(layer.weight))
            tensor = graph.add("Add", product, graph.constant(layer.bias))
        outputs = {"embedding": (self._embedding(graph), self.embedding_size), "quality": (tensor, 1)}
        for name in OUTPUTS[kind]:
            graph.output(outputs[name][0], name, outputs[name][1])
        contract = RAW_INPUT if self.network.mean == 0 else INPUT_CONTRACT
        with atomic_path(path) as temporary:
            graph.save(temporary, dict(metadata) | {"kind": kind, "input": contract})
            expected = {"embedding": self.embed(images), "quality": quality[:, None]}
            return _compare(temporary, images, {name: expected[name] for name in OUTPUTS[kind]})

    def embed(self, images: NDArray[np.uint8]) -> FloatArray:
        """The recogniser's own embeddings [N, D] of RGB uint8 [N, 112, 112, 3]."""
        return self.network.run(images)[self._output].reshape(len(images), -1)

    def _features(self, graph: GraphExtension, groups: Sequence[str]) -> str:
        parts = []
        if "embedding" in groups:
            parts.append(self._embedding(graph))
        if "norm" in groups:
            parts.append(graph.norm(self._embedding(graph), self.embedding_size))
        if "maps" in groups:
            parts += [part for name in self.maps for part in graph.mean_and_std(graph.tensor(name))]
        return graph.add("Concat", *parts, axis=1)

    def _embedding(self, graph: GraphExtension) -> str:
        return graph.add("Flatten", graph.tensor(self._output), axis=1)  # some recognisers give [N, D, 1, 1]

    def _last_maps(self) -> dict[str, int]:
        """The last [1, C, S, S] of every resolution S > 1 of which the face's is a multiple.

        Shapes are those of a pass: what a graph declares of them may be missing or wrong.
        """
        faces = self._proto.graph.input[0].type.tensor_type
        count = faces.shape.dim[0].dim_value or 1
        black = np.zeros(
            (count, 3, DEFAULT_SIZE, DEFAULT_SIZE), onnx.helper.tensor_dtype_to_np_dtype(faces.elem_type)
        )
        last: dict[int, tuple[str, int]] = {}
        for name, value in all_tensors(self._proto, black).items():
            is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            if is_float and value.ndim == 4 and _is_resolution(*value.shape[2:]):
                last[value.shape[2]] = name, value.shape[1]
        return dict(last[side] for side in sorted(last, reverse=True))


def _is_resolution(height: int, width: int) -> bool:
    return height == width > 1 and DEFAULT_SIZE % height == 0


def _with_its_input_first(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Old files list weights among the inputs, which nothing needs."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    faces = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(faces)
    proto.ir_version = max(proto.ir_version, 4)  # before, it was required
    return proto


def _embedding_output(network: FaceNetwork) -> tuple[str, int]:
    shapes = network.output_shapes
    name, shape = next(iter(shapes.items()))
    if len(shapes) != 1 or not shape or shape[0] < 2 or set(shape[1:]) > {1}:
        given = ", ".join(f"{name} {['N', *shape]}" for name, shape in shapes.items())
        raise ValueError(
            f"{network.path} is no recogniser: its outputs are {given}; expected one of embeddings [N, D], "
            "such as w600k_r50.onnx of insightface's buffalo_l has"
        )
    if network.image_size != (DEFAULT_SIZE, DEFAULT_SIZE):
        height, width = network.image_size
        raise ValueError(
            f"{network.path} takes faces of {height} x {width}, expected {DEFAULT_SIZE} x {DEFAULT_SIZE}, as "
            "insightface aligns them"
        )
    return name, shape[0]


def _compare(path: Path, images: NDArray[np.uint8], expected: Mapping[str, FloatArray]) -> float:
    """The largest relative difference of the outputs of a file from what is expected."""
    outputs = FaceNetwork(path).run(images)
    worst = max(
        float(np.abs(outputs[name] - values).max() / np.abs(values).max())
        for name, values in expected.items()
    )
    if not worst <= MAX_RELATIVE_ERROR:
        raise ExportError(
            f"the file differs by {worst:.2e} from what it was made of (allowed {MAX_RELATIVE_ERROR:.0e}); "
            "it was not written"
        )
    return worst

"""A recogniser's ONNX graph: what a quality regressor can read in it, and files with the regressor inside.

Nodes are only ever added, behind those that are there: the embedding stays what it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype

from igfiqa_head.export import MAX_RELATIVE_ERROR, ExportError
from igfiqa_head.graph_extension import GraphExtension, computed_tensors, load_graph
from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.kinds import OUTPUTS
from igfiqa_head.runtime import DEFAULT_SIZE, INPUT_CONTRACT, FaceNetwork

RAW_INPUT = "float32 [N, 3, 112, 112], RGB, 0 .. 255"
"""The metadata ``input`` of a file whose graph normalises its input itself."""

_PROBE = 2  # faces to look into a graph with that takes any number; 1 is the length of many other axes, too

# onnxruntime has no half precision on CPUs: it computes in single precision and rounds where it likes.
_MAX_HALF_ERROR = 1e-2

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """``x @ weight + bias`` of rows x [N, in], float32; bias [out].

    A weight [in, out] mixes the numbers of a row; with one [in] each is multiplied by its own.
    """

    weight: FloatArray
    bias: FloatArray


class RecogniserGraph:
    """A recogniser as insightface takes it, from an ONNX file.

    Its *features* [N, F] of a face come in groups:

    - ``embedding``, D numbers, not normalised;
    - ``norm``, the length of the embedding;
    - ``maps``, mean and standard deviation over all positions of every channel of the last activations at
      each resolution. They still see what the embedding was taught to overlook, such as blur. A network
      without square activations has no such group.

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
                embeddings; its faces are not 112 x 112; or it cannot be extended, see
                :func:`igfiqa_head.graph_extension.load_graph`.
        """
        self.network = FaceNetwork(path)
        self._output, self.embedding_size = _embedding_output(self.network)
        self._proto = load_graph(self.network.path)
        batch = self._proto.graph.input[0].type.tensor_type.shape.dim[0]
        if self.network.batch_size == 1 and not batch.dim_value:
            batch.dim_value = 1  # so that nobody who runs what is written must find out
        tensors = self._computed_tensors()
        self.maps = _last_maps(tensors)
        half = any(value.dtype == np.float16 for value in tensors.values())
        self._max_error = _MAX_HALF_ERROR if half else MAX_RELATIVE_ERROR
        widths = {"embedding": self.embedding_size, "norm": 1, "maps": 2 * sum(self.maps.values())}
        ends = np.cumsum([0, *widths.values()]).tolist()
        self.groups = {name: slice(*ends[i : i + 2]) for i, name in enumerate(widths) if widths[name]}

    @property
    def num_features(self) -> int:
        """F."""
        return len(self.columns(list(self.groups)))

    def columns(self, reads: Sequence[str]) -> NDArray[np.int64]:
        """Numbers of the features of some groups, in the order in which a regressor reads them.

        Raises:
            ValueError: the network gives none of these groups.
        """
        chosen = [np.arange(part.start, part.stop) for name, part in self.groups.items() if name in reads]
        if not chosen:
            raise ValueError(
                f"{self.network.path} gives {', '.join(self.groups)}, none of which is to be read: got "
                f"{', '.join(reads) or 'nothing'}"
            )
        return np.concatenate(chosen)

    def write_features(self, path: Path) -> None:
        """Write the recogniser with one output, ``features`` [N, F]."""
        graph = GraphExtension(self._proto)
        graph.output(self._features(graph, list(self.groups)), "features", self.num_features)
        with atomic_path(path) as temporary:
            graph.save(temporary, {"input": self._contract})

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
            path: the file to write. Its input is named ``input`` and is normalised as the recogniser's own.
            kind: "quality" or "both", see :data:`igfiqa_head.kinds.OUTPUTS`.
            layers: the regressor, with ReLU between them; the last gives one number.
            reads: the groups whose :meth:`columns` the first layer reads; those that the network does not
                give are left out.
            images: RGB uint8 [N > 0, 112, 112, 3] to compare on.
            quality: [N], what the regressor says of them.
            metadata: further key-value pairs of the file.

        Returns:
            The largest difference of a quality or embedding, relative to the largest.

        Raises:
            ExportError: it exceeds 1e-4, or 1e-2 in half precision; an earlier file at ``path`` is left as it
                was.
            ValueError: the layers, or the qualities and images, do not fit each other.
        """
        sizes = [len(self.columns(reads)), *(layer.weight.shape[-1] for layer in layers)]
        if [layer.weight.shape[0] for layer in layers] != sizes[:-1] or sizes[-1] != 1:
            shapes = ", ".join(str(list(layer.weight.shape)) for layer in layers)
            raise ValueError(f"expected layers from {sizes[0]} features to 1 quality, got {shapes or 'none'}")
        if quality.shape != (len(images),) or not len(images):
            raise ValueError(f"expected one quality for each image, got {quality.shape} for {len(images)}")
        graph = GraphExtension(self._proto)
        outputs = {
            "embedding": (self._embedding(graph), self.embedding_size),
            "quality": (_regressed(graph, self._features(graph, reads), layers), 1),
        }
        for name in OUTPUTS[kind]:
            graph.output(outputs[name][0], name, outputs[name][1])
        expected = {"embedding": self.embed(images), "quality": quality[:, None]}
        with atomic_path(path) as temporary:
            graph.save(temporary, dict(metadata) | {"kind": kind, "input": self._contract})
            return self._compare(temporary, images, {name: expected[name] for name in OUTPUTS[kind]})

    def embed(self, images: NDArray[np.uint8]) -> FloatArray:
        """The recogniser's own embeddings [N, D] of RGB uint8 [N, 112, 112, 3]."""
        return self.network.run(images)[self._output].reshape(-1, self.embedding_size)

    def _compare(self, path: Path, images: NDArray[np.uint8], expected: Mapping[str, FloatArray]) -> float:
        """The largest relative difference of the outputs of a file from what is expected."""
        outputs = FaceNetwork(path).run(images)
        worst = max(_relative_error(outputs[name], values) for name, values in expected.items())
        if worst > self._max_error:
            raise ExportError(
                f"the file differs by {worst:.2e} from what it was made of (allowed {self._max_error:.0e}); "
                "it was not written"
            )
        return worst

    @property
    def _contract(self) -> str:
        contract = RAW_INPUT if self.network.mean == 0 else INPUT_CONTRACT
        faces = self._proto.graph.input[0].type.tensor_type.elem_type
        return contract.replace("float32", str(tensor_dtype_to_np_dtype(faces)))

    def _features(self, graph: GraphExtension, reads: Sequence[str]) -> str:
        embedding, parts = self._embedding(graph), []
        if "embedding" in reads:
            parts.append(embedding)
        if "norm" in reads:
            parts.append(graph.norm(embedding, self.embedding_size))
        if "maps" in reads and self.maps:
            parts.append(graph.mean_and_std([graph.tensor(name) for name in self.maps]))
        return graph.add("Concat", *parts, axis=1)

    def _embedding(self, graph: GraphExtension) -> str:
        return graph.add("Flatten", graph.tensor(self._output), axis=1)  # some recognisers give [N, D, 1, 1]

    def _computed_tensors(self) -> dict[str, NDArray[Any]]:
        """Those of a few black faces, or of as many as the graph wants."""
        count = self._proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value or _PROBE
        try:
            tensors = computed_tensors(
                self._proto, np.zeros((count, 3, DEFAULT_SIZE, DEFAULT_SIZE), np.float32)
            )
        except ValueError as error:
            raise ValueError(f"{self.network.path} cannot be extended: {error}") from error
        return {
            name: v for name, v in tensors.items() if isinstance(v, np.ndarray) and v.shape[:1] == (count,)
        }


def _last_maps(tensors: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """The last [N, C, S, S] of every resolution S > 1 of which the face's is a multiple, from early to late.

    Shapes are those of a pass: what a graph declares of them may be missing or wrong.
    """
    last: dict[int, tuple[str, int]] = {}
    for name, value in tensors.items():
        if value.dtype.kind == "f" and value.ndim == 4 and value.shape[2] == value.shape[3]:
            last[value.shape[2]] = name, value.shape[1]
    return dict(last[side] for side in sorted(last, reverse=True) if side > 1 and DEFAULT_SIZE % side == 0)


def _regressed(graph: GraphExtension, tensor: str, layers: Sequence[Layer]) -> str:
    for number, layer in enumerate(layers):
        tensor = graph.add("Relu", tensor) if number else tensor
        product = graph.add(
            "MatMul" if layer.weight.ndim == 2 else "Mul", tensor, graph.constant(layer.weight)
        )
        tensor = graph.add("Add", product, graph.constant(layer.bias))
    return tensor


def _embedding_output(network: FaceNetwork) -> tuple[str, int]:
    shapes = network.output_shapes
    name, shape = next(iter(shapes.items()))
    size = math.prod(shape)
    if len(shapes) != 1 or size < 2 or size not in shape:
        given = ", ".join(f"{name} {['N', *shape]}" for name, shape in shapes.items())
        raise ValueError(
            f"{network.path} is no recogniser: its outputs are {given}; expected one of embeddings [N, D], "
            "such as w600k_r50.onnx of insightface's buffalo_l has"
        )
    if network.image_size != (DEFAULT_SIZE, DEFAULT_SIZE):
        height, width = network.image_size
        raise ValueError(
            f"{network.path} takes faces of {width} x {height}, expected {DEFAULT_SIZE} x {DEFAULT_SIZE}, as "
            "insightface aligns them"
        )
    return name, size


def _relative_error(got: FloatArray, expected: FloatArray) -> float:
    if not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return math.inf
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-12))

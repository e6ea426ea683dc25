"""A network of aligned faces from an ONNX file, run by onnxruntime alone: no torch, no onnx package."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.independent_rows import CPU_TOLERANCE, GPU_TOLERANCE, depend_on_company, unlike_faces
from igfiqa_head.onnx_file import OnnxFile
from igfiqa_head.onnx_graph import OnnxGraph
from igfiqa_head.onnx_session import MAX_PIXELS, first_run, open_session, reason_of, silent

INPUT_CONTRACT = "float32 [N, 3, 112, 112], RGB, (x / 255 - 0.5) / 0.5"
"""What :func:`igfiqa_head.export.export_onnx` writes into the metadata ``input`` of its files."""

DEFAULT_SIZE = 112
_MAX_SIZE = 1024
_MAX_NUMBERS = 2**24  # of an output, for one face
_CPU = "CPUExecutionProvider"
# On a CPU the activations of a small batch stay in its cache: MobileFaceNet runs 1.8 times as fast with
# batches of 8 as with 128. A GPU wants large ones.
_CPU_BATCH, _GPU_BATCH = 8, 64
_INPUT_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]


class FaceNetwork:
    """A network that takes aligned faces, from an ONNX file.

    Attributes:
        path: the file.
        image_size: (height, width) of the faces it takes; 112 where the graph leaves it open.
        batch_size: number of faces that are run at a time; the graph's own if it takes no other, or 1 if the
            outputs of a face are its own in no larger batch.
        mean, std: the input is (RGB - mean) / std.
        output_shapes: output name -> shape of what it says of one face.
        metadata: the file's own key-value pairs.
        fingerprint: hash of the weights and the normalisation; equal fingerprints give equal outputs.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        normalisation: tuple[float, float] | None = None,
    ) -> None:
        """Open the file and run it on patterns, since a graph's declared shapes may be open or wrong.

        Warns if it must be run with one face at a time, as insightface does: the batch is declared open, but
        a shape in the graph is that of one face, or the graph was quantised dynamically. Where it gives the
        numbers of one face without the axis of the batch, as a squeezed output is, they are its row.

        Args:
            path: the ONNX file.
            providers: onnxruntime's, in order of preference; None for CUDA where it is available, then CPU.
            threads: of onnxruntime within an operator; None for all cores.
            normalisation: (mean, std) of the input; None to decide as insightface does: (0, 1) if among the
                names of the first 8 nodes one starts with Sub or _minus and one with Mul or _mul, else
                (127.5, 127.5).

        Raises:
            ValueError: no such file, not a complete ONNX model, not a network of faces [N, 3, H, W], one
                whose outputs depend on the other faces of the batch, no provider that is available, or a
                normalisation that divides by zero.
        """
        self.path = Path(path)
        file = OnnxFile(path)
        self._session = open_session(file, providers, threads)
        self._input, self.batch_size, self.image_size = _face_input(self.path, self._session)
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.mean, self.std = _checked(normalisation) or _normalisation(file.graph, self.metadata)
        self.fingerprint = file.fingerprint((self.mean, self.std))
        self._output_names = [output.name for output in self._session.get_outputs()]
        self.output_shapes: dict[str, tuple[int, ...]] = {}
        with first_run() as self._options:
            alone = self._run_batch(unlike_faces(self.image_size)[1:])
            self.output_shapes = {name: rows.shape[1:] for name, rows in alone.items()}
            self._check_rows(alone, file.graph)
        self._options = silent()

    def run(self, images: ArrayLike) -> dict[str, FloatArray]:
        """Every output [N, ...] by its name.

        Args:
            images: RGB uint8 [N, H, W, 3], aligned; N may be 0.

        Raises:
            ValueError: other shapes or dtypes, or the network cannot run them.
        """
        pixels = check_images(images, self.image_size)
        starts = range(0, len(pixels), self.batch_size)
        parts = [self._run_batch(pixels[start : start + self.batch_size]) for start in starts]
        return {
            name: np.concatenate([np.empty((0, *shape), np.float32), *(part[name] for part in parts)])
            for name, shape in self.output_shapes.items()
        }

    def use_cpu(self) -> None:
        """Run on the CPU from now on, as insightface's ``prepare(ctx_id=-1)`` asks for."""
        self._session.set_providers([_CPU])

    def _check_rows(self, alone: dict[str, FloatArray], graph: OnnxGraph) -> None:
        """See to it that what is said of a face is said of it alone; ``alone`` is what it is by itself."""
        faces = unlike_faces(self.image_size)
        if self.batch_size > 1 and any(name.startswith("DynamicQuantize") for name in graph.operators):
            self._run_one_at_a_time("is quantised dynamically, by the range of all faces of a batch")
        try:
            again = self.run(faces)
        except ValueError:
            if self.batch_size == 1:
                raise
            self._run_one_at_a_time("does not give a row for each of two faces together")
            again = self.run(faces)
        if depend_on_company(alone, again, self._rounding()):
            raise ValueError(
                f"{self.path}: the output of a face depends on the other faces of the batch, or on chance: "
                "it says nothing of the face. The network was probably exported in training mode: export it "
                "again in evaluation mode (torch: model.eval() before the export)"
            )

    def _rounding(self) -> float:
        return CPU_TOLERANCE if self._session.get_providers()[0] == _CPU else GPU_TOLERANCE

    def _run_one_at_a_time(self, reason: str) -> None:
        self.batch_size = 1
        self.fingerprint += " one at a time"
        warnings.warn(
            f"{self.path} {reason}: it is run with one face at a time, as insightface does, which is slower",
            stacklevel=4,
        )

    def _run_batch(self, images: UInt8Array) -> dict[str, FloatArray]:
        """Outputs of as many images as the network takes."""
        count, wanted = len(images), self._input.shape[0]
        if isinstance(wanted, int):  # the graph takes this many images and no other number
            images = np.concatenate([images, np.zeros((wanted - count, *images.shape[1:]), np.uint8)])
        faces = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
        faces -= self.mean
        faces /= self.std
        feed = {self._input.name: faces.astype(_INPUT_DTYPES[self._input.type], copy=False)}
        try:
            outputs = self._session.run(self._output_names, feed, self._options)
        except Exception as error:  # onnxruntime's own exceptions share no other base
            raise ValueError(
                f"{self.path} does not run on {_faces(len(images))} of {_by(self.image_size)}: "
                f"{reason_of(error)}"
            ) from error
        return {
            name: self._rows(name, output, len(images))[:count].astype(np.float32)
            for name, output in zip(self._output_names, outputs, strict=True)
        }

    def _rows(self, name: str, output: Any, count: int) -> NDArray[Any]:
        """An output as a row for each of ``count`` faces; that of one may lack the axis of the batch."""
        if isinstance(output, (np.ndarray, np.generic)):
            rows = np.asarray(output)
            if count == 1 and rows.shape[:1] != (1,) and rows.ndim < 2:
                rows = rows[None]
            fits = rows.shape == (count, *self.output_shapes.get(name, rows.shape[1:]))
            if fits and rows.dtype.kind in "fiub" and rows.size <= count * _MAX_NUMBERS:
                return rows
        row = list(self.output_shapes.get(name, ())) or f"one row of at most {_MAX_NUMBERS:,} numbers"
        raise ValueError(
            f"{self.path}: output {name!r} has shape {list(np.shape(output))} for {_faces(count)}, "
            f"expected {row} for each: not a network of single faces"
        )


def check_images(images: ArrayLike, size: tuple[int, int]) -> UInt8Array:
    """``images`` as an array, if they are uint8 [N, H, W, 3] of the given height and width.

    Raises:
        ValueError: they are not.
    """
    expected = f"expected uint8 images [N, {size[0]}, {size[1]}, 3]"
    try:
        pixels = np.asarray(images)
    except ValueError:
        raise ValueError(f"{expected}, got images of different shapes") from None
    if pixels.size == 0 and len(pixels) == 0:
        return np.empty((0, *size, 3), np.uint8)
    if pixels.dtype.kind == "f":
        raise ValueError(
            f"{expected}, got {pixels.dtype}: pass pixels from 0 to 255 as uint8, not normalised"
        )
    if pixels.dtype != np.uint8:
        raise ValueError(f"{expected}, got {pixels.dtype} {list(pixels.shape)}")
    if pixels.ndim == 3:
        raise ValueError(f"{expected}, got {list(pixels.shape)}: for one image pass images[None]")
    if pixels.ndim != 4 or pixels.shape[1:] != (*size, 3):
        raise ValueError(f"{expected}, got {list(pixels.shape)}: align and crop the faces first")
    return pixels


def _face_input(
    path: Path, session: onnxruntime.InferenceSession
) -> tuple[onnxruntime.NodeArg, int, tuple[int, int]]:
    """The only input of a network, how many faces to give it at a time, and their size."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    sizes = [size if isinstance(size, int) else DEFAULT_SIZE for size in shape[2:]]
    count = shape[0] if shape and isinstance(shape[0], int) else 1
    fits = all(1 <= size <= _MAX_SIZE for size in (count, *sizes)) and count * math.prod(sizes) <= MAX_PIXELS
    if len(shape) != 4 or shape[1] != 3 or inputs[0].type not in _INPUT_DTYPES or not fits:
        received = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs) or "no input"
        raise ValueError(
            f"{path} takes {received}; expected one input of faces, float [N, 3, H, W] with sizes from 1 to "
            f"{_MAX_SIZE} and N H W of at most {MAX_PIXELS:,}"
        )
    on_cpu = session.get_providers()[0] == _CPU
    batch = shape[0] if isinstance(shape[0], int) else _CPU_BATCH if on_cpu else _GPU_BATCH
    return inputs[0], batch, (sizes[0], sizes[1])


def _normalisation(graph: OnnxGraph, metadata: dict[str, str]) -> tuple[float, float]:
    if metadata.get("input") == INPUT_CONTRACT:
        return 127.5, 127.5
    # Old MXNet exports normalise within the graph and nothing in the file says so: insightface looks at the
    # names of the first nodes, and so must everybody who wants the same embeddings.
    first = graph.node_names[:8]
    subtracts = any(name.startswith(("Sub", "_minus")) for name in first)
    multiplies = any(name.startswith(("Mul", "_mul")) for name in first)
    return (0.0, 1.0) if subtracts and multiplies else (127.5, 127.5)


def _checked(normalisation: tuple[float, float] | None) -> tuple[float, float] | None:
    if normalisation is None:
        return None
    try:
        mean, std = map(float, normalisation)
    except (TypeError, ValueError):
        mean, std = math.nan, math.nan
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise ValueError(f"normalisation must be (mean, std) with std above 0, got {normalisation!r}")
    return mean, std


def _faces(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"

"""Smaller copies of an exported network, kept only if they order faces as the float32 network does.

Quantisation changes scores in ways that nobody can foresee for a network that was not seen. So each copy is
compared with its original on crops that it was not calibrated on, several settings are tried, and a copy that
does not hold is not written.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.kinds import OUTPUTS
from igfiqa_head.runtime import INPUT_CONTRACT, FaceNetwork

if TYPE_CHECKING:
    from onnx import ModelProto

MIN_AGREEMENT = 0.99
"""Of the rank correlation of the qualities, and of the mean cosine of the embeddings."""

MIN_COMPARED, MIN_CALIBRATION = 100, 32

_MATRIX_OPS = ("Conv", "Gemm", "MatMul")
_PERCENTILE = 99.99
_MAX_FLOAT16 = 65504
_RANGE_CROPS = 8

Faces = NDArray[np.uint8]


class CompressionError(ValueError):
    """No copy orders faces as its original does; none was kept."""


@dataclass(frozen=True)
class Agreement:
    """How a copy compares with its original on the same crops.

    Attributes:
        setting: how the copy was made.
        rank_correlation: Spearman correlation of the qualities, None for a network without.
        cosine: mean cosine of the embeddings, None for a network without.
        count: number of crops.
    """

    setting: str
    rank_correlation: float | None
    cosine: float | None
    count: int

    @property
    def worst(self) -> float:
        """The lower of the two."""
        return min(value for value in (self.rank_correlation, self.cosine) if value is not None)

    def __str__(self) -> str:
        figures = []
        if self.rank_correlation is not None:
            figures.append(f"rank correlation of the qualities {self.rank_correlation:.4f}")
        if self.cosine is not None:
            figures.append(f"mean cosine of the embeddings {self.cosine:.4f}")
        return f"{self.setting}: {', '.join(figures)} on {self.count} crops"


@dataclass(frozen=True)
class _Setting:
    """A way to quantise.

    Attributes:
        bits: of the weights. With 8, sums may overflow on x86 processors without VNNI.
        share_in_float: of the convolutions and products, counted from the input, which suffer most; if not 0,
            the embedding layer and the additions of residual networks stay in float too.
    """

    bits: int
    share_in_float: float

    def __str__(self) -> str:
        name = f"int8, {self.bits}-bit weights"
        name += " (for VNNI or ARM)" if self.bits == 8 else ""
        return name + (f", first {self.share_in_float:.0%} in float" if self.share_in_float else "")


_SETTINGS = (_Setting(7, 0), _Setting(8, 0), _Setting(7, 0.25), _Setting(8, 0.25), _Setting(8, 0.5))


def compress_to_fp16(source: str | Path, path: str | Path, *, images: Faces) -> Agreement:
    """Write a copy with weights and arithmetic in float16; its input and outputs stay float32.

    It has half the size. onnxruntime computes in float16 on GPUs; most CPUs convert to float32 and back,
    which hides an overflow. So the range of the activations is checked too.

    Args:
        source: a file of :func:`igfiqa_head.export.export_onnx`.
        path: the file to write.
        images: RGB uint8 [N >= 100, 112, 112, 3] to compare on.

    Returns:
        What was measured.

    Raises:
        CompressionError: the copy orders faces differently, or float16 cannot hold its activations; nothing
            was kept.
        ValueError: too few images, or ``source`` is no such file.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    original = _Original(source, images)
    largest = _largest_activation(source, images[:_RANGE_CROPS])
    if not largest <= _MAX_FLOAT16:
        raise CompressionError(
            f"{path} was not written: activations of {source} reach {largest:.3g}, which is more than "
            f"float16 holds ({_MAX_FLOAT16})"
        )
    with atomic_path(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numbers below float16's range become 0, which is measured below
            copy = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
        _save(copy, temporary, original.network.metadata | {"precision": "float16"})
        agreement = original.compare(temporary, "float16")
        if agreement.worst < MIN_AGREEMENT:
            raise CompressionError(_refusal(path, agreement))
        return agreement


def compress_to_int8(
    source: str | Path,
    path: str | Path,
    *,
    calibration: Faces,
    images: Faces,
    tell: Callable[[str], None] = lambda line: None,
) -> Agreement:
    """Write a copy with 8-bit weights and activations, by onnxruntime's static quantisation.

    Weights have a scale for each channel; the ranges of activations leave out the outermost 0.01 per cent.
    Settings are tried from the fastest network to the most careful, and the first that holds is kept. The raw
    scores move a little, so a ``calibration`` of theirs is not taken into the metadata.

    Args:
        source: a file of :func:`igfiqa_head.export.export_onnx`.
        path: the file to write.
        calibration: RGB uint8 [N >= 32, 112, 112, 3] that show the ranges of the activations, all of which
            are in memory at once: about 100 MB a crop for r100.
        images: RGB uint8 [N >= 100, 112, 112, 3] to compare on, other ones.
        tell: takes a line about every setting that does not hold.

    Returns:
        What was measured of the copy that was kept.

    Raises:
        CompressionError: no setting holds; nothing was kept.
        ValueError: too few images, or ``source`` is no such file.
    """
    if len(calibration) < MIN_CALIBRATION:
        raise ValueError(
            f"int8 needs at least {MIN_CALIBRATION} crops to calibrate on, got {len(calibration)}"
        )
    original = _Original(source, images)
    metadata = {k: v for k, v in original.network.metadata.items() if k != "calibration"}
    tried: list[Agreement] = []
    with atomic_path(path) as temporary:
        for setting in _SETTINGS:
            copy = _quantised(source, temporary, original.kind, setting, calibration)
            _save(copy, temporary, metadata | {"precision": "int8"})
            tried.append(original.compare(temporary, str(setting)))
            if tried[-1].worst >= MIN_AGREEMENT:
                return tried[-1]
            tell(str(tried[-1]))
        raise CompressionError(_refusal(path, max(tried, key=lambda agreement: agreement.worst)))


class _Original:
    """The float32 network and what it says of the crops."""

    def __init__(self, source: str | Path, images: Faces) -> None:
        if len(images) < MIN_COMPARED:
            raise ValueError(f"a copy is compared on at least {MIN_COMPARED} crops, got {len(images)}")
        self.network = FaceNetwork(source)
        self.kind = self.network.metadata.get("kind", "")
        if self.network.metadata.get("input") != INPUT_CONTRACT or self.kind not in OUTPUTS:
            raise ValueError(f"{source} was not written by export_onnx: its metadata say nothing of its kind")
        self.images = images
        self.outputs = self.network.run(images)

    def compare(self, path: Path, setting: str) -> Agreement:
        outputs = FaceNetwork(path).run(self.images)
        rank = cosine = None
        if self.kind != "embedding":
            rank = _rank_correlation(self._quality(self.outputs), self._quality(outputs))
        if self.kind != "quality":
            cosine = _mean_cosine(self.outputs["embedding"], outputs["embedding"])
        return Agreement(setting, rank, cosine, len(self.images))

    def _quality(self, outputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        if self.kind == "fused":
            return np.linalg.norm(outputs["embedding"], axis=1)
        return outputs["quality"][:, 0]


def _largest_activation(source: str | Path, images: Faces) -> float:
    """The largest magnitude of any tensor within the network; NaN if one is NaN."""
    import onnx
    import onnxruntime

    proto = onnx.load(str(source))
    names = [name for node in proto.graph.node for name in node.output if name]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = 0.0
    for face in images:
        outputs = session.run(None, {"input": _normalised(face[None])})
        largest = float(np.max([largest, *(np.abs(output).max() for output in outputs)]))
    return largest


def _rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's; 0 where one of the two says the same of all faces or gives NaN."""
    from scipy.stats import spearmanr

    if not (np.isfinite(second).all() and np.ptp(first) > 0 and np.ptp(second) > 0):
        return 0.0
    return float(spearmanr(first, second).statistic)


def _mean_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    if not np.isfinite(second).all():
        return 0.0
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def _quantised(
    source: str | Path, scratch: Path, kind: str, setting: _Setting, calibration: Faces
) -> ModelProto:
    """The network in 8 bits; ``scratch`` is written on the way."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    proto = onnx.load(str(source))
    in_float = _kept_in_float(proto, kind, setting)
    with _quiet():
        quantize_static(
            proto,
            scratch,
            _CalibrationReader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=setting.bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=in_float,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": _PERCENTILE},
        )
    return onnx.load(str(scratch))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints its steps, and logs advice on a preparation that the export has done."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


class _CalibrationReader:
    """One normalised face after the other, as onnxruntime asks for them."""

    def __init__(self, faces: Faces) -> None:
        self._faces = iter(faces)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        face = next(self._faces, None)
        if face is None:
            return None
        return {"input": _normalised(face[None])}


def _normalised(faces: Faces) -> NDArray[np.float32]:
    """RGB uint8 [N, H, W, 3] as the network takes it."""
    return ((faces.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)


def _kept_in_float(proto: ModelProto, kind: str, setting: _Setting) -> list[str]:
    """Names of the nodes that are not quantised."""
    nodes = list(proto.graph.node)
    matrices = [index for index, node in enumerate(nodes) if node.op_type in _MATRIX_OPS]
    chosen = matrices[: int(setting.share_in_float * len(matrices))]
    if chosen:
        chosen += [index for index, node in enumerate(nodes) if node.op_type == "Add"]
    if (
        kind != "embedding"
    ):  # the regressor and what follows: nothing to compute, all of the quality's precision
        chosen += range(matrices[-1], len(nodes))
    return [nodes[index].name for index in chosen]


def _save(proto: ModelProto, path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.save_model(proto, str(path))


def _refusal(path: str | Path, best: Agreement) -> str:
    return (
        f"{path} was not written: rank correlation and mean cosine with the float32 network must be at least "
        f"{MIN_AGREEMENT}; the best was {best}"
    )

"""From torch to one ONNX file that insightface pipelines can use, compared with torch before it is kept."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.kinds import OUTPUTS
from igfiqa_head.onnx_file import OnnxFile
from igfiqa_head.onnx_session import open_session
from igfiqa_head.quality_head import QualityRegressor
from igfiqa_head.runtime import INPUT_CONTRACT
from igfiqa_head.text import printable

if TYPE_CHECKING:
    from onnx import ModelProto

MAX_RELATIVE_ERROR = 1e-4
OPSET = 18
_IR_VERSION = 8  # opset 18 asks for no more, and a higher number would shut out older releases of onnxruntime
_MAX_BYTES = 2**31 - 2**20  # of a Protocol Buffers message, less room for the graph around the weights
# Names that make insightface think that a graph normalises its input itself; it looks at the first 8 nodes.
_NORMALISING = ("Sub", "_minus", "Mul", "_mul")


class ExportError(ValueError):
    """There is no ONNX file that says what torch says; none was kept."""


class _Outputs(nn.Module):
    """images -> the outputs of a kind of file, as a tuple."""

    def __init__(self, backbone: nn.Module, regressor: nn.Module | None, kind: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.regressor = regressor
        self.kind = kind

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        embedding = self.backbone(images)
        if self.regressor is None:
            return (embedding,)
        quality = self._quality(self.regressor, embedding)
        if self.kind == "fused":
            return (F.normalize(embedding) * F.softplus(quality),)
        return (quality,) if self.kind == "quality" else (embedding, quality)

    @staticmethod
    def _quality(regressor: nn.Module, embedding: Tensor) -> Tensor:
        if isinstance(regressor, QualityRegressor):  # without its squeeze, which would be undone here
            return nn.Linear.forward(regressor, embedding)
        return regressor(embedding)[:, None]


class _PReLU(nn.Module):
    """PReLU(x) = a x + (1 - a) relu(x), with depthwise convolutions to multiply.

    On CPUs onnxruntime runs convolutions in a layout of their own, which its PRelu does not know: the layout
    was changed before and after each. Nor is there a PRelu in 8 bits. benchmarks/onnx_inference.py shows what
    this is worth.
    """

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.slopes = nn.Parameter(slopes.detach()[:, None, None, None])

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            return F.prelu(x, self.slopes.flatten())
        scaled = F.conv2d(x, self.slopes, groups=len(self.slopes))
        return scaled + F.conv2d(F.relu(x), 1 - self.slopes, groups=len(self.slopes))


def export_onnx(
    backbone: nn.Module,
    quality_head: nn.Module | None,
    path: str | Path,
    *,
    kind: str = "quality",
    images: Tensor,
    metadata: Mapping[str, str] | None = None,
) -> float:
    """Write one ONNX file of float32 and of dynamic batch size, unless it disagrees with torch.

    The input is named ``input`` and its normalisation is not part of the graph: insightface normalises
    before the network and would do so twice.

    Args:
        backbone: images -> embeddings [N, D].
        quality_head: has ``.regressor``, or is the regressor: embeddings -> qualities [N]. Kind "embedding"
            needs none.
        path: the file to write.
        kind: the outputs are, in one pass,

            - "quality": ``quality`` [N, 1];
            - "embedding": ``embedding`` [N, D];
            - "both": ``embedding`` and ``quality``;
            - "fused": ``embedding`` [N, D] whose direction is the embedding's and whose length is
              softplus(quality): a recogniser to insightface, whose ``face.embedding_norm`` orders faces as
              the quality does.
        images: [at least 3, 3, H, W] real faces in [-1, 1] to compare on, with batches of 1 and 3.
        metadata: more key-value pairs for the file.

    Returns:
        The largest relative error of an output, max |onnx - torch| of these batches / max |torch| of all
        images.

    Raises:
        ExportError: torch cannot export the network, the error exceeds 1e-4, or torch itself gives NaN or
            infinity; an earlier file at ``path`` is left as it was.
        ValueError: an unknown kind, a missing head, too few images, or weights of more than 2 GiB.
    """
    if images.ndim != 4 or len(images) < 3:
        raise ValueError(f"the comparison needs images [N >= 3, 3, H, W], got shape {tuple(images.shape)}")
    model = _network(backbone, quality_head, kind)
    faces = images.detach().cpu().float()
    with atomic_path(path) as temporary:
        _write(model, kind, faces, temporary, dict(metadata or {}) | {"input": INPUT_CONTRACT, "kind": kind})
        return _compare(model, kind, faces, temporary)


def _network(backbone: nn.Module, quality_head: nn.Module | None, kind: str) -> _Outputs:
    """A copy in evaluation mode and full precision on the CPU, which is what the file is compared with."""
    if kind not in OUTPUTS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, OUTPUTS))}, got {kind!r}")
    if kind != "embedding" and quality_head is None:
        raise ValueError(f"kind {kind!r} needs a quality head, got None")
    regressor = None if kind == "embedding" else getattr(quality_head, "regressor", quality_head)
    model = _Outputs(backbone, regressor, kind)
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if size > _MAX_BYTES:
        raise ValueError(
            f"the weights have {size / 2**30:.1f} GiB, one ONNX file can hold 2: take less of them"
        )
    model = copy.deepcopy(model).cpu().float().eval()
    for module in model.modules():
        if getattr(module, "fp16", False) is True:  # arcface_torch's name for what is of training alone
            setattr(module, "fp16", False)  # noqa: B010  mypy takes every attribute of a module for a tensor
    return model


def _write(model: nn.Module, kind: str, faces: Tensor, path: Path, metadata: dict[str, str]) -> None:
    import onnx

    proto = _simplified(_traced(model, kind, faces))
    proto.ir_version = _IR_VERSION
    rename_nodes(proto)
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto)
    onnx.save_model(proto, str(path))


def _traced(model: nn.Module, kind: str, faces: Tensor) -> ModelProto:
    try:
        with _quiet("onnxscript"):
            program = torch.onnx.export(
                _with_fast_prelu(model),
                (faces[:2],),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=list(OUTPUTS[kind]),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = printable(str(error.__cause__ or error).strip().partition("\n")[0])
        raise ExportError(f"torch cannot make an ONNX model of this network: {reason}") from error
    return program.model_proto  # type: ignore[union-attr]


def _with_fast_prelu(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.PReLU) and child.num_parameters > 1:
                setattr(parent, name, _PReLU(child.weight))
    return model


def _simplified(proto: ModelProto) -> ModelProto:
    """With shapes, and without what the exporter tells of its Python sources in every node."""
    import onnx
    import onnxslim

    with _quiet("onnxslim"):
        return onnx.shape_inference.infer_shapes(onnxslim.slim(proto))


def rename_nodes(proto: ModelProto) -> None:
    """Rename nodes that insightface would take for a normalisation of the input; it goes by names alone."""
    for node in proto.graph.node:
        if node.name.startswith(_NORMALISING):
            node.name = f"node_{node.name}"


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Exporters report their passes and their own deprecations; neither is the user's business."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def _compare(model: nn.Module, kind: str, faces: Tensor, path: Path) -> float:
    # The whole set decides what is large: a single face's quality may well be next to zero.
    scales = [float(output.abs().max()) for output in model(faces)]
    if not np.isfinite(scales).all():
        raise ExportError("the network gives NaN or infinity for these images; no file was written")
    session = open_session(OnnxFile(path), ["CPUExecutionProvider"])
    worst = 0.0
    for batch in (faces[:1], faces[:3]):
        outputs = session.run(list(OUTPUTS[kind]), {"input": batch.numpy()})
        for got, expected, scale in zip(outputs, model(batch), scales, strict=True):
            worst = max(worst, _difference(got, expected.numpy()) / max(scale, 1e-12))
    if worst > MAX_RELATIVE_ERROR:
        raise ExportError(
            f"the exported {kind} model differs from torch by {worst:.2e} "
            f"(allowed {MAX_RELATIVE_ERROR:.0e}); no file was written"
        )
    return worst


def _difference(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    if got.shape != expected.shape:
        raise ExportError(f"the exported model returns shape {got.shape}, torch {expected.shape}")
    if not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max())

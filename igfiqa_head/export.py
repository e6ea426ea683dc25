"""From torch to one ONNX file that insightface pipelines can use, compared with torch before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.runtime import INPUT_CONTRACT

MAX_RELATIVE_ERROR = 1e-4
OPSET = 18


class ExportError(ValueError):
    """The ONNX file does not say what torch says; it was not kept."""


class _Scored(nn.Module):
    """images -> quality [N, 1]."""

    def __init__(self, backbone: nn.Module, quality_head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.regressor = backbone, quality_head.regressor

    def forward(self, images: Tensor) -> Tensor:
        return self.regressor(self.backbone(images))[:, None]  # type: ignore[operator]


def export_onnx(
    backbone: nn.Module,
    quality_head: nn.Module | None,
    path: str | Path,
    *,
    kind: str = "quality",
    images: Tensor,
    metadata: Mapping[str, str] | None = None,
) -> float:
    """Write an ONNX model of dynamic batch size, unless it disagrees with torch.

    The input is named ``input`` and its normalisation is not part of the graph: insightface normalises
    before the network and would do so twice.

    Args:
        backbone: images -> embeddings [N, D].
        quality_head: has ``.regressor``; needed for kind "quality".
        path: the file to write.
        kind: "quality" (output ``quality`` [N, 1]) or "embedding" (output ``embedding`` [N, D]).
        images: [at least 3, 3, H, W] real faces in [-1, 1] to compare on, with batches of 1 and 3.
        metadata: more key-value pairs for the file.

    Returns:
        The largest relative error against torch, max |onnx - torch| / max |torch|.

    Raises:
        ExportError: the error exceeds 1e-4; an earlier file at ``path`` is left as it was.
        ValueError: an unknown kind, a missing head, or too few images.
    """
    model = _output_model(backbone, quality_head, kind)
    if images.ndim != 4 or len(images) < 3:
        raise ValueError(f"the comparison needs images [N >= 3, 3, H, W], got shape {tuple(images.shape)}")
    was_training = [(module, module.training) for module in model.modules()]
    model.eval()  # on the outermost module: a part left in training mode would be exported so
    try:
        with atomic_path(Path(path)) as temporary:
            _write(
                model, kind, images, temporary, {"input": INPUT_CONTRACT, "kind": kind} | dict(metadata or {})
            )
            return _compare(model, kind, images, temporary)
    finally:
        for module, training in was_training:
            module.training = training


def _output_model(backbone: nn.Module, quality_head: nn.Module | None, kind: str) -> nn.Module:
    if kind == "embedding":
        return backbone
    if kind != "quality":
        raise ValueError(f"kind must be 'quality' or 'embedding', got {kind!r}")
    if quality_head is None:
        raise ValueError("kind 'quality' needs a quality head, got None")
    return _Scored(backbone, quality_head)


def _write(model: nn.Module, kind: str, images: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    with _quiet_exporter():
        program = torch.onnx.export(
            model,
            (images[:2],),
            dynamo=True,
            opset_version=OPSET,
            input_names=["input"],
            output_names=[kind],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    proto = program.model_proto  # type: ignore[union-attr]
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.save_model(proto, str(path))


@contextlib.contextmanager
def _quiet_exporter():  # type: ignore[no-untyped-def]
    """The exporter reports its passes and its own deprecations; neither is the user's business."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def _compare(model: nn.Module, kind: str, images: Tensor, path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, 3):
        expected = model(images[:count]).cpu().numpy()
        (got,) = session.run([kind], {"input": images[:count].cpu().numpy()})
        worst = max(worst, _relative_error(got, expected))
    if not worst <= MAX_RELATIVE_ERROR:
        raise ExportError(
            f"the exported {kind} model differs from torch by {worst:.2e} "
            f"(allowed {MAX_RELATIVE_ERROR:.0e}); no file was written"
        )
    return worst


def _relative_error(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    if got.shape != expected.shape:
        raise ExportError(f"the exported model returns shape {got.shape}, torch {expected.shape}")
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-12))

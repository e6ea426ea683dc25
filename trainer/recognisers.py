"""From what a user names to the ONNX file of a recogniser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from igfiqa_head.export import export_onnx
from trainer.log import LOGGER
from trainer.sources import open_source

TIMM = "timm:"


def recogniser_file(spec: str, folder: Path, faces: Tensor) -> Path:
    """The ONNX file of a recogniser; one that is no ONNX file is exported to ``folder/recogniser.onnx``.

    Args:
        spec: an ONNX file in insightface's convention; a run's folder or a checkpoint of a registered
            backbone, see :func:`trainer.sources.open_source`; or ``timm:NAME``, a network of timm with its
            pretrained weights, where NAME may be ``hf_hub:USER/MODEL`` or ``local-dir:FOLDER``.
        folder: where an exported file goes.
        faces: [at least 3, 3, 112, 112] in [-1, 1], to compare the exported file with torch on.

    Raises:
        ValueError: there is no such thing, or it cannot be read, or it does not take 112 x 112 images.
    """
    if not spec.startswith(TIMM) and Path(spec).suffix.lower() == ".onnx":
        if not Path(spec).is_file():
            raise ValueError(f"recognizer={spec!r}: there is no such file")
        return Path(spec)
    path = folder / "recogniser.onnx"
    backbone = PretrainedTimm(spec.removeprefix(TIMM)) if spec.startswith(TIMM) else _checkpoint(spec)
    error = export_onnx(backbone, None, path, kind="embedding", images=faces)
    LOGGER.info("wrote %s (relative error against torch %.1e)", path, error)
    return path


def _checkpoint(spec: str) -> nn.Module:
    if not Path(spec).exists():
        raise ValueError(
            f"recognizer={spec!r} does not exist: expected an ONNX file, a checkpoint or run folder with a "
            f"registered backbone, or {TIMM}NAME"
        )
    return open_source(Path(spec)).backbone


class PretrainedTimm(nn.Module):
    """Images [B, 3, 112, 112] in [-1, 1] -> embeddings, from a timm network with its pretrained weights.

    Networks of a hub and of a folder keep their last layer: in a face recogniser it makes the embedding.
    Those that timm knows by name are classifiers, whose last layer is left out.

    Raises:
        ValueError: timm has no such network or no weights for it, cannot get them, or the network does not
            take 112 x 112 images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = _load(name)
        config = self.model.pretrained_cfg
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(config[key]).reshape(3, 1, 1))
        try:
            self.eval()(torch.zeros(1, 3, 112, 112))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(f"{TIMM}{name} does not take 112 x 112 images: {error}") from error

    def forward(self, images: Tensor) -> Tensor:
        return self.model(((images + 1) / 2 - self.mean) / self.std)


def _load(name: str) -> Any:
    import timm

    classifier = {} if ":" in name else {"num_classes": 0}
    try:
        return timm.create_model(name, pretrained=True, **classifier).eval()
    except Exception as error:  # timm, the hub and the file formats have a dozen kinds and no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{TIMM}{name} cannot be loaded with pretrained weights: {reason}. Without a network, download "
            f"them first and name the folder: {TIMM}local-dir:FOLDER"
        ) from error

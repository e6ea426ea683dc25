"""From what a user names to the ONNX file of a recogniser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eval_tools.models.packs import pack_recogniser
from igfiqa_head.export import ExportError, export_onnx
from igfiqa_head.faces import find_pack
from igfiqa_head.runtime import FaceNetwork
from plugins.backbones import TIMM_PREFIX
from trainer.log import LOGGER
from trainer.sources import open_source

_SIZE = 112


def recogniser_file(
    spec: str, folder: Path, faces: Tensor, *, network: str | None = None, plugins: Sequence[str] = ()
) -> Path:
    """The ONNX file of a recogniser; one that is no ONNX file is exported to ``folder/recogniser.onnx``.

    The same weights give the same bytes, so what is cached of a recogniser is found again.

    Args:
        spec: an ONNX file in insightface's convention; an insightface pack, as a folder or by its name in
            ``~/.insightface/models``; a run's folder or a checkpoint of a registered
            backbone, see :func:`trainer.sources.open_source`; or ``timm:NAME``, a network of timm with its
            pretrained weights, where NAME may be ``hf_hub:USER/MODEL`` or ``local-dir:FOLDER``.
        folder: where an exported file goes.
        faces: [at least 3, 3, 112, 112] in [-1, 1], to compare the exported file with torch on.
        network: name of the backbone of a checkpoint, None to find it out.
        plugins: modules or ``.py`` files that the recipe trusts.

    Raises:
        ValueError: there is no such thing, it cannot be read or exported, or does not take 112 x 112 images.
    """
    found = None if spec.startswith(TIMM_PREFIX) else _onnx_file(spec)
    if found is not None:
        return found
    path = folder / "recogniser.onnx"
    if spec.startswith(TIMM_PREFIX):
        backbone: nn.Module = PretrainedTimm(spec.removeprefix(TIMM_PREFIX))
    else:
        backbone = _trained(spec, network, plugins)
    try:
        error = export_onnx(backbone, None, path, kind="embedding", images=faces)
    except ExportError as reason:
        raise ValueError(
            f"torch cannot export recognizer={spec!r} to ONNX: {_first_line(reason)}. Export it yourself, "
            "with one output of embeddings [N, D], and name the .onnx file"
        ) from reason
    LOGGER.info("wrote %s (relative error against torch %.1e)", path, error)
    return path


def _onnx_file(spec: str) -> Path | None:
    """The file that ``spec`` is, or that the pack it names has; None for a checkpoint or a run's folder."""
    path = Path(os.path.expanduser(spec))
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise ValueError(f"recognizer={spec!r}: there is no such file")
        return path
    if path.is_file() or (path / "recipe.json").is_file():
        return None
    try:
        pack = find_pack(spec)
    except ValueError as error:
        raise ValueError(
            f"recognizer={spec!r} does not exist: expected an ONNX file, an insightface pack, a checkpoint "
            f"or run folder with a registered backbone, or {TIMM_PREFIX}NAME; {error}"
        ) from error
    found, stated = pack_recogniser(pack)
    network = FaceNetwork(found)
    if stated not in (None, (network.mean, network.std)):
        raise ValueError(
            f"{pack} states mean and std {stated} for {found.name}, whose graph says "
            f"{network.mean, network.std}: name the file itself"
        )
    return found


def _trained(spec: str, network: str | None, plugins: Sequence[str]) -> nn.Module:
    path = Path(os.path.expanduser(spec))
    return open_source(path, network=None if path.is_dir() else network, plugins=plugins).backbone


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
        try:
            for key in ("mean", "std"):
                self.register_buffer(key, torch.tensor(config[key]).reshape(3, 1, 1))
            with torch.no_grad():
                self.eval()(torch.zeros(1, 3, _SIZE, _SIZE))
        except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{TIMM_PREFIX}{name} does not take colour images of {_SIZE} x {_SIZE}: {_first_line(error)}"
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        return self.model(((images + 1) / 2 - self.mean) / self.std)


def _load(name: str) -> Any:
    import timm

    classifier: dict[str, Any] = {} if ":" in name else {"num_classes": 0}
    try:
        return timm.create_model(name, pretrained=True, **classifier).eval()
    except Exception as error:  # timm, the hub and the file formats have a dozen kinds and no common base
        raise ValueError(
            f"{TIMM_PREFIX}{name} cannot be loaded with pretrained weights: {_first_line(error)}. Without a "
            f"network, download them first and name the folder: {TIMM_PREFIX}local-dir:FOLDER"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

"""What all backbones share: the input contract, the precision of their parts and the last normalisation."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

IMAGE_SHAPE = (3, 112, 112)


class Backbone(nn.Module, ABC):
    """A network from aligned faces to un-normalised embeddings, in two parts of different precision.

    ``trunk`` holds nearly all of the arithmetic and may run in half precision; ``head``, the layers that
    form the embedding, always runs in full precision. The setting of the backbone wins over an autocast
    context around it.

    Args:
        fp16: run the trunk under autocast, in the type of an autocast context around it; without one in
            float16, or bfloat16 on a CPU. Ignored in an ONNX export, so that the exported file does not
            depend on how the network was trained.
    """

    def __init__(self, fp16: bool) -> None:
        super().__init__()
        self.fp16 = fp16

    @abstractmethod
    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, 112, 112] -> features of whatever shape ``head`` takes."""

    @abstractmethod
    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Features of the trunk, in full precision -> embeddings [B, num_features]."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map RGB images [B, 3, 112, 112] in [-1, 1] to un-normalised embeddings [B, num_features].

        Raises:
            ValueError: the images have another shape or are not floating point.
        """
        _check_images(images)
        half = self.fp16 and not torch.onnx.is_in_onnx_export()
        with autocast(images.device, enabled=half):
            features = self.trunk(images)
        with autocast(images.device, enabled=False):
            return self.head(features.float() if half else features)


def autocast(device: torch.device, *, enabled: bool) -> torch.autocast:
    """Half precision on ``device`` where ``enabled``, else full precision even inside another autocast."""
    # A device without autocast (meta) still needs a context: a disabled one of the CPU changes nothing there.
    available = torch.amp.is_autocast_available(device.type)
    device_type = device.type if available else "cpu"
    dtype = torch.get_autocast_dtype(device_type)
    return torch.autocast(device_type, dtype=dtype, enabled=enabled and available)


def embedding_norm(num_features: int) -> nn.BatchNorm1d:
    """The batch normalisation that ends a network of arcface_torch: its weight is 1 and not trained.

    It is still part of the state dict, and a checkpoint may bring another: CR-FIQA trained it.
    """
    norm = nn.BatchNorm1d(num_features)
    norm.weight.requires_grad_(False)
    return norm


def _check_images(images: torch.Tensor) -> None:
    if images.ndim != 4 or tuple(images.shape[1:]) != IMAGE_SHAPE:
        raise ValueError(
            f"a backbone takes images [B, 3, 112, 112], received {list(images.shape)}; "
            "align the faces to 112 x 112 and put the channels first"
        )
    if not images.is_floating_point():
        raise ValueError(
            f"a backbone takes floating-point images in [-1, 1], received {images.dtype}; "
            "convert with (images / 255 - 0.5) / 0.5"
        )

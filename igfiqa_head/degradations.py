"""The degradations of IG-FIQA: what the quality sub-batch is shown and the recogniser is not.

The paper (https://arxiv.org/abs/2403.08256, Sec. 3.2 and 4.1) names rescaling, colour jitter and random
erasing, each with probability 0.3; the ranges are this project's and are settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from igfiqa_head.further_degradations import NUM_FURTHER_DRAWS, degrade_further
from igfiqa_head.hit_images import Kind, between, degrade_hit, sent_like
from igfiqa_head.transfer import sent

Range = tuple[float, float]
_PAPER_DRAWS = 12
NUM_DRAWS = _PAPER_DRAWS + NUM_FURTHER_DRAWS
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_UP_MODES = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Degradations:
    """Rescale, colour jitter and random erasing, in this order, each drawn per image with probability ``p``.

    Args:
        p: probability of each of the three.
        rescale: range of the side ratio (area down, bilinear or bicubic up again).
        jitter: range of the brightness, contrast and saturation factors, applied in [0, 1] space.
        erase_area: range of the erased share of the image.
        erase_aspect: range of the erased rectangle's aspect ratio (log-uniform).
        further_p: probability of each kind of :mod:`igfiqa_head.further_degradations`, which follow the
            paper's three.

    Raises:
        ValueError: a probability or range that makes no sense.
    """

    p: float = 0.3
    rescale: Range = (0.2, 1.0)
    jitter: Range = (0.5, 1.5)
    erase_area: Range = (0.02, 0.33)
    erase_aspect: Range = (0.3, 3.3)
    further_p: float = 0.0

    def __post_init__(self) -> None:
        for name in ("p", "further_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"degradation probability {name} must lie in [0, 1], got {getattr(self, name)}"
                )
        limits = {
            "rescale": (0, 1),
            "jitter": (0, math.inf),
            "erase_area": (0, 1),
            "erase_aspect": (0, math.inf),
        }
        for name, (lowest, highest) in limits.items():
            low, high = getattr(self, name)
            if not (lowest <= low <= high <= highest) or (name != "jitter" and low == 0):
                raise ValueError(
                    f"degradation range {name} must satisfy "
                    f"{lowest} {'<=' if name == 'jitter' else '<'} low <= high <= {highest}, "
                    f"got ({low}, {high})"
                )

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Degrade ``images`` [B, 3, H, W] in [-1, 1] as told by ``draws`` [B, NUM_DRAWS], uniform in [0, 1).

        Images that no degradation hits come back bit-identical.
        """
        u = iter(draws.unbind(dim=1))
        ratio_hit, ratio, mode = next(u) < self.p, between(self.rescale, next(u)), next(u)
        jitter_hit, factors = next(u) < self.p, [between(self.jitter, next(u)) for _ in range(3)]
        erase_hit, area, aspect = next(u) < self.p, between(self.erase_area, next(u)), next(u)
        log_aspect = between((math.log(self.erase_aspect[0]), math.log(self.erase_aspect[1])), aspect)
        top, left = next(u), next(u)

        kinds: tuple[Kind, ...] = (
            (ratio_hit, _rescale, (ratio, mode)),
            (jitter_hit, _colour_jitter, factors),
            (erase_hit, _erase, (area, log_aspect.exp(), top, left)),
        )
        images = degrade_hit(images, kinds)
        return degrade_further(images, self.further_p, draws[:, _PAPER_DRAWS:]) if self.further_p else images


def degrade(
    images: Tensor, p: float = 0.3, generator: torch.Generator | None = None, **settings: Any
) -> Tensor:
    """Degrade a batch of faces for the quality sub-batch (no flip; that is the loader's).

    Args:
        images: [B, 3, H, W] in [-1, 1].
        p: probability of each of the three degradations.
        generator: a CPU generator; None for torch's default one.
        settings: ``further_p`` and the ranges of :class:`Degradations`.

    Returns:
        A new tensor of the same shape, dtype and device; untouched images are bit-identical.

    Raises:
        ValueError: images that are not [B, 3, H, W] floats, or settings that make no sense.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images must be floats [B, 3, H, W] in [-1, 1], got {images.dtype} {tuple(images.shape)}"
        )
    draws = torch.rand(len(images), NUM_DRAWS, generator=generator, dtype=torch.float64)
    return Degradations(p, **settings)(images, draws)


@cache
def _rescale_matrix(side: int, small: int, mode: str) -> Tensor:
    """[side, side] matrix that shrinks a line of pixels to ``small`` by area and grows it back by ``mode``.

    Both interpolations are linear and separable, so an image X becomes M X M^T: images of one batch can
    have different ratios and still be resized by two batched products.
    """
    identity = torch.eye(side)[None, :, :, None]  # one channel per input pixel
    shrunk = F.adaptive_avg_pool2d(identity, (small, 1))
    # A second column: torch's 2-D interpolation is then constant across it and exact along the line.
    grown = F.interpolate(shrunk.expand(-1, -1, -1, 2), size=(side, 2), mode=mode, align_corners=False)
    return grown[0, :, :, 0].T.contiguous()


def _rescale_matrices(side: int, ratio: Tensor, mode: Tensor) -> Tensor:
    small = (ratio * side).round().clamp(1, side).long().tolist()
    modes = (mode * len(_UP_MODES)).long().tolist()
    return torch.stack([_rescale_matrix(side, s, _UP_MODES[m]) for s, m in zip(small, modes, strict=True)])


def _rescale(images: Tensor, ratio: Tensor, mode: Tensor) -> Tensor:
    rows, columns = (
        sent_like(_rescale_matrices(side, ratio, mode), images)[:, None] for side in images.shape[-2:]
    )
    return (rows @ images @ columns.mT).clamp(-1, 1)  # bicubic overshoots


def _colour_jitter(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    brightness, contrast, saturation = (
        sent_like(factor, images)[:, None, None, None] for factor in (brightness, contrast, saturation)
    )
    pixels = (images + 1) / 2
    pixels = (pixels * brightness).clamp(0, 1)
    mean = _luminance(pixels).mean(dim=(2, 3), keepdim=True)
    pixels = torch.lerp(mean, pixels, contrast).clamp(0, 1)
    pixels = torch.lerp(_luminance(pixels), pixels, saturation).clamp(0, 1)
    return pixels * 2 - 1


def _luminance(pixels: Tensor) -> Tensor:
    return (pixels * _luma(pixels.dtype, pixels.device)).sum(dim=1, keepdim=True)


@cache
def _luma(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(_LUMA, dtype=dtype, device=device)[:, None, None]


def _erase(images: Tensor, area: Tensor, aspect: Tensor, top: Tensor, left: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    pixels = area * height * width
    tall = (pixels * aspect).sqrt().round().clamp(1, height)
    wide = (pixels / aspect).sqrt().round().clamp(1, width)
    inside_rows = _interval(height, (top * (height - tall + 1)).floor(), tall)
    inside_columns = _interval(width, (left * (width - wide + 1)).floor(), wide)
    erased = sent(inside_rows[:, :, None] & inside_columns[:, None, :], images.device)
    return images.masked_fill(erased[:, None], -1.0)  # pixel value 0


def _interval(side: int, start: Tensor, length: Tensor) -> Tensor:
    positions = torch.arange(side)
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])

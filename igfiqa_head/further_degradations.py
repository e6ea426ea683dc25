"""Kinds of degradation beside the paper's three, for quality heads that should know more kinds of damage.

They are common in photographs of faces and unlike the three: defocus, dead pixels, another tone curve, a face
that was aligned badly, and a mosaic. Sizes are relative to the image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from igfiqa_head.hit_images import Kind, between, degrade_hit, sent_like
from igfiqa_head.transfer import sent

NUM_FURTHER_DRAWS = 16

_DEFOCUS = (0.01, 0.05)  # radius of the circle of confusion, of the image's side
_DEAD_PIXELS = (0.005, 0.2)
_LOG_GAMMA = (-math.log(3), math.log(3))
_ROTATION = (-math.radians(25), math.radians(25))
_LOG_ZOOM = (-0.25, 0.25)
_SHIFT = (-0.15, 0.15)  # of the image's side
_BLOCK = (0.03, 0.15)  # side of a tile, of the image's side


def degrade_further(images: Tensor, p: float, draws: Tensor) -> Tensor:
    """Degrade images [B, 3, H, W] in [-1, 1] as told by ``draws`` [B, NUM_FURTHER_DRAWS], uniform in [0, 1).

    Each kind hits an image with probability ``p``, in the order of this module's introduction. Returns a new
    tensor; images that no kind hits come back bit-identical.
    """
    u = iter(draws.unbind(dim=1))
    kinds: tuple[Kind, ...] = (
        (next(u) < p, _defocus, [between(_DEFOCUS, next(u))]),
        (next(u) < p, _dead_pixels, [between(_DEAD_PIXELS, next(u)), next(u)]),
        (next(u) < p, _tone_curve, [between(_LOG_GAMMA, next(u)).exp()]),
        (
            next(u) < p,
            _misalignment,
            [
                between(_ROTATION, next(u)),
                between(_LOG_ZOOM, next(u)).exp(),
                between(_SHIFT, next(u)),
                between(_SHIFT, next(u)),
            ],
        ),
        (next(u) < p, _mosaic, [between(_BLOCK, next(u))]),
    )
    return degrade_hit(images, kinds)


def _defocus(images: Tensor, radius: Tensor) -> Tensor:
    """Each point becomes a disc, as out of focus."""
    count, channels, height, width = images.shape
    radius = radius * min(height, width)
    reach = math.ceil(float(radius.max()))
    steps = torch.arange(-reach, reach + 1, dtype=radius.dtype)
    distance = torch.hypot(steps[:, None], steps)
    discs = (radius[:, None, None] + 0.5 - distance).clamp(0, 1)
    discs = sent_like(discs / discs.sum(dim=(1, 2), keepdim=True), images)
    padded = F.pad(images, (reach,) * 4, mode="replicate").reshape(
        1, count * channels, height + 2 * reach, -1
    )
    kernels = discs.repeat_interleave(channels, dim=0)[:, None]
    return F.conv2d(padded, kernels, groups=count * channels).reshape_as(images).clamp(-1, 1)


def _dead_pixels(images: Tensor, share: Tensor, seed: Tensor) -> Tensor:
    """Single pixels, black or white."""
    noise = torch.stack([_noise(images.shape[-2:], float(number)) for number in seed])
    half = share[:, None, None] / 2
    black, white = (sent(dead[:, None], images.device) for dead in (noise < half, noise >= 1 - half))
    return images.masked_fill(black, -1.0).masked_fill(white, 1.0)


def _noise(shape: tuple[int, ...], number: float) -> Tensor:
    generator = torch.Generator().manual_seed(int(number * 2**53))
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _tone_curve(images: Tensor, gamma: Tensor) -> Tensor:
    pixels = ((images + 1) / 2).clamp(0, 1)
    return pixels ** sent_like(gamma, images)[:, None, None, None] * 2 - 1


def _misalignment(images: Tensor, angle: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Turned, scaled and shifted; what lies outside of the image is repeated from its border."""
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    rows = [torch.stack([cosine, -sine, 2 * right], 1), torch.stack([sine, cosine, 2 * down], 1)]
    grid = F.affine_grid(sent_like(torch.stack(rows, 1), images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).clamp(-1, 1)


def _mosaic(images: Tensor, block: Tensor) -> Tensor:
    """The mean colour of each tile."""
    tiles = [
        F.adaptive_avg_pool2d(image, max(1, round(1 / float(b))))
        for image, b in zip(images, block, strict=True)
    ]
    return torch.stack([F.interpolate(t[None], images.shape[-2:], mode="nearest")[0] for t in tiles])

"""Degrading a share of a test set's images, to make a clean set tell quality measures apart.

Every kind of damage has a severity in (0, 1], from just visible to hardly recognisable. Sizes scale with the
shorter side of the image, so that they mean the same at any resolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from eval_tools.scores import FloatArray
from eval_tools.test_sets.images import LazyImages, RGBImage, stored_size
from eval_tools.test_sets.interface import TestSet
from igfiqa_head.draws import keyed_uniforms
from igfiqa_head.io.images import decode_image, encode_image

_CHOICE, _SETTINGS = range(2)  # streams of draws
_NUM_SETTINGS = 5  # kind, severity, and three that the kind may use
SetType = TypeVar("SetType", bound=TestSet)
Damage = Callable[[RGBImage, float, FloatArray], RGBImage]


def degraded(test_set: SetType, share: float = 0.4, seed: int = 0, *, max_severity: float = 1.0) -> SetType:
    """The same test set with a share of its images degraded, the others bit-identical.

    One kind of damage hits each chosen image: low resolution, defocus, motion blur, noise, JPEG compression,
    underexposure or an occlusion. Which one and how severe depends on ``seed`` and the image's position
    alone, whatever the share and the order of reading.

    Args:
        test_set: any test set.
        share: of the images to degrade, in [0, 1]; exactly ``round(share * N)`` are.
        seed: chooses the images and their damage.
        max_severity: severities are uniform in (0, max_severity]; 1 is hardly recognisable.

    Returns:
        A set whose ``images`` are :class:`DegradedImages`.

    Raises:
        ValueError: ``share`` is not in [0, 1], or ``max_severity`` not in (0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share of degraded images must lie in [0, 1], got {share}")
    if not 0 < max_severity <= 1:
        raise ValueError(f"the highest severity must lie in (0, 1], got {max_severity}")
    images = DegradedImages(test_set.images, share, seed, max_severity)
    count = np.count_nonzero(images.severity)
    note = f"{count} of {len(images)} images were degraded (seed {seed})."
    return dataclasses.replace(test_set, images=images, notes=(*test_set.notes, note))  # type: ignore[type-var]


class DegradedImages(LazyImages):
    """Images of which a share is degraded when asked for, see :func:`degraded`.

    Attributes:
        severity: float64 [N], 0 for untouched images, else in (0, 1].
        kind: [N] name of the damage, "" for untouched images.
    """

    def __init__(
        self, images: Sequence[RGBImage], share: float, seed: int, max_severity: float = 1.0
    ) -> None:
        super().__init__(len(images), self._degrade, partial(stored_size, images))
        self._images = images
        positions = np.arange(len(images))
        order = np.argsort(keyed_uniforms(seed, _CHOICE, positions, count=1)[:, 0], kind="stable")
        chosen = np.zeros(len(images), np.bool_)
        chosen[order[: round(share * len(images))]] = True
        self._settings = keyed_uniforms(seed, _SETTINGS, positions, count=_NUM_SETTINGS)
        numbers = (self._settings[:, 0] * len(_DAMAGES)).astype(np.int64)
        self.severity = np.where(chosen, max_severity * (1.0 - self._settings[:, 1]), 0.0)
        self.kind = np.where(chosen, np.array(list(_DAMAGES))[numbers], "")

    def _degrade(self, index: int) -> RGBImage:
        image = self._images[index]
        if not self.severity[index]:
            return image
        damage = _DAMAGES[str(self.kind[index])]
        return damage(image, float(self.severity[index]), self._settings[index, 2:])


def _between(mild: float, strong: float, severity: float) -> float:
    """On a geometric scale: equal steps of severity look about equally large."""
    return mild * (strong / mild) ** severity


def _low_resolution(image: RGBImage, severity: float, draws: FloatArray) -> RGBImage:
    height, width = image.shape[:2]
    ratio = _between(0.5, 0.09, severity)
    small = max(1, round(width * ratio)), max(1, round(height * ratio))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return _pixels(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR))


def _defocus(image: RGBImage, severity: float, draws: FloatArray) -> RGBImage:
    sigma = min(image.shape[:2]) * _between(0.01, 0.06, severity)
    return _pixels(cv2.GaussianBlur(image, (0, 0), sigma))


def _motion_blur(image: RGBImage, severity: float, draws: FloatArray) -> RGBImage:
    length = min(image.shape[:2]) * _between(0.04, 0.3, severity)
    half = int(np.ceil(length / 2))
    direction = np.array([np.cos(np.pi * draws[0]), np.sin(np.pi * draws[0])])
    start, stop = half - direction * length / 2, half + direction * length / 2
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    for x, y in np.linspace(start, stop, 8 * half + 1):
        kernel[round(y), round(x)] += 1
    return _pixels(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE))


def _noise(image: RGBImage, severity: float, draws: FloatArray) -> RGBImage:
    uniform = keyed_uniforms(int(draws[0] * 2**53), count=2 * image.size).reshape(2, *image.shape)
    normal = np.sqrt(-2 * np.log1p(-uniform[0])) * np.cos(2 * np.pi * uniform[1])  # Box and Muller, 1958
    return _pixels(image + _between(12, 90, severity) * normal)


def _jpeg(image: RGBImage, severity: float, draws: FloatArray) -> RGBImage:
    quality = round(_between(25, 3, severity))
    return decode_image(encode_image(image, ".jpg", quality))


def _underexposure(image: RGBImage, severity: float, draws: FloatArray) -> RGBImage:
    return _pixels(image * _between(0.6, 0.06, severity))


def _occlusion(image: RGBImage, severity: float, draws: FloatArray) -> RGBImage:
    """A grey rectangle of the image's proportions."""
    share = np.sqrt(_between(0.05, 0.5, severity))
    height, width = (max(1, round(side * share)) for side in image.shape[:2])
    top, left = (
        round(draw * (side - cut))
        for draw, side, cut in zip(draws[:2], image.shape[:2], (height, width), strict=True)
    )
    covered = image.copy()
    covered[top : top + height, left : left + width] = round(255 * draws[2])
    return covered


def _pixels(values: NDArray[np.generic]) -> RGBImage:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


_DAMAGES: dict[str, Damage] = {
    "low resolution": _low_resolution,
    "defocus": _defocus,
    "motion blur": _motion_blur,
    "noise": _noise,
    "JPEG": _jpeg,
    "underexposure": _underexposure,
    "occlusion": _occlusion,
}
KINDS = tuple(_DAMAGES)
"""Names of the kinds of damage."""

"""Capture quality: what a bad camera, bad light or something in the way does to a face image.

``severity`` in [0, 1] says how much of an image's use for recognition is lost: 0 leaves it untouched, 1
leaves almost nothing. Each kind of damage maps severity to its own physical strength through a table measured
so that equal severities hurt about equally (see ``STRENGTHS``).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .drawing import ImageArray
from .traits import FloatArray

_EYE_ROW = 0.46  # of the image height, by the alignment template
_KNOTS = np.linspace(0.0, 1.0, 6)
# Strength at severity 0, 0.2, 0.4, 0.6, 0.8 and 1. Recognisers differ in what hurts them: one trained for
# long reads fine detail and suffers from blur, one trained for minutes reads coarse shape and suffers from
# lost contrast. These are set so that equal severities cost the quick start's recogniser about as much of its
# similarity to the clean image: benchmarks/severity.py prints the table.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "defocus": (0.0, 7.0, 11.0, 14.5, 19.0, 26.0),  # sigma of the blur in pixels
    "motion": (0.0, 30.0, 46.0, 63.0, 88.0, 120.0),  # length of the smear in pixels
    "resolution": (0.0, 0.91, 0.943, 0.957, 0.97, 0.982),  # share of the side length lost
    "noise": (0.0, 80.0, 120.0, 160.0, 225.0, 320.0),  # sigma in grey levels
    "exposure": (0.0, 0.29, 0.44, 0.57, 0.75, 0.97),  # share of the contrast lost
    "occlusion": (0.0, 0.11, 0.2, 0.3, 0.5, 0.8),  # share of the image covered
    "compression": (0.0, 0.74, 0.81, 0.86, 0.92, 1.0),  # near-lossless JPEG to quality 1 at a quarter size
}


def strength(kind: str, severity: float) -> float:
    """Physical strength of ``kind`` at ``severity``; monotone, 0 at 0."""
    return float(np.interp(severity, _KNOTS, STRENGTHS[kind]))


def degrade_capture(image: ImageArray, severity: float, rng: np.random.Generator) -> ImageArray:
    """Damage an RGB image [H, W, 3] by one to three kinds that together reach ``severity``.

    Losses multiply: if kind j keeps the share 1 - s_j, the image keeps their product. With random exponents
    w_j that sum to 1, s_j = 1 - (1 - severity)^w_j makes that product 1 - severity however many kinds act.
    """
    kinds = rng.permutation(list(KINDS))[: rng.choice((1, 2, 3), p=(0.4, 0.35, 0.25))]
    exponents = rng.dirichlet(np.full(len(kinds), 2.0))
    shares = dict(zip(kinds, 1.0 - (1.0 - severity) ** exponents, strict=True))
    for kind, apply in KINDS.items():  # in the order in which light passes scene, lens, sensor and file
        if shares.get(kind, 0.0) > 0.0:
            image = apply(image, strength(kind, shares[kind]), rng)
    return image


def _occlude(image: ImageArray, covered: float, rng: np.random.Generator) -> ImageArray:
    """Sunglasses, a mask or a hand in one plain colour over the share ``covered`` of the image."""
    image, side = image.copy(), image.shape[0]
    colour = rng.uniform(10, 240) + rng.uniform(-40, 40, 3)
    form = rng.integers(3)
    if form == 0:
        low, high = _interval(_EYE_ROW * side, covered * side, side)
        image[low:high] = colour
    elif form == 1:
        top = side * (1.0 - covered)
        middle = top - 0.2 * side * covered * (1.0 - covered)
        mask = [(0, top), (side / 4, middle), (3 * side / 4, middle), (side, top), (side, side), (0, side)]
        cv2.fillPoly(image, [np.rint(mask).astype(np.int32)], colour.tolist())
    else:
        centre, aspect = rng.uniform(0.35, 0.65, 2) * side, rng.uniform(0.75, 1.33)
        diameter = 2.0 * side * np.sqrt(covered / np.pi)
        ellipse = (centre.tolist(), (diameter * aspect, diameter / aspect), rng.uniform(0, 180))
        cv2.ellipse(image, ellipse, colour.tolist(), -1)
    return image


def _interval(centre: float, length: float, limit: int) -> tuple[int, int]:
    """The interval of that length inside [0, limit] whose centre is nearest to ``centre``."""
    low = min(max(centre - length / 2, 0.0), limit - length)
    return round(low), round(low + length)


def _defocus(image: ImageArray, sigma: float, rng: np.random.Generator) -> ImageArray:
    if sigma < 0.2:
        return image
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _smear(image: ImageArray, length: float, rng: np.random.Generator) -> ImageArray:
    """Motion blur along a random straight line."""
    angle = rng.uniform(0.0, np.pi)
    reach = int(np.ceil(length / 2)) + 1
    offset = np.arange(-reach, reach + 1)
    along = np.cos(angle) * offset + np.sin(angle) * offset[:, None]
    across = np.abs(np.cos(angle) * offset[:, None] - np.sin(angle) * offset)
    kernel = np.clip((length + 1) / 2 - np.abs(along) + 0.5, 0, 1) * np.clip(1.0 - across, 0, 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _expose(image: ImageArray, lost: float, rng: np.random.Generator) -> ImageArray:
    """Contrast squeezed towards black (darkness) or towards a veil of grey, under a little sensor noise."""
    veil = 0.0 if rng.random() < 0.6 else rng.uniform(60, 230)
    squeezed = cv2.addWeighted(image, 1.0 - lost, image, 0.0, veil * lost, dtype=cv2.CV_32F)
    return _with_noise(squeezed, 3.0 * lost, rng)


def _rescale(image: ImageArray, lost: float, rng: np.random.Generator) -> ImageArray:
    height, width = image.shape[:2]
    upward = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
    small = (max(1, round(width * (1.0 - lost))), max(1, round(height * (1.0 - lost))))
    coarse = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (width, height), interpolation=upward)


def _add_noise(image: ImageArray, sigma: float, rng: np.random.Generator) -> ImageArray:
    return _with_noise(image.astype(np.float32), sigma, rng)


def _with_noise(image: FloatArray, sigma: float, rng: np.random.Generator) -> ImageArray:
    noise = rng.standard_normal(image.shape, np.float32)
    return cv2.convertScaleAbs(np.maximum(cv2.scaleAdd(noise, sigma, image), 0.0))


def _compress(image: ImageArray, loss: float, rng: np.random.Generator) -> ImageArray:
    """JPEG of falling quality, from mid-way on at a falling size as thumbnails are."""
    height, width = image.shape[:2]
    quality = round(np.interp(loss, (0.0, 0.5, 1.0), (95, 12, 1)))
    scale = np.interp(loss, (0.5, 1.0), (1.0, 0.25))
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1]
    return np.ascontiguousarray(cv2.resize(decoded, (width, height), interpolation=cv2.INTER_LINEAR))


KINDS: dict[str, Callable[[ImageArray, float, np.random.Generator], ImageArray]] = {
    "occlusion": _occlude,
    "defocus": _defocus,
    "motion": _smear,
    "exposure": _expose,
    "resolution": _rescale,
    "noise": _add_noise,
    "compression": _compress,
}

"""The part of a synthetic face that all images of an identity share, drawn once per identity.

A canvas holds the frontal face at twice the output resolution, unlit, without eyes, brows and mouth (those
move with the expression), and the height map from which every image takes its parallax and its shading.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .drawing import MARGIN, SCALE, SIDE, UNITS, ImageArray, blend, disc, fill, mirror, smooth, stroke
from .hair import draw_back_hair, draw_beard, draw_front_hair, head_outline
from .traits import FloatArray, Traits


@dataclass(frozen=True)
class Canvas:
    """An unlit frontal face in two resolutions.

    At 2x: ``base`` RGBA, premultiplied, and ``hair``, the mask {0, 255} of what hangs in front of the brows.
    At 1x: ``height`` [UNITS, UNITS] and its unit ``normals`` [UNITS, UNITS, 3], z towards the camera.
    """

    base: ImageArray
    hair: ImageArray
    height: FloatArray
    normals: FloatArray


def build_canvas(traits: Traits, rng: np.random.Generator) -> Canvas:
    """Draw what is fixed for an identity; ``rng`` places hair strands, beard and skin texture."""
    base = np.zeros((UNITS * SCALE, UNITS * SCALE, 4), np.uint8)
    draw_back_hair(base, traits, rng)
    _draw_neck_and_ears(base, traits)
    fill(base, smooth(head_outline(traits)), traits.skin.colour)
    _draw_marks(base, traits)
    front, front_mask = draw_front_hair(traits, rng)
    _tint(base, front_mask, traits, rng)
    _draw_nostrils(base, traits)
    base = blend(base, front, front_mask)
    height = _height_map(traits, front_mask)
    inside = np.where(front_mask == 255, np.uint8(255), np.uint8(0))
    return Canvas(base, inside, height, _normals(height))


def _draw_neck_and_ears(base: ImageArray, traits: Traits) -> None:
    outline, skin = traits.outline, traits.skin.colour
    neck = [(0.8 * outline.jaw, 84), (0.78 * outline.jaw, 112), (1.1 * outline.jaw, 130), (50, 136)]
    fill(base, mirror(neck), 0.74 * skin)
    size, place = outline.ear_size, (outline.cheek + 0.5, 60.0)
    ear = np.array([(-3, -11), (3, -13), (6, -8), (5, 2), (2.5, 10), (-1, 14), (-4, 10)]) * size + place
    fill(base, smooth(ear), 0.92 * skin, mirrored=True)
    inner = np.array([(1, -9), (3.6, -7), (3.2, 0), (1.4, 6)]) * size + place
    stroke(base, smooth(inner, closed=False), 0.7 * skin, 2, mirrored=True)


def _draw_marks(base: ImageArray, traits: Traits) -> None:
    skin = traits.skin
    for x, y, radius in skin.freckles:
        disc(base, (x, y), radius, skin.colour * (0.84, 0.74, 0.68))
    for x, y, radius in skin.moles:
        disc(base, (x, y), radius, skin.colour * (0.45, 0.36, 0.34))
    if skin.scar is not None:
        stroke(base, skin.scar, np.clip(skin.colour * (1.04, 0.84, 0.82), 0, 255), 2)


def _draw_nostrils(base: ImageArray, traits: Traits) -> None:
    nose, skin = traits.nose, traits.skin.colour
    hole = np.array([(0.28, 2.6), (0.48, 1.7), (0.68, 2.2), (0.6, 3.2), (0.4, 3.4)])
    hole = hole * (nose.half_width, nose.nostril) + (0.0, nose.tip_y)
    fill(base, smooth(hole), 0.34 * skin, mirrored=True)
    wing = np.array([(0.82, -2.6), (1.06, -0.4), (1.02, 2.2), (0.74, 3.3)])
    wing = wing * (nose.half_width, 1.0) + (0.0, nose.tip_y)
    stroke(base, smooth(wing, closed=False), 0.68 * skin, 1, mirrored=True)


def _bumps(*rows: tuple[float, float, float, float, float]) -> FloatArray:
    """Sum of Gaussians (peak, x, y, sigma x, sigma y) on the 1x grid; those off the mid-line are paired."""
    peak, x, y, width, length = np.array(rows).T[..., None]
    grid = np.arange(UNITS) - MARGIN
    across, down = grid - SIDE / 2, (grid - y) / length
    row = np.exp(-0.5 * ((across - x) / width) ** 2) + (x > 0) * np.exp(-0.5 * ((across + x) / width) ** 2)
    return ((peak * np.exp(-0.5 * down**2)).T @ row).astype(np.float32)


def _tint(base: ImageArray, front_mask: ImageArray, traits: Traits, rng: np.random.Generator) -> None:
    """Give the skin its soft tones (hollows, blush, texture, wrinkles, shadow of the hair) and the beard."""
    texture: FloatArray = cv2.resize(
        rng.standard_normal((36, 36), np.float32), (UNITS, UNITS), interpolation=cv2.INTER_CUBIC
    )
    texture *= 0.008 + 0.014 * traits.skin.age
    mix = np.array([(-0.8, 0.12, 1, 1), (-1.0, -1.0, 1, 1), (-1.05, -0.8, 1, 1)])
    tone = cv2.transform(cv2.merge([_hollows(traits), _flush(traits), texture]), mix)
    # Both factors fit bytes (the tone stays below 1.3), which OpenCV multiplies several times faster.
    tone = cv2.resize(cv2.convertScaleAbs(tone, alpha=190.0), front_mask.shape[::-1])
    shadow = cv2.blur(np.roll(front_mask, 8, axis=0), (13, 13))
    lines = cv2.bitwise_not(cv2.addWeighted(shadow, 0.3, _wrinkles(traits), 0.42, 0.0))
    tone = cv2.multiply(tone, cv2.cvtColor(lines, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    base[..., :3] = cv2.multiply(np.ascontiguousarray(base[..., :3]), tone, scale=1 / 190)
    draw_beard(base, traits, rng)


def _hollows(traits: Traits) -> FloatArray:
    """How much the skin darkens where little light gets in: eye sockets, beside and under nose, under lip."""
    eyes, nose, mouth = traits.eyes, traits.nose, traits.mouth
    return _bumps(
        (0.15, eyes.spacing - 1, eyes.y - 3.5, 8.5, 4.0),
        (0.16, 7.5, eyes.y, 3.0, 5.0),
        (0.05 + 0.2 * traits.skin.age * eyes.bags, eyes.spacing - 1, eyes.y + 6.5, 6.0, 2.0),
        (0.16, nose.half_width + 1.5, nose.tip_y + 1.0, 2.6, 4.0),
        (0.22, 0.0, nose.tip_y + 4.8, nose.half_width * 0.8, 1.8),
        (0.17, 0.0, mouth.y + mouth.lower + 4.0, 8.0, 2.2),
        (0.07, 28.0, 84.0, 7.0, 10.0),
    )


def _flush(traits: Traits) -> FloatArray:
    """Redness of cheeks and nose tip."""
    blush = traits.skin.blush
    return _bumps((0.14 * blush, 23.0, 73.0, 8.0, 6.5), (0.07 * blush, 0.0, traits.nose.tip_y, 5.0, 4.0))


def _wrinkles(traits: Traits) -> ImageArray:
    """Strength of the creases of the skin in [0, 255]: folds beside the mouth, forehead, crow's feet."""
    lines = np.zeros((UNITS * SCALE, UNITS * SCALE), np.uint8)
    nose, mouth, eyes, age = traits.nose, traits.mouth, traits.eyes, traits.skin.age
    fold = [
        (nose.half_width + 2, nose.tip_y),
        (mouth.half_width + 1, 82),
        (mouth.half_width + 4, mouth.y - 1),
    ]
    stroke(lines, smooth(fold, closed=False), [25 + 170 * age], 2, mirrored=True)
    corner = eyes.spacing + eyes.half_width
    for fan in (-1.6, 0.6, 2.8):
        foot = [(corner + 2.5, eyes.y + 0.5 * fan), (corner + 7.0, eyes.y + 1.7 * fan)]
        stroke(lines, foot, [max(0.0, 260 * age - 100)], mirrored=True)
    for row in (26.0, 31.0, 36.0):
        crease = [(-18, row + 1), (-9, row - 0.5), (0, row + 0.5), (9, row - 0.5), (18, row + 1)]
        stroke(lines, smooth(crease, closed=False), [max(0.0, 300 * age - 130)], 2)
    return cv2.GaussianBlur(lines, (5, 5), 1.1)


def _height_map(traits: Traits, front_mask: ImageArray) -> FloatArray:
    """Relief of the face towards the camera in output pixels: skull, features, hair."""
    eyes, nose, mouth, outline = traits.eyes, traits.nose, traits.mouth, traits.outline
    grid = np.arange(UNITS, dtype=np.float32) - MARGIN
    radius = ((grid - SIDE / 2) / (outline.cheek + 12.0)) ** 2 + ((grid[:, None] - 58.0) / 78.0) ** 2
    skull = -33.0 * np.minimum(radius, 1.25)  # a paraboloid: never so steep that a turned head folds
    length = nose.tip_y - 5.0 - eyes.y
    bridge = [
        (nose.protrusion * (0.13 + 0.14 * t), 0.0, eyes.y + 1.0 + t * length, nose.bridge + 1.2 * t, 4.0)
        for t in (0.0, 1 / 3, 2 / 3, 1.0)
    ]
    features = _bumps(
        *bridge,
        (0.52 * nose.protrusion, 0.0, nose.tip_y - 0.5, 0.62 * nose.half_width, 3.2),
        (3.0, 0.78 * nose.half_width, nose.tip_y + 0.8, 2.3, 2.4),
        (2.2, eyes.spacing - 2, eyes.y - 8.5, 8.0, 2.8),
        (-4.2, eyes.spacing, eyes.y, 7.5, 5.0),
        (2.0, eyes.spacing, eyes.y, 4.5, 3.2),
        (2.6, 24.0, 67.0, 9.0, 7.0),
        (3.0, 0.0, mouth.y, 0.75 * mouth.half_width, 5.0),
        (0.35 * mouth.lower, 0.0, mouth.y + 0.6 * mouth.lower, 8.0, 1.8),
        (-1.8, 0.0, mouth.y + mouth.lower + 4.0, 8.0, 2.2),
        (4.0, 0.0, outline.chin_y - 8.0, 0.8 * outline.chin, 4.5),
    )
    hair = cv2.GaussianBlur(cv2.resize(front_mask, (UNITS, UNITS), interpolation=cv2.INTER_AREA), (0, 0), 2.0)
    return (skull + features + np.float32(2.6 / 255) * hair).astype(np.float32)


def _normals(height: FloatArray) -> FloatArray:
    left = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=1, scale=-0.5)
    up = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=1, scale=-0.5)
    facing = 1.0 / np.sqrt(1.0 + left * left + up * up)
    return cv2.merge([left * facing, up * facing, facing])

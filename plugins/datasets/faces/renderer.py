"""Renders a synthetic face: an identity's canvas plus one shot of it -> an aligned 112 x 112 colour image.

Expression is painted on the frontal canvas; the relief is then turned to the pose under an orthographic
camera, aligned to the insightface five-point template by the least-squares similarity (Umeyama 1991),
lit by one coloured lamp (Lambert plus a Phong highlight) and laid over a blurred background.
"""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Canvas
from .drawing import MARGIN, SCALE, SIDE, ImageArray, blend, disc, fill, smooth, stroke
from .shot import Shot
from .traits import FloatArray, Traits

# Landmarks of an aligned face in the 112 x 112 frame: eyes, nose tip, mouth corners.
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
_PIVOT = np.array((SIDE / 2, 66.0))
_FIELD = SIDE // 2  # the warp is smooth, so it is solved on a coarse grid and enlarged


def render_face(traits: Traits, canvas: Canvas, shot: Shot) -> ImageArray:
    """Render one clean photograph, RGB uint8 [112, 112, 3]."""
    paint = canvas.base.copy()
    _draw_brows(paint, traits, shot)
    _draw_eyes(paint, traits, shot)
    _draw_mouth(paint, traits, shot)
    cv2.copyTo(canvas.base, canvas.hair, paint)
    _draw_glasses(paint, traits)
    rotation = _rotation(shot)
    field = _warp_field(traits, canvas.height, shot, rotation)
    return _compose(paint, canvas.normals, field, shot, rotation)


def _draw_brows(paint: ImageArray, traits: Traits, shot: Shot) -> None:
    brows, eyes = traits.brows, traits.eyes
    along = np.array((-1.0, -0.55, 0.0, 0.5, 1.0))
    x = eyes.spacing + 0.8 + along * brows.half_length
    arch = brows.arch * (1.0 - (along - 0.25) ** 2) + brows.tilt * along
    y = eyes.y - brows.height - arch - shot.brow_raise
    half = brows.thickness * np.array((0.8, 1.0, 0.95, 0.7, 0.1))
    for spread, depth in ((1.25, 0.45), (0.85, 0.9)):
        upper, lower = np.stack([x, y - spread * half], axis=1), np.stack([x, y + spread * half], axis=1)
        band = np.concatenate([upper, lower[::-1]])
        colour = depth * brows.colour + (1 - depth) * 0.85 * traits.skin.colour
        fill(paint, smooth(band), colour, mirrored=True)


def _draw_eyes(paint: ImageArray, traits: Traits, shot: Shot) -> None:
    eyes, skin = traits.eyes, traits.skin.colour
    along = np.array((-1.0, -0.55, 0.0, 0.55, 1.0))
    x, y = eyes.spacing + along * eyes.half_width, eyes.y - eyes.tilt * along
    opening = eyes.opening * shot.eye_open
    upper = smooth(np.column_stack([x, y - opening * np.array((-0.12, 0.72, 1.0, 0.8, 0.0))]), closed=False)
    lower = smooth(np.column_stack([x, y + opening * np.array((0.12, 0.5, 0.68, 0.6, 0.0))]), closed=False)
    for side in (-1.0, 1.0):
        pupil = np.array((side * eyes.spacing, eyes.y)) + shot.gaze
        _draw_eyeball(paint, upper * (side, 1.0), lower * (side, 1.0), pupil, traits)
    if eyes.crease > 0.0:
        stroke(paint, upper[3:-2] - (0.0, eyes.crease), 0.66 * skin, mirrored=True)
    stroke(paint, lower, skin * (0.72, 0.65, 0.63), mirrored=True)
    lash = np.minimum(0.3 * skin, 60.0)
    stroke(paint, upper, lash, 2 if eyes.lashes < 0.9 else 3, mirrored=True)
    if eyes.lashes > 0.5:
        tip = upper[-1] + (1.6 * eyes.lashes, -1.4 * eyes.lashes)
        stroke(paint, [upper[-4], tip], lash, 2, mirrored=True)


def _draw_eyeball(
    paint: ImageArray, upper: FloatArray, lower: FloatArray, pupil: FloatArray, traits: Traits
) -> None:
    """Sclera, iris, pupil and glint, clipped to the opening between the lids."""
    eyes = traits.eyes
    lids = np.concatenate([upper, lower[::-1]])
    opening = np.zeros(paint.shape[:2], np.uint8)
    fill(opening, lids, [255])
    left, top, width, height = cv2.boundingRect(opening)
    window = (slice(top, top + height), slice(left, left + width))
    skin = paint[window].copy()
    paint[window] = (232, 228, 224, 255)
    fill(paint, np.concatenate([upper, np.add(upper[::-1], (0.0, 1.5))]), (176, 166, 162))
    disc(paint, pupil, eyes.iris_radius, 0.45 * eyes.iris_colour)
    disc(paint, pupil, 0.82 * eyes.iris_radius, eyes.iris_colour)
    disc(paint, pupil, 0.42 * eyes.iris_radius, (12, 10, 12))
    disc(paint, np.add(pupil, (-0.9, -1.0)), 0.55, (250, 250, 250))
    paint[window] = blend(skin, paint[window], opening[window])


def _draw_mouth(paint: ImageArray, traits: Traits, shot: Shot) -> None:
    mouth, lips = traits.mouth, traits.mouth.colour
    half = mouth.half_width + 1.8 * shot.smile
    corner_y = mouth.y - mouth.corners - 3.2 * shot.smile
    gap = 3.4 * shot.mouth_open + 1.2 * shot.smile * (shot.mouth_open > 0)
    along = np.array((-1.0, -0.6, -0.22, 0.0, 0.22, 0.6, 1.0))
    x, middle = half * along, 1.0 - along**2
    seam = corner_y + (mouth.y - corner_y) * middle + 0.5 * np.cos(3.0 * np.pi * along) * middle
    upper_lip = seam - 0.35 * gap * middle
    lower_lip = seam + 0.65 * gap * middle
    bow = mouth.upper * (middle**0.7) - mouth.bow * np.exp(-0.5 * (along / 0.16) ** 2)
    top = np.stack([x, upper_lip - bow], axis=1)
    bottom = np.stack([x, lower_lip + mouth.lower * middle**0.75], axis=1)
    top, bottom = smooth(top, closed=False), smooth(bottom, closed=False)
    upper_edge = smooth(np.stack([x, upper_lip], axis=1), closed=False)
    lower_edge = smooth(np.stack([x, lower_lip], axis=1), closed=False)
    fill(paint, np.concatenate([top, upper_edge[::-1]]), 0.86 * lips)
    fill(paint, np.concatenate([lower_edge, bottom[::-1]]), lips)
    shine = np.stack([x[2:5] + 0.5, lower_lip[2:5] + 0.45 * mouth.lower], axis=1)
    stroke(paint, smooth(shine, closed=False), np.minimum(1.12 * lips + 6, 255), 2)
    if gap > 0.4:
        fill(paint, np.concatenate([upper_edge, lower_edge[::-1]]), (64, 26, 28))
        teeth = upper_edge + (0.0, 1.0) * np.minimum(0.62 * (lower_edge - upper_edge), 3.2)
        fill(paint, np.concatenate([upper_edge, teeth[::-1]]), (226, 220, 210))
    else:
        stroke(paint, upper_edge, 0.45 * lips, 1)
    if shot.smile > 0.25:
        dimple = [(half + 1.2, corner_y - 2.5), (half + 2.4, corner_y), (half + 1.4, corner_y + 2.5)]
        stroke(paint, smooth(dimple, closed=False), 0.74 * traits.skin.colour, mirrored=True)


def _draw_glasses(paint: ImageArray, traits: Traits) -> None:
    glasses = traits.glasses
    if glasses is None:
        return
    eyes, power = traits.eyes, 2.0 / glasses.squareness
    angle = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rim = np.sign(unit) * np.abs(unit) ** power * (glasses.half_width, glasses.half_height)
    stroke(
        paint,
        np.add(rim, (eyes.spacing + 0.6, eyes.y + 1.2)),
        glasses.colour,
        glasses.thickness,
        closed=True,
        mirrored=True,
    )
    hinge = eyes.spacing + 0.6 + glasses.half_width
    arm = [(hinge, eyes.y - 2), (traits.outline.cheek, eyes.y - 1)]
    stroke(paint, arm, glasses.colour, glasses.thickness, mirrored=True)
    nose_side = eyes.spacing + 0.6 - glasses.half_width
    bridge = [(-nose_side, eyes.y - 0.5), (0.0, eyes.y - 2.0), (nose_side, eyes.y - 0.5)]
    stroke(paint, smooth(bridge, closed=False), glasses.colour, glasses.thickness)


def _rotation(shot: Shot) -> FloatArray:
    """Head rotation [3, 3] in camera axes (x right, y down, z towards the camera): yaw, then pitch."""
    (cy, sy), (cp, sp) = [(np.cos(a), np.sin(a)) for a in (shot.yaw, shot.pitch)]
    yaw = np.array([(cy, 0.0, sy), (0.0, 1.0, 0.0), (-sy, 0.0, cy)])
    pitch = np.array([(1.0, 0.0, 0.0), (0.0, cp, -sp), (0.0, sp, cp)])
    return pitch @ yaw


def _alignment(source: FloatArray, target: FloatArray) -> tuple[complex, complex]:
    """Least-squares similarity ``target = a * source + b`` of planar points written as complex numbers."""
    z, w = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    dz, dw = z - z.mean(), w - w.mean()
    a = (dz.conj() * dw).sum() / (np.abs(dz) ** 2).sum()
    return complex(a), complex(w.mean() - a * z.mean())


def _warp_field(traits: Traits, height: FloatArray, shot: Shot, rotation: FloatArray) -> FloatArray:
    """For each output pixel the canvas pixel (x, y at 1x) that projects onto it, [2, 112, 112].

    A canonical point p of depth z is seen at R p + r z, so p = R^-1 (seen - r z(p)): a fixed point in z.
    """
    points = np.add(traits.landmarks(), (SIDE / 2, 0.0))
    column, row = np.rint(points.T).astype(int) + MARGIN
    relief = np.column_stack([points - _PIVOT, height[row, column]])
    seen = relief @ rotation[:2].T
    a, b = _alignment(seen, TEMPLATE - _PIVOT)
    a, b = a * shot.zoom * np.exp(1j * shot.roll), b + complex(*shot.shift)
    inverse = np.linalg.inv(rotation[:2, :2])
    push = -(inverse @ rotation[:2, 2]).astype(np.float32)
    grid = (np.arange(_FIELD) + 0.5) * (SIDE / _FIELD) - 0.5
    plane = (grid - _PIVOT[0] + 1j * (grid[:, None] - _PIVOT[1]) - b) / a
    x, y = (inverse[i, 0] * plane.real + inverse[i, 1] * plane.imag + _PIVOT[i] + MARGIN for i in (0, 1))
    flat_x, flat_y = x.astype(np.float32), y.astype(np.float32)
    x, y = flat_x, flat_y
    for _ in range(3):
        depth = cv2.remap(height, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        x, y = flat_x + push[0] * depth, flat_y + push[1] * depth
    return np.stack([cv2.resize(axis, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for axis in (x, y)])


def _compose(
    paint: ImageArray, normals: FloatArray, field: FloatArray, shot: Shot, rotation: FloatArray
) -> ImageArray:
    """Sample the painted canvas and its light through the warp and lay them over the background."""
    fine_x, fine_y = field * np.float32(SCALE) + np.float32((SCALE - 1) / 2)
    face = cv2.remap(paint, fine_x, fine_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    half_way = np.add(shot.light, (0.0, 0.0, 1.0))
    # OpenCV transforms three channels into three much faster than into two, hence the idle third lamp.
    lamps = np.stack([shot.light, half_way / np.linalg.norm(half_way), np.zeros(3)])
    cosines = cv2.transform(normals, lamps @ rotation)
    cosines = cv2.remap(cosines, field[0], field[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cosines = np.maximum(cosines, 0.0)
    highlight = cv2.extractChannel(cosines, 1)
    for _ in range(4):  # Phong exponent 16
        highlight = highlight * highlight
    light = cv2.transform(cosines, np.column_stack([shot.diffuse, np.zeros((3, 2)), shot.ambient]))
    lit: FloatArray = cv2.multiply(cv2.cvtColor(face, cv2.COLOR_RGBA2RGB), light, dtype=cv2.CV_32F)
    alpha = cv2.extractChannel(face, 3) * np.float32(1 / 255)
    lit += cv2.cvtColor(alpha * highlight * np.float32(shot.shine), cv2.COLOR_GRAY2RGB)
    behind = cv2.cvtColor(1.0 - alpha, cv2.COLOR_GRAY2RGB)
    lit += cv2.multiply(_background(shot), behind, dtype=cv2.CV_32F)
    return cv2.convertScaleAbs(np.maximum(lit, 0.0, out=lit))


def _background(shot: Shot) -> ImageArray:
    backdrop = np.clip(shot.backdrop, 0.0, 255.0).astype(np.uint8)
    blurred = cv2.resize(backdrop, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    shoulders = np.array([(-1, 113), (-1, 104), (26, 97), (86, 97), (113, 104), (113, 113)], np.int32)
    cv2.fillPoly(blurred, [shoulders], shot.clothes.tolist())
    return blurred

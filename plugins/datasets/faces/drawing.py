"""Drawing in face coordinates: smooth anti-aliased shapes on a canvas at twice the output resolution."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .traits import FloatArray

ImageArray = NDArray[Any]  # uint8

SIDE = 112  # output pixels
MARGIN = 16  # canvas around the output frame, so that a turned head does not run out of paint
SCALE = 2  # canvas pixels per output pixel
UNITS = SIDE + 2 * MARGIN
# cv2 draws in fixed point: one output pixel is _UNIT steps; pixel centres lie at whole numbers in both grids.
SUBPIXEL_BITS = 4
_UNIT = SCALE << SUBPIXEL_BITS
_ORIGIN = (np.array((SIDE / 2 + MARGIN, MARGIN)) + 0.5) * _UNIT - (1 << SUBPIXEL_BITS) / 2
_FLIP, _FLIP_ORIGIN = np.array((-1, 1), np.int32), np.array((2 * _ORIGIN[0], 0), np.int32)


@lru_cache(maxsize=64)
def _spline_matrix(num_points: int, closed: bool, samples: int = 6) -> FloatArray:
    """Matrix that maps control points to points on their Catmull-Rom spline."""
    t = np.arange(samples)[:, None] / samples
    weights = 0.5 * np.hstack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    segments = num_points if closed else num_points - 1
    matrix = np.zeros((segments * samples + (not closed), num_points))
    for segment in range(segments):
        rows = slice(segment * samples, (segment + 1) * samples)
        for tap in range(4):
            point = segment - 1 + tap
            point = point % num_points if closed else min(max(point, 0), num_points - 1)
            matrix[rows, point] += weights[:, tap]
    if not closed:
        matrix[-1, -1] = 1.0
    return matrix


def smooth(points: ArrayLike, closed: bool = True) -> FloatArray:
    """Points on the Catmull-Rom spline through ``points`` [K, 2]."""
    control = np.asarray(points, float)
    return _spline_matrix(len(control), closed) @ control


def mirror(points: ArrayLike) -> FloatArray:
    """Close a right-hand half outline, listed from top to bottom, with its mirror image."""
    half = np.asarray(points, float)
    return np.concatenate([half, (half * (-1.0, 1.0))[::-1]])


def to_canvas(points: ArrayLike, mirrored: bool = False) -> list[NDArray[np.int32]]:
    """Face coordinates -> polygons in cv2's fixed point: the given one and, on demand, its mirror image."""
    fixed = np.rint(np.asarray(points, float) * _UNIT + _ORIGIN).astype(np.int32)
    if not mirrored:
        return [fixed]
    return [fixed, fixed * _FLIP + _FLIP_ORIGIN]


def fill(canvas: ImageArray, outline: ArrayLike, colour: Iterable[float], mirrored: bool = False) -> None:
    """Fill a polygon in face coordinates, anti-aliased; ``mirrored`` fills it on the other side as well."""
    cv2.fillPoly(canvas, to_canvas(outline, mirrored), (*colour, 255.0), cv2.LINE_AA, SUBPIXEL_BITS)


def stroke(
    canvas: ImageArray,
    line: ArrayLike,
    colour: Iterable[float],
    width: int = 1,
    *,
    closed: bool = False,
    mirrored: bool = False,
) -> None:
    """Draw a polyline in face coordinates, ``width`` in canvas pixels, anti-aliased."""
    lines = to_canvas(line, mirrored)
    cv2.polylines(canvas, lines, closed, (*colour, 255.0), width, cv2.LINE_AA, SUBPIXEL_BITS)


def disc(canvas: ImageArray, centre: ArrayLike, radius: float, colour: Iterable[float]) -> None:
    """Fill a circle in face coordinates, anti-aliased."""
    x, y = to_canvas(centre)[0].tolist()
    cv2.circle(canvas, (x, y), round(radius * _UNIT), (*colour, 255.0), -1, cv2.LINE_AA, SUBPIXEL_BITS)


def blend(under: ImageArray, over: ImageArray, opacity: ImageArray) -> ImageArray:
    """Lay one RGBA image over another where ``opacity`` [H, W] in [0, 255] says so."""
    cover = cv2.merge([opacity] * 4)
    shown = cv2.multiply(under, cv2.bitwise_not(cover), scale=1 / 255)
    return cv2.add(shown, cv2.multiply(over, cover, scale=1 / 255))

"""Five-point face alignment, as ArcFace-like recognisers are trained with. NumPy and OpenCV only."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.arrays import plain_array

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where insightface puts the eyes, the nose and the corners of the mouth in 112 x 112 pixels, (x, y) each."""

TEMPLATE_SIZE = 112
_FARTHEST = 1e9  # pixels; squares of larger coordinates come near the end of float64


def similarity_transform(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The rotation, uniform scale and shift that bring points nearest to others, in the least-squares sense.

    The optimum of Umeyama (IEEE PAMI 13(4), 1991, Eq. 39-43) for two dimensions without reflection. With
    points as complex numbers the transform is ``z -> a z + b`` and a plain linear fit, so no SVD is needed.

    Args:
        source: [K, 2], K at least 2.
        target: [K, 2].

    Returns:
        float64 [2, 3], to be applied to (x, y, 1).

    Raises:
        ValueError: other shapes, a coordinate that is not finite or beyond 1e9, source points that coincide,
            or points that no rotation brings nearer than a collapse to one point would.
    """
    points, wanted = _complex_points("source", source), _complex_points("target", target)
    if points.size != wanted.size:
        raise ValueError(f"source and target must be as many points, got {points.size} and {wanted.size}")
    centre, wanted_centre = points.mean(), wanted.mean()
    points, wanted = points - centre, wanted - wanted_centre
    spread, wanted_spread = np.linalg.norm(points), np.linalg.norm(wanted)
    if spread <= 1e-9 * max(1.0, abs(centre)):
        raise ValueError(f"the landmarks are degenerate: all {points.size} lie at ({centre:.6g})")
    factor = np.vdot(points, wanted) / spread**2
    if abs(factor) * spread <= 1e-9 * wanted_spread:
        raise ValueError("the landmarks are degenerate: no similarity transform maps them to the target")
    shift = wanted_centre - factor * centre
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]], dtype=np.float64
    )


def align(image: NDArray[np.uint8], landmarks: ArrayLike, size: int = TEMPLATE_SIZE) -> NDArray[np.uint8]:
    """Crop a face so that its landmarks lie as near as can be to :data:`TEMPLATE`.

    Args:
        image: uint8 [H, W, 3], RGB or BGR.
        landmarks: [5, 2] as (x, y) pixels: the eye on the left of the picture, the other eye, nose, left and
            right corner of the mouth.
        size: side of the result; the template is scaled with it.

    Returns:
        uint8 [size, size, 3] in the channel order of ``image``: interpolated bilinearly, black where the
        image has no pixels.

    Raises:
        ValueError: another shape or dtype, a size below 1, or landmarks that are not finite, coincide, or lie
            farther from the image than it is large.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected a uint8 image [H, W, 3], got {image.dtype} {list(image.shape)}")
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    if np.shape(landmarks) != TEMPLATE.shape:
        raise ValueError(f"landmarks must be five points [5, 2], got shape {list(np.shape(landmarks))}")
    matrix = similarity_transform(landmarks, TEMPLATE * (size / TEMPLATE_SIZE))
    _check_near(np.asarray(landmarks, np.float64), image.shape[1], image.shape[0])
    try:
        aligned = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=0)
    except cv2.error as error:  # OpenCV 4 takes no side of 2^15 pixels or more
        raise ValueError(
            f"an image of {image.shape[1]} x {image.shape[0]} cannot be aligned: {error}"
        ) from error
    return aligned.astype(np.uint8, copy=False)


def _check_near(points: NDArray[np.float64], width: int, height: int) -> None:
    outside = np.maximum(-points, points - [width, height]).max()
    if outside > max(width, height):
        raise ValueError(f"a landmark lies {outside:.6g} pixels outside of the image of {width} x {height}")


def _complex_points(name: str, values: ArrayLike) -> NDArray[np.complex128]:
    points = plain_array(name, values).astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise ValueError(f"{name} must be at least two points [K, 2], got shape {list(points.shape)}")
    if not (np.abs(points) <= _FARTHEST).all():
        raise ValueError(f"{name} has coordinates that are not finite or beyond 1e9: {points.tolist()}")
    return points[:, 0] + 1j * points[:, 1]

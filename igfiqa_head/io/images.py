"""Encoded images <-> RGB uint8 arrays, with a guard against images that are huge once decoded."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.image_headers import (
    check_jpeg_end,
    check_png_data,
    format_of,
    image_size,
    webp_orientation,
)

MAX_PIXELS = 2**26
"""Default limit of :func:`decode_image`: 67 megapixels, 200 MB in RGB. OpenCV's own limit is 2**30 pixels."""

MAX_PHOTO_PIXELS = 2**28
"""Limit where photographs are read, 268 megapixels: phones make up to 200."""

_CHECKS = {"JPEG": check_jpeg_end, "PNG": check_png_data}
_READ_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # before OpenCV 4.11: BGR alone


class TooManyPixelsError(ValueError):
    """An image that is larger than the limit, of which nothing has been decoded."""


# Orientation in EXIF -> whether rows and columns change places, then OpenCV's code of the flip.
_UPRIGHT = {
    1: (False, None), 2: (False, 1), 3: (False, -1), 4: (False, 0),
    5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0),
}  # fmt: skip


def decode_image(encoded: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, BMP or WebP image. Grey images get three equal channels, alpha is dropped.

    The picture is upright as its EXIF says. What comes does not depend on the version of OpenCV.

    Args:
        encoded: the file's bytes.
        max_pixels: largest height times width; checked in the header, before any pixel is decoded.

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        TooManyPixelsError: more than ``max_pixels`` pixels.
        ValueError: another format, or a damaged or truncated image.
    """
    height, width = image_size(encoded)
    if height * width > max_pixels:
        raise TooManyPixelsError(
            f"the image is {width} x {height}, more than the limit of {max_pixels} pixels"
        )
    name = format_of(encoded)
    if name in _CHECKS:
        _CHECKS[name](encoded)
    try:
        rgb = _decode_webp(encoded) if name == "WebP" else _decode_rgb(encoded)
    except cv2.error as error:
        raise ValueError(f"the image ({len(encoded)} bytes) cannot be decoded: {error}") from error
    if rgb is None:
        raise ValueError(f"the image ({len(encoded)} bytes) cannot be decoded: damaged or truncated")
    return rgb


def _decode_rgb(encoded: bytes, flags: int = 0) -> NDArray[np.uint8] | None:
    content = np.frombuffer(encoded, np.uint8)
    if _READ_RGB is not None:
        return cv2.imdecode(content, _READ_RGB | flags)  # type: ignore[return-value]
    bgr = cv2.imdecode(content, cv2.IMREAD_COLOR | flags)
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def _decode_webp(encoded: bytes) -> NDArray[np.uint8] | None:
    """Upright, which OpenCV before 4.13 leaves undone for WebP."""
    rgb = _decode_rgb(encoded, cv2.IMREAD_IGNORE_ORIENTATION)
    is_transposed, flip = _UPRIGHT[webp_orientation(encoded)]
    if rgb is None:
        return None
    turned = cv2.transpose(rgb) if is_transposed else rgb
    return turned if flip is None else cv2.flip(turned, flip)  # type: ignore[return-value]


def encode_image(rgb: NDArray[np.uint8], extension: str = ".jpg", quality: int = 95) -> bytes:
    """Encode an RGB uint8 [H, W, 3] image as ``".jpg"`` (with ``quality`` 1 .. 100) or lossless ``".png"``.

    Raises:
        ValueError: another shape, dtype, extension or quality.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"expected an RGB uint8 image [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    if extension not in (".jpg", ".png"):
        raise ValueError(f"extension must be '.jpg' or '.png', got {extension!r}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be from 1 to 100, got {quality}")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if extension == ".jpg" else []
    return cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def check_square(image: NDArray[np.uint8], side: int | None, name: str) -> None:
    """Raise ``ValueError``, naming the image, unless it is ``side`` x ``side`` pixels or ``side`` is None."""
    if side is not None and image.shape[:2] != (side, side):
        raise ValueError(
            f"{name} is {image.shape[1]} x {image.shape[0]}, expected {side} x {side}: align all faces to "
            "that size first (docs/data.md says how)"
        )

"""Encoded images <-> RGB uint8 arrays, with a guard against images that are huge once decoded."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 2**26
"""Default limit of :func:`decode_image`: 67 megapixels, 200 MB in RGB. OpenCV's own limit is 2**30 pixels."""

_READ_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # before OpenCV 4.11: BGR alone
_SEGMENT = struct.Struct(">BBH")  # compiled once: this is done for every image of an epoch
_FRAME_SIZE = struct.Struct(">HH")
_NOT_FRAME_HEADERS = {0xC4, 0xC8, 0xCC}  # DHT, JPG and DAC lie among the SOFn markers (ITU-T T.81, B.1)


def decode_image(encoded: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, BMP or WebP image. Grey images get three equal channels, alpha is dropped.

    Args:
        encoded: the file's bytes.
        max_pixels: largest height times width; checked in the header, before any pixel is decoded.

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        ValueError: another format, a damaged or truncated image, or more than ``max_pixels`` pixels.
    """
    height, width = image_size(encoded)
    if height * width > max_pixels:
        raise ValueError(
            f"the image is {height} x {width}, more than the limit of {max_pixels} pixels; "
            "pass a larger max_pixels if it is meant to be that large"
        )
    if encoded.startswith(b"\xff\xd8") and encoded.rfind(b"\xff\xd9") < 0:  # OpenCV 4 makes up missing rows
        raise ValueError(f"the JPEG image ({len(encoded)} bytes) has no end-of-image marker: truncated")
    try:
        rgb = _decode_rgb(np.frombuffer(encoded, np.uint8))
    except cv2.error as error:
        raise ValueError(f"the image ({len(encoded)} bytes) cannot be decoded: {error}") from error
    if rgb is None:
        raise ValueError(f"the image ({len(encoded)} bytes) cannot be decoded: damaged or truncated")
    return rgb


def _decode_rgb(encoded: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    if _READ_RGB is not None:
        return cv2.imdecode(encoded, _READ_RGB)  # type: ignore[return-value]
    bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


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
            f"{name} is {image.shape[0]} x {image.shape[1]}, expected {side} x {side}: "
            "align the faces first, or pass image_size=None to take images of any size"
        )


def image_size(encoded: bytes) -> tuple[int, int]:
    """(height, width) of a JPEG, PNG, BMP or WebP image, read from its header alone.

    Only these formats are taken: for each, the size found here is the one the decoder will allocate.

    Raises:
        ValueError: not one of these formats, or the header is damaged.
    """
    try:
        height, width = _read_size(encoded)
    except struct.error:
        raise ValueError(f"the image ({len(encoded)} bytes) ends within its header") from None
    if height < 1 or width < 1:
        raise ValueError(f"the image header states a size of {height} x {width}")
    return height, width


def _read_size(encoded: bytes) -> tuple[int, int]:
    if encoded[:3] == b"\xff\xd8\xff":
        return _jpeg_size(encoded)
    if encoded[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = struct.unpack_from(">II", encoded, 16)
        return height, width
    if encoded[:2] == b"BM":
        return _bmp_size(encoded)
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return _webp_size(encoded)
    start = encoded[:8].hex(" ") or "nothing"
    raise ValueError(f"not a JPEG, PNG, BMP or WebP image: {len(encoded)} bytes that start with {start}")


def _jpeg_size(encoded: bytes) -> tuple[int, int]:
    """Walk the marker segments to the frame header SOFn (ITU-T T.81, B.2.2)."""
    position = 2
    while True:
        prefix, marker, length = _SEGMENT.unpack_from(encoded, position)
        if prefix != 0xFF:
            raise ValueError(f"damaged JPEG: no marker at byte {position}")
        if marker == 0xFF:  # a fill byte before the marker
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAME_HEADERS:
            height, width = _FRAME_SIZE.unpack_from(encoded, position + 5)
            return height, width
        else:
            position += 2 + length


def _bmp_size(encoded: bytes) -> tuple[int, int]:
    (header_size,) = struct.unpack_from("<I", encoded, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", encoded, 18)
    return abs(height), width  # a negative height means rows from top to bottom


def _webp_size(encoded: bytes) -> tuple[int, int]:
    """Canvas or frame size of the first chunk (RFC 9649, sections 2.5 to 2.7 and 3.4)."""
    chunk = encoded[12:16]
    if chunk == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", encoded, 24)
        return (low_height | high_height << 16) + 1, (low_width | high_width << 16) + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", encoded, 26)
        return height & 0x3FFF, width & 0x3FFF
    raise ValueError(f"damaged WebP: unknown first chunk {chunk!r}")

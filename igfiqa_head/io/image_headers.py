"""Facts of an encoded image that take no decoding: its size, orientation and completeness."""

from __future__ import annotations

import re
import struct
from collections.abc import Container
from typing import TypeAlias

ImageSize: TypeAlias = tuple[int, int]
"""(height, width)."""

_SEGMENT = struct.Struct(">BBH")  # compiled once: this is done for every image of an epoch
_PNG_CHUNK = struct.Struct(">I4s")  # length, type
_FRAME = struct.Struct(">BHHB")  # precision, height, width, number of components
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn, less DHT, JPG, DAC (T.81, B.1)
_SEQUENTIAL = (0xC0, 0xC1)
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
# What ends entropy-coded data: a marker that is neither a stuffed zero nor a restart (T.81, B.1.1.5).
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
# Entropy-coded data never holds it: behind a scan it starts another image. bytes.find takes 3 times as long.
_START = re.compile(rb"\xff\xd8")
_FILL = re.compile(rb"\xff*(?=\xff)")
_MAX_PARTS = 10_000  # segments of a JPEG image, 650 MB if full, and chunks of WebP
_MAX_SCANS = 100  # libjpeg writes no more; each costs a pass over all pixels, however few bytes it has
_EXIF_FLAG = 8
_ORIENTATION = 0x112


_STARTS = (
    (b"GIF8", "GIF"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"8BPS", "Photoshop"),
)  # fmt: skip
_HEIF_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"
)


def image_size(encoded: bytes) -> ImageSize:
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
        raise ValueError(f"the image header states a size of {width} x {height}")
    return height, width


def format_of(start: bytes) -> str | None:
    """JPEG, PNG, BMP or WebP by the first 16 bytes of a file, None for all others."""
    if start[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if start[:2] == b"BM":
        return "BMP"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    return None


def unread_format(start: bytes) -> str | None:
    """Another format of pictures by the first 16 bytes of a file; None for what is not known as one."""
    if start[4:8] == b"ftyp":
        return _HEIF_BRANDS.get(start[8:12])  # others are videos
    return next((name for magic, name in _STARTS if start.startswith(magic)), None)


def not_read(name: str) -> str:
    """The reason why pictures of a format are left out."""
    return f"{name} pictures are not read: convert them to JPEG or PNG"


def _read_size(encoded: bytes) -> tuple[int, int]:
    name = format_of(encoded)
    if name is None:
        other = unread_format(encoded[:16])
        if other is not None:
            raise ValueError(not_read(other))
        start = encoded[:8].hex(" ") or "nothing"
        raise ValueError(f"not a JPEG, PNG, BMP or WebP image: {len(encoded)} bytes that start with {start}")
    return _SIZES[name](encoded)


def _find_segment(encoded: bytes, position: int, wanted: Container[int]) -> int:
    """The start of the first JPEG segment with a wanted marker, from ``position`` on (T.81, B.2)."""
    for _ in range(_MAX_PARTS):
        prefix, marker, length = _SEGMENT.unpack_from(encoded, position)
        if prefix != 0xFF:
            raise ValueError(f"damaged JPEG: no marker at byte {position}")
        if marker in wanted:
            return position
        if marker == 0xFF:  # fill bytes
            position = _FILL.match(encoded, position).end()  # type: ignore[union-attr]
        else:
            position += 2 + length
    raise ValueError(f"damaged JPEG: more than {_MAX_PARTS} segments before its picture")


def _jpeg_size(encoded: bytes) -> tuple[int, int]:
    _, height, width, _ = _FRAME.unpack_from(encoded, _find_segment(encoded, 2, _FRAME_HEADERS) + 4)
    return height, width


def _png_size(encoded: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", encoded, 16)
    return height, width


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


_SIZES = {"JPEG": _jpeg_size, "PNG": _png_size, "BMP": _bmp_size, "WebP": _webp_size}


def check_png_data(encoded: bytes) -> None:
    """``ValueError`` if a PNG image holds more compressed bytes than its pixels can take.

    zlib makes a thousand bytes of one, and libpng unpacks all of them, needed or not.
    """
    height, width = _png_size(encoded)
    most = 16 * height * width + 4096  # 8 bytes a pixel at most, a byte a row, and what stored blocks cost
    position, found = 8, 0
    while position + 8 <= len(encoded):
        length, kind = _PNG_CHUNK.unpack_from(encoded, position)
        found += length if kind == b"IDAT" else 0
        position += 12 + length
    if found > most:
        raise ValueError(f"damaged PNG: {found} bytes of compressed pixels for {width} x {height} of them")


def check_jpeg_end(encoded: bytes) -> None:
    """``ValueError`` unless the end-of-image marker of a JPEG image follows its scans.

    Other ones may lie before them, in an EXIF thumbnail, or behind it: phones append further images. OpenCV
    up to 4.10 takes an image without its end, and makes the missing rows up from what was decoded before.
    """
    try:
        frame = _find_segment(encoded, 2, _FRAME_HEADERS)
        scan = _find_segment(encoded, frame, (_START_OF_SCAN,))
        components = encoded[frame + 9]
        if encoded[frame + 1] in _SEQUENTIAL and encoded[scan + 4] == components:  # no other scan follows
            following = _START.search(encoded, scan)
            is_whole = encoded.rfind(b"\xff\xd9", scan, following and following.start()) > 0
        else:
            is_whole = _scans_end(encoded, scan)
    except (struct.error, IndexError):
        is_whole = False
    if not is_whole:
        raise ValueError(
            f"the JPEG image ({len(encoded)} bytes) has no end-of-image marker: damaged or truncated"
        )


def _scans_end(encoded: bytes, position: int) -> bool:
    """Whether the segments and scans from ``position`` on lead to the end of the image."""
    scans = 0
    for _ in range(_MAX_PARTS):
        marker = encoded[position + 1]
        if marker == _END_OF_IMAGE:
            return True
        scans += marker == _START_OF_SCAN
        if scans > _MAX_SCANS:
            break
        _, _, length = _SEGMENT.unpack_from(encoded, position)
        following = _MARKER.search(encoded, position + 2 + length)
        if following is None or encoded[following.start() + 1] == _START_OF_IMAGE:
            return False
        position = following.start()
    raise ValueError(f"damaged JPEG: more than {_MAX_SCANS} scans or {_MAX_PARTS} segments")


def webp_orientation(encoded: bytes) -> int:
    """Orientation of a WebP image by its EXIF, from 1 (upright) to 8; 1 where there is none that is sound."""
    if encoded[12:16] != b"VP8X" or not encoded[20] & _EXIF_FLAG:
        return 1
    try:
        return _exif_orientation(_webp_chunk(encoded, b"EXIF"))
    except struct.error:
        return 1


def _webp_chunk(encoded: bytes, name: bytes) -> bytes:
    position = 12
    for _ in range(_MAX_PARTS):
        kind, size = struct.unpack_from("<4sI", encoded, position)
        if kind == name:
            return encoded[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    return b""


def _exif_orientation(exif: bytes) -> int:
    """The tag of the first directory (TIFF 6.0, section 2)."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = "<" if tiff[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    for entry in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
        if tag == _ORIENTATION:
            return value if 1 <= value <= 8 else 1
    return 1

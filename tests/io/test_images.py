from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igfiqa_head.io.images import check_square, decode_image, encode_image, image_size

WEBP_LOSSY = [cv2.IMWRITE_WEBP_QUALITY, 80]


def picture(height: int = 20, width: int = 31, channels: int = 3, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 0).reshape(height, width, channels)


def encoded(extension: str, image: np.ndarray, options: list[int] | None = None) -> bytes:
    return cv2.imencode(extension, image, options or [])[1].tobytes()


ENCODINGS = {
    "jpeg": encoded(".jpg", picture()),
    "progressive jpeg": encoded(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "png": encoded(".png", picture()),
    "png with alpha": encoded(".png", picture(channels=4)),
    "bmp": encoded(".bmp", picture()),
    "lossless webp": encoded(".webp", picture()),
    "lossy webp": encoded(".webp", picture(), WEBP_LOSSY),
    "lossy webp with alpha": encoded(".webp", picture(channels=4), WEBP_LOSSY),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_size_in_the_header_is_that_of_the_decoded_image(name: str) -> None:
    assert image_size(ENCODINGS[name]) == decode_image(ENCODINGS[name]).shape[:2] == (20, 31)


def test_every_kind_of_webp_is_among_them() -> None:
    kinds = {content[12:16] for name, content in ENCODINGS.items() if "webp" in name}
    assert kinds == {b"VP8 ", b"VP8L", b"VP8X"}


def test_bmp_with_rows_from_top_to_bottom_and_with_the_oldest_header() -> None:
    content = bytearray(ENCODINGS["bmp"])
    content[22:26] = struct.pack("<i", -20)
    assert image_size(bytes(content)) == (20, 31)
    assert image_size(b"BM" + bytes(12) + struct.pack("<IHH", 12, 31, 20)) == (20, 31)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


THUMBNAIL = segment(0xE1, b"Exif\0\0" + ENCODINGS["jpeg"])
PROGRESSIVE = ENCODINGS["progressive jpeg"]
SECOND_SCAN = PROGRESSIVE.index(b"\xff\xda", PROGRESSIVE.index(b"\xff\xda") + 2)
FALSE_END = segment(0xFE, b"a comment with \xff\xd9 in it")


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_end_of_a_thumbnail_is_not_that_of_the_image(kind: str, share: float) -> None:
    content = ENCODINGS[kind]
    with_thumbnail = content[:2] + THUMBNAIL + content[2:]
    assert decode_image(with_thumbnail).shape == (20, 31, 3)
    scan = with_thumbnail.index(b"\xff\xda", 2 + len(THUMBNAIL))
    cut = with_thumbnail[: scan + 14 + int(share * (len(with_thumbnail) - scan - 16))]
    with pytest.raises(ValueError, match="no end-of-image marker: damaged or truncated"):
        decode_image(cut)


def test_a_jpeg_that_ends_with_a_thumbnail_behind_its_frame_header() -> None:
    content = ENCODINGS["jpeg"]
    scan = content.index(b"\xff\xda")
    with pytest.raises(ValueError, match="no end-of-image marker: damaged or truncated"):
        decode_image(content[:scan] + THUMBNAIL)


def test_an_end_between_the_scans_of_a_progressive_jpeg_is_not_that_of_the_image() -> None:
    content = PROGRESSIVE[:SECOND_SCAN] + FALSE_END + PROGRESSIVE[SECOND_SCAN:]
    np.testing.assert_array_equal(decode_image(content), decode_image(PROGRESSIVE))
    with pytest.raises(ValueError, match="no end-of-image marker: damaged or truncated"):
        decode_image(content[: SECOND_SCAN + len(FALSE_END) + 20])


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg"])
@pytest.mark.parametrize("behind", [ENCODINGS["jpeg"], ENCODINGS["jpeg"][:-50], bytes(99), b"\xff"])
def test_what_phones_append_to_a_jpeg_does_no_harm(kind: str, behind: bytes) -> None:
    np.testing.assert_array_equal(decode_image(ENCODINGS[kind] + behind), decode_image(ENCODINGS[kind]))


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_the_end_of_an_image_behind_a_cut_one_is_not_its_own(kind: str, share: float) -> None:
    content = ENCODINGS[kind]
    cut = content[: content.index(b"\xff\xda") + 14 + int(share * 350)]
    for behind in (ENCODINGS["jpeg"], bytes(99) + ENCODINGS["progressive jpeg"]):
        with pytest.raises(ValueError, match="damaged or truncated"):
            decode_image(cut + behind)


def test_restart_markers_and_fill_bytes_do_not_end_a_jpeg() -> None:
    options = [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    for kind in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]):
        content = encoded(".jpg", picture(), options + kind)
        assert b"\xff\xd0" in content
        assert decode_image(content[:-2] + b"\xff\xff\xd9").shape == (20, 31, 3)
        with pytest.raises(ValueError, match="no end-of-image marker"):
            decode_image(content[:-2])


def exif(orientation: int, order: str = "<") -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(f"{order}HHIHH", 0x10F, 3, 1, 9, 0) + struct.pack(
        f"{order}HHIHH", 0x112, 3, 1, orientation, 0
    )
    return head + struct.pack(f"{order}IH", 8, 2) + entries + bytes(4)


def webp_with_exif(image: np.ndarray, content: bytes) -> bytes:
    frame = encoded(".webp", image)[12:]
    canvas = struct.pack("<I", image.shape[1] - 1)[:3] + struct.pack("<I", image.shape[0] - 1)[:3]
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + canvas + frame
    chunks += b"EXIF" + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_pictures_are_upright_whatever_their_format(orientation: int, order: str, prefix: bytes) -> None:
    """NumPy turns them by the table of EXIF 2.32: where the first row and the first column belong."""
    bgr = picture()
    turned = np.rot90(bgr, {3: 2, 4: 2, 5: -1, 6: -1, 7: 1, 8: 1}.get(orientation, 0))
    upright = turned[:, ::-1] if orientation in (2, 4, 5, 7) else turned
    content = webp_with_exif(bgr, prefix + exif(orientation, order))
    np.testing.assert_array_equal(decode_image(content), upright[..., ::-1])
    jpeg = encoded(".jpg", bgr)
    same = decode_image(jpeg[:2] + segment(0xE1, b"Exif\0\0" + exif(orientation, order)) + jpeg[2:])
    assert same.shape == upright.shape
    assert np.abs(same.astype(int) - upright[..., ::-1]).mean() < 12


@pytest.mark.parametrize("content", [b"", b"II*\0", exif(0), exif(9), exif(6)[:20], b"x" * 40])
def test_damaged_exif_leaves_a_picture_as_it_is(content: bytes) -> None:
    np.testing.assert_array_equal(decode_image(webp_with_exif(picture(), content)), picture()[..., ::-1])


def test_jpeg_fill_bytes_are_skipped() -> None:
    content = ENCODINGS["jpeg"]
    assert image_size(content[:2] + b"\xff\xff" + content[2:]) == (20, 31)


@pytest.mark.parametrize("part", [b"\xff\xe1\0\2", b"\xff\xff\xfe\0\2"])
def test_a_jpeg_of_countless_segments_is_refused(part: bytes) -> None:
    content = ENCODINGS["jpeg"]
    assert decode_image(content[:2] + 4000 * part + content[2:]).shape == (20, 31, 3)
    with pytest.raises(ValueError, match="more than 10000 segments before its picture"):
        decode_image(content[:2] + 10_001 * part + content[2:])


def test_fill_bytes_take_no_step_each() -> None:
    content = ENCODINGS["jpeg"]
    assert image_size(content[:2] + 10**6 * b"\xff" + content[2:]) == (20, 31)


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    last = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
    for part in (last[:12], b"\xff\xfe\0\2"):
        with pytest.raises(ValueError, match="more than 100 scans or 10000 segments"):
            decode_image(PROGRESSIVE[:-2] + 10_001 * part + PROGRESSIVE[-2:])


def png_chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def test_a_png_that_holds_more_than_its_pixels_is_refused() -> None:
    start, end = ENCODINGS["png"].index(b"IDAT") - 4, ENCODINGS["png"].index(b"IEND") - 4
    header, trailer = ENCODINGS["png"][:start], ENCODINGS["png"][end:]
    stored = png_chunk(b"IDAT", zlib.compress(bytes(20 * 94), 0))
    assert not decode_image(header + stored + trailer).any()
    note = png_chunk(b"tEXt", b"note\0" + 99_999 * b"a")
    assert not decode_image(header + note + stored + trailer).any()
    bomb = png_chunk(b"IDAT", zlib.compress(bytes(2**24)))
    with pytest.raises(ValueError, match=r"damaged PNG: \d+ bytes of compressed pixels for 31 x 20 of them"):
        decode_image(header + bomb + trailer)


@pytest.mark.parametrize("name", ENCODINGS)
def test_older_opencv_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decode_image(ENCODINGS[name])
    monkeypatch.setattr("igfiqa_head.io.images._READ_RGB", None)
    np.testing.assert_array_equal(decode_image(ENCODINGS[name]), expected)


def test_png_round_trip_is_exact_and_rgb() -> None:
    rgb = picture()
    content = encode_image(rgb, ".png")
    np.testing.assert_array_equal(decode_image(content), rgb)
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), rgb[..., ::-1]
    )


def test_jpeg_quality_trades_size_for_fidelity() -> None:
    rgb = np.repeat(picture(112, 112, channels=1), 3, axis=2)
    fine, coarse = encode_image(rgb), encode_image(rgb, quality=20)
    errors = [np.abs(decode_image(content).astype(int) - rgb).mean() for content in (fine, coarse)]
    assert len(fine) > len(coarse)
    assert errors[0] < 2 < errors[1]


def test_grey_alpha_and_sixteen_bits_become_rgb_uint8() -> None:
    grey = picture(channels=1)
    np.testing.assert_array_equal(decode_image(encoded(".png", grey)), np.repeat(grey, 3, axis=2))
    with_alpha = picture(channels=4)
    np.testing.assert_array_equal(decode_image(encoded(".png", with_alpha)), with_alpha[..., 2::-1])
    deep = decode_image(encoded(".png", picture().astype(np.uint16) * 257))
    np.testing.assert_array_equal(deep, picture()[..., ::-1])


@pytest.mark.parametrize(
    "content",
    [
        ENCODINGS["png"][:16] + struct.pack(">II", 60_000, 60_000) + ENCODINGS["png"][24:],
        ENCODINGS["jpeg"].replace(struct.pack(">HH", 20, 31), struct.pack(">HH", 65_000, 65_000)),
        ENCODINGS["bmp"][:18] + struct.pack("<ii", 2**31 - 1, -(2**31)) + ENCODINGS["bmp"][26:],
        ENCODINGS["lossy webp with alpha"][:24] + b"\xff" * 6 + ENCODINGS["lossy webp with alpha"][30:],
    ],
    ids=["png", "jpeg", "bmp", "webp"],
)
def test_huge_images_are_refused_before_they_are_decoded(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"is \d+ x \d+, more than the limit of 67108864 pixels"):
        decode_image(content)


def test_the_limit_is_inclusive() -> None:
    assert decode_image(ENCODINGS["png"], max_pixels=620).shape == (20, 31, 3)
    with pytest.raises(ValueError, match="31 x 20, more than the limit of 619 pixels"):
        decode_image(ENCODINGS["png"], max_pixels=619)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes that start with nothing"),
        (b"GIF89a" + bytes(20), "GIF pictures are not read: convert them to JPEG or PNG"),
        (b"II*\0" + bytes(20), "TIFF pictures are not read: convert them to JPEG or PNG"),
        (b"text" + bytes(20), "not a JPEG, PNG, BMP or WebP"),
        (ENCODINGS["png"][:18], "ends within its header"),
        (ENCODINGS["png"][:16] + bytes(8) + ENCODINGS["png"][24:], "states a size of 0 x 0"),
        (ENCODINGS["jpeg"][:2] + b"\xff\xe0\0\5" + bytes(40), "no marker at byte 9"),
        (ENCODINGS["lossy webp"][:12] + b"VP9 " + ENCODINGS["lossy webp"][16:], "unknown first chunk"),
        (ENCODINGS["jpeg"][:-2], "no end-of-image marker"),
        (ENCODINGS["jpeg"][:400] + b"\xff\xd9", "damaged or truncated"),
        (ENCODINGS["png"][:-30], "damaged or truncated"),
    ],
)
def test_what_cannot_be_decoded_is_a_value_error(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_image(content)


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(sorted(ENCODINGS)), data=st.data())
def test_damaged_images_decode_or_raise_value_error(name: str, data: st.DataObject) -> None:
    content = bytearray(ENCODINGS[name])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    try:
        image = decode_image(bytes(content), max_pixels=10_000)
    except ValueError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert 1 <= image.shape[0] * image.shape[1] <= 10_000


@pytest.mark.parametrize(
    ("image", "extension", "quality", "message"),
    [
        (picture().astype(np.float32), ".jpg", 95, "float32"),
        (picture(channels=4), ".jpg", 95, r"\[20, 31, 4\]"),
        (picture()[..., 0], ".jpg", 95, r"\[20, 31\]"),
        (picture()[:0], ".jpg", 95, r"\[0, 31, 3\]"),
        (picture(), ".gif", 95, "'.gif'"),
        (picture(), ".jpg", 0, "got 0"),
        (picture(), ".jpg", 101, "got 101"),
    ],
)
def test_what_cannot_be_encoded(image: np.ndarray, extension: str, quality: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_image(image, extension, quality)


def test_check_square() -> None:
    check_square(picture(112, 112), 112, "face")
    check_square(picture(20, 31), None, "face")
    with pytest.raises(ValueError, match="face is 31 x 20, expected 112 x 112"):
        check_square(picture(20, 31), 112, "face")

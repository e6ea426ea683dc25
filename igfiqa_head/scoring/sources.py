"""Where images come from: files, folders, videos, RecordIO and insightface's verification sets."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.images import MAX_PIXELS, decode_image
from igfiqa_head.io.recordio import RecordReader
from igfiqa_head.io.verification_bin import VerificationBin, read_verification_bin

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
FOUND_IN_FOLDERS = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, ".rec")
"""What is taken from a folder. A ``.bin`` must be named: too many other things are called so."""

MAX_FILE_BYTES = 2**29
"""Limit of an encoded image; uncompressed, :data:`~igfiqa_head.io.images.MAX_PIXELS` take less."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image, or a frame of a video.

    Attributes:
        source: the file, with ``/KEY`` or ``/INDEX`` behind it for an image of a ``.rec`` or ``.bin`` file.
        folder: what it lies in: a folder, or ``FILE.rec/LABEL``, or the ``.bin`` file.
        frame: of a video, from 0.
        bgr: uint8 [H, W, 3].
    """

    source: str
    folder: str
    frame: int | None
    bgr: NDArray[np.uint8]


@dataclass(frozen=True)
class Unread:
    """Something that cannot be read, and why."""

    source: str
    reason: str
    frame: int | None = None


@dataclass(frozen=True)
class Source:
    """Something that holds images.

    Attributes:
        name: its path.
        count: how many images it holds; of videos an estimate.
        pictures: reads them one after the other. A bad one is an :class:`Unread` in its place.
        is_video: they are frames of a video.
    """

    name: str
    count: int
    pictures: Callable[[], Iterator[Picture | Unread]]
    is_video: bool = False


def open_sources(inputs: Iterable[str | os.PathLike[str]], *, every: int = 1) -> list[Source | Unread]:
    """Everything that files and folders hold, in a fixed order.

    Folders are searched with their sub-folders, but for hidden ones; links are followed, loops left out.

    Args:
        inputs: paths. A file whose suffix says nothing is taken for an image.
        every: take the frames 0, N, 2 N ... of videos.

    Raises:
        ValueError: an input does not exist, or ``every`` is below 1.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    paths = [os.fspath(path) for path in inputs]
    missing = next((path for path in paths if not os.path.lexists(path)), None)
    if missing is not None:
        raise ValueError(f"there is no file or folder {missing!r}")
    return [_opened(path, every) for given in paths for path in _files(given)]


def _files(path: str) -> Iterator[str | Unread]:
    if not os.path.isdir(path):
        return iter([path])
    found = list(_walk(path))
    return iter(found or [Unread(path, "the folder holds no image, video or .rec file")])


def _walk(root: str) -> Iterator[str | Unread]:
    """Files of a folder and then of its sub-folders; each folder once, by whatever links it is reached."""
    folders, seen = [root], set()
    while folders:
        folder = folders.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except OSError as error:
            yield Unread(folder, f"the folder cannot be read: {error.strerror}")
            continue
        paths = [os.path.join(folder, name) for name in names]
        below = [path for path in paths if os.path.isdir(path)]
        yield from (path for path in paths if _suffix(path) in FOUND_IN_FOLDERS and path not in below)
        folders.extend(reversed(below))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _opened(path: str | Unread, every: int) -> Source | Unread:
    if isinstance(path, Unread):
        return path
    suffix = _suffix(path)
    if suffix not in (*VIDEO_SUFFIXES, ".rec", ".bin"):
        return Source(path, 1, partial(_read_image_file, path))
    try:
        _check_regular(path)
        if suffix == ".rec":
            return _record_source(path)
        if suffix == ".bin":
            return _bin_source(path)
        return _video_source(path, every)
    except (ValueError, OSError) as error:
        return Unread(path, one_line(error))


def _read_image_file(path: str) -> Iterator[Picture | Unread]:
    yield _decoded(path, os.path.dirname(path) or ".", lambda: _content(path))


def _content(path: str) -> bytes:
    _check_regular(path)
    if os.path.getsize(path) > MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {MAX_FILE_BYTES:,} bytes: this is no image")
    return Path(path).read_bytes()


def _check_regular(path: str) -> None:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for, for ever
        raise ValueError("this is no regular file")


def _decoded(source: str, folder: str, load: Callable[[], bytes]) -> Picture | Unread:
    try:
        rgb = decode_image(load())
    except (ValueError, OSError) as error:
        return Unread(source, one_line(error))
    return Picture(source, folder, None, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False))


def _record_source(path: str) -> Source:
    index = os.path.splitext(path)[0] + ".idx"
    if not os.path.isfile(index):
        raise ValueError(f"its index {os.path.basename(index)} is not beside it")
    reader = RecordReader(path, index)
    keys = reader.image_keys()
    return Source(path, len(keys), partial(_read_records, path, reader, keys))


def _read_records(path: str, reader: RecordReader, keys: NDArray[np.int64]) -> Iterator[Picture | Unread]:
    for key in keys.tolist():
        try:
            record = reader.read(key)
        except ValueError as error:
            yield Unread(f"{path}/{key}", one_line(error))
            continue
        label = float(record.labels[0])
        folder = f"{path}/{int(label) if label.is_integer() else label}"
        yield _decoded(f"{path}/{key}", folder, partial(bytes, record.data))


def _bin_source(path: str) -> Source:
    content = read_verification_bin(path)
    return Source(path, len(content.images), partial(_read_bin, path, content))


def _read_bin(path: str, content: VerificationBin) -> Iterator[Picture | Unread]:
    for index, encoded in enumerate(content.images):
        yield _decoded(f"{path}/{index}", path, partial(bytes, encoded))


def _video_source(path: str, every: int) -> Source:
    capture = _open_video(path)
    frames = _announced_frames(capture)
    capture.release()
    return Source(path, max(1, math.ceil(frames / every)), partial(_read_video, path, every), is_video=True)


def _open_video(path: str) -> cv2.VideoCapture:
    # An absolute path cannot be taken for one of FFmpeg's protocols, as "concat:a.mp4" would be.
    capture = cv2.VideoCapture(os.path.abspath(path))
    height, width = (capture.get(side) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if not capture.isOpened():
        raise ValueError("the video cannot be opened: damaged, or of a format that OpenCV does not read")
    if height * width > MAX_PIXELS:
        raise ValueError(f"its frames are {height:.0f} x {width:.0f}, more than {MAX_PIXELS} pixels")
    return capture


def _announced_frames(capture: cv2.VideoCapture) -> float:
    """0 where the file does not say it."""
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return frames if 0 < frames < math.inf else 0.0


def _read_video(path: str, every: int) -> Iterator[Picture | Unread]:
    folder = os.path.dirname(path) or "."
    capture = _open_video(path)
    frame = 0
    try:
        while capture.grab():
            if frame % every == 0:
                is_decoded, bgr = capture.retrieve()
                if is_decoded:
                    yield Picture(path, folder, frame, np.asarray(bgr, np.uint8))
                else:
                    yield Unread(path, "the frame cannot be decoded", frame)
            frame += 1
        announced = _announced_frames(capture)
    finally:
        capture.release()
    if frame < 0.9 * max(1.0, announced):  # of some formats the number is an estimate
        yield Unread(path, f"the video ends after {frame} of {announced:.0f} frames: damaged or truncated")


def one_line(error: Exception) -> str:
    """What an error says, without line breaks; of an ``OSError`` without the path."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(text.split())

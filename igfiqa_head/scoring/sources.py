"""Where images come from: files, folders, videos, RecordIO and insightface's verification sets."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.aligned_faces import RecordFaces
from igfiqa_head.io.data_pickle import is_pickle
from igfiqa_head.io.image_files import (
    IMAGE_SUFFIXES,
    LEADS_OUT,
    leads_out,
    start_of,
    suffix_of,
    why_unread,
)
from igfiqa_head.io.images import MAX_PHOTO_PIXELS, TooManyPixelsError, decode_image
from igfiqa_head.io.regular_files import read_regular, regular
from igfiqa_head.io.verification_bin import VerificationBin, read_verification_bin

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
FOUND_IN_FOLDERS = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, ".rec")
"""What is taken from a folder. A ``.bin`` must be named: too many other things are called so."""

MAX_FILE_BYTES = 2**30
"""Limit of an encoded image; uncompressed, :data:`~igfiqa_head.io.images.MAX_PHOTO_PIXELS` take less."""


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


def open_sources(
    inputs: Iterable[str | os.PathLike[str]],
    *,
    every: int = 1,
    max_pixels: int = MAX_PHOTO_PIXELS,
    follow_links: bool = False,
    pass_over: Callable[[str], object] = lambda path: None,
) -> list[Source | Unread]:
    """Everything that files and folders hold, in a fixed order.

    Folders are searched with their sub-folders, but for hidden ones; each is searched once, by whatever links
    it is reached. Pictures of other formats become an :class:`Unread` each, and so do links that lead out of
    the folder that was given: what is found in a stranger's should not be the user's own.

    Args:
        inputs: paths. A file whose suffix says nothing is taken for an image.
        every: take the frames 0, N, 2 N ... of videos.
        max_pixels: largest height times width of an image or a frame.
        follow_links: follow the links that lead out of a folder, too.
        pass_over: is called with the path of everything else in folders: other files, and what is hidden.

    Raises:
        ValueError: an input does not exist, or ``every`` is below 1.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    paths = [os.fspath(path) for path in inputs]
    missing = next((path for path in paths if not os.path.lexists(path)), None)
    if missing is not None:
        raise ValueError(f"there is no file or folder {missing!r}")
    opened = partial(_opened, every=every, max_pixels=max_pixels)
    return [opened(path) for given in paths for path in _files(given, follow_links, pass_over)]


def _files(path: str, follow_links: bool, pass_over: Callable[[str], object]) -> Iterator[str | Unread]:
    if not os.path.isdir(path):
        return iter([path])
    found = list(_walk(path, follow_links, pass_over))
    return iter(found or [Unread(path, "the folder holds no image, video or .rec file")])


def _walk(root: str, follow_links: bool, pass_over: Callable[[str], object]) -> Iterator[str | Unread]:
    """Files of a folder and then of its sub-folders; each folder once, by whatever links it is reached."""
    folders, seen = [root], set()
    while folders:
        folder = folders.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        except OSError as error:
            yield Unread(folder, f"the folder cannot be read: {error.strerror}")
            continue
        below = []
        for path in paths:
            is_folder, is_wanted = os.path.isdir(path), suffix_of(path) in FOUND_IN_FOLDERS
            is_left = not follow_links and leads_out(path, root)
            if os.path.basename(path).startswith(".") or (is_left and not is_folder and not is_wanted):
                pass_over(path)
            elif is_left:
                yield Unread(path, f"it {LEADS_OUT} {root}; --follow-links follows those that lead out")
            elif is_folder:
                below.append(path)
            elif is_wanted:
                yield path
            elif (why := _why_left(path)) is not None:
                yield Unread(path, why)
            else:
                pass_over(path)
        folders.extend(reversed(below))


def _why_left(path: str) -> str | None:
    """The reason why pictures in a file of a folder are not taken; None if there are none."""
    if suffix_of(path) == ".bin" and is_pickle(start_of(path)):
        return "this may be a verification set (.bin), which is read only where it is named itself"
    return why_unread(path)


def _opened(path: str | Unread, every: int, max_pixels: int) -> Source | Unread:
    if isinstance(path, Unread):
        return path
    suffix = suffix_of(path)
    if suffix not in (*VIDEO_SUFFIXES, ".rec", ".bin"):
        return Source(path, 1, partial(_read_image_file, path, max_pixels))
    try:
        if suffix == ".rec":
            return _record_source(path, max_pixels)
        if suffix == ".bin":
            return _bin_source(path, max_pixels)
        return _video_source(path, every, max_pixels)
    except (ValueError, OSError) as error:
        return Unread(path, one_line(error))


def _read_image_file(path: str, max_pixels: int) -> Iterator[Picture | Unread]:
    yield _decoded(path, os.path.dirname(path) or ".", partial(_content, path), max_pixels)


def _content(path: str) -> bytes:
    if os.path.getsize(path) > MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {MAX_FILE_BYTES:,} bytes: this is no image")
    return read_regular(path)


def _decoded(source: str, folder: str, load: Callable[[], bytes], max_pixels: int) -> Picture | Unread:
    try:
        rgb = decode_image(load(), max_pixels=max_pixels)
    except TooManyPixelsError as error:
        return Unread(source, f"{one_line(error)}; a larger --max-megapixels takes it")
    except (ValueError, OSError) as error:
        return Unread(source, one_line(error))
    return Picture(source, folder, None, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False))


def _record_source(path: str, max_pixels: int) -> Source:
    faces = RecordFaces(path)
    return Source(path, len(faces), partial(_read_records, path, faces, max_pixels))


def _read_records(path: str, faces: RecordFaces, max_pixels: int) -> Iterator[Picture | Unread]:
    for index, key in enumerate(faces.keys.tolist()):
        try:
            label, encoded = faces.encoded(index)
        except ValueError as error:
            yield Unread(f"{path}/{key}", one_line(error))
            continue
        folder = f"{path}/{int(label) if label.is_integer() else label}"
        yield _decoded(f"{path}/{key}", folder, partial(bytes, encoded), max_pixels)


def _bin_source(path: str, max_pixels: int) -> Source:
    content = read_verification_bin(path)
    return Source(path, len(content.images), partial(_read_bin, path, content, max_pixels))


def _read_bin(path: str, content: VerificationBin, max_pixels: int) -> Iterator[Picture | Unread]:
    for index, encoded in enumerate(content.images):
        yield _decoded(f"{path}/{index}", path, partial(bytes, encoded), max_pixels)


def _video_source(path: str, every: int, max_pixels: int) -> Source:
    capture = _open_video(path, max_pixels)
    frames = _announced_frames(capture)
    capture.release()
    pictures = partial(_read_video, path, every, max_pixels)
    return Source(path, max(1, math.ceil(frames / every)), pictures, is_video=True)


def _open_video(path: str, max_pixels: int) -> cv2.VideoCapture:
    os.close(regular(path, os.O_RDONLY))
    # An absolute path cannot be taken for one of FFmpeg's protocols, as "concat:a.mp4" would be.
    capture = cv2.VideoCapture(os.path.abspath(path))
    height, width = (capture.get(side) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if not capture.isOpened():
        raise ValueError("the video cannot be opened: damaged, or of a format that OpenCV does not read")
    if height * width > max_pixels:
        size = f"its frames are {width:.0f} x {height:.0f}, more than the limit of {max_pixels} pixels"
        raise ValueError(f"{size}; a larger --max-megapixels takes them")
    return capture


def _announced_frames(capture: cv2.VideoCapture) -> float:
    """0 where the file does not say it."""
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return frames if 0 < frames < math.inf else 0.0


def _read_video(path: str, every: int, max_pixels: int) -> Iterator[Picture | Unread]:
    folder = os.path.dirname(path) or "."
    capture = _open_video(path, max_pixels)
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

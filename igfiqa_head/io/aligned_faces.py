"""Aligned faces wherever they lie: files of a folder, ``.rec`` files and verification sets (``.bin``)."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.image_files import folder_files
from igfiqa_head.io.image_headers import ImageSize, image_size
from igfiqa_head.io.images import decode_image
from igfiqa_head.io.recordio import CorruptRecordError, RecordReader
from igfiqa_head.io.regular_files import read_regular
from igfiqa_head.io.verification_bin import read_verification_bin

RGBImage = NDArray[np.uint8]
T = TypeVar("T")


class LazyImages(Sequence[RGBImage]):
    """Images that are made when they are asked for.

    Args:
        count: how many there are.
        load: makes image ``index``.
        measure: its (height, width) without decoding it, as :meth:`stored_size` gives it.
    """

    def __init__(
        self,
        count: int,
        load: Callable[[int], RGBImage],
        measure: Callable[[int], ImageSize | None] = lambda index: None,
    ) -> None:
        self._count = count
        self._load = load
        self._measure = measure

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        position = operator.index(index)
        if not -self._count <= position < self._count:
            raise IndexError(f"image {position} of {self._count}")
        return self._load(position % self._count)

    def stored_size(self, index: int) -> ImageSize | None:
        """(height, width) of image ``index`` by its header, None where only its pixels tell.

        An orientation in its EXIF may exchange the two when it is decoded.
        """
        return self._measure(index)


def stored_size(images: Sequence[RGBImage], index: int) -> ImageSize | None:
    """(height, width) of an image by its header, see :meth:`LazyImages.stored_size`; None of other images."""
    measure = getattr(images, "stored_size", None)
    return None if measure is None else measure(index)


def file_faces(root: str, names: Sequence[str]) -> LazyImages:
    """The files ``names`` of the folder ``root``, RGB uint8 [H, W, 3]; a ``ValueError`` names the file."""
    load = partial(_of_named, decode_image, root, names)
    return LazyImages(len(names), load, partial(_of_named, image_size, root, names))


def _of_named(function: Callable[[bytes], T], root: str, names: Sequence[str], index: int) -> T:
    return _of_file(function, os.path.join(root, names[index]))


def read_image(path: str | os.PathLike[str]) -> RGBImage:
    """The image in a file, RGB uint8 [H, W, 3].

    Raises:
        ValueError: it cannot be read or decoded; the file is named.
    """
    return _of_file(decode_image, path)


def _of_file(function: Callable[[bytes], T], path: str | os.PathLike[str]) -> T:
    try:
        return function(read_regular(path))
    except OSError as error:
        raise ValueError(f"{os.fspath(path)}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


class RecordFaces(Sequence[RGBImage]):
    """The images of a ``.rec`` file, ``faces[i]`` being RGB uint8 [H, W, 3].

    Args:
        path: the file, its ``.idx`` beside it.

    Attributes:
        reader: of the file.
        keys: int64 [N], of the images.

    Raises:
        ValueError: there is no index, or the files are damaged
            (:class:`~igfiqa_head.io.recordio.CorruptRecordError`).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        rec_path = Path(path)
        idx_path = rec_path.with_suffix(".idx")
        if not idx_path.is_file():
            raise ValueError(f"{rec_path} needs its index {idx_path.name} beside it")
        self.reader = RecordReader(rec_path, idx_path)
        self.keys = self.reader.image_keys()
        self._offsets = self.reader.offsets_of(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.labelled(operator.index(index))[1]

    def encoded(self, index: int) -> tuple[float, bytes]:
        """(first label, encoded image) of image ``index``."""
        return self.reader.read_image(self._offsets.item(index))

    def labelled(self, index: int) -> tuple[float, RGBImage]:
        """(first label, RGB uint8 [H, W, 3]) of image ``index``.

        Raises:
            CorruptRecordError: the record is damaged, or its image cannot be decoded; the key is named.
        """
        label, encoded = self.encoded(index)
        return label, self._of_image(decode_image, index, encoded)

    def stored_size(self, index: int) -> ImageSize:
        """(height, width) of image ``index``, see :meth:`LazyImages.stored_size`.

        Raises:
            CorruptRecordError: as for :meth:`labelled`, of its header.
        """
        return self._of_image(image_size, index, self.encoded(index)[1])

    def _of_image(self, function: Callable[[bytes], T], index: int, encoded: bytes) -> T:
        try:
            return function(encoded)
        except ValueError as error:
            offset, why = self._offsets.item(index), f"key {self.keys[index]}: {error}"
            raise CorruptRecordError(self.reader.rec_path, offset, why) from error

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class label of every image, int64 [N]; the headers are read once, no image is decoded."""
        return self.reader.read_labels(self.keys)


def open_faces(path: str | os.PathLike[str]) -> Sequence[RGBImage]:
    """Images of a ``.rec`` file (or a folder with ``train.rec``), a ``.bin`` file, or a folder.

    A folder's own images are taken and those of its sub-folders. Images are decoded when asked for.

    Raises:
        ValueError: nothing of the kind, no image, or a damaged file.
    """
    place = Path(path)
    if (place / "train.rec").is_file():
        place = place / "train.rec"
    suffix = place.suffix.lower()
    if place.is_dir():
        images = _folder_faces(str(place))
    elif place.is_file() and suffix == ".rec":
        images = RecordFaces(place)
    elif place.is_file() and suffix == ".bin":
        content = read_verification_bin(place)
        images = LazyImages(len(content.images), content.decode, content.stored_size)
    else:
        raise ValueError(f"there are no images in {place}: expected a folder, a .rec or a .bin file")
    if not len(images):
        raise ValueError(f"there are no images in {place} and its sub-folders")
    return images


def _folder_faces(root: str) -> Sequence[RGBImage]:
    top = folder_files(root, root)
    names = list(top.images)
    for folder in top.folders:
        names += [f"{folder}/{name}" for name in folder_files(os.path.join(root, folder), root).images]
    return file_faces(root, names)

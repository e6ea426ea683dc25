"""insightface's verification sets (``lfw.bin``, ``cfp_fp.bin`` ...), read without trusting the pickle.

A set is (list of 2P encoded images, list of P booleans); pair i is images 2i and 2i + 1.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.arrays import plain_array
from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.io.data_pickle import DataPickleError, PickledArray, load_data
from igfiqa_head.io.image_headers import ImageSize, image_size
from igfiqa_head.io.images import decode_image
from igfiqa_head.io.regular_files import read_regular

T = TypeVar("T")


class VerificationBinError(ValueError):
    """A verification set that is damaged, is laid out differently, or holds more than data."""


@dataclass(frozen=True, eq=False)
class VerificationBin:
    """A verification set, its images still encoded.

    Attributes:
        images: 2P encoded images.
        is_genuine: bool [P]; pair i is images 2i and 2i + 1.
        path: the file that it was read from.
    """

    images: Sequence[bytes]
    is_genuine: NDArray[np.bool_]
    path: str | os.PathLike[str] = "verification set"

    def decode(self, index: int) -> NDArray[np.uint8]:
        """Image ``index`` as RGB uint8 [H, W, 3].

        Raises:
            VerificationBinError: the image cannot be decoded.
            IndexError: there is no such image.
        """
        return self._of_image(decode_image, index)

    def stored_size(self, index: int) -> ImageSize:
        """(height, width) of image ``index`` by its header; the same errors as of :meth:`decode`."""
        return self._of_image(image_size, index)

    def _of_image(self, function: Callable[[bytes], T], index: int) -> T:
        encoded = self.images[index]
        try:
            return function(encoded)
        except ValueError as error:
            raise VerificationBinError(f"{self.path}: image {index}: {error}") from error


def read_verification_bin(path: str | os.PathLike[str]) -> VerificationBin:
    """Read a verification set; see :mod:`igfiqa_head.io.data_pickle` for what its pickle may hold.

    Raises:
        VerificationBinError: the pickle is damaged or names anything but data (none of which is called), or
            is not (2P encoded images, P booleans) with P at least 1.
    """
    try:
        content = load_data(read_regular(path))
    except DataPickleError as error:
        raise VerificationBinError(f"{path}: {error}") from error
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise VerificationBinError(f"{path} holds a {type(content).__name__}, expected (images, is_genuine)")
    images = [_image(path, index, item) for index, item in enumerate(_items(path, content[0]))]
    flags = [_flag(path, index, item) for index, item in enumerate(_items(path, content[1]))]
    if len(images) != 2 * len(flags) or not flags:
        received = f"{len(images)} images and {len(flags)} pairs"
        raise VerificationBinError(
            f"{path} holds {received}, expected two images a pair and at least one pair"
        )
    return VerificationBin(images, np.array(flags, np.bool_), path)


def write_verification_bin(
    path: str | os.PathLike[str], images: Sequence[bytes], is_genuine: ArrayLike
) -> None:
    """Write a verification set as insightface does; ``path`` is replaced atomically.

    Args:
        path: the file.
        images: 2P encoded images; pair i is images 2i and 2i + 1.
        is_genuine: bool [P].

    Raises:
        ValueError: not two images a pair, no pair, or entries that are not bytes and booleans.
    """
    genuine = plain_array("is_genuine", is_genuine)
    if genuine.dtype != np.bool_ or genuine.ndim != 1:
        raise ValueError(f"is_genuine must be bool [P], got {genuine.dtype} {list(genuine.shape)}")
    if len(images) != 2 * len(genuine) or not len(genuine):
        raise ValueError(f"expected two images a pair, got {len(images)} images and {len(genuine)} pairs")
    if not all(isinstance(image, bytes) and image for image in images):
        raise ValueError("images must be encoded images, as non-empty bytes")
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps((list(images), genuine.tolist()), protocol=4))


def _items(path: str | os.PathLike[str], values: object) -> Sequence[Any]:
    if isinstance(values, PickledArray):
        return values.to_list()
    if not isinstance(values, (list, tuple)):
        raise VerificationBinError(f"{path} holds a {type(values).__name__} where a list was expected")
    return values


def _image(path: str | os.PathLike[str], index: int, value: object) -> bytes:
    encoded = value.data if isinstance(value, PickledArray) and value.dtype == "u1" else value
    if not isinstance(encoded, bytes) or not encoded:
        received = "empty" if encoded == b"" else f"a {type(value).__name__}"
        raise VerificationBinError(
            f"{path}: image {index} is {received}, expected the bytes of an encoded image"
        )
    return encoded


def _flag(path: str | os.PathLike[str], index: int, value: object) -> bool:
    if not isinstance(value, int) or value not in (0, 1):
        raise VerificationBinError(
            f"{path}: is_genuine of pair {index} is a {type(value).__name__}, expected bool"
        )
    return bool(value)

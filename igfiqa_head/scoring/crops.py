"""Faces kept on the disk until it is known which of them are shown."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.images import decode_image, encode_image


class CropFile:
    """A temporary file of faces as JPEG, about 8 KB each; it is gone when the ``with`` block ends."""

    def __enter__(self) -> CropFile:
        self._file = tempfile.TemporaryFile()
        self._ends = [0]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, bgr: NDArray[np.uint8]) -> int:
        """Keep a face, BGR uint8 [H, W, 3]; its number, from 0."""
        self._file.seek(self._ends[-1])
        encoded = encode_image(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
        self._file.write(encoded)
        self._ends.append(self._ends[-1] + len(encoded))
        return len(self._ends) - 2

    def read(self, number: int) -> NDArray[np.uint8]:
        """Face ``number`` as RGB uint8 [H, W, 3]."""
        start, end = self._ends[number : number + 2]
        self._file.seek(start)
        return decode_image(self._file.read(end - start))


class CropsOnDisk(Sequence[NDArray[np.uint8]]):
    """Some faces of a :class:`CropFile` in a given order, read when they are asked for."""

    def __init__(self, crops: CropFile, numbers: Sequence[int]) -> None:
        self._crops, self._numbers = crops, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._crops.read(self._numbers[index])

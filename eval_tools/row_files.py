"""Files of float32 rows that are never believed if anything in them has changed.

A file holds a SHA-256 digest and the bare numbers. Who reads it knows their shape, so there is no header that
could be damaged, or could promise more than the file holds.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io import atomic, cache_folder
from igfiqa_head.io.regular_files import regular

SUFFIX = ".f32"
FloatArray = NDArray[np.float32]

_DTYPE = np.dtype("<f4")
_DIGEST_SIZE = hashlib.sha256().digest_size


def make_folder(folder: Path) -> None:
    """Open a folder of such files, see :func:`igfiqa_head.io.cache_folder.open_folder`.

    Raises:
        ValueError: there is no way to use it, such as where a file has its name.
    """
    try:
        cache_folder.open_folder(folder)
        atomic.make_folder(folder)
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from error
    except ValueError as error:
        raise _unusable(folder, str(error)) from error


def load_rows(path: Path, shape: tuple[int, ...]) -> FloatArray | None:
    """The rows, or None if there is no such file or it is damaged."""
    try:
        with open(path, "rb", opener=regular) as file:
            if os.fstat(file.fileno()).st_size != _DIGEST_SIZE + 4 * math.prod(shape):
                return None
            content = file.read()
    except OSError:
        return None
    digest, numbers = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
    if digest != _digest(path, numbers):
        return None
    cache_folder.mark_used(path)
    return np.frombuffer(numbers, _DTYPE).reshape(shape)


def keep_rows(path: Path, rows: FloatArray) -> Path | None:
    """Write the rows; returns ``path``, or None if a folder is in its place.

    Raises:
        ValueError: the file cannot be written.
    """
    if path.is_dir():
        return None
    numbers = rows.astype(_DTYPE).tobytes()
    try:
        with atomic.atomic_path(path, private=True) as temporary:
            temporary.write_bytes(_digest(path, numbers) + numbers)
    except OSError as error:
        raise _unusable(path.parent, str(error.strerror)) from error
    return path


def _digest(path: Path, numbers: bytes) -> bytes:
    """Of the numbers and of the file's name, so that one file is not taken for another."""
    return hashlib.sha256(path.name.encode() + b"\0" + numbers).digest()


def _unusable(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"the cache {folder} cannot be used: {reason}; name another folder, or keep nothing "
        "(cache=None, --no-cache)"
    )

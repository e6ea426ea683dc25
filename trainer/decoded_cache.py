"""The decoded images of a data set in one file, for machines that cannot decode fast enough.

A cache is ``NAME.npy``, the images as plain bytes, and ``NAME.json``, what they were made from and when the
file was last changed. It is used as long as both are still so, else made anew. All processes of a machine map
the same file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from igfiqa_head.io import cache_folder
from igfiqa_head.io.atomic import atomic_path, remove_leftovers
from trainer.log import LOGGER
from trainer.prefetch import Draw, Prefetcher

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where one process trains
    fcntl = None  # type: ignore[assignment]

_FORMAT = 2
_AT_ONCE = 256
_COMPARED = 64

Shape = tuple[int, ...]


class DecodedFaces:
    """The images of a cache with the labels of their data set; pickled, it is a path.

    ``faces[i]`` is (RGB uint8 [H, W, 3], int label); the image is a read-only view of the file.

    Args:
        path: a ``.npy`` file.
        shape: (N, H, W, 3) of what it must hold, as uint8.
        labels: int64 [N].

    Raises:
        ValueError: there is no such file, or it is damaged.
    """

    def __init__(self, path: Path, shape: Shape, labels: NDArray[np.int64]) -> None:
        self.path, self.shape, self.labels = path, shape, labels
        self._map()

    def _map(self) -> None:
        header = _header(self.shape)
        expected_size = len(header) + math.prod(self.shape)
        # The header is known to the byte, so nothing in a stranger's file is ever interpreted.
        if not _starts_with(self.path, header) or self.path.stat().st_size != expected_size:
            raise ValueError(f"{self.path} is damaged: expected {expected_size} bytes of images {self.shape}")
        images = np.memmap(self.path, np.uint8, "r", offset=len(header), shape=self.shape)
        self._images = images.view(np.ndarray)  # a memmap's own indexing is slow

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_images"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        return self._images[index], self.labels.item(index)


def open_decoded(dataset: Any, folder: Path, *, source: str, num_workers: int) -> DecodedFaces:
    """The data set with its images decoded; they are decoded now unless ``folder`` has them.

    Of several processes that ask at once the first decodes and the others wait for it.

    Args:
        dataset: ``dataset[i] -> (RGB uint8 [H, W, 3], label)``, with ``labels`` [N] and a text
            ``fingerprint`` that changes with the images.
        folder: where caches are, made if it does not exist.
        source: what the data set is called: a cache replaces an earlier one of the same source.
        num_workers: processes that decode; 0: this one.

    Raises:
        ValueError: an image cannot be read or is of another size than the first, the data set has no
            ``fingerprint``, or ``folder`` cannot be used or has too little space.
        ChildProcessError: a worker died.
    """
    fingerprint = getattr(dataset, "fingerprint", None)
    if fingerprint is None:
        raise ValueError(
            f"decoded_cache needs a data set with a fingerprint, which {type(dataset).__name__} has not: "
            "set decoded_cache=None"
        )
    cache = _Cache(dataset, folder, source, fingerprint)
    try:
        cache_folder.open_folder(folder, limit_size=False)  # as large as the data set that was asked for
        with cache.lock():
            return cache.find() or cache.build(num_workers)
    except ChildProcessError:
        raise
    except OSError as error:
        raise ValueError(
            f"the decoded images of {source} cannot be kept in {folder}: {error.strerror or error}; "
            "name another folder, or set decoded_cache=None"
        ) from error


class _Cache:
    """The place in a folder where the images of a data set are, or will be."""

    def __init__(self, dataset: Any, folder: Path, source: str, fingerprint: str) -> None:
        self._dataset, self._source = dataset, source
        self._shape = (len(dataset), *dataset[0][0].shape)
        self._origin = {
            "format": _FORMAT, "source": source, "fingerprint": fingerprint, "shape": self._shape
        }  # fmt: skip
        self._images = folder / f"decoded-{hashlib.sha256(os.fsencode(source)).hexdigest()[:16]}.npy"
        self._json = self._images.with_suffix(".json")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by one process; it is free again when that process ends, whatever ends it."""
        path = self._images.with_suffix(".lock")
        if path.is_symlink():  # replaced, as the other files are
            path.unlink()
        with open(path, "ab", opener=_private) as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    LOGGER.info("waiting for the process that decodes the images of %s", self._source)
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def find(self) -> DecodedFaces | None:
        """The images, unless they are missing, damaged or others than those of the data set."""
        if not self._images.exists():
            return None
        try:
            if not _starts_with(self._json, self._description()):
                raise ValueError("the file or the data set has changed")
            faces = DecodedFaces(self._images, self._shape, self._dataset.labels)
            self._compare(faces)
        except ValueError as error:
            LOGGER.warning("the decoded images in %s are not used: %s", self._images, error)
            return None
        LOGGER.info("using the decoded images in %s", self._images)
        cache_folder.mark_used(self._json)
        return faces

    def _description(self) -> bytes:
        """What the images were made from, and when their file was last changed.

        Whatever writes to the file sets the second time, which no program can set back.
        """
        status = self._images.stat()
        changed = {"modified_ns": status.st_mtime_ns, "changed_ns": status.st_ctime_ns}
        return json.dumps(self._origin | changed, indent=2).encode("ascii")

    def _compare(self, faces: DecodedFaces) -> None:
        count = len(faces)
        for index in np.linspace(0, count - 1, min(_COMPARED, count), dtype=np.int64).tolist():
            if not np.array_equal(faces[index][0], self._dataset[index][0]):
                raise ValueError(f"image {index} is not that of the data set")

    def build(self, num_workers: int) -> DecodedFaces:
        """Decode all images. What is left of an earlier cache, or of an attempt to make one, is removed."""
        for path in (self._json, self._images):
            path.unlink(missing_ok=True)
            remove_leftovers(path)
        self._check_space()
        LOGGER.info("decoding the images of %s to %s", self._source, self._images)
        with atomic_path(self._images, private=True) as temporary, open(temporary, "wb") as file:
            self._write(file, num_workers)
        with atomic_path(self._json, private=True) as temporary:
            temporary.write_bytes(self._description())
        return DecodedFaces(self._images, self._shape, self._dataset.labels)

    def _check_space(self) -> None:
        folder, needed = self._images.parent, math.prod(self._shape)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise ValueError(
                f"the decoded images of {self._source} take {needed / 2**30:.1f} GiB, but {folder} has "
                f"{free / 2**30:.1f} GiB left: name another folder, or set decoded_cache=None"
            )

    def _write(self, file: IO[bytes], num_workers: int) -> None:
        count = self._shape[0]
        prefetcher = Prefetcher(self._dataset, min(_AT_ONCE, count), seed=0, num_workers=num_workers)
        draws = (Draw(np.arange(start, min(start + _AT_ONCE, count))) for start in range(0, count, _AT_ONCE))
        file.write(_header(self._shape))
        with tqdm(total=count, desc="decoding", unit="image", disable=None, leave=False) as bar:
            for faces in prefetcher.read(draws):
                file.write(faces.images.numpy().data)
                bar.update(len(faces.images))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _header(shape: Shape) -> bytes:
    file = BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}
    )
    return file.getvalue()


def _starts_with(path: Path, expected: bytes) -> bool:
    if not path.is_file():  # opening a pipe would wait for its other end
        return False
    with open(path, "rb") as file:
        return file.read(len(expected)) == expected

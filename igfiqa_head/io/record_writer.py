"""Writes RecordIO files, and training sets in insightface's layout, as MXNet reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.arrays import plain_array
from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.io.record_format import (
    EXACT_IN_FLOAT32,
    FIRST,
    HEADER,
    LAST,
    LENGTH_BITS,
    LENGTH_MASK,
    MAGIC,
    MAGIC_BYTES,
    MIDDLE,
    PART,
    WHOLE,
)


class RecordWriter:
    """Writes a ``.rec`` file and its ``.idx``; both appear when the ``with`` block ends without an error.

    Example::

        with RecordWriter("train.rec", "train.idx") as writer:
            writer.write(0, label=3, data=encoded_image)
    """

    def __init__(self, rec_path: str | os.PathLike[str], idx_path: str | os.PathLike[str]) -> None:
        self.rec_path = rec_path
        self.idx_path = idx_path
        self._last_key = -1

    def __enter__(self) -> RecordWriter:
        with ExitStack() as stack:  # left in reverse: the index is the last to appear
            idx_path = stack.enter_context(atomic_path(self.idx_path))
            rec_path = stack.enter_context(atomic_path(self.rec_path))
            self._idx = stack.enter_context(open(idx_path, "w", encoding="ascii", newline="\n"))
            self._rec = stack.enter_context(open(rec_path, "wb"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def write(self, key: int, label: ArrayLike, data: bytes = b"") -> None:
        """Append one record.

        Args:
            key: larger than the one before; also stored as the header's id.
            label: a number, or a sequence of numbers (stored as an array of float32).
            data: the encoded image; empty for record 0 and identities.

        Raises:
            ValueError: keys do not ascend, a label is not exact in float32, or the record is too long.
        """
        if key <= self._last_key:
            raise ValueError(f"keys must ascend from 0: got {key} after {self._last_key}")
        payload = _pack(label, data, key)
        self._idx.write(f"{key}\t{self._rec.tell()}\n")
        for part in _parts(payload):
            self._rec.write(part)
        self._last_key = key


def _pack(label: ArrayLike, data: bytes, identifier: int) -> bytes:
    exact = np.asarray(label, np.float64)
    stored = exact.astype("<f4")
    if exact.ndim > 1 or exact.size == 0 or not (stored == exact).all():
        raise ValueError(f"label must be a number or a sequence of numbers exact in float32, got {label!r}")
    is_array = exact.ndim == 1
    scalar = 0.0 if is_array else float(stored)
    header = HEADER.pack(exact.size if is_array else 0, scalar, identifier, 0)
    payload = header + (stored.tobytes() if is_array else b"") + data
    if len(payload) > LENGTH_MASK:
        raise ValueError(f"a record holds at most {LENGTH_MASK} bytes, got {len(payload)}")
    return payload


def _parts(payload: bytes) -> Iterator[bytes]:
    """The parts of a record: cut at, and without, every magic number at a multiple of four bytes."""
    start = 0
    cut = payload.find(MAGIC_BYTES)
    while cut >= 0:
        if cut % 4 == 0:
            yield PART.pack(MAGIC, (MIDDLE if start else FIRST) << LENGTH_BITS | cut - start)
            yield payload[start:cut]
            start = cut + 4
        cut = payload.find(MAGIC_BYTES, cut + 4 if cut % 4 == 0 else cut + 1)
    yield PART.pack(MAGIC, (LAST if start else WHOLE) << LENGTH_BITS | len(payload) - start)
    yield payload[start:] + bytes(-len(payload) % 4)


def write_records(
    root: str | os.PathLike[str],
    images: Iterable[bytes],
    labels: Sequence[int] | NDArray[np.integer[Any]],
    *,
    image_size: int = 112,
) -> None:
    """Write a training set in insightface's layout: ``train.rec``, ``train.idx`` and ``property``.

    Args:
        root: the folder; created if needed.
        images: N encoded images; may be a generator.
        labels: N class labels from 0, equal ones side by side: an identity record is a range of keys.
        image_size: side of the images in pixels, for ``property``.

    Raises:
        ValueError: no labels, negative or scattered ones, another number of images than of labels, or more
            than record 0 can count (2**24); then use :class:`RecordWriter` and make every key an image.
    """
    classes = plain_array("labels", labels)
    starts = _identity_starts(classes)
    images_end = len(classes) + 1
    identities_end = images_end + len(starts) - 1
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        writer.write(0, (images_end, identities_end))
        count = 0
        for count, encoded in enumerate(images, start=1):
            if count == images_end:
                raise ValueError(f"more images than the {len(classes)} labels")
            writer.write(count, int(classes[count - 1]), encoded)
        if count != len(classes):
            raise ValueError(f"{count} images for {len(classes)} labels")
        for key, image_range in enumerate(pairwise(starts), start=images_end):
            writer.write(key, image_range)
        with atomic_path(folder / "property") as path:
            path.write_text(f"{classes.max() + 1},{image_size},{image_size}\n", encoding="ascii")


def _identity_starts(labels: NDArray[Any]) -> list[int]:
    """First image key of every run of equal labels, and the end of the last run."""
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu" or labels.min() < 0:
        received = f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"labels must be one or more integers from 0 in one dimension, got {received}")
    starts = np.flatnonzero(np.diff(labels, prepend=-1)) + 1
    if len(starts) != len(np.unique(labels)):
        raise ValueError("images of one identity must be side by side: sort images and labels by label")
    if len(labels) + len(starts) >= EXACT_IN_FLOAT32:
        raise ValueError(f"record 0 counts to {EXACT_IN_FLOAT32} exactly, got {len(labels)} images")
    return [*starts.tolist(), len(labels) + 1]

"""What models say of the images of a test set, computed once and kept by content.

Images are read chunk by chunk, once for all models. The result of a chunk is kept in a file that is named by
a hash of the model and of the chunk's pixels: it is found again after an interruption, under other image
names and in other runs, and never once either has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

from igfiqa_head.io.atomic import atomic_path

CHUNK = 128
FloatArray = NDArray[np.float32]
UInt8Array = NDArray[np.uint8]


@runtime_checkable
class ImageFunction(Protocol):
    """What can be computed from each image by itself.

    Attributes:
        fingerprint: equal for two functions only if they give equal results.
        image_size: (height, width) of the images it takes, None for any.
        row_shape: shape of the result for one image.
    """

    fingerprint: str
    image_size: tuple[int, int] | None
    row_shape: tuple[int, ...]

    def __call__(self, images: UInt8Array) -> FloatArray:
        """RGB uint8 [B, H, W, 3] -> float32 [B, *row_shape]."""
        ...


class ChunkedArray:
    """A float32 array [N, ...] whose chunks are read when asked for; rows without a result are NaN."""

    def __init__(self, parts: Sequence[_Part], row_shape: tuple[int, ...], keep: NDArray[np.bool_]) -> None:
        self._parts, self._row_shape, self._keep = parts, row_shape, keep
        self.shape = (int(np.count_nonzero(keep)), *row_shape)

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self) -> Iterator[tuple[int, FloatArray]]:
        """(position of the first row, rows) from the first to the last row."""
        start = 0
        for part in self._parts:
            rows = part.rows(self._row_shape)[self._keep[part.start : part.stop]]
            if len(rows):
                yield start, rows
            start += len(rows)

    def without(self, indices: Iterable[int]) -> ChunkedArray:
        """The array without some rows; the others keep their order."""
        positions = np.flatnonzero(self._keep)
        keep = self._keep.copy()
        keep[positions[np.fromiter(indices, np.int64)]] = False
        return ChunkedArray(self._parts, self._row_shape, keep)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a chunked array cannot become an array without a copy")
        whole = np.empty(self.shape, np.float32 if dtype is None else dtype)
        for start, rows in self.chunks():
            whole[start : start + len(rows)] = rows
        return whole


def apply_cached(
    functions: Mapping[str, ImageFunction],
    images: Sequence[UInt8Array],
    folder: Path | None,
    *,
    on_bad: Literal["error", "exclude"] = "error",
    names: Sequence[str] | None = None,
    chunk: int = CHUNK,
    progress: bool = True,
    title: str | None = None,
) -> tuple[dict[str, ChunkedArray], dict[int, str]]:
    """Apply every function to every image; what ``folder`` already holds is not computed again.

    Args:
        functions: by name.
        images: [N] RGB uint8 [H, W, 3], read one at a time; one that raises ``ValueError`` is unreadable.
        folder: where results are kept, made if it does not exist; None keeps them in memory alone.
        on_bad: what to do with an image that is unreadable, has another size than the functions take, or
            gives a result that is not finite: "error", or "exclude" it, which leaves its rows NaN.
        names: [N] of the images, for messages.
        chunk: images read and kept together; up to so many are lost by an interruption.
        progress: show a progress bar, where stderr is a terminal.
        title: of the progress bar.

    Returns:
        ({name: result [N, ...]}, {position of an excluded image: why}).

    Raises:
        ValueError: a bad image and ``on_bad`` is "error", no good image, functions that take images of
            different sizes, or a function that breaks its own promises.
    """
    if on_bad not in ("error", "exclude"):
        raise ValueError(f"on_bad must be 'error' or 'exclude', got {on_bad!r}")
    if not functions:
        return {}, {}
    reader = _Reader(images, names, _common_size(functions))
    store = _Store(folder)
    parts: dict[str, list[_Part]] = {name: [] for name in functions}
    bad: dict[int, str] = {}

    def collect(found: Mapping[int, str]) -> None:
        bad.update((index, f"{reader.label(index)}: {reason}") for index, reason in found.items())
        if bad and on_bad == "error":
            raise ValueError(f"{bad[min(bad)]}; to leave out such images pass on_bad='exclude'")

    # disable=None: no bar where stderr is no terminal.
    with tqdm(total=len(images), desc=title, unit="image", disable=None if progress else True) as bar:
        for group in _read_ahead(reader.read, range(len(images)), chunk):
            collect(group.bad)
            for name, function in functions.items():
                part, failed = store.part(name, function, group)
                collect(failed)
                parts[name].append(part)
            bar.update(group.stop - group.start)
    if bad and len(bad) == len(images):
        raise ValueError(f"none of {len(images)} images can be used; {bad[0]}")
    keep = np.ones(len(images), np.bool_)
    return {name: ChunkedArray(parts[name], functions[name].row_shape, keep) for name in functions}, bad


@dataclass(frozen=True)
class _Group:
    """A chunk as it was read: the readable images [n] of ``start`` .. ``stop``, and why others are not."""

    start: int
    stop: int
    positions: NDArray[np.int64]
    pixels: UInt8Array
    bad: dict[int, str]
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        content = hashlib.sha256(repr(self.pixels.shape).encode())
        content.update(self.pixels.data)
        object.__setattr__(self, "digest", content.digest())


@dataclass(frozen=True)
class _Part:
    """The result for a chunk's readable images, an array or the file that holds it."""

    start: int
    stop: int
    positions: NDArray[np.int64]
    content: FloatArray | Path

    def rows(self, row_shape: tuple[int, ...]) -> FloatArray:
        """[stop - start, ...] with NaN for unreadable images."""
        whole = np.full((self.stop - self.start, *row_shape), np.nan, np.float32)
        content = self.content
        whole[self.positions - self.start] = (
            np.load(content, allow_pickle=False) if isinstance(content, Path) else content
        )
        return whole


class _Reader:
    """Reads images, all of one size."""

    def __init__(
        self, images: Sequence[UInt8Array], names: Sequence[str] | None, size: tuple[int, int] | None
    ) -> None:
        self._images, self._names, self._size = images, names, size

    def label(self, index: int) -> str:
        return f"image {index}" if self._names is None else f"image {index} ({self._names[index]})"

    def read(self, chunk: range) -> _Group:
        good: dict[int, UInt8Array] = {}
        bad: dict[int, str] = {}
        for index in chunk:
            try:
                good[index] = self._checked(self._images[index])
            except ValueError as error:
                bad[index] = str(error)
        pixels = np.stack(list(good.values())) if good else np.empty((0, 0, 0, 3), np.uint8)
        return _Group(chunk.start, chunk.stop, np.array(list(good), np.int64), pixels, bad)

    def _checked(self, image: UInt8Array) -> UInt8Array:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected RGB uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
        self._size = self._size or (image.shape[0], image.shape[1])
        if image.shape[:2] != self._size:
            received, expected = ("{} x {}".format(*size) for size in (image.shape, self._size))
            raise ValueError(f"the image is {received}, expected {expected}: align and crop the faces first")
        return image


class _Store:
    """Results of chunks, in a folder or in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def part(self, name: str, function: ImageFunction, group: _Group) -> tuple[_Part, dict[int, str]]:
        """The result for a chunk, and which images it is not finite for."""
        path = None if self._folder is None else self._folder / f"{_key(function, group)}.npy"
        shape = (len(group.positions), *function.row_shape)
        values = None if path is None else _load(path, shape)
        if values is None:
            values = _computed(name, function, group.pixels, shape)
            if path is not None:
                with atomic_path(path) as temporary:
                    np.save(temporary, values, allow_pickle=False)
        finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        failed = {int(row): f"{name} gives NaN or infinity" for row in group.positions[~finite]}
        return _Part(group.start, group.stop, group.positions, values if path is None else path), failed


def _key(function: ImageFunction, group: _Group) -> str:
    return hashlib.sha256(function.fingerprint.encode() + b"\0" + group.digest).hexdigest()


def _load(path: Path, shape: tuple[int, ...]) -> FloatArray | None:
    """A kept result, or None if there is none or it is damaged."""
    try:
        # Mapped first: a header that promises more than the file holds is found out before memory is taken.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return np.array(values) if values.shape == shape and values.dtype == np.float32 else None


def _computed(name: str, function: ImageFunction, pixels: UInt8Array, shape: tuple[int, ...]) -> FloatArray:
    if not len(pixels):
        return np.empty(shape, np.float32)
    values = function(pixels)
    if values.shape != shape or values.dtype != np.float32:
        raise ValueError(f"{name} gives {values.dtype} {list(values.shape)}, expected float32 {list(shape)}")
    return values


def _common_size(functions: Mapping[str, ImageFunction]) -> tuple[int, int] | None:
    sizes = {name: function.image_size for name, function in functions.items() if function.image_size}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size[0]} x {size[1]}" for name, size in sizes.items())
        raise ValueError(f"the models take images of different sizes ({listed}): run them one at a time")
    return next(iter(sizes.values()), None)


def _read_ahead(read: Callable[[range], _Group], images: range, size: int) -> Iterator[_Group]:
    """``images`` in chunks of ``size``, the next one being read by a thread while one is worked on.

    One thread, so that images need not be thread-safe; it decodes ten times as fast as a small network runs.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        reading = None
        for start in range(0, len(images), size):
            following = pool.submit(read, images[start : start + size])
            if reading is not None:
                yield reading.result()
            reading = following
        if reading is not None:
            yield reading.result()

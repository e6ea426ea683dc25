"""What models say of the images of a test set, computed once and kept by content.

Images are read chunk by chunk, once for all models. The result of a chunk is kept in a file that is named by
a hash of the model and of the chunk's pixels: it is found again after an interruption, under other image
names and in other runs, and never once either has changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

from eval_tools.on_bad import EXCLUDE, OnBad, check_on_bad
from eval_tools.row_files import SUFFIX, FloatArray, keep_rows, load_rows, make_folder
from igfiqa_head.ahead import ahead
from igfiqa_head.io.aligned_faces import stored_size
from igfiqa_head.text import printable

CHUNK = 128
CHUNK_BYTES = 2**27
"""Limit of the pixels of a chunk: 134 MB are 128 images of 590 x 590."""

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
    on_bad: OnBad = "error",
    names: Sequence[str] | None = None,
    chunk: int = CHUNK,
    progress: bool = True,
    title: str | None = None,
    advice: str = f"leave such images out with {EXCLUDE}",
) -> tuple[dict[str, ChunkedArray], dict[int, str]]:
    """Apply every function to every image; what ``folder`` already holds is not computed again.

    Args:
        functions: by name.
        images: [N] RGB uint8 [H, W, 3], read one at a time; one that raises ``ValueError`` is unreadable.
            If no function says which size it takes, that is the size of most images of the first chunk.
        folder: where results are kept, made if it does not exist; None keeps them in memory alone.
        on_bad: what to do with an image that is unreadable, has another size than the functions take, or
            gives a result that is not finite: "error", or "exclude" it, which leaves its rows NaN.
        names: [N] of the images, for messages.
        chunk: images read and kept together, fewer of large ones; up to so many are lost by an interruption.
        progress: show a progress bar, where stderr is a terminal.
        title: of the progress bar.
        advice: what the error about a bad image tells to do.

    Returns:
        ({name: result [N, ...]}, {position of an excluded image: why}).

    Raises:
        ValueError: a bad image and ``on_bad`` is "error", no good image, functions that take images of
            different sizes, a function that breaks its own promises, or a folder that cannot be used.
    """
    check_on_bad(on_bad)
    if not functions:
        return {}, {}
    reader = _Reader(images, names, _common_size(functions))
    store = _Store(folder)
    parts: dict[str, list[_Part]] = {name: [] for name in functions}
    bad: dict[int, str] = {}

    def collect(found: Mapping[int, str]) -> None:
        bad.update((index, f"{reader.label(index)}: {reason}") for index, reason in found.items())
        if bad and on_bad == "error":
            raise ValueError(f"{bad[min(bad)]}; {advice}")

    # disable=None: no bar where stderr is no terminal.
    hidden = None if progress else True
    with tqdm(total=len(images), desc=printable(title or ""), unit="image", disable=hidden) as bar:
        for group in ahead(reader.groups(chunk)):  # decodes ten times as fast as a small network runs
            collect(group.bad)
            for name, function in functions.items():
                part, failed = store.part(name, function, group)
                collect(failed)
                parts[name].append(part)
            bar.update(group.stop - group.start)
    if bad and len(bad) == len(images):
        raise ValueError(f"none of {len(images)} images can be used; {bad[0]}")
    reader.check_size()
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
        content.update(np.ascontiguousarray(self.pixels).data)
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
        content: FloatArray | Path | None = self.content
        if isinstance(content, Path):
            content = load_rows(content, (len(self.positions), *row_shape))
        if content is None:
            raise ValueError(f"{self.content} was changed or removed while it was in use: start again")
        whole[self.positions - self.start] = content
        return whole


class _Reader:
    """Reads images, all of one size, chunk by chunk."""

    def __init__(
        self, images: Sequence[UInt8Array], names: Sequence[str] | None, size: tuple[int, int] | None
    ) -> None:
        self._images, self._names, self._size = images, names, size
        self._is_given = size is not None
        self._counts: Counter[tuple[int, int]] = Counter()

    def label(self, index: int) -> str:
        return f"image {index}" if self._names is None else f"image {index} ({self._names[index]})"

    def groups(self, chunk: int) -> Iterator[_Group]:
        """All images, ``chunk`` at a time, or fewer where their pixels take more than :data:`CHUNK_BYTES`."""
        start = 0
        while start < len(self._images):
            group = self._read(range(start, min(start + chunk, len(self._images))))
            yield group
            start = group.stop

    def _read(self, chunk: range) -> _Group:
        good: dict[int, UInt8Array] = {}
        bad: dict[int, str] = {}
        room, stop = CHUNK_BYTES, chunk.start
        while stop < chunk.stop and room > 0:
            try:
                good[stop] = self._image(stop)
                room -= good[stop].nbytes
            except ValueError as error:
                bad[stop] = str(error)
            stop += 1
        if good:
            bad |= self._of_other_sizes(good)
        pixels = np.stack(list(good.values())) if good else np.empty((0, 0, 0, 3), np.uint8)
        return _Group(chunk.start, stop, np.array(list(good), np.int64), pixels, dict(sorted(bad.items())))

    def _image(self, index: int) -> UInt8Array:
        """Image ``index``, decoded unless its header says already that it has another size."""
        stored = stored_size(self._images, index)
        if stored and self._size and set(stored) != set(self._size):  # an orientation may exchange the sides
            self._counts[stored] += 1
            raise ValueError(_misfit(stored, self._size))
        return _checked(self._images[index])

    def _of_other_sizes(self, images: dict[int, UInt8Array]) -> dict[int, str]:
        """Take the images of another size out of ``images``, and say why."""
        sizes = Counter(map(_size, images.values()))
        self._counts.update(sizes)
        size = self._size = self._size or sizes.most_common(1)[0][0]
        others = {index: _size(image) for index, image in images.items() if _size(image) != size}
        for index in others:
            del images[index]
        return {index: _misfit(other, size) for index, other in others.items()}

    def check_size(self) -> None:
        """``ValueError`` if the first chunk misled: another size than it suggested is more common."""
        if self._is_given or self._size is None:
            return
        most, count = self._counts.most_common(1)[0]
        if count > self._counts[self._size]:
            raise ValueError(
                f"most images are {_by(most)}, but the first ones are {_by(self._size)}: align and crop all "
                "faces to one size first"
            )


def _checked(image: UInt8Array) -> UInt8Array:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected RGB uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    return image


def _size(image: UInt8Array) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _misfit(size: tuple[int, int], expected: tuple[int, int]) -> str:
    return f"the image is {_by(size)}, expected {_by(expected)}: align and crop the faces first"


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


class _Store:
    """Results of chunks, in a folder or in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            make_folder(folder)

    def part(self, name: str, function: ImageFunction, group: _Group) -> tuple[_Part, dict[int, str]]:
        """The result for a chunk, and which images it is not finite for."""
        path = None if self._folder is None else self._folder / f"{_key(function, group)}{SUFFIX}"
        shape = (len(group.positions), *function.row_shape)
        values = None if path is None else load_rows(path, shape)
        if values is None:
            values = _computed(name, function, group.pixels, shape)
            path = None if path is None else keep_rows(path, values)
        finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        failed = {int(row): f"{name} gives NaN or infinity" for row in group.positions[~finite]}
        return _Part(group.start, group.stop, group.positions, values if path is None else path), failed


def _key(function: ImageFunction, group: _Group) -> str:
    return hashlib.sha256(function.fingerprint.encode() + b"\0" + group.digest).hexdigest()


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
        listed = ", ".join(f"{name} {size[1]} x {size[0]}" for name, size in sizes.items())
        raise ValueError(f"the models take images of different sizes ({listed}): run them one at a time")
    return next(iter(sizes.values()), None)

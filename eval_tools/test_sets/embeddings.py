"""From embeddings of views to similarities of pairs, in memory that hardly grows with the pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_tools.scores import FloatArray, real_array

Flip = Literal["sum", "concat", "none"]
IMAGES_PER_BLOCK = 1024
_PAIRS_PER_BLOCK = 1024  # larger ones fall out of the cache of a core


@runtime_checkable
class ChunkedEmbeddings(Protocol):
    """Embeddings [N, V, D] that are read chunk by chunk."""

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """(position of its first image, embeddings [n, V, D]) of each chunk, in the order of the images."""


def check_flip(flip: str) -> None:
    if flip not in get_args(Flip):
        raise ValueError(f"unknown flip {flip!r}: choose 'sum', 'concat' or 'none'")


def unit_embeddings(
    embeddings: ArrayLike | ChunkedEmbeddings, flip: Flip, names: Sequence[str]
) -> NDArray[np.floating]:
    """One embedding of unit length for each image, from its views.

    Args:
        embeddings: [N, V, D], or an object that gives them in chunks.
        flip: "sum" of the views, "concat" of the views at unit length, or "none", the first view alone.
        names: [N] of the images, for errors.

    Returns:
        [N, D], or [N, V D] for "concat"; float64 if the embeddings are, else float32.

    Raises:
        ValueError: another shape or ``flip``, or an embedding that is zero or not finite.
    """
    check_flip(flip)
    unit = np.empty((0, 0))
    for start, views in view_blocks(embeddings, len(names)):
        block_names = names[start : start + len(views)]
        rows = at_unit_length(joined_views(views.astype(np.float64), flip, block_names), block_names)
        if start == 0:
            precision = np.float64 if views.dtype == np.float64 else np.float32
            unit = np.empty((len(names), rows.shape[1]), precision)
        unit[start : start + len(rows)] = rows
    return unit


def pair_similarity(unit: NDArray[np.floating], pairs: NDArray[np.integer]) -> FloatArray:
    """Cosine similarity [P] of the ``pairs`` [P, 2] of rows of ``unit`` [N, D], summed in float64."""
    similarity = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS_PER_BLOCK):
        block = pairs[start : start + _PAIRS_PER_BLOCK]
        first, second = unit[block[:, 0]], unit[block[:, 1]]
        np.einsum(
            "pd,pd->p", first, second, dtype=np.float64, out=similarity[start : start + _PAIRS_PER_BLOCK]
        )
    return similarity


def view_blocks(
    embeddings: ArrayLike | ChunkedEmbeddings, size: int
) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """(position, views [n, V, D]) one after the other, V and D the same in all, ``size`` images together.

    Raises:
        ValueError: parts of other shapes, with gaps, or of another number of images.
    """
    expected = f"embeddings must be [{size}, V, D], V views of each image"
    n_seen, shape = 0, None
    for start, views in _chunks(embeddings):
        shape = shape or views.shape[1:]
        fits = views.ndim == 3 and views.shape[1:] == shape and 0 not in shape
        if not fits or start != n_seen or start + len(views) > size:
            raise ValueError(f"{expected}; got {list(views.shape)} from image {start} on")
        n_seen += len(views)
        yield start, views
    if n_seen != size:
        raise ValueError(f"{expected}; got {n_seen} images")


def _chunks(embeddings: ArrayLike | ChunkedEmbeddings) -> Iterator[tuple[int, NDArray[np.floating]]]:
    if isinstance(embeddings, ChunkedEmbeddings):
        yield from embeddings.chunks()
        return
    array = real_array("embeddings", embeddings)
    if array.ndim != 3:
        raise ValueError(f"embeddings must be [N, V, D], V views of each image; got shape {array.shape}")
    for start in range(0, len(array), IMAGES_PER_BLOCK):
        yield start, array[start : start + IMAGES_PER_BLOCK]


def joined_views(views: FloatArray, flip: Flip, names: Sequence[str]) -> FloatArray:
    """Features [n, D'] from views [n, V, D], see :func:`unit_embeddings`; only "concat" normalises."""
    if flip == "sum":
        return views.sum(axis=1)
    if flip == "none":
        return views[:, 0]
    return np.concatenate([at_unit_length(view, names) for view in views.swapaxes(0, 1)], axis=1)


def at_unit_length(rows: FloatArray, names: Sequence[str]) -> FloatArray:
    """Rows [n, D] divided by their lengths; ``ValueError`` names an image whose row has none."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    wrong = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
    if wrong.size:
        raise ValueError(
            f"the embedding of image {names[int(wrong[0])]} is zero or not finite ({wrong.size} in all): "
            "look at what the recogniser was given, or leave the images out"
        )
    return rows / norms

"""Faces worth looking at: what a quality method likes least and most, and the pairs it failed to reject."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval_tools.results import Gallery, GalleryItem
from eval_tools.scores import FloatArray, IntArray
from eval_tools.test_sets import VerificationSet

FACES = 12
PAIRS = 6

Images = Sequence[NDArray[np.uint8]]


def extreme_faces(images: Images, quality: FloatArray, method: str, test_set: str) -> list[Gallery]:
    """The lowest and the highest scored faces, equal pictures shown once.

    NaN qualities and images that cannot be decoded are passed over.
    """
    order = np.argsort(quality, kind="stable")
    order = order[~np.isnan(quality[order])]
    galleries = []
    for which, chosen in (("lowest", order), ("highest", order[::-1])):
        items = tuple(
            GalleryItem((image,), f"{quality[index]:.4g}") for index, image in _distinct(images, chosen)
        )
        note = f"The faces of {test_set} that {method} scores {which}, {which} first."
        galleries += [Gallery(f"{test_set}: {which} {method}", note, items)] if items else []
    return galleries


def missed_pairs(
    test_set: VerificationSet,
    similarity: FloatArray,
    pair_quality: FloatArray,
    threshold: float,
    title: str,
) -> list[Gallery]:
    """Genuine pairs that are not recognised although their quality is high, highest first.

    Pairs with an image that cannot be decoded are passed over.
    """
    genuine = test_set.is_genuine
    missed = np.flatnonzero(genuine & (similarity < threshold))
    ranks = np.sort(pair_quality[genuine])
    items = []
    for pair in missed[np.argsort(-pair_quality[missed], kind="stable")]:
        faces = [_decoded(test_set.images, index) for index in test_set.pairs[pair]]
        pictures = tuple(face for face in faces if face is not None)
        if len(pictures) < len(faces):
            continue
        share = 100 * np.searchsorted(ranks, pair_quality[pair]) / ranks.size
        caption = f"similarity {similarity[pair]:.3f}, quality above {share:.0f} % of the genuine pairs"
        items.append(GalleryItem(pictures, caption))
        if len(items) == PAIRS:
            break
    note = (
        f"{missed.size:,} of {ranks.size:,} genuine pairs have a similarity below the threshold of "
        f"{threshold:.3f}. These have the highest quality, so discarding by quality reaches them last."
    )
    return [Gallery(title, note, tuple(items))] if items else []


def _distinct(images: Images, order: IntArray) -> list[tuple[int, NDArray[np.uint8]]]:
    """The first ``FACES`` of ``order``, leaving out repeats: test sets hold some images many times."""
    chosen: list[tuple[int, NDArray[np.uint8]]] = []
    seen: set[bytes] = set()
    for index in order:
        image = _decoded(images, index)
        if image is None or image.tobytes() in seen:
            continue
        seen.add(image.tobytes())
        chosen.append((int(index), image))
        if len(chosen) == FACES:
            break
    return chosen


def _decoded(images: Images, index: int) -> NDArray[np.uint8] | None:
    """An image, None if it cannot be decoded: where all scores are given, nothing else has looked at it."""
    try:
        return images[index]
    except ValueError:
        return None

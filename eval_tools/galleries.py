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
    """The lowest and the highest scored faces; NaN qualities are passed over, equal pictures shown once."""
    order = np.argsort(quality, kind="stable")
    order = order[~np.isnan(quality[order])]
    return [
        Gallery(
            f"{test_set}: {which} {method}",
            f"The faces of {test_set} that {method} scores {which}, {which} first.",
            tuple(
                GalleryItem((images[index],), f"{quality[index]:.4g}") for index in _distinct(images, chosen)
            ),
        )
        for which, chosen in (("lowest", order), ("highest", order[::-1]))
    ]


def missed_pairs(
    test_set: VerificationSet,
    similarity: FloatArray,
    pair_quality: FloatArray,
    threshold: float,
    title: str,
) -> list[Gallery]:
    """Genuine pairs that are not recognised although their quality is high, highest first."""
    genuine = test_set.is_genuine
    missed = np.flatnonzero(genuine & (similarity < threshold))
    if not missed.size:
        return []
    ranks = np.sort(pair_quality[genuine])
    items = []
    for pair in missed[np.argsort(-pair_quality[missed], kind="stable")][:PAIRS]:
        share = 100 * np.searchsorted(ranks, pair_quality[pair]) / ranks.size
        caption = f"similarity {similarity[pair]:.3f}, quality above {share:.0f} % of the genuine pairs"
        first, second = test_set.pairs[pair]
        items.append(GalleryItem((test_set.images[first], test_set.images[second]), caption))
    note = (
        f"{missed.size:,} of {ranks.size:,} genuine pairs have a similarity below the threshold of "
        f"{threshold:.3f}. These have the highest quality, so discarding by quality reaches them last."
    )
    return [Gallery(title, note, tuple(items))]


def _distinct(images: Images, order: IntArray) -> list[int]:
    """The first ``FACES`` of ``order``, leaving out repeats: test sets hold some images many times."""
    chosen: list[int] = []
    seen: set[bytes] = set()
    for index in order:
        pixels = images[index].tobytes()
        if pixels not in seen:
            seen.add(pixels)
            chosen.append(int(index))
        if len(chosen) == FACES:
            break
    return chosen

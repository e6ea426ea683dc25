"""Faces worth looking at, of sets whose images nobody has looked at before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from eval_tools.galleries import FACES, PAIRS, extreme_faces, missed_pairs
from eval_tools.test_sets import VerificationSet
from eval_tools.test_sets.images import LazyImages, RGBImage

COUNT = 40
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), dtype=np.uint8)
QUALITY = np.arange(float(COUNT))


def images(bad: Sequence[int] = (), repeated: Sequence[int] = ()) -> Sequence[RGBImage]:
    def load(index: int) -> RGBImage:
        if index in bad:
            raise ValueError(f"image {index} is damaged")
        return PIXELS[0] if index in repeated else PIXELS[index]

    return LazyImages(COUNT, load)


def shown(faces: Sequence[RGBImage]) -> list[int]:
    return [next(i for i in range(COUNT) if np.array_equal(PIXELS[i], face)) for face in faces]


def test_the_extreme_faces_are_shown_in_order() -> None:
    quality = QUALITY.copy()
    quality[[0, 39]] = np.nan
    lowest, highest = extreme_faces(images(), quality, "sharpness", "lfw")
    assert shown([item.images[0] for item in lowest.items]) == list(range(1, FACES + 1))
    assert shown([item.images[0] for item in highest.items]) == list(range(38, 38 - FACES, -1))
    assert (lowest.title, highest.items[0].caption) == ("lfw: lowest sharpness", "38")


def test_faces_that_cannot_be_decoded_are_passed_over() -> None:
    lowest, highest = extreme_faces(images(bad=[1, 38, 39], repeated=[2, 3]), QUALITY, "m", "s")
    assert shown([item.images[0] for item in lowest.items]) == [0, *range(4, FACES + 3)]
    assert shown([item.images[0] for item in highest.items]) == list(range(37, 37 - FACES, -1))
    assert extreme_faces(images(bad=range(COUNT)), QUALITY, "m", "s") == []


@pytest.mark.parametrize("bad", [(), (0, 3), range(COUNT)])
def test_missed_pairs_that_cannot_be_decoded_are_passed_over(bad: Sequence[int]) -> None:
    pairs = np.arange(COUNT).reshape(-1, 2)
    is_genuine = np.arange(len(pairs)) % 4 != 3
    test_set = VerificationSet(images(bad), pairs, is_genuine)
    galleries = missed_pairs(test_set, np.zeros(len(pairs)), -np.arange(float(len(pairs))), 0.5, "missed")
    expected = [p for p in np.flatnonzero(is_genuine) if not set(pairs[p].tolist()) & set(bad)][:PAIRS]
    assert [shown(item.images) for gallery in galleries for item in gallery.items] == pairs[expected].tolist()
    assert len(galleries) == bool(expected)
    assert all(gallery.note.startswith("15 of 15 genuine pairs") for gallery in galleries)


def test_no_missed_pairs() -> None:
    test_set = VerificationSet(images(), np.array([[0, 1], [2, 3]]), np.array([True, False]))
    assert missed_pairs(test_set, np.ones(2), np.ones(2), 0.5, "missed") == []

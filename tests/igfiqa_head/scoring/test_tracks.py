"""Following faces through the frames of a video."""

from __future__ import annotations

import numpy as np
import pytest

from igfiqa_head.scoring.tracks import FaceTracker, overlaps

NONE = np.empty((0, 4))


def box(x: float, y: float = 0.0, side: float = 10.0) -> list[float]:
    return [x, y, x + side, y + side]


def test_overlap_is_the_share_of_common_pixels() -> None:
    boxes = np.random.default_rng(0).integers(0, 20, (12, 4))
    boxes[:, 2:] += boxes[:, :2]
    masks = np.zeros((12, 40, 40), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    common = (masks[:, None] & masks[None]).sum(axis=(2, 3))
    either = (masks[:, None] | masks[None]).sum(axis=(2, 3))
    np.testing.assert_allclose(overlaps(boxes, boxes), common / np.maximum(either, 1))
    assert overlaps(boxes, NONE).shape == (12, 0)


def test_boxes_turned_inside_out_overlap_nothing() -> None:
    assert overlaps([[5, 5, 0, 0]], [[0, 0, 5, 5], [5, 5, 0, 0]]).tolist() == [[0, 0]]


def test_faces_keep_their_numbers_in_whatever_order_they_come() -> None:
    tracker = FaceTracker()
    assert tracker.follow([box(0), box(50)]) == [0, 1]
    assert tracker.follow([box(52), box(2)]) == [1, 0]
    assert tracker.follow([box(100), box(4), box(54)]) == [2, 0, 1]


def test_the_largest_overlap_wins_and_a_track_has_one_face_a_frame() -> None:
    tracker = FaceTracker()
    tracker.follow([box(0)])
    assert tracker.follow([box(3), box(1)]) == [1, 0]


def test_a_face_that_comes_back_soon_is_the_same() -> None:
    tracker = FaceTracker(patience=2)
    tracker.follow([box(0)])
    assert tracker.follow(NONE) == []
    assert tracker.follow([box(1)]) == [0]
    tracker.follow(NONE)
    tracker.follow(NONE)
    assert tracker.follow([box(1)]) == [1]


@pytest.mark.parametrize(("shift", "number"), [(5, 0), (6, 1)])
def test_least_overlap(shift: float, number: int) -> None:
    tracker = FaceTracker(least_overlap=0.3)
    tracker.follow([box(0)])
    assert tracker.follow([box(shift)]) == [number]

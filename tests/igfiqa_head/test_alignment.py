"""Alignment beside scikit-image's transform, insightface's crop and a pixel-by-pixel warp."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from igfiqa_head.alignment import TEMPLATE, align, similarity_transform


def _picture(height: int = 140, width: int = 120, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth, so that a shift by a thousandth of a pixel changes no value by more than a level."""
    noise = np.random.default_rng(seed).uniform(0, 255, (9, 7, 3)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def _landmarks(seed: int, jitter: float = 4.0) -> NDArray[np.float64]:
    """The template turned, scaled, moved and shaken."""
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-0.6, 0.6), rng.uniform(0.5, 1.5)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE - 56) @ turn.T + [60, 70] + rng.normal(0, jitter, (5, 2))


@given(
    st.integers(0, 10**6), st.integers(2, 8), st.sampled_from([1e-3, 1.0, 1e4]), st.sampled_from([0.0, 1e3])
)
@settings(max_examples=150, deadline=None)
def test_transform_is_scikit_images(seed: int, count: int, scale: float, offset: float) -> None:
    skimage_transform = pytest.importorskip("skimage.transform")
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(count, 2)) * scale + offset
    target = rng.normal(size=(count, 2))
    expected = skimage_transform.estimate_transform("similarity", source, target)
    np.testing.assert_allclose(
        similarity_transform(source, target) @ [*source.mean(axis=0), 1.0], target.mean(axis=0), atol=1e-9
    )
    np.testing.assert_allclose(
        similarity_transform(source, target)[:, :2] * scale, expected.params[:2, :2] * scale, atol=1e-8
    )


def test_an_exact_similarity_is_found_again() -> None:
    turn = 0.7 * np.array([[np.cos(2.0), -np.sin(2.0)], [np.sin(2.0), np.cos(2.0)]])
    target = TEMPLATE @ turn.T + [3.0, -8.0]
    expected = np.column_stack([turn, [3.0, -8.0]])
    np.testing.assert_allclose(similarity_transform(TEMPLATE, target), expected, atol=1e-12)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = TEMPLATE * [-1, 1]
    matrix = similarity_transform(mirrored, TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0
    # No rotation and scale nearby does better: it is the least-squares optimum without reflection.
    best = _squared_error(matrix, mirrored)
    for change in np.random.default_rng(0).normal(0, 1e-3, (50, 4)):
        a, b, x, y = matrix[0, 0] + change[0], matrix[1, 0] + change[1], *(matrix[:, 2] + change[2:])
        assert _squared_error(np.array([[a, -b, x], [b, a, y]]), mirrored) >= best


def _squared_error(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> float:
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return float(((moved - TEMPLATE) ** 2).sum())


@pytest.mark.filterwarnings("ignore::FutureWarning:insightface")
@pytest.mark.parametrize("seed", range(8))
def test_crop_is_insightfaces(seed: int) -> None:
    face_align = pytest.importorskip("insightface.utils.face_align")
    picture, landmarks = _picture(seed=seed), _landmarks(seed)
    expected = face_align.norm_crop(picture, landmarks.astype(np.float32))
    difference = np.abs(align(picture, landmarks).astype(int) - expected)
    # Not equal, since insightface rounds the transform's input to float32.
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 0.001 * difference.size


def test_pixels_are_interpolated_and_black_outside() -> None:
    picture, landmarks = _picture(60, 50), _landmarks(3)
    aligned = align(picture, landmarks, size=64)
    matrix = similarity_transform(landmarks, TEMPLATE * 64 / 112)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    padded = np.pad(picture.astype(float), ((1, 1), (1, 1), (0, 0)))
    outside = 0
    for y in range(64):
        for x in range(64):
            at_x, at_y, _ = inverse @ [x, y, 1.0]
            column, row = int(np.floor(at_x)), int(np.floor(at_y))
            if not (-1 <= column < 50 and -1 <= row < 60):
                outside += 1
                assert not aligned[y, x].any()
                continue
            u, v = at_x - column, at_y - row
            corner = padded[row + 1 : row + 3, column + 1 : column + 3]
            expected = np.tensordot(np.outer([1 - v, v], [1 - u, u]), corner)
            # OpenCV 4 rounds positions to 1/32 pixel: a level inside, up to 8 where the picture ends.
            inside = 0 <= column < 49 and 0 <= row < 59
            assert np.abs(aligned[y, x] - expected).max() <= (2 if inside else 9)
    assert outside > 100


def test_landmarks_come_to_the_template() -> None:
    landmarks = _landmarks(1, jitter=0.0)
    picture = np.zeros((140, 120, 3), np.uint8)
    for x, y in landmarks:
        cv2.circle(picture, (round(x), round(y)), 2, (255, 255, 255), -1)
    aligned = align(picture, landmarks)
    for x, y in TEMPLATE:
        assert aligned[round(y), round(x)].min() > 100


def test_channels_are_treated_alike_and_the_input_is_left_alone() -> None:
    picture, landmarks = _picture(), _landmarks(2)
    before = picture.copy()
    aligned = align(picture, landmarks)
    np.testing.assert_array_equal(
        align(np.ascontiguousarray(picture[..., ::-1]), landmarks)[..., ::-1], aligned
    )
    np.testing.assert_array_equal(picture, before)
    assert (aligned.shape, aligned.dtype) == ((112, 112, 3), np.uint8)


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.full((5, 2), 40.0), "degenerate"),
        (np.full((5, 2), 1e6) + np.arange(10).reshape(5, 2) * 1e-10, "degenerate"),
        (np.where(np.eye(5, 2) > 0, np.nan, TEMPLATE), "not finite"),
        (np.where(np.eye(5, 2) > 0, np.inf, TEMPLATE), "not finite"),
        (TEMPLATE * 1e306, "not finite or beyond 1e9"),
        (
            np.where(np.eye(5, 2) > 0, -1e5, TEMPLATE),
            r"a landmark lies 100000 pixels outside of the image of",
        ),
        (TEMPLATE[:4], "five points"),
        (TEMPLATE.ravel(), "five points"),
    ],
)
def test_bad_landmarks_are_refused(landmarks: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align(_picture(), landmarks)


def test_points_that_only_a_collapse_brings_nearer_are_refused() -> None:
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=float)
    with pytest.raises(ValueError, match="degenerate"):
        similarity_transform(square, square * [-1, 1])


@pytest.mark.parametrize(
    ("image", "size", "message"),
    [
        (np.zeros((9, 9), np.uint8), 112, "uint8 image"),
        (np.zeros((9, 9, 4), np.uint8), 112, "uint8 image"),
        (np.zeros((0, 9, 3), np.uint8), 112, "uint8 image"),
        (np.zeros((9, 9, 3), np.float32), 112, "float32"),
        (np.zeros((9, 9, 3), np.uint8), 0, "at least 1"),
    ],
)
def test_bad_images_and_sizes_are_refused(image: NDArray[np.uint8], size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align(image, TEMPLATE, size)


def test_what_opencv_refuses_is_a_value_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise cv2.error("src.cols < SHRT_MAX")

    monkeypatch.setattr(cv2, "warpAffine", refuse)
    with pytest.raises(ValueError, match=r"120 x 140 .* SHRT_MAX"):
        align(_picture(), TEMPLATE)


@pytest.mark.parametrize(
    ("source", "target"), [(TEMPLATE, TEMPLATE[:4]), (TEMPLATE[:1], TEMPLATE[:1]), (TEMPLATE[:, 0], TEMPLATE)]
)
def test_points_that_do_not_match_are_refused(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match="points"):
        similarity_transform(source, target)

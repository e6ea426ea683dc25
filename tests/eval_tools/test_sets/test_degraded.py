"""Degraded copies of test sets."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.test_sets import VerificationSet, degraded
from eval_tools.test_sets.degraded import _DAMAGES, DegradedImages
from eval_tools.test_sets.images import RGBImage
from tests.eval_tools.test_sets.making import face


def smooth_face(seed: int, side: int = 112) -> RGBImage:
    """Blobs with details, without darkest and brightest pixels."""
    coarse = cv2.resize(face(seed, 6), (side, side), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(face(seed + 1000, 28), (side, side), interpolation=cv2.INTER_NEAREST)
    return np.clip(0.6 * coarse + 0.25 * fine + 20, 0, 255).astype(np.uint8)


FACES = [smooth_face(seed) for seed in range(40)]


def small_set(images: list[RGBImage]) -> VerificationSet:
    return VerificationSet(
        images, np.array([[0, 1], [0, 2]]), np.array([True, False]), notes=("A note.",), folds=2
    )


def test_a_share_is_degraded_and_the_others_are_untouched() -> None:
    test_set = small_set(FACES)
    result = degraded(test_set, 0.4, seed=1)
    images = result.images
    assert isinstance(images, DegradedImages)
    changed = [not np.array_equal(image, original) for image, original in zip(images, FACES, strict=True)]
    assert sum(changed) == 16
    np.testing.assert_array_equal(images.severity > 0, changed)
    assert [bool(kind) for kind in images.kind] == changed
    assert images.severity.max() <= 1
    assert all(image.shape == (112, 112, 3) and image.dtype == np.uint8 for image in images)
    assert result.notes == ("A note.", "16 of 40 images were degraded (seed 1).")
    assert (result.folds, result.names) == (2, test_set.names)
    assert result.pairs is test_set.pairs


def test_originals_stay_as_they_were() -> None:
    originals = [image.copy() for image in FACES]
    list(degraded(small_set(FACES), 1.0).images)
    np.testing.assert_array_equal(FACES, originals)


@settings(deadline=None, max_examples=100)
@given(size=st.integers(3, 500), share=st.floats(0, 1), seed=st.integers(-5, 2**40))
def test_exactly_the_rounded_share(size: int, share: float, seed: int) -> None:
    assert np.count_nonzero(DegradedImages([FACES[0]] * size, share, seed).severity) == round(share * size)


def test_damage_depends_on_seed_and_position_alone() -> None:
    few, many = (DegradedImages(FACES, share, 5) for share in (0.3, 0.9))
    chosen = np.flatnonzero(few.severity)
    assert (many.severity[chosen] == few.severity[chosen]).all()  # a larger share adds images
    for index in reversed(chosen.tolist()):
        np.testing.assert_array_equal(few[index], many[index])
    half = DegradedImages(FACES[:20], 1.0, 5)
    both = np.flatnonzero(many.severity[:20])
    for index in both.tolist():
        np.testing.assert_array_equal(half[index], many[index])
    other_seed = DegradedImages(FACES, 0.3, 6)
    assert np.flatnonzero(other_seed.severity).tolist() != chosen.tolist()
    copy = pickle.loads(pickle.dumps(few))
    np.testing.assert_array_equal(copy[int(chosen[0])], few[int(chosen[0])])


def test_all_kinds_and_severities_occur() -> None:
    images = DegradedImages([FACES[0]] * 2000, 1.0, 0)
    kinds, counts = np.unique(images.kind, return_counts=True)
    assert set(kinds) == set(_DAMAGES)
    assert counts.min() > 0.7 * 2000 / len(_DAMAGES)
    assert np.abs(np.histogram(images.severity, 4, (0, 1))[0] - 500).max() < 100


@pytest.mark.parametrize("kind", _DAMAGES)
def test_damage_grows_with_severity(kind: str) -> None:
    draws = np.array([0.3, 0.6, 0.9])
    for original in FACES[:3]:
        damage = [
            np.abs(_DAMAGES[kind](original, severity, draws).astype(float) - original).mean()
            for severity in (0.01, 0.35, 0.7, 1.0)
        ]
        assert 0.1 < damage[0] < damage[1] < damage[2] < damage[3]
        assert damage[3] > 1.7 * damage[0]


@pytest.mark.parametrize("kind", _DAMAGES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (7, 5), (300, 200)])
@pytest.mark.parametrize("severity", [1e-9, 1.0])
def test_images_of_any_size(kind: str, shape: tuple[int, int], severity: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for draws in (np.zeros(3), np.full(3, 1 - 2.0**-53)):
        result = _DAMAGES[kind](image, severity, draws)
        assert (result.shape, result.dtype) == (image.shape, np.uint8)


def test_blurs_keep_the_brightness() -> None:
    for kind in ("low resolution", "defocus", "motion blur", "noise"):
        result = _DAMAGES[kind](FACES[0], 0.5, np.full(3, 0.4))
        assert abs(result.mean() - FACES[0].mean()) < 3, kind


def test_sets_without_some_images_can_be_degraded_and_the_other_way_round() -> None:
    test_set = VerificationSet(FACES, np.array([[0, 1], [0, 2], [3, 4]]), np.array([True, False, True]))
    whole = degraded(test_set, 1.0)
    left = whole.without_images([3])
    np.testing.assert_array_equal(left.images[4], whole.images[5])
    assert not np.array_equal(left.images[4], FACES[5])
    assert len(degraded(left, 1.0).images) == 39


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan, np.inf])
def test_share_out_of_range(share: float) -> None:
    with pytest.raises(ValueError, match=r"share of degraded images must lie in \[0, 1\], got"):
        degraded(small_set(FACES), share)

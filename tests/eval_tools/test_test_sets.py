"""Test sets: pairs that fit their images, and balanced folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval_tools.test_sets import VerificationSet, balanced_pairs, read_bin_set
from igfiqa_head.io.images import encode_image
from igfiqa_head.io.verification_bin import VerificationBinError, write_verification_bin

IMAGES = np.zeros((3, 4, 4, 3), np.uint8)


def test_pairs_must_fit_the_labels() -> None:
    with pytest.raises(ValueError, match=r"pairs must be \[2, 2\] to fit is_genuine, got \(1, 2\)"):
        VerificationSet(IMAGES, np.array([[0, 1]]), np.array([True, False]))


@pytest.mark.parametrize("pair", [[0, 3], [-1, 0]])
def test_pairs_must_index_the_images(pair: list[int]) -> None:
    with pytest.raises(ValueError, match="pairs must index 3 images"):
        VerificationSet(IMAGES, np.array([pair]), np.array([True]))


def test_bin_file(tmp_path: Path) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    write_verification_bin(tmp_path / "x.bin", [encode_image(face, ".png") for face in faces], [True, False])
    test_set = read_bin_set(tmp_path / "x.bin")
    assert test_set.pairs.tolist() == [[0, 1], [2, 3]]
    assert test_set.is_genuine.tolist() == [True, False]
    assert len(test_set.images) == 4
    np.testing.assert_array_equal(test_set.images[2], faces[2])


def test_damaged_bin_file(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"not a pickle")
    with pytest.raises(VerificationBinError):
        read_bin_set(tmp_path / "x.bin")


def test_balanced_pairs() -> None:
    identities = np.repeat(np.arange(20), 5)
    pairs, same = balanced_pairs(identities, np.random.default_rng(1))
    assert same.sum() == 200  # all 20 * 10 genuine pairs
    assert len(same) == 400
    np.testing.assert_array_equal(identities[pairs[:, 0]] == identities[pairs[:, 1]], same)
    assert len({tuple(sorted(pair)) for pair in pairs.tolist()}) == 400
    assert same.reshape(10, 40).sum(1).tolist() == [20] * 10


def test_balanced_pairs_repeat_with_the_seed() -> None:
    identities = np.repeat(np.arange(6), 4)
    first, second = (balanced_pairs(identities, np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_too_few_images_for_folds() -> None:
    with pytest.raises(ValueError, match="4 images give 2 genuine and 4 impostor pairs, fewer than 10 folds"):
        balanced_pairs(np.array([0, 0, 1, 1]), np.random.default_rng(0))

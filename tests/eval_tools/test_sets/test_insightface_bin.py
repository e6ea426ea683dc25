"""insightface's .bin files as test sets; the format itself is tested with its reader."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from eval_tools.test_sets import read_bin_set
from igfiqa_head.io.images import encode_image
from igfiqa_head.io.verification_bin import VerificationBinError, write_verification_bin
from tests.eval_tools.test_sets.making import DATA, face

FACES = [face(seed) for seed in range(24)]
ENCODED = [encode_image(image, ".png") for image in FACES]
GENUINE = [True, False] * 6


def test_images_pairs_and_folds(tmp_path: Path) -> None:
    write_verification_bin(tmp_path / "x.bin", ENCODED, GENUINE)
    test_set = read_bin_set(tmp_path / "x.bin")
    assert test_set.pairs.tolist() == [[2 * i, 2 * i + 1] for i in range(12)]
    assert test_set.is_genuine.tolist() == GENUINE
    assert (test_set.folds, test_set.identities) == (10, None)
    assert test_set.names[5] == "5"
    assert len(test_set.images) == 24
    for index in (0, 5, -1):
        np.testing.assert_array_equal(test_set.images[index], FACES[index])
    with pytest.raises(IndexError):
        test_set.images[24]
    copy = pickle.loads(pickle.dumps(test_set.images))
    np.testing.assert_array_equal(copy[3], FACES[3])


def test_fewer_pairs_than_folds(tmp_path: Path) -> None:
    write_verification_bin(tmp_path / "x.bin", ENCODED[:4], [True, False])
    assert read_bin_set(tmp_path / "x.bin").folds is None


@pytest.mark.parametrize(
    ("is_genuine", "uniform"),
    [
        ([True, False] * 10, 0),
        ([True] * 10 + [False] * 10, 10),
        ([True] * 3 + [False, True] * 8 + [False], 1),
    ],
)
def test_folds_of_one_kind_are_noted(tmp_path: Path, is_genuine: list[bool], uniform: int) -> None:
    images = [encode_image(face(seed), ".png") for seed in range(40)]
    write_verification_bin(tmp_path / "x.bin", images, is_genuine)
    test_set = read_bin_set(tmp_path / "x.bin")
    assert test_set.folds == 10
    assert len(test_set.notes) == bool(uniform)
    for note in test_set.notes:
        assert note.startswith(
            f"{uniform} of the 10 folds hold pairs of one kind, genuine or impostor: the acc"
        )


class TestRepeatedPairs:
    IMAGES = (*ENCODED, *ENCODED[:2], ENCODED[3], ENCODED[2], ENCODED[0], ENCODED[2])
    FLAGS = (*GENUINE, True, False, True)

    def test_are_counted_as_upstream_does(self, tmp_path: Path) -> None:
        write_verification_bin(tmp_path / "x.bin", self.IMAGES, self.FLAGS)
        test_set = read_bin_set(tmp_path / "x.bin")
        assert len(test_set.pairs) == 15
        assert test_set.notes[0].startswith(
            "2 of 15 pairs repeat an earlier pair byte for byte; they are counted"
        )

    def test_can_be_left_out(self, tmp_path: Path) -> None:
        write_verification_bin(tmp_path / "x.bin", self.IMAGES, self.FLAGS)
        test_set = read_bin_set(tmp_path / "x.bin", on_bad="exclude")
        assert test_set.pairs.tolist() == [*np.arange(24).reshape(12, 2).tolist(), [28, 29]]
        assert test_set.is_genuine.tolist() == [*GENUINE, True]
        assert list(test_set.names) == [str(index) for index in range(30)]  # as precomputed files know them
        np.testing.assert_array_equal(test_set.images[29], FACES[2])
        assert test_set.notes[0] == "2 of 15 pairs repeat an earlier pair byte for byte and were excluded."


class TestErrors:
    def test_damaged_file(self, tmp_path: Path) -> None:
        (tmp_path / "x.bin").write_bytes(b"not a pickle")
        with pytest.raises(VerificationBinError, match=r"x\.bin"):
            read_bin_set(tmp_path / "x.bin")

    def test_truncated_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        write_verification_bin(path, ENCODED, GENUINE)
        content = path.read_bytes()
        for size in range(0, len(content), 97):
            path.write_bytes(content[:size])
            with pytest.raises(VerificationBinError):
                read_bin_set(path)

    def test_code_is_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> object:
                return os.system, (f"touch {tmp_path / 'executed'}",)

        (tmp_path / "x.bin").write_bytes(pickle.dumps(([b"x", Evil()], [True])))
        with pytest.raises(VerificationBinError, match="refused"):
            read_bin_set(tmp_path / "x.bin")
        assert not (tmp_path / "executed").exists()

    def test_damaged_image_is_named_when_it_is_read(self, tmp_path: Path) -> None:
        write_verification_bin(tmp_path / "x.bin", [*ENCODED[:3], ENCODED[3][:40]], [True, False])
        images = read_bin_set(tmp_path / "x.bin").images
        np.testing.assert_array_equal(images[2], FACES[2])
        with pytest.raises(VerificationBinError, match=r"x\.bin: image 3: the image \(40 bytes\)"):
            images[3]

    def test_one_kind_of_pair(self, tmp_path: Path) -> None:
        write_verification_bin(tmp_path / "x.bin", ENCODED[:4], [True, True])
        with pytest.raises(ValueError, match=r"x\.bin: no impostor pair among 2 pairs"):
            read_bin_set(tmp_path / "x.bin")

    def test_unknown_policy(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="on_bad must be .* got 'ignore'"):
            read_bin_set(tmp_path / "x.bin", on_bad="ignore")  # type: ignore[arg-type]


@pytest.mark.skipif(not (DATA / "lfw_dev").is_dir(), reason="the development faces are absent")
def test_lfw_dev() -> None:
    test_set = read_bin_set(DATA / "lfw_dev" / "lfw_dev.bin")
    assert (len(test_set.images), len(test_set.pairs), test_set.is_genuine.sum()) == (1800, 900, 450)
    assert test_set.is_genuine.reshape(test_set.folds, -1).sum(1).tolist() == [45] * 10
    assert test_set.images[1799].shape == (112, 112, 3)

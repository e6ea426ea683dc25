from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from igfiqa_head.io.images import encode_image
from igfiqa_head.registry import DATASETS
from plugins.datasets.image_folder import ImageFolderDataset


def face(seed: int, side: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def write_face(path: Path, seed: int = 0, side: int = 112) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_image(face(seed, side), ".png"))
    return face(seed, side)


def test_identities_and_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    images = {
        name: write_face(tmp_path / name, seed)
        for seed, name in enumerate(["Zoë/b.png", "Zoë/a.png", "Adam/2.PNG", "Adam/10.png", "李娜/图.png"])
    }
    dataset = DATASETS.get("image_folder")(tmp_path)
    assert dataset.classes == ["Adam", "Zoë", "李娜"]
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2]
    assert dataset.labels.dtype == np.int64
    assert dataset.num_classes == 3
    assert len(dataset) == 5
    for index, name in enumerate(["Adam/10.png", "Adam/2.PNG", "Zoë/a.png", "Zoë/b.png", "李娜/图.png"]):
        image, label = dataset[index]
        np.testing.assert_array_equal(image, images[name])
        assert (label, type(label)) == (dataset.labels[index], int)
    assert dataset[-1][1] == 2
    with pytest.raises(IndexError):
        dataset[5]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".webp"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "id").mkdir()
    smooth = cv2.resize(face(0, 4), (112, 112))
    (tmp_path / "id" / f"face{suffix}").write_bytes(cv2.imencode(suffix, smooth[..., ::-1])[1].tobytes())
    image, _ = ImageFolderDataset(tmp_path)[0]
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - smooth).mean() < 4


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    write_face(tmp_path / "id" / "face.png")
    write_face(tmp_path / "id" / ".hidden.png")
    write_face(tmp_path / ".thumbnails" / "face.png")
    (tmp_path / "id" / "notes.txt").touch()
    (tmp_path / "README").touch()
    dataset = ImageFolderDataset(tmp_path)
    assert (dataset.classes, len(dataset)) == (["id"], 1)


def test_pictures_that_are_left_out_are_told(tmp_path: Path) -> None:
    write_face(tmp_path / "id" / "face.jfif")
    write_face(tmp_path / "id" / "older" / "face.png")
    write_face(tmp_path / "overview.png")
    (tmp_path / "id" / "phone.HEIC").touch()
    (tmp_path / "id" / ".DS_Store").touch()
    dataset = ImageFolderDataset(tmp_path)
    assert [os.path.basename(path) for path in dataset.paths] == ["face.jfif"]
    left_out, passed_over = dataset.notes
    assert left_out.startswith("pictures left out: 3: overview.png (it lies beside")
    assert "id/phone.HEIC (HEIC pictures are not read" in left_out
    assert passed_over == "files passed over, hidden or no pictures: 1: id/.DS_Store."
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "phone.HEIC").touch()
    with pytest.raises(ValueError, match=r"other has no images \(.*\): HEIC pictures are not"):
        ImageFolderDataset(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")
def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"Andr\xe9")
    expected = write_face(tmp_path / name / "face.png")
    dataset = ImageFolderDataset(tmp_path)
    assert dataset.classes == [name]
    assert len(dataset.fingerprint) == 64
    np.testing.assert_array_equal(dataset[0][0], expected)


def test_transform_and_pickle(tmp_path: Path) -> None:
    expected = write_face(tmp_path / "id" / "face.png")
    image, _ = ImageFolderDataset(tmp_path, transform=np.fliplr)[0]
    np.testing.assert_array_equal(image, expected[:, ::-1])
    copy = pickle.loads(pickle.dumps(ImageFolderDataset(tmp_path, transform=np.fliplr)))
    np.testing.assert_array_equal(copy[0][0], image)


class TestErrors:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="absent' does not exist or is no folder"):
            ImageFolderDataset(tmp_path / "absent")
        (tmp_path / "face.png").touch()
        with pytest.raises(ValueError, match="has no sub-folders"):
            ImageFolderDataset(tmp_path)
        write_face(tmp_path / "id 1" / "face.png")
        (tmp_path / "id 2").mkdir()
        with pytest.raises(ValueError, match="id 2 has no images"):
            ImageFolderDataset(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"junk", encode_image(face(0))[:-100]])
    def test_unreadable_images(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "id").mkdir()
        (tmp_path / "id" / "face.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=r"face\.jpg: "):
            ImageFolderDataset(tmp_path)[0]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_is_no_image_and_not_waited_for(self, tmp_path: Path) -> None:
        for name in ("1.png", "2.png"):
            write_face(tmp_path / "id" / name)
        dataset = ImageFolderDataset(tmp_path)
        (tmp_path / "id" / "2.png").unlink()
        os.mkfifo(tmp_path / "id" / "2.png")
        with pytest.raises(ValueError, match=r"id/2\.png: it is a pipe, expected a regular file"):
            dataset[1]
        dataset = ImageFolderDataset(tmp_path)
        assert len(dataset) == 1
        assert dataset.notes == ("files passed over, hidden or no pictures: 1: id/2.png.",)

    def test_other_sizes(self, tmp_path: Path) -> None:
        write_face(tmp_path / "id" / "face.png", side=96)
        with pytest.raises(ValueError, match=r"face\.png is 96 x 96, expected 112 x 112"):
            ImageFolderDataset(tmp_path)[0]
        assert ImageFolderDataset(tmp_path, image_size=96)[0][0].shape == (96, 96, 3)
        assert ImageFolderDataset(tmp_path, image_size=None)[0][0].shape == (96, 96, 3)


class TestLinks:
    def test_inside_the_root_are_followed(self, tmp_path: Path) -> None:
        expected = write_face(tmp_path / "set" / "a" / "face.png")
        os.symlink(tmp_path / "set" / "a" / "face.png", tmp_path / "set" / "a" / "linked.png")
        os.symlink("a", tmp_path / "set" / "b")
        os.symlink(tmp_path / "set", tmp_path / "link to the set")
        dataset = ImageFolderDataset(tmp_path / "link to the set")
        assert (dataset.classes, len(dataset)) == (["a", "b"], 4)
        np.testing.assert_array_equal(dataset[3][0], expected)

    @pytest.mark.parametrize("link", ["a/linked.png", "b"])
    def test_that_leave_the_root_or_are_broken_are_refused(self, tmp_path: Path, link: str) -> None:
        root = tmp_path / "set"
        write_face(root / "a" / "face.png")
        outside = [tmp_path / "set2" / "face.png", tmp_path / "set2", root / "absent", root / link]
        write_face(outside[0])
        for target in outside:
            os.symlink(target, root / link)
            with pytest.raises(ValueError, match="is a broken link or leads out of"):
                ImageFolderDataset(root)
            (root / link).unlink()

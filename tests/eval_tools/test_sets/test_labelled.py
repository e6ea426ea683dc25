"""All pairs of RecordIO files and of folders of identities."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from eval_tools.test_sets import read_folder_set, read_record_set
from eval_tools.test_sets.images import RGBImage
from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import RecordWriter, write_records
from igfiqa_head.io.recordio import CorruptRecordError
from tests.eval_tools.test_sets.making import DATA, face, write_face

LABELS = [0, 0, 1, 1, 2]


def write_set(root: Path, labels: list[int] = LABELS) -> list[RGBImage]:
    faces = [face(seed) for seed in range(len(labels))]
    root.mkdir(exist_ok=True)
    write_records(root, [encode_image(image, ".png") for image in faces], labels, image_size=8)
    return faces


class TestRecords:
    @pytest.mark.parametrize("name", ["", "train.rec"])
    def test_all_pairs(self, tmp_path: Path, name: str) -> None:
        faces = write_set(tmp_path)
        test_set = read_record_set(tmp_path / name)
        assert test_set.identities.tolist() == LABELS
        assert test_set.pairs.tolist() == [[a, b] for a in range(5) for b in range(a + 1, 5)]
        assert test_set.is_genuine.nonzero()[0].tolist() == [0, 7]
        assert (list(test_set.names), test_set.folds, test_set.notes) == (["1", "2", "3", "4", "5"], None, ())
        for index, expected in enumerate(faces):
            np.testing.assert_array_equal(test_set.images[index], expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(test_set.images))[2], faces[2])

    def test_records_without_identities(self, tmp_path: Path) -> None:
        with RecordWriter(tmp_path / "x.rec", tmp_path / "x.idx") as writer:
            for key, label in enumerate([4, 4, 7]):
                writer.write(key, label=label, data=encode_image(face(key), ".png"))
        test_set = read_record_set(tmp_path)
        assert list(test_set.names) == ["0", "1", "2"]
        assert test_set.is_genuine.tolist() == [True, False, False]
        assert test_set.notes == ("6 of the labels 0 .. 7 have no image.",)

    def test_sample(self, tmp_path: Path) -> None:
        write_set(tmp_path)
        test_set = read_record_set(tmp_path, max_pairs=6, seed=1)
        assert test_set.is_genuine.sum() == 2
        assert test_set.notes == ("All 2 genuine pairs and a sample (seed 1) of 4 of the 8 impostor pairs.",)

    def test_damaged_image_is_named_when_it_is_read(self, tmp_path: Path) -> None:
        images = [encode_image(face(seed), ".png") for seed in range(3)]
        write_records(tmp_path, [*images[:2], images[2][:40]], [0, 0, 1], image_size=8)
        test_set = read_record_set(tmp_path)
        np.testing.assert_array_equal(test_set.images[1], face(1))
        with pytest.raises(ValueError, match=r"train\.rec, byte \d+: key 3: the image \(40 bytes\)"):
            test_set.images[2]

    def test_damaged_record(self, tmp_path: Path) -> None:
        write_set(tmp_path)
        content = bytearray((tmp_path / "train.rec").read_bytes())
        (tmp_path / "train.rec").write_bytes(content[: len(content) // 8 * 4])
        with pytest.raises(CorruptRecordError):
            read_record_set(tmp_path)

    @pytest.mark.parametrize(("labels", "missing"), [([0, 0], "0 impostor"), ([0, 1], "0 genuine")])
    def test_one_kind_of_pair(self, tmp_path: Path, labels: list[int], missing: str) -> None:
        write_set(tmp_path, labels)
        with pytest.raises(ValueError, match=rf"train\.rec: 2 images of .* identities make .*{missing}"):
            read_record_set(tmp_path)

    def test_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="there is no file or folder"):
            read_record_set(tmp_path / "absent")
        with pytest.raises(ValueError, match=r"must hold one \.rec file, found none"):
            read_record_set(tmp_path)
        for name in ("a.rec", "b.rec"):
            (tmp_path / name).touch()
        with pytest.raises(
            ValueError, match=r"must hold one \.rec file, found a\.rec, b\.rec: name the file"
        ):
            read_record_set(tmp_path)
        with pytest.raises(ValueError, match=r"a\.rec needs its index a\.idx beside it"):
            read_record_set(tmp_path / "a.rec")

    @pytest.mark.skipif(not (DATA / "lfw_dev_test").is_dir(), reason="the development faces are absent")
    def test_lfw_dev_test(self) -> None:
        start = time.perf_counter()
        test_set = read_record_set(DATA / "lfw_dev_test")
        assert time.perf_counter() - start < 1
        assert (len(test_set.images), len(test_set.pairs)) == (912, 415_416)
        assert len(np.unique(test_set.identities)) == 400
        assert test_set.is_genuine.sum() == sum(
            size * (size - 1) // 2 for size in np.bincount(test_set.identities)
        )
        assert test_set.images[911].shape == (112, 112, 3)


class TestFolders:
    NAMES = ("Ann/1.png", "Ann/2.PNG", "Zoë/1.png", "李娜/图.png")

    def write(self, root: Path) -> None:
        for seed, name in enumerate(self.NAMES):
            write_face(root / name, seed)

    def test_all_pairs(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        (tmp_path / "README").touch()
        (tmp_path / "Ann" / "notes.txt").touch()
        write_face(tmp_path / ".thumbnails" / "face.png")
        write_face(tmp_path / "Ann" / ".hidden.png")
        test_set = read_folder_set(tmp_path)
        assert list(test_set.names) == list(self.NAMES)
        assert test_set.identities.tolist() == [0, 0, 1, 2]
        assert test_set.is_genuine.tolist() == [True, False, False, False, False, False]
        for seed in range(4):
            np.testing.assert_array_equal(test_set.images[seed], face(seed))

    def test_identity_without_images(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        (tmp_path / "Bob").mkdir()
        with pytest.raises(ValueError, match=r"Bob has no image \(\.jpg, .*on_bad='exclude'"):
            read_folder_set(tmp_path)
        test_set = read_folder_set(tmp_path, on_bad="exclude")
        assert list(test_set.names) == list(self.NAMES)
        assert test_set.notes[0].startswith("1 identities excluded; the first: Bob has no image")

    @pytest.mark.parametrize("name", ["Ann/3.HEIC", "Ann/4.tiff", "Ann/old/5.png", "sheet.jpg"])
    def test_pictures_are_never_left_out_in_silence(self, tmp_path: Path, name: str) -> None:
        self.write(tmp_path)
        write_face(tmp_path / name, 5)
        with pytest.raises(ValueError, match=f"{name}: .*on_bad='exclude'"):
            read_folder_set(tmp_path)
        test_set = read_folder_set(tmp_path, on_bad="exclude")
        assert list(test_set.names) == list(self.NAMES)
        assert test_set.notes[0].startswith(f"1 pictures excluded; the first: {name}: ")

    def test_all_suffixes_of_jpeg_are_read(self, tmp_path: Path) -> None:
        for name in ("Ann/1.jpe", "Ann/2.JFIF", "Bob/1.jpg", "Bob/2.jpeg"):
            write_face(tmp_path / name, 0)
        assert len(read_folder_set(tmp_path).names) == 4

    def test_sample(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        assert len(read_folder_set(tmp_path, max_pairs=3).pairs) == 3

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="there is no folder"):
            read_folder_set(tmp_path / "absent")
        with pytest.raises(ValueError, match="0 images of 0 identities"):
            read_folder_set(tmp_path)

    @pytest.mark.skipif(os.name != "posix", reason="links")
    def test_links_that_lead_out(self, tmp_path: Path) -> None:
        self.write(tmp_path / "set")
        (tmp_path / "set" / "Dan").symlink_to(tmp_path)
        with pytest.raises(ValueError, match="Dan is a broken link or leads out of"):
            read_folder_set(tmp_path / "set")

    @pytest.mark.skipif(os.name != "posix", reason="links")
    @pytest.mark.parametrize("name", ["A link", "Zoe"])
    def test_a_person_is_not_counted_twice(self, tmp_path: Path, name: str) -> None:
        self.write(tmp_path)
        (tmp_path / name).symlink_to(tmp_path / "Ann")
        with pytest.raises(
            ValueError, match=f"{name} is the folder Ann again, by a link; .*on_bad='exclude'"
        ):
            read_folder_set(tmp_path)
        test_set = read_folder_set(tmp_path, on_bad="exclude")
        assert list(test_set.names) == list(self.NAMES)
        assert test_set.notes[0].startswith(f"1 links to other identities excluded; the first: {name} is")

    @pytest.mark.skipif(os.name != "posix", reason="links")
    def test_identities_may_be_links_to_hidden_folders(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        (tmp_path / ".store").mkdir()
        (tmp_path / "Ann").rename(tmp_path / ".store" / "1")
        (tmp_path / "Ann").symlink_to(tmp_path / ".store" / "1")
        assert list(read_folder_set(tmp_path).names) == list(self.NAMES)

    def test_damaged_image_is_named_when_it_is_read(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        (tmp_path / "Ann" / "2.PNG").write_bytes(b"GIF89a")
        with pytest.raises(ValueError, match=r"2\.PNG: GIF pictures are not read"):
            read_folder_set(tmp_path).images[1]

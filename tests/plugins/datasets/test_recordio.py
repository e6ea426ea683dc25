from __future__ import annotations

import multiprocessing
import operator
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import RecordWriter, write_records
from igfiqa_head.io.recordio import MAGIC_BYTES, CorruptRecordError
from igfiqa_head.registry import DATASETS
from plugins.datasets.recordio import RecordIODataset
from tests.references import recordio as reference

LFW = Path(__file__).resolve().parents[4] / "shared" / "data" / "lfw_dev"
LABELS = [0, 0, 1, 1, 1, 3]
NAMES = ("train.rec", "train.idx", "property")


def face(seed: int, side: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def write_small_set(root: Path, side: int = 112) -> list[np.ndarray]:
    """Six images; one record is in several parts, since bytes after the end of a PNG are ignored."""
    images = [face(seed, side) for seed in range(len(LABELS))]
    encoded = [encode_image(image, ".png") for image in images]
    encoded[3] += b"\0" * (-len(encoded[3]) % 4) + MAGIC_BYTES * 3
    write_records(root, encoded, LABELS, image_size=side)
    return images


def assert_equal_to(dataset: RecordIODataset, images: list[np.ndarray]) -> None:
    assert dataset.labels.tolist() == LABELS
    assert len(dataset) == len(images)
    for index, expected in enumerate(images):
        image, label = dataset[index]
        np.testing.assert_array_equal(image, expected)
        assert label == LABELS[index]


def test_images_and_labels(tmp_path: Path) -> None:
    images = write_small_set(tmp_path)
    dataset = DATASETS.get("recordio")(tmp_path)
    assert_equal_to(dataset, images)
    image, label = dataset[-1]
    np.testing.assert_array_equal(image, images[-1])
    assert (image.dtype, image.shape, label, type(label)) == (np.uint8, (112, 112, 3), 3, int)
    assert dataset.labels.dtype == np.int64
    assert dataset.labels is dataset.labels
    assert dataset.num_classes == 4
    with pytest.raises(IndexError):
        dataset[6]


def test_the_transform_gets_the_image(tmp_path: Path) -> None:
    images = write_small_set(tmp_path)
    flipped, label = RecordIODataset(tmp_path, transform=lambda image: image[:, ::-1])[4]
    np.testing.assert_array_equal(flipped, images[4][:, ::-1])
    assert label == 1


def test_grey_images_have_three_channels(tmp_path: Path) -> None:
    grey = face(0)[..., :1]
    write_records(tmp_path, [cv2.imencode(".png", grey)[1].tobytes()], [0])
    np.testing.assert_array_equal(RecordIODataset(tmp_path)[0][0], np.repeat(grey, 3, axis=2))


def test_images_of_another_size(tmp_path: Path) -> None:
    write_records(tmp_path, [encode_image(face(0)), encode_image(face(0)[:100])], [0, 1])
    with pytest.raises(ValueError, match="image of key 2 is 112 x 100, expected 112 x 112"):
        RecordIODataset(tmp_path)[1]
    assert RecordIODataset(tmp_path, image_size=None)[1][0].shape == (100, 112, 3)


def test_array_labels_give_their_first_value(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
        writer.write(0, 2, encode_image(face(0)))
        writer.write(1, (5, 0.25), encode_image(face(1)))
    dataset = RecordIODataset(tmp_path)
    assert dataset.labels.tolist() == [dataset[0][1], dataset[1][1]] == [2, 5]
    assert dataset.num_classes == 6


class TestProperty:
    @pytest.mark.parametrize(("content", "expected"), [("4,112,112", 4), ("9,112,112\nmore", 9), (None, 4)])
    def test_number_of_classes(self, tmp_path: Path, content: str | None, expected: int) -> None:
        write_small_set(tmp_path)
        (tmp_path / "property").unlink()
        if content is not None:
            (tmp_path / "property").write_text(content)
        assert RecordIODataset(tmp_path).num_classes == expected

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        write_small_set(tmp_path)
        (tmp_path / "property").unlink()
        os.mkfifo(tmp_path / "property")
        with pytest.raises(OSError, match="it is a pipe, expected a regular file"):
            RecordIODataset(tmp_path)

    def test_too_few_classes(self, tmp_path: Path) -> None:
        write_small_set(tmp_path)
        (tmp_path / "property").write_text("3,112,112\n")
        with pytest.raises(ValueError, match=r"announces 3 classes, but the largest label .* is 3"):
            _ = RecordIODataset(tmp_path).num_classes

    @pytest.mark.parametrize(
        "content",
        ["", "4", "4,112", "a,b,c", "0,112,112", "-4,112,112", "4;112;112", "9" * 5000 + ",112,112"],
    )
    def test_damaged(self, tmp_path: Path, content: str) -> None:
        write_small_set(tmp_path)
        (tmp_path / "property").write_text(content)
        with pytest.raises(ValueError, match=r"property must start with 'num_classes,height,width', got b'"):
            RecordIODataset(tmp_path)


class TestErrors:
    def test_missing_files_are_named_beside_those_found(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"has no train\.rec and no train\.idx; found: nothing"):
            RecordIODataset(tmp_path)
        write_small_set(tmp_path)
        (tmp_path / "train.idx").unlink()
        with pytest.raises(ValueError, match=r"has no train\.idx; found: property, train\.rec"):
            RecordIODataset(tmp_path)
        with pytest.raises(ValueError, match="does not exist or is no folder"):
            RecordIODataset(tmp_path / "train.rec")

    @pytest.mark.parametrize("data", [b"", b"junk", encode_image(face(0))[:-200]])
    def test_undecodable_images(self, tmp_path: Path, data: bytes) -> None:
        with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
            writer.write(0, 0, encode_image(face(0)))
            writer.write(1, 0, data)
        dataset = RecordIODataset(tmp_path)
        with pytest.raises(CorruptRecordError, match="key 1: ") as caught:
            dataset[1]
        assert caught.value.offset == dataset.reader.offsets[1]

    def test_labels_that_are_no_classes(self, tmp_path: Path) -> None:
        with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
            writer.write(0, 0.5, encode_image(face(0)))
        with pytest.raises(CorruptRecordError, match=r"label of key 0 is 0\.5"):
            RecordIODataset(tmp_path)[0]


class TestProcesses:
    def test_pickle(self, tmp_path: Path) -> None:
        images = write_small_set(tmp_path)
        dataset = RecordIODataset(tmp_path)
        assert dataset.num_classes == 4
        content = pickle.dumps(dataset)
        assert len(content) < 10_000
        assert_equal_to(pickle.loads(content), images)

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_workers(self, tmp_path: Path, method: str) -> None:
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"{method} is not available")
        images = write_small_set(tmp_path)
        dataset = RecordIODataset(tmp_path)
        with multiprocessing.get_context(method).Pool(2) as pool:
            items = pool.map_async(dataset.__getitem__, range(6), chunksize=1).get(timeout=60)
        for (image, label), expected, expected_label in zip(items, images, LABELS, strict=True):
            np.testing.assert_array_equal(image, expected)
            assert label == expected_label


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], list[np.ndarray]]:
    root = tmp_path_factory.mktemp("fuzz")
    images = write_small_set(root, side=8)
    return root, {name: (root / name).read_bytes() for name in NAMES}, images


class TestFuzz:
    """Damage is either harmless, all images and labels being as they were, or it is one clear error."""

    @staticmethod
    def read_damaged(sound: Any, name: str, damage: Callable[[bytes], bytes]) -> RecordIODataset | None:
        """The data set, every item of which can be read, or None after the one kind of error."""
        root, contents, _ = sound
        for each, content in contents.items():
            (root / each).write_bytes(damage(content) if each == name else content)
        try:
            dataset = RecordIODataset(root, image_size=8)
            assert dataset.num_classes > int(dataset.labels.max())
            for index in range(len(dataset)):
                image, label = dataset[index]
                assert image.shape == (8, 8, 3)
                assert label == dataset.labels[index]
        except ValueError as error:
            assert type(error) in (CorruptRecordError, ValueError)  # noqa: PT017 - no error is fine too
            assert str(root) in str(error)  # noqa: PT017
            return None
        return dataset

    @pytest.mark.parametrize("name", ["train.rec", "train.idx"])
    def test_truncation(self, sound: Any, name: str) -> None:
        full_size = len(sound[1][name])
        outcomes = set()
        for size in {*range(0, full_size, 11), *range(full_size - 44, full_size)}:
            dataset = self.read_damaged(sound, name, operator.itemgetter(slice(size)))
            if dataset is not None:
                assert_equal_to(dataset, sound[2])
            outcomes.add(dataset is None)
        assert outcomes == {True, False}  # the last identities can be cut off without harm

    @settings(deadline=None, max_examples=300)
    @given(data=st.data())
    def test_a_changed_byte_of_the_index(self, sound: Any, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(sound[1]["train.idx"]) - 1))
        value = data.draw(st.integers(0, 255) | st.sampled_from(b"0123456789\t\n"))
        dataset = self.read_damaged(sound, "train.idx", lambda content: replaced(content, position, value))
        if dataset is not None:
            assert_equal_to(dataset, sound[2])

    @settings(deadline=None, max_examples=400)
    @given(data=st.data())
    def test_a_changed_byte_of_the_records(self, sound: Any, data: st.DataObject) -> None:
        content = sound[1]["train.rec"]
        structure = structural_bytes(content)
        anywhere = st.integers(0, len(content) - 1)
        position = data.draw(st.sampled_from(structure) | anywhere)
        value = data.draw(st.integers(0, 255))
        dataset = self.read_damaged(sound, "train.rec", lambda content: replaced(content, position, value))
        if dataset is not None and position in structure:
            assert_equal_to(dataset, sound[2])


def replaced(content: bytes, position: int, value: int) -> bytes:
    return content[:position] + bytes([value]) + content[position + 1 :]


def structural_bytes(rec: bytes) -> list[int]:
    """Places of all part headers, flags and ids, and of record 0; not of labels and images."""
    places: list[int] = []
    position = 0
    for number, payload in enumerate(reference.read_file(rec)):
        size = len(reference.write_record(payload))
        header = range(position, position + 32)
        places += range(position, position + size) if number == 0 else {*header} - {*header[12:16]}
        later = rec.find(MAGIC_BYTES, position + 4, position + size)
        while later >= 0:
            places += range(later, later + 8)
            later = rec.find(MAGIC_BYTES, later + 4, position + size)
        position += size
    return places


@pytest.mark.skipif(not LFW.is_dir(), reason="the development faces are absent")
def test_lfw_dev() -> None:
    dataset = RecordIODataset(LFW)
    assert (len(dataset), dataset.num_classes) == (3957, 300)
    assert np.array_equal(np.unique(dataset.labels), np.arange(300))
    for index in range(0, 3957, 100):
        image, label = dataset[index]
        assert image.shape == (112, 112, 3)
        assert label == dataset.labels[index]

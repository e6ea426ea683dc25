from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igfiqa_head.io.record_index import read_index
from igfiqa_head.io.record_writer import RecordWriter, write_records
from igfiqa_head.io.recordio import MAGIC, MAGIC_BYTES, CorruptRecordError, RecordReader
from tests.references import recordio as reference

LFW = Path(__file__).resolve().parents[3] / "shared" / "data" / "lfw_dev"

# Made of magic numbers, halves of them and other bytes, so that they fall on and off multiples of four.
payloads = st.lists(
    st.sampled_from([MAGIC_BYTES, MAGIC_BYTES[:2], MAGIC_BYTES[2:], b"\0", b"image"]), max_size=12
).map(b"".join)
float32s = st.floats(width=32, allow_nan=False)
labels_of_a_record = float32s | st.lists(float32s, min_size=1, max_size=5).map(tuple)
record_lists = st.lists(
    st.tuples(st.integers(0, 5) | st.just(MAGIC), labels_of_a_record, payloads),
    min_size=1,
    max_size=6,
    unique_by=lambda record: record[0],
).map(sorted)


def write_pair(folder: Path, rec: bytes, idx: bytes) -> tuple[Path, Path]:
    paths = folder / "train.rec", folder / "train.idx"
    for path, content in zip(paths, (rec, idx), strict=True):
        path.write_bytes(content)
    return paths


def open_pair(folder: Path, rec: bytes, idx: bytes) -> RecordReader:
    return RecordReader(*write_pair(folder, rec, idx))


def open_payloads(folder: Path, *payloads: bytes) -> RecordReader:
    return open_pair(folder, *reference.write_file(list(enumerate(payloads))))


@settings(deadline=None, max_examples=80)
@given(records=record_lists)
def test_writer_and_reader_agree_with_the_reference(
    records: list, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("agree")
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        for key, label, data in records:
            writer.write(key, label, data)
    packed = [(key, reference.pack_payload(label, data, key)) for key, label, data in records]
    rec, idx = reference.write_file(packed)
    assert (folder / "train.rec").read_bytes() == rec
    assert (folder / "train.idx").read_bytes() == idx
    assert reference.read_file(rec) == [payload for _, payload in packed]

    reader = RecordReader(folder / "train.rec", folder / "train.idx")
    assert reader.keys.tolist() == [key for key, _, _ in records]
    for key, label, data in records:
        record = reader.read(key)
        assert record.data == data
        assert record.flag == (len(label) if isinstance(label, tuple) else 0)
        np.testing.assert_array_equal(record.labels, np.atleast_1d(np.float32(label)))
        assert (record.id, record.id2) == (key, 0)
        assert reader.read_image(reader.offsets_of(key).item()) == (record.labels[0], data)


def test_a_payload_of_magic_numbers_only(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
        writer.write(MAGIC, 3, MAGIC_BYTES * 1000)
        writer.write(MAGIC + 1, 4, b"x" + MAGIC_BYTES * 1000)
    reader = RecordReader(tmp_path / "train.rec", tmp_path / "train.idx")
    assert reader.read(MAGIC).data == MAGIC_BYTES * 1000
    assert reader.read(MAGIC + 1).data == b"x" + MAGIC_BYTES * 1000
    # In the first record the id is a magic number too; in the second none is aligned.
    assert (tmp_path / "train.rec").stat().st_size == (8 * 1002 + 20) + (8 + 24 + 4004)
    assert reader.read_labels(reader.keys).tolist() == [3, 4]


def test_a_record_of_countless_parts_is_refused(tmp_path: Path) -> None:
    parts = b"".join(struct.pack("<II", MAGIC, kind << 29) for kind in [1] + [2] * 10_000 + [3])
    reader = open_pair(tmp_path, parts, b"0\t0\n")
    with pytest.raises(CorruptRecordError, match="byte 0: the record has more than 10000 parts"):
        reader.read(0)


def test_an_index_far_larger_than_its_records_is_not_read(tmp_path: Path) -> None:
    rec, _ = reference.write_file([(0, reference.pack_payload(5.0, b"five", 0))])
    write_pair(tmp_path, rec, b"")
    os.truncate(tmp_path / "train.idx", 2**40)  # without a byte on the disk
    with pytest.raises(CorruptRecordError, match=r"1099511627776 bytes are no index of the \d+ bytes of"):
        RecordReader(tmp_path / "train.rec", tmp_path / "train.idx")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["train.rec", "train.idx"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    open_pair(tmp_path, *reference.write_file([(0, reference.pack_payload(5.0, b"five", 0))]))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="it is a pipe, expected a regular file"):
        RecordReader(tmp_path / "train.rec", tmp_path / "train.idx")


def test_index_in_any_order_and_with_windows_line_ends(tmp_path: Path) -> None:
    first, second = reference.pack_payload(5.0, b"five", 0), reference.pack_payload(6.0, b"six", 1)
    rec, idx = reference.write_file([(0, first), (1, second)])
    shuffled = b"\r\n".join(reversed(idx.splitlines())) + b"\r\n"
    reader = open_pair(tmp_path, rec, shuffled)
    assert reader.keys.tolist() == [0, 1]
    assert (reader.read(0).data, reader.read(1).data) == (b"five", b"six")


def test_labels_equal_those_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("igfiqa_head.io.recordio._CHUNK", 7)
    rng = np.random.default_rng(0)
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
        for key in range(40):
            label = float(rng.integers(0, 2**24))
            data = MAGIC_BYTES * int(rng.integers(0, 3)) + bytes(int(rng.integers(0, 9)))
            writer.write(key, (label, 0.5) if rng.random() < 0.5 else label, data)
    reader = RecordReader(tmp_path / "train.rec", tmp_path / "train.idx")
    keys = rng.permutation(40)
    expected = [reader.read(int(key)).labels[0] for key in keys]
    labels = reader.read_labels(keys)
    assert labels.dtype == np.int64
    assert labels.tolist() == expected


class TestLayout:
    """Which keys are images."""

    def test_record_0_holds_the_ranges(self, tmp_path: Path) -> None:
        write_records(tmp_path, [b"a", b"b", b"c"], [0, 0, 4], image_size=16)
        reader = RecordReader(tmp_path / "train.rec", tmp_path / "train.idx")
        assert reader.image_keys().tolist() == [1, 2, 3]
        assert reader.read_labels(reader.image_keys()).tolist() == [0, 0, 4]
        assert [reader.read(key).labels.tolist() for key in (0, 4, 5)] == [[4, 6], [1, 3], [3, 4]]
        assert (tmp_path / "property").read_text() == "5,16,16\n"

    def test_keys_from_b_on_are_ignored(self, tmp_path: Path) -> None:
        packed: list[Any] = [((2.0, 2.0), b""), (7.0, b"image"), (8.0, b"ignored")]
        reader = open_payloads(tmp_path, *(reference.pack_payload(label, data, 0) for label, data in packed))
        with pytest.warns(UserWarning, match="1 images with keys from 2 on are left out"):
            assert reader.image_keys().tolist() == [1]

    @pytest.mark.parametrize("labels", [(5.0,), (2.0, 2.0), (3.0, 9.0), (0.0, 1.0, 2.0, 3.0, 4.0)])
    def test_a_record_0_with_an_image_is_no_header(self, tmp_path: Path, labels: tuple[float, ...]) -> None:
        """As MXNet's im2rec writes with --pack-label."""
        packed = [(labels, b"image"), ((2.0, 7.0), b"another"), ((4.0,), b"third")]
        reader = open_payloads(tmp_path, *(reference.pack_payload(label, data, 0) for label, data in packed))
        assert reader.image_keys().tolist() == [0, 1, 2]
        assert reader.read_labels(reader.image_keys()).tolist() == [labels[0], 2, 4]

    def test_a_record_0_in_several_parts_is_no_header(self, tmp_path: Path) -> None:
        with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
            writer.write(0, (2, 2), MAGIC_BYTES * 3)
            writer.write(1, (1,), MAGIC_BYTES * 3)
        assert RecordReader(tmp_path / "train.rec", tmp_path / "train.idx").image_keys().tolist() == [0, 1]

    @pytest.mark.parametrize("b", [1.0, 2.5, -1.0, float("nan"), float("inf")])
    def test_a_range_that_ends_before_it_starts_or_within_a_key(self, tmp_path: Path, b: float) -> None:
        images = [reference.pack_payload(0.0, b"image", key) for key in (1, 2, 3)]
        reader = open_payloads(tmp_path, reference.pack_payload((4.0, b), b"", 0), *images)
        with pytest.raises(CorruptRecordError, match=rf"record 0 holds \[4.0, {b}\] and no image"):
            reader.image_keys()

    def test_an_identity_with_an_image(self, tmp_path: Path) -> None:
        images = [reference.pack_payload(0.0, b"image", key) for key in (1, 2)]
        others = [reference.pack_payload((1.0, 3.0), b"", 3), reference.pack_payload((5.0,), b"image", 4)]
        header = reference.pack_payload((3.0, 5.0), b"", 0)
        with pytest.raises(CorruptRecordError, match="end elsewhere: key 4 is one too"):
            open_payloads(tmp_path, header, *images, *others).image_keys()

    def test_without_ranges_every_key_is_an_image(self, tmp_path: Path) -> None:
        packed: list[Any] = [(3.0, b"x"), (4.0, b"y"), ((5.0, 0.25), b"z")]
        reader = open_payloads(tmp_path, *(reference.pack_payload(label, data, 0) for label, data in packed))
        assert reader.image_keys().tolist() == [0, 1, 2]
        assert reader.read_labels(reader.image_keys()).tolist() == [3, 4, 5]

    @pytest.mark.parametrize("true_end", [2**24 + 1, 2**24 + 2, 2**24 + 3])
    def test_a_count_that_float32_rounds_is_looked_up(self, tmp_path: Path, true_end: int) -> None:
        rounded = float(np.float32(true_end))
        keys = range(2**24 - 2, 2**24 + 6)
        records = [(0, reference.pack_payload((rounded, rounded + 100), b"", 0))]
        records += [(key, reference.pack_payload(1.0, b"x" * (key < true_end), key)) for key in keys]
        records = [
            (key, payload if key < true_end else reference.pack_payload((1.0, 2.0), b"", key))
            for key, payload in records
        ]
        reader = open_pair(tmp_path, *reference.write_file(records))
        with pytest.raises(CorruptRecordError, match=rf"keys 1 \.\. {true_end - 1}, but key 1 is missing"):
            reader.image_keys()

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, 1.0, 2.5, 1e30])
    def test_impossible_counts(self, tmp_path: Path, value: float) -> None:
        reader = open_payloads(tmp_path, reference.pack_payload((value, 3.0), b"", 0))
        with pytest.raises(CorruptRecordError, match="record 0 holds"):
            reader.image_keys()

    @pytest.mark.parametrize(
        ("end", "message"), [(3.0, "end elsewhere"), (5.0, "end elsewhere"), (9.0, "key 6")]
    )
    def test_a_wrong_count_is_noticed(self, tmp_path: Path, end: float, message: str) -> None:
        images = [reference.pack_payload(0.0, b"image", key) for key in (1, 2, 3)]
        identities = [reference.pack_payload((1.0, 4.0), b"", key) for key in (4, 5)]
        header = reference.pack_payload((end, 12.0), b"", 0)
        with pytest.raises(CorruptRecordError, match=message):
            open_payloads(tmp_path, header, *images, *identities).image_keys()

    def test_missing_images_and_missing_record_0(self, tmp_path: Path) -> None:
        write_records(tmp_path, [b"a", b"b", b"c"], [0, 1, 2])
        rec, lines = (
            (tmp_path / "train.rec").read_bytes(),
            (tmp_path / "train.idx").read_bytes().splitlines(True),
        )
        with pytest.raises(CorruptRecordError, match="key 2 is missing"):
            open_pair(tmp_path, rec, b"".join(lines[:2] + lines[3:])).image_keys()
        with pytest.raises(CorruptRecordError, match="the first is 1"):
            open_pair(tmp_path, rec, b"".join(lines[1:])).image_keys()


class TestDamage:
    """Each kind of damage has its own message."""

    @pytest.mark.parametrize(
        ("idx", "message"),
        [
            (b"", "the index is empty"),
            (b"0", "line 1"),
            (b"0\t0\n1\t4", "line 2"),
            (b"0\t0\n1", "line 2"),
            (b"0\t0\n1\n", "line 2"),
            (b"0\t0\n\n", "line 2"),
            (b"0\t0\t0\n", "line 1"),
            (b"0 0\n", "line 1"),
            (b"0\t0\none\t4\n", "line 2"),
            (b"0\t-4\n", "line 1"),
            (b"0\t1.0\n", "line 1"),
            (b"0\t9999999999999999999\n", "line 1"),
            (b"\xff\xfe", "line 1"),
            (b"0\t0\n0\t4\n", "key 0 occurs more than once"),
            (b"0\t0\n2\t4\n1\t8\n2\t12\n", "key 2 occurs more than once"),
            (b"0\t0\n1\t8\n2\t4\n3\t8\n", "offset 8 occurs more than once"),
        ],
    )
    def test_index(self, tmp_path: Path, idx: bytes, message: str) -> None:
        (tmp_path / "train.idx").write_bytes(idx)
        with pytest.raises(CorruptRecordError, match=message):
            read_index(tmp_path / "train.idx")

    @pytest.mark.parametrize("offset", [2, 40, 44, 10**12])
    def test_offsets_must_be_places_in_the_file(self, tmp_path: Path, offset: int) -> None:
        rec, _ = reference.write_file([(0, reference.pack_payload(0.0, b"12345678", 0))])
        assert len(rec) == 40
        with pytest.raises(
            CorruptRecordError, match=f"key 0 points to byte {offset} of train.rec \\(40 bytes\\)"
        ):
            open_pair(tmp_path, rec, f"0\t{offset}\n".encode())

    @pytest.mark.parametrize("size", [0, 38])
    def test_size_of_the_file(self, tmp_path: Path, size: int) -> None:
        with pytest.raises(CorruptRecordError, match="empty or truncated"):
            open_pair(tmp_path, bytes(size), b"0\t0\n")

    @pytest.mark.parametrize(
        ("rec", "message"),
        [
            (b"\0" * 40, "magic number 0x00000000 instead of 0xced7230a"),
            (reference.write_part(0, b"x" * 23), "23 bytes, fewer than the 24 of its header"),
            (reference.write_part(2, b"x" * 24), "continues a record"),
            (reference.write_part(3, b"x" * 24), "continues a record"),
            (reference.write_part(5, b"x" * 24), "cflag 5"),
            (reference.write_part(1, b"x" * 23), "cflag 1 with length 23"),
            (reference.write_part(1, b"x" * 24), "ends within a record"),
            (reference.write_part(1, b"x" * 24) + reference.write_part(0, b""), "starts a record"),
            (reference.write_part(1, b"x" * 24) + reference.write_part(1, b""), "starts a record"),
            (reference.write_part(0, b"x" * 24)[:-4], "does not fit"),
            (reference.write_part(0, b"x" * 24) + b"junk", "not followed by another one"),
            (reference.write_part(0, struct.pack("<IfQQ", 2, 0, 0, 0) + b"1234"), "announces 2 labels"),
        ],
    )
    def test_records(self, tmp_path: Path, rec: bytes, message: str) -> None:
        reader = open_pair(tmp_path, rec, b"0\t0\n")
        with pytest.raises(CorruptRecordError, match=message) as caught:
            reader.read(0)
        assert caught.value.path == tmp_path / "train.rec"
        assert caught.value.offset is not None
        with pytest.raises(CorruptRecordError, match=message):
            reader.read_image(0)
        if "another one" not in message:
            with pytest.raises(CorruptRecordError, match=message):
                reader.read_labels(reader.keys)

    @pytest.mark.parametrize("label", [-1.0, 0.5, 2.0**24, float("nan"), float("inf"), -float("inf")])
    def test_labels_that_are_no_classes(self, tmp_path: Path, label: float) -> None:
        good, bad = reference.pack_payload(0.0, b"image", 0), reference.pack_payload(label, b"image", 1)
        reader = open_payloads(tmp_path, good, bad)
        with pytest.raises(
            CorruptRecordError, match=r"label of key 1 is .*, expected an integer in \[0, 16777216\)"
        ):
            reader.read_labels(reader.keys)
        with pytest.raises(CorruptRecordError, match="label of key 1"):
            reader.class_label(1, label)

    def test_absent_keys(self, tmp_path: Path) -> None:
        reader = open_payloads(tmp_path, reference.pack_payload(0.0, b"image", 0))
        for key in (-1, 1, 10**9):
            with pytest.raises(ValueError, match=f"has no key {key}"):
                reader.read(key)
        with pytest.raises(ValueError, match="has no key 7"):
            reader.read_labels(np.array([0, 7]))

    def test_the_error_survives_a_process_boundary(self) -> None:
        error = CorruptRecordError("train.rec", 40, "no record starts here")
        copy = pickle.loads(pickle.dumps(error))
        assert str(copy) == str(error) == "train.rec, byte 40: no record starts here"
        assert (copy.path, copy.offset) == ("train.rec", 40)
        assert str(CorruptRecordError(str(error))) == str(error)


class TestProcesses:
    @pytest.fixture
    def reader(self, tmp_path: Path) -> RecordReader:
        write_records(tmp_path, [bytes([key]) * 99 for key in range(20)], np.arange(20))
        return RecordReader(tmp_path / "train.rec", tmp_path / "train.idx")

    def test_pickle_carries_no_records(self, reader: RecordReader) -> None:
        content = pickle.dumps(reader)
        assert len(content) < reader.rec_path.stat().st_size
        copy = pickle.loads(content)
        assert copy.read(7).data == reader.read(7).data
        np.testing.assert_array_equal(copy.keys, reader.keys)

    def test_a_changed_file_is_noticed(self, reader: RecordReader) -> None:
        content = pickle.dumps(reader)
        with open(reader.rec_path, "ab") as file:
            file.write(bytes(4))
        with pytest.raises(CorruptRecordError, match="changed since it was opened"):
            pickle.loads(content)

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_several_processes_read_at_once(self, reader: RecordReader, method: str) -> None:
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"{method} is not available")
        with multiprocessing.get_context(method).Pool(2) as pool:
            records = pool.map_async(reader.read, range(1, 21), chunksize=3).get(timeout=60)
        assert [record.data for record in records] == [bytes([key]) * 99 for key in range(20)]


class TestWriter:
    def test_nothing_appears_if_the_block_fails(self, tmp_path: Path) -> None:
        def fail() -> None:
            with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
                writer.write(0, 1, b"image")
                writer.write(0, 1, b"image")

        with pytest.raises(ValueError, match="keys must ascend from 0: got 0 after 0"):
            fail()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("label", [2**24 + 1, float("nan"), 0.1, [], [[1.0]]])
    def test_labels_that_float32_cannot_hold(self, tmp_path: Path, label: Any) -> None:
        with (
            RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer,
            pytest.raises(ValueError, match="exact in float32"),
        ):
            writer.write(0, label, b"image")

    def test_records_are_limited_to_29_bits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("igfiqa_head.io.record_writer.LENGTH_MASK", 30)
        with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
            writer.write(0, 1, b"123456")
            with pytest.raises(ValueError, match="at most 30 bytes, got 31"):
                writer.write(1, 1, b"1234567")

    @pytest.mark.parametrize(
        ("count", "labels", "message"),
        [
            (0, [], "one or more integers"),
            (2, [0, -1], "from 0"),
            (2, [0.0, 1.0], "float64"),
            (2, [[0, 1]], r"\[1, 2\]"),
            (3, [0, 1, 0], "side by side"),
            (3, [0, 1], "more images than the 2 labels"),
            (1, [0, 1], "1 images for 2 labels"),
        ],
    )
    def test_sets_that_do_not_fit_together(
        self, tmp_path: Path, count: int, labels: list, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            write_records(tmp_path, (b"image" for _ in range(count)), labels)
        assert list(tmp_path.iterdir()) == []

    def test_sets_that_record_0_cannot_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("igfiqa_head.io.record_writer.EXACT_IN_FLOAT32", 5)
        write_records(tmp_path, [b"image"] * 3, [0, 0, 0])
        with pytest.raises(ValueError, match="got 4 images"):
            write_records(tmp_path, [b"image"] * 4, [0, 0, 0, 0])


@pytest.mark.skipif(not LFW.is_dir(), reason="the development faces are absent")
def test_mxnets_own_files(tmp_path: Path) -> None:
    """lfw_dev was written by mxnet: read it, compare with the reference, and write the same bytes again."""
    reader = RecordReader(LFW / "train.rec", LFW / "train.idx")
    payloads = reference.read_file((LFW / "train.rec").read_bytes())
    assert len(payloads) == len(reader) == 1 + 3957 + 300
    keys = reader.image_keys()
    assert keys.tolist() == list(range(1, 3958))
    images = [reader.read(int(key)).data for key in keys]
    assert images == [payload[24:] for payload in payloads[1:3958]]
    labels = reader.read_labels(keys)
    assert labels.tolist() == [struct.unpack_from("<f", payload, 4)[0] for payload in payloads[1:3958]]
    write_records(tmp_path, images, labels)
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / name).read_bytes() == (LFW / name).read_bytes(), name

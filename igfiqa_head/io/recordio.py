"""MXNet RecordIO (``.rec`` + ``.idx``), the format of insightface's training sets, without mxnet.

insightface's layout: record 0 holds two labels [a, b); keys 1 .. a-1 are images and keys a .. b-1 are
identities, whose labels are their own range of image keys. A record 0 with an image of its own is no such
header, however many labels it has (MXNet's im2rec writes several with --pack-label): then every key is an
image.
"""

from __future__ import annotations

import mmap
import os
import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.io.record_format import (
    EXACT_IN_FLOAT32,
    FIRST,
    HEADER,
    LAST,
    LENGTH_BITS,
    LENGTH_MASK,
    MAGIC,
    MAGIC_BYTES,
    MIDDLE,
    PART,
    WHOLE,
    Record,
)
from igfiqa_head.io.record_index import CorruptRecordError, read_index
from igfiqa_head.io.regular_files import regular

_START = struct.Struct("<IIIf")  # of a part and of the header within it, up to the label
_FIRST_LABEL = struct.Struct("<f")
_MAX_PARTS = 10_000  # of one record: there is one for each magic number that its image holds
_CHUNK = 2**18  # records whose labels are gathered at a time


class RecordReader:
    """Random access to the records of a memory-mapped ``.rec`` file.

    It can be pickled and survives a fork: the mapping is read-only and opened anew after unpickling.

    Args:
        rec_path: the records.
        idx_path: lines ``key TAB offset``.

    Attributes:
        keys: int64 [R], ascending.
        offsets: int64 [R], where the record of each key starts.

    Raises:
        CorruptRecordError: an empty or damaged index, duplicate keys or offsets, offsets outside the file.
    """

    def __init__(self, rec_path: str | os.PathLike[str], idx_path: str | os.PathLike[str]) -> None:
        self.rec_path = Path(rec_path)
        self.idx_path = Path(idx_path)
        self._size = self.rec_path.stat().st_size
        self._map_file()
        self._check_index_size()
        self.keys, self.offsets = read_index(idx_path)
        misplaced = (self.offsets % 4 != 0) | (self.offsets > self._size - PART.size)
        if misplaced.any():
            key, offset = self.keys[misplaced][0], self.offsets[misplaced][0]
            why = (
                f"key {key} points to byte {offset} of {self.rec_path.name} ({self._size} bytes), expected a "
                "multiple of 4 within the file: is it truncated, or the index another file's?"
            )
            raise CorruptRecordError(self.idx_path, why=why)

    def _check_index_size(self) -> None:
        """Raise before an index is read that is none: a record takes 32 bytes, its line 38 at most."""
        size = self.idx_path.stat().st_size
        if size > 2 * self._size:
            why = f"{size} bytes are no index of the {self._size} bytes of {self.rec_path.name}"
            raise CorruptRecordError(self.idx_path, why=why)

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_bytes", "_words")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map_file()

    def _map_file(self) -> None:
        with open(self.rec_path, "rb", opener=regular) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0 or size % 4 != 0:
                why = f"{size} bytes, not a positive multiple of 4: empty or truncated"
                raise CorruptRecordError(self.rec_path, size, why)
            if size != self._size:
                why = f"the file changed since it was opened: {self._size} bytes then, {size} now"
                raise CorruptRecordError(self.rec_path, None, why)
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._words = np.frombuffer(self._bytes, "<u4")

    def offsets_of(self, keys: ArrayLike) -> NDArray[np.int64]:
        """Where the records of ``keys`` start.

        Raises:
            ValueError: there is no such key.
        """
        wanted = np.asarray(keys, np.int64)
        positions = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        absent = self.keys[positions] != wanted
        if absent.any():
            raise ValueError(f"{self.idx_path} has no key {wanted[absent].flat[0]}")
        return self.offsets[positions]

    def read(self, key: int) -> Record:
        """The record stored under ``key``.

        Raises:
            ValueError: there is no such key.
            CorruptRecordError: the record is damaged.
        """
        return self._record(int(self.offsets_of(key)))

    def _record(self, offset: int) -> Record:
        payload = self._read_payload(offset)
        if len(payload) < HEADER.size:
            why = f"the record has {len(payload)} bytes, fewer than the {HEADER.size} of its header"
            raise CorruptRecordError(self.rec_path, offset, why)
        flag, label, identifier, identifier2 = HEADER.unpack_from(payload)
        start = HEADER.size + 4 * flag
        if len(payload) < start:
            why = f"the header announces {flag} labels, the record has only {len(payload)} bytes"
            raise CorruptRecordError(self.rec_path, offset, why)
        labels = np.frombuffer(payload, "<f4", flag, HEADER.size) if flag else np.array([label], np.float32)
        return Record(flag, labels, payload[start:], identifier, identifier2)

    def read_image(self, offset: int) -> tuple[float, bytes]:
        """(first label, encoded image) of the record at ``offset``, one of ``offsets``.

        Ten times as fast as :meth:`read`, which would cost a tenth of the decoding of a face.

        Raises:
            CorruptRecordError: the record is damaged.
        """
        payload = offset + PART.size
        if payload + HEADER.size <= self._size:
            magic, length, flag, label = _START.unpack_from(self._bytes, offset)
            labels, end = payload + HEADER.size, payload + length
            start = labels + 4 * flag
            if magic == MAGIC and length <= LENGTH_MASK and start <= end and self._record_ends(end):
                if flag:
                    (label,) = _FIRST_LABEL.unpack_from(self._bytes, labels)
                return label, self._bytes[start:end]
        record = self._record(offset)  # it is in several parts, or damaged
        return float(record.labels[0]), record.data

    def _record_ends(self, end: int) -> bool:
        """Whether another record, or the end of the file, follows byte ``end``."""
        following = end + -end % 4
        return following == self._size or self._bytes[following : following + 4] == MAGIC_BYTES

    def _read_payload(self, offset: int) -> bytes:
        """Join the parts of the record at ``offset``."""
        parts: list[bytes] = []
        position = offset
        cflag = FIRST
        while cflag in (FIRST, MIDDLE) and len(parts) < _MAX_PARTS:
            cflag, start, end = self._read_part_header(position)
            if (cflag in (MIDDLE, LAST)) != bool(parts):
                kind = "continues a record" if cflag in (MIDDLE, LAST) else "starts a record"
                why = f"wrong part order: a part that {kind} (cflag {cflag}) after {len(parts)} parts"
                raise CorruptRecordError(self.rec_path, position, why)
            parts.append(self._bytes[start:end])
            position = end + -end % 4
        if cflag in (FIRST, MIDDLE):
            raise CorruptRecordError(self.rec_path, offset, f"the record has more than {_MAX_PARTS} parts")
        if position < self._size and self._words[position // 4] != MAGIC:
            why = f"the record at byte {offset} is not followed by another one: its length is damaged"
            raise CorruptRecordError(self.rec_path, position, why)
        return MAGIC_BYTES.join(parts)

    def _read_part_header(self, position: int) -> tuple[int, int, int]:
        """(cflag, start, end) of the part at ``position``."""
        start = position + PART.size
        if start > self._size:
            raise CorruptRecordError(self.rec_path, position, "the file ends within a record: truncated")
        magic, cflag_and_length = PART.unpack_from(self._bytes, position)
        if magic != MAGIC:
            why = f"no record starts here: magic number {magic:#010x} instead of {MAGIC:#010x}"
            raise CorruptRecordError(self.rec_path, position, why)
        cflag, length = cflag_and_length >> LENGTH_BITS, cflag_and_length & LENGTH_MASK
        if cflag > LAST or (cflag in (FIRST, MIDDLE) and length % 4 != 0):
            raise CorruptRecordError(self.rec_path, position, f"cflag {cflag} with length {length}")
        if start + length > self._size:
            why = f"a part of {length} bytes does not fit in the file of {self._size} bytes: truncated"
            raise CorruptRecordError(self.rec_path, position, why)
        return cflag, start, start + length

    def read_labels(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class labels (the first of each record's labels) of ``keys`` [N], as int64 [N].

        Raises:
            ValueError: a key is absent.
            CorruptRecordError: a record is damaged, or a label is no integer in [0, 2**24).
        """
        offsets = self.offsets_of(keys)
        labels = np.empty(len(keys), np.int64)
        for start in range(0, len(keys), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            labels[chunk] = self._gather_labels(keys[chunk], offsets[chunk])
        return labels

    def _gather_labels(self, keys: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of the whole records straight from the map; ``read`` does the rest and finds the errors."""
        whole, flags, _ = self._heads(offsets)
        labels, word = np.empty(len(keys), "<f4"), offsets[whole] // 4
        labels[whole] = self._words[np.where(flags > 0, word + 8, word + 3)].view("<f4")
        for row in np.flatnonzero(~whole):
            labels[row] = self.read(int(keys[row])).labels[0]
        wrong = ~((labels >= 0) & (labels < EXACT_IN_FLOAT32) & (labels == np.floor(labels)))
        if wrong.any():
            self.class_label(int(keys[wrong][0]), float(labels[wrong][0]))  # raises
        return labels.astype(np.int64)

    def _heads(self, offsets: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """(which records [N] are sound and in one part, their flags, the sizes of their images)."""
        word = offsets // 4
        cflag_and_length = self._words[word + 1]
        length = (cflag_and_length & LENGTH_MASK).astype(np.int64)
        whole = (self._words[word] == MAGIC) & (cflag_and_length >> LENGTH_BITS == WHOLE)
        whole &= (length >= HEADER.size + 4) & (offsets + PART.size + length <= self._size)
        rows = np.flatnonzero(whole)
        flags = self._words[word[rows] + 2].astype(np.int64)
        images = length[rows] - HEADER.size - 4 * flags
        whole[rows[images < 0]] = False
        return whole, flags[images >= 0], images[images >= 0]

    def class_label(self, key: int, value: float) -> int:
        """``value``, the label of record ``key``, as an integer.

        Raises:
            CorruptRecordError: not an integer in [0, 2**24); float32 merges larger ones.
        """
        if 0 <= value < EXACT_IN_FLOAT32 and value == int(value):
            return int(value)
        why = f"the label of key {key} is {value}, expected an integer in [0, {EXACT_IN_FLOAT32})"
        raise CorruptRecordError(self.rec_path, int(self.offsets_of(key)), why)

    def image_keys(self) -> NDArray[np.int64]:
        """Keys of the images, int64 [N]: 1 .. a-1 if record 0 is a header [a, b), else every key.

        Raises:
            CorruptRecordError: record 0 or images it announces are missing, or what it says contradicts
                itself or the other records.
        """
        if self.keys[0] != 0:
            why = f"expected keys from 0 on, as insightface and MXNet write them, the first is {self.keys[0]}"
            raise CorruptRecordError(self.idx_path, why=why)
        first = self.read(0)
        if first.flag == 0 or first.data:
            return self.keys
        end = self._end_of_images(first.labels)
        keys = self.keys[1:end]
        if len(keys) < end - 1 or keys[-1] != end - 1:
            absent = np.flatnonzero(keys != np.arange(1, len(keys) + 1))
            key = 1 + (int(absent[0]) if len(absent) else len(keys))
            why = f"record 0 announces images with keys 1 .. {end - 1}, but key {key} is missing"
            raise CorruptRecordError(self.idx_path, why=why)
        return keys

    def _end_of_images(self, labels: NDArray[np.float32]) -> int:
        """The key after the last image, from the ``labels`` of the header."""
        a, *others = labels.tolist()
        b = others[0] if others else a
        if not (2 <= a <= b < 2**53 and a == int(a) and b == int(b)):
            expected = "a header a, b of whole numbers, 2 <= a <= b: images have the keys 1 .. a-1"
            why = f"record 0 holds {labels.tolist()} and no image, expected {expected}"
            raise CorruptRecordError(self.rec_path, int(self.offsets[0]), why)
        end = int(a) if a < EXACT_IN_FLOAT32 else self._first_identity_near(int(a))
        following = self.keys[np.searchsorted(self.keys, end) :]
        more = following[self._have_image(following)]
        lacks = end - 1 in self.keys and not self.read(end - 1).data
        if lacks or (more < b).any():
            found = f"key {end - 1} is none" if lacks else f"key {more[0]} is one too"
            why = f"record 0 announces images with keys 1 .. {end - 1}, but they end elsewhere: {found}"
            raise CorruptRecordError(self.rec_path, int(self.offsets[0]), why)
        if len(more):  # arcface_torch passes them over without a word
            what = f"{len(more)} images with keys from {more[0]} on are left out"
            warnings.warn(f"{self.rec_path}: {what}: record 0 ends at key {int(b)}", stacklevel=3)
        return end

    def _first_identity_near(self, end: int) -> int:
        """The first key without an image among those that float32 rounds to ``end``, else ``end``."""
        spacing = int(np.spacing(np.float32(end)))
        first, last = np.searchsorted(self.keys, [end - spacing, end + spacing + 1])
        near = self.keys[first:last]
        return next(iter(near[~self._have_image(near)].tolist()), end)

    def _have_image(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """A mask [N] of the records with anything behind their labels; damaged ones have nothing."""
        whole, _, images = self._heads(self.offsets_of(keys))
        have = np.zeros(len(keys), np.bool_)
        have[whole] = images > 0
        for row in np.flatnonzero(~whole):
            with suppress(CorruptRecordError):
                have[row] = len(self.read(int(keys[row])).data) > 0
        return have

"""RecordIO one 32-bit word and one record at a time, written from the format's description."""

from __future__ import annotations

import struct

MAGIC_WORD = (0xCED7230A).to_bytes(4, "little")


def write_part(cflag: int, content: bytes) -> bytes:
    padded = content
    while len(padded) % 4:
        padded += b"\0"
    return MAGIC_WORD + ((cflag << 29) + len(content)).to_bytes(4, "little") + padded


def write_record(payload: bytes) -> bytes:
    parts = [b""]
    for start in range(0, len(payload), 4):
        word = payload[start : start + 4]
        if word == MAGIC_WORD:
            parts.append(b"")
        else:
            parts[-1] += word
    if len(parts) == 1:
        return write_part(0, parts[0])
    middle = b"".join(write_part(2, part) for part in parts[1:-1])
    return write_part(1, parts[0]) + middle + write_part(3, parts[-1])


def pack_payload(label: float | tuple[float, ...], data: bytes, identifier: int) -> bytes:
    if isinstance(label, tuple):
        header = struct.pack("<I", len(label)) + struct.pack("<f", 0.0)
        labels = b"".join(struct.pack("<f", value) for value in label)
    else:
        header, labels = struct.pack("<I", 0) + struct.pack("<f", label), b""
    return header + identifier.to_bytes(8, "little") + bytes(8) + labels + data


def write_file(records: list[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """(.rec, .idx) of (key, payload) records."""
    rec, idx = b"", ""
    for key, payload in records:
        idx += f"{key}\t{len(rec)}\n"
        rec += write_record(payload)
    return rec, idx.encode()


def read_file(rec: bytes) -> list[bytes]:
    """Payloads of all records of a sound file, in file order, without its index."""
    payloads: list[bytes] = []
    position = 0
    while position < len(rec):
        assert rec[position : position + 4] == MAGIC_WORD
        word = int.from_bytes(rec[position + 4 : position + 8], "little")
        cflag, length = word // 2**29, word % 2**29
        content = rec[position + 8 : position + 8 + length]
        if cflag in (0, 1):
            payloads.append(content)
        else:
            payloads[-1] += MAGIC_WORD + content
        position += 8 + (length + 3) // 4 * 4
    return payloads

"""The bytes of a RecordIO file.

A record is one or more parts: two little-endian uint32, the magic number and ``cflag << 29 | length``, then
``length`` bytes, zero-padded to a multiple of four. Readers that seek for the magic number must not find it
inside a payload, so writers cut a payload at every aligned magic number and drop it: cflag is 0 for a whole
record and 1, 2, 3 for its first, middle and last part. The payload is a header (flag, label, id, id2), then
``flag`` float32 labels that replace ``label`` if ``flag`` is not 0, then the encoded image.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAGIC = 0xCED7230A
EXACT_IN_FLOAT32 = 2**24
"""Labels are float32: from here on neighbouring integers are stored as the same number."""

MAGIC_BYTES = struct.pack("<I", MAGIC)
PART = struct.Struct("<II")
HEADER = struct.Struct("<IfQQ")
LENGTH_BITS = 29
LENGTH_MASK = (1 << LENGTH_BITS) - 1
WHOLE, FIRST, MIDDLE, LAST = range(4)


class Record(NamedTuple):
    """One record; ``labels`` is float32 [k], with ``flag`` = k, or [1] with ``flag`` = 0 for a scalar."""

    flag: int
    labels: NDArray[np.float32]
    data: bytes
    id: int
    id2: int

"""Reads pickles of plain data and NumPy arrays from strangers; a pickle is a program, this runs none of it.

Every instruction is checked against a list before any is carried out. The few functions that a pickle of
bytes and arrays calls are replaced by ones of this module, which can only build bytes, booleans and uint8.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

_MAX_INSTRUCTIONS = 2**22  # each can cost some hundred bytes of memory; a million images need fewer
_FREE_INSTRUCTIONS, _BYTES_EACH = 2**16, 16  # an image takes ten of them, and hundreds of bytes

# Lists, tuples, bytes, text, numbers and calls. No dictionaries or sets (hashing a deeply nested key
# overflows the C stack), no persistent ids, no extension registry, no object construction.
_INSTRUCTIONS = re.findall(
    r"\w+",
    """
    PROTO FRAME STOP MARK EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 STRING BINSTRING SHORT_BINSTRING
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 NONE NEWTRUE NEWFALSE
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
    """,
)
# The memo grows to whatever number they state; picklers count up, one for each instruction at most.
_MEMO_INSTRUCTIONS = {pickle.PUT, pickle.LONG_BINPUT}
_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}
_NDARRAY = object()


class DataPickleError(ValueError):
    """A pickle that is damaged or names something other than plain data and NumPy arrays of it."""


def is_pickle(start: bytes) -> bool:
    """Whether content starts as a pickle of protocol 2 or later does."""
    return start.startswith(pickle.PROTO)


def load_data(content: bytes) -> Any:
    """What a pickle of protocol 0 to 5, by Python 2 or 3 and NumPy 1 or 2, holds.

    Returns:
        Lists, tuples, bytes, text, numbers, None, and :class:`PickledArray` in place of arrays; what Python 2
        calls a string comes as bytes.

    Raises:
        DataPickleError: the pickle is damaged, or names anything else; nothing that it names is imported or
            called.
    """
    try:
        _check_instructions(content)
        return _Unpickler(content).load()
    except DataPickleError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        reason = f"{type(error).__name__}: {error}"[:200]
        raise DataPickleError(f"not a pickle of plain data, or a damaged one ({reason})") from error


def _check_instructions(content: bytes) -> None:
    """Walk over the instructions without carrying them out."""
    stream = io.BytesIO(content)
    most = min(_MAX_INSTRUCTIONS, _FREE_INSTRUCTIONS + len(content) // _BYTES_EACH)
    for number in range(most):
        code = stream.read(1)
        if code not in _ARGUMENT_READERS:
            found = f"instruction {_NAMES.get(code, repr(code))}" if code else "end of the file"
            raise DataPickleError(f"unexpected {found} at byte {stream.tell() - len(code)} of the pickle")
        argument = _ARGUMENT_READERS[code](stream)
        if code in _MEMO_INSTRUCTIONS and not 0 <= argument <= number:
            raise DataPickleError("the pickle numbers more objects than it can hold")
        if code == pickle.STOP:
            return
    raise DataPickleError(f"the pickle has more than {most} instructions")


def _argument_readers() -> dict[bytes, Callable[[Any], Any]]:
    readers: dict[bytes, Callable[[Any], Any]] = {}
    for opcode in pickletools.opcodes:
        if opcode.name in _INSTRUCTIONS:
            reader = opcode.arg.reader if opcode.arg else (lambda stream: None)
            readers[opcode.code.encode("latin-1")] = reader
    readers[pickle.STRING] = io.BytesIO.readline  # pickletools insists on ASCII, Python 2 wrote any bytes
    return readers


_ARGUMENT_READERS = _argument_readers()


class PickledArray:
    """Stands in for ``numpy.ndarray``: the items of one or two dimensions, in a row.

    Attributes:
        dtype: ``"b1"`` (bool), ``"u1"`` (uint8) or ``"S<length>"`` (bytes).
        data: the items' memory.
    """

    def __init__(self) -> None:
        self.dtype = "u1"
        self.data = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, _is_fortran, data = state
        self.fill(shape, dtype, data)

    def fill(self, shape: object, dtype: object, data: object) -> None:
        """Set the contents; ``DataPickleError`` if they do not fit together."""
        if not isinstance(shape, tuple) or not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise DataPickleError("an array is not described by a shape, a dtype and bytes")
        sizes_fit = all(isinstance(size, int) and 0 <= size <= len(data) for size in shape)
        if len(shape) not in (1, 2) or not sizes_fit or math.prod(shape) * dtype.size != len(data):
            raise DataPickleError(f"the shape of an array does not fit its {len(data)} bytes")
        self.dtype, self.data = dtype.name, data

    def to_list(self) -> list[Any]:
        """The items as Python objects; trailing zeros of bytes are dropped, as NumPy does."""
        return np.frombuffer(self.data, self.dtype).tolist() if self.data else []


class _Dtype:
    """Stands in for ``numpy.dtype``: single bytes need none of its state (byte order, alignment)."""

    def __init__(self, name: str | bytes, align: object, copy: object) -> None:
        self.name = name.decode("latin-1") if isinstance(name, bytes) else name
        if not re.fullmatch(r"b1|u1|S[1-9][0-9]{0,8}", self.name):
            raise DataPickleError(
                f"arrays of dtype {self.name[:20]!r} are refused: expected bool, uint8 or bytes"
            )
        self.size = int(self.name[1:])

    def __setstate__(self, state: object) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._budget = 2 * len(content)

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "_codecs.encode": self._encode,
            "__builtin__.bytes": _empty_bytes,
            "numpy.dtype": _Dtype,
            "numpy.ndarray": _NDARRAY,
            "numpy.core.multiarray._reconstruct": _reconstruct,
            "numpy.core.multiarray.scalar": _scalar,
            "numpy.core.numeric._frombuffer": self._from_buffer,
        }
        full_name = f"{module}.{name}"
        known_name = full_name.replace("numpy._core.", "numpy.core.", 1)  # NumPy 2's name for it
        if known_name not in allowed:
            raise DataPickleError(f"the pickle asks for {full_name[:100]!r}, which is not data: refused")
        return allowed[known_name]

    def _spend(self, size: int) -> None:
        """Count copies: a pickle of a few bytes can ask for the same long copy over and over."""
        self._budget -= size
        if self._budget < 0:
            raise DataPickleError("the pickle unfolds to far more than its own size")

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocols 0 to 2 write bytes."""
        if encoding != "latin1":
            raise DataPickleError(f"bytes written as text in another encoding than latin1: {encoding[:20]!r}")
        self._spend(len(text))
        return text.encode("latin-1")

    def _from_buffer(
        self, data: bytes | bytearray, dtype: object, shape: object, order: object
    ) -> PickledArray:
        """How protocol 5 writes arrays."""
        self._spend(len(data))
        array = PickledArray()
        array.fill(shape, dtype, bytes(data) if isinstance(data, bytearray) else data)
        return array


def _empty_bytes() -> bytes:
    """How protocols 0 to 2 write ``b""``."""
    return b""


def _reconstruct(kind: object, shape: object, typecode: object) -> PickledArray:
    """How protocols 0 to 4 begin an array; its contents follow as its state."""
    if kind is not _NDARRAY:
        raise DataPickleError("an array is not a plain numpy.ndarray")
    return PickledArray()


def _scalar(dtype: object, data: object) -> bool | int | bytes:
    array = PickledArray()
    array.fill((1,), dtype, data)
    return data if array.dtype.startswith("S") and isinstance(data, bytes) else array.to_list()[0]

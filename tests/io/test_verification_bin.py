from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igfiqa_head.io.data_pickle import DataPickleError, load_data
from igfiqa_head.io.images import encode_image
from igfiqa_head.io.verification_bin import (
    VerificationBinError,
    read_verification_bin,
    write_verification_bin,
)

LFW_BIN = Path(__file__).resolve().parents[3] / "shared" / "data" / "lfw_dev" / "lfw_dev.bin"
FACE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
# Every byte occurs, quotes, line ends and zeros among them, as in a real JPEG.
IMAGES = [encode_image(FACE, ".png"), bytes(range(256)) + b"'\"\\\n\xff", b"\xff\xd8\xff\xd9", b"x"]
IS_GENUINE = [True, False]


def read(folder: Path, content: bytes) -> tuple[list[bytes], list[bool]]:
    path = folder / "set.bin"
    path.write_bytes(content)
    loaded = read_verification_bin(path)
    assert loaded.is_genuine.dtype == np.bool_
    return list(loaded.images), loaded.is_genuine.tolist()


def test_round_trip_in_insightfaces_layout(tmp_path: Path) -> None:
    path = tmp_path / "lfw.bin"
    write_verification_bin(path, IMAGES, IS_GENUINE)
    assert pickle.loads(path.read_bytes(), encoding="bytes") == (IMAGES, IS_GENUINE)
    assert read(tmp_path, path.read_bytes()) == (IMAGES, IS_GENUINE)
    loaded = read_verification_bin(path)
    np.testing.assert_array_equal(loaded.decode(0), FACE)
    with pytest.raises(VerificationBinError, match=r"\.bin: image 1: not a JPEG"):
        loaded.decode(1)
    with pytest.raises(IndexError):
        loaded.decode(4)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("images", "is_genuine"),
    [
        (IMAGES, IS_GENUINE),
        (tuple(IMAGES), tuple(IS_GENUINE)),
        (IMAGES, np.array(IS_GENUINE)),
        (IMAGES, list(np.array(IS_GENUINE))),
        (IMAGES, [1, 0]),
        ([np.frombuffer(image, np.uint8) for image in IMAGES], IS_GENUINE),
        ([np.frombuffer(image, np.uint8)[:, None].copy() for image in IMAGES], IS_GENUINE),
        ([np.bytes_(image) for image in IMAGES], IS_GENUINE),
        (np.array(IMAGES), np.array(IS_GENUINE)),
        ([IMAGES[0]] * 4, [IS_GENUINE[0]] * 2),
    ],
    ids=[
        "lists",
        "tuples",
        "bool array",
        "bool scalars",
        "0/1",
        "uint8",
        "columns",
        "bytes_",
        "S",
        "repeated",
    ],
)
class TestPickles:
    def test_of_python_3(self, tmp_path: Path, protocol: int, images: Any, is_genuine: Any) -> None:
        expected = [bytes(image) for image in images], [bool(flag) for flag in is_genuine]
        assert read(tmp_path, pickle.dumps((images, is_genuine), protocol)) == expected

    def test_of_the_other_numpy(self, tmp_path: Path, protocol: int, images: Any, is_genuine: Any) -> None:
        expected = [bytes(image) for image in images], [bool(flag) for flag in is_genuine]
        content = rename_numpy(pickle.dumps((images, is_genuine), protocol))
        assert read(tmp_path, content) == expected


def rename_numpy(content: bytes) -> bytes:
    """The same pickle with NumPy 1's module names in place of NumPy 2's, or the other way round."""
    if content[2:3] == pickle.FRAME:
        content = content[:2] + content[11:]
    old, new = (b"_core", b"core") if b"numpy._core" in content else (b"core", b"_core")
    for module in (b"multiarray", b"numeric"):
        before, after = (b".".join((b"numpy", name, module)) for name in (old, new))
        for prefix in (b"c", b""):  # GLOBAL's argument ends with the line, SHORT_BINUNICODE states its length
            lengths = (b"", b"") if prefix else (bytes([len(before)]), bytes([len(after)]))
            content = content.replace(prefix + lengths[0] + before, prefix + lengths[1] + after)
    return content


class TestPython2:
    """Its strings are the images; pickles written out by hand."""

    def test_protocol_0(self, tmp_path: Path) -> None:
        strings = [b"S" + repr(image)[1:].encode() + b"\n" for image in IMAGES]
        content = b"((lp0\n" + b"".join(
            b"%sp%d\na" % item for item in zip(strings, range(1, 9), strict=False)
        )
        content += b"(lp9\nI01\naI00\natp10\n."
        assert pickle.loads(content, encoding="bytes") == (IMAGES, IS_GENUINE)
        assert read(tmp_path, content) == (IMAGES, IS_GENUINE)

    def test_protocol_2(self, tmp_path: Path) -> None:
        strings = [b"T" + struct.pack("<I", len(image)) + image for image in IMAGES[:2]]
        strings += [b"U" + bytes([len(image)]) + image for image in IMAGES[2:]]
        content = b"\x80\x02]q\0(" + b"".join(strings) + b"e]q\1(\x88\x89e\x86q\2."
        assert pickle.loads(content, encoding="bytes") == (IMAGES, IS_GENUINE)
        assert read(tmp_path, content) == (IMAGES, IS_GENUINE)

    def test_numpy_scalars(self, tmp_path: Path) -> None:
        dtype = b"cnumpy\ndtype\n(U\2b1K\0K\1tR(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        scalar = b"cnumpy.core.multiarray\nscalar\n(" + dtype + b"U\1\1tR"
        content = b"\x80\x02](U\1xU\1ye](" + scalar + b"e\x86."
        assert read(tmp_path, content) == ([b"x", b"y"], [True])


class Evil:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class TestEvil:
    @pytest.mark.parametrize("protocol", range(6))
    def test_nothing_is_executed(self, tmp_path: Path, protocol: int) -> None:
        marker = tmp_path / "executed"
        content = pickle.dumps(([Evil(os.system, f"touch {marker}"), b"x"], [True]), protocol)
        pickle.loads(content)
        assert marker.exists()  # the pickle does its work where it is trusted
        marker.unlink()
        with pytest.raises(VerificationBinError, match=r"set\.bin: the pickle asks for '(posix|nt)\.system'"):
            read(tmp_path, content)
        assert not marker.exists()

    @pytest.mark.parametrize(
        ("function", "arguments", "name"),
        [
            (eval, ("1 + 1",), "builtins.eval"),
            (getattr, (b"x", "upper"), "builtins.getattr"),
            (bytearray, (b"x",), "builtins.bytearray"),
            (np.fromfile, ("/etc/passwd",), "numpy.*fromfile"),
            (np.load, ("/etc/passwd",), "numpy.*load"),
            (Path, ("/etc/passwd",), "pathlib"),
        ],
    )
    def test_refused_names_are_stated(
        self, tmp_path: Path, function: Any, arguments: tuple[Any, ...], name: str
    ) -> None:
        content = pickle.dumps(([Evil(function, *arguments), b"x"], [True]))
        with pytest.raises(VerificationBinError, match=f"asks for '{name}.*refused"):
            read(tmp_path, content)

    @pytest.mark.parametrize("protocol", range(6))
    @pytest.mark.parametrize("dtype", ["O", "i8", "f4", "U3", "i4,i4", "M8[s]"])
    def test_arrays_of_other_types(self, tmp_path: Path, protocol: int, dtype: str) -> None:
        content = pickle.dumps((np.zeros(2, dtype), np.array([True])), protocol)
        with pytest.raises(
            VerificationBinError, match=r"arrays of dtype '.*' are refused|instruction (EMPTY_)?DICT"
        ):
            read(tmp_path, content)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "unexpected end of the file at byte 0"),
            (b"\x80\x04]", "unexpected end of the file at byte 3"),
            (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"xx.", "expected 1152921504606846976 bytes"),
            (b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"xx.", "expected 1152921504606846976 bytes"),
            (b"]r\xff\xff\xff\xff.", "numbers more objects"),
            (b"]p999999999999\n.", "numbers more objects"),
            (b"]p-1\n.", "numbers more objects"),
            (b"B" + struct.pack("<I", 10**6) + bytes(10**6) + b"r\x40\x42\x0f\0.", "numbers more objects"),
            (b"(" + b"]" * 80_000 + b"l.", "more than 70536 instructions"),
            (b"(i__builtin__\neval\n.", "instruction INST at byte 1"),
            (b"Pname\n.", "instruction PERSID"),
            (b"\x82\1.", "instruction EXT1"),
            (b"}.", "instruction EMPTY_DICT"),
            (b"\xff.", r"instruction b'\\xff' at byte 0"),
            (b"(\x91.", "instruction FROZENSET"),
            (b"I" + b"9" * 5000 + b"\n.", "ValueError"),
            (b"c__builtin__\nbytes\n(I9\ntR.", "TypeError"),
            (b"c_codecs\nencode\n(Vx\nVutf-8\ntR.", "another encoding than latin1: 'utf-8'"),
            (b"cnumpy\nndarray\n(I9\ntR.", "TypeError"),
            (b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR.", "not a plain numpy.ndarray"),
            (b"h\0.", "UnpicklingError|KeyError"),
            (b"R.", "UnpicklingError|IndexError"),
            (b"]]b.", "UnpicklingError"),
        ],
    )
    def test_crafted_instructions(self, content: bytes, message: str) -> None:
        with pytest.raises(DataPickleError, match=message):
            load_data(content)

    def test_bombs_of_repeated_copies(self) -> None:
        text = b"X" + struct.pack("<I", 10**5) + b"x" * 10**5 + b"q\0"
        call = b"c_codecs\nencode\n(h\0Vlatin1\ntRa"
        with pytest.raises(DataPickleError, match="unfolds to far more than its own size"):
            load_data(b"(l" + text + b"a" + call * 100 + b".")
        buffer = b"\x96" + struct.pack("<Q", 10**5) + bytes(10**5) + b"q\0"
        dtype = b"cnumpy\ndtype\n(Vu1\nI0\nI1\ntR"
        call = b"cnumpy.core.numeric\n_frombuffer\n(h\0" + dtype + b"(I100000\ntVC\ntRa"
        with pytest.raises(DataPickleError, match="unfolds to far more than its own size"):
            load_data(b"(l" + buffer + b"a" + call * 100 + b".")

    def test_too_many_instructions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("igfiqa_head.io.data_pickle._MAX_INSTRUCTIONS", 1000)
        assert load_data(b"N" * 999 + b".") is None
        with pytest.raises(DataPickleError, match="more than 1000 instructions"):
            load_data(b"N" * 1000 + b".")

    def test_deep_nesting_is_harmless(self, tmp_path: Path) -> None:
        with pytest.raises(VerificationBinError, match="holds a tuple, expected"):
            read(tmp_path, b"N" + b"\x85" * 60_000 + b".")

    @pytest.mark.parametrize(
        ("shape", "data"),
        [("I3\n", b"xx"), ("I-2\n", b"xx"), ("I2\nI1\nI1\n", b"xx"), ("", b"x"), (f"L{2**70}L\n", b"xx")],
    )
    def test_shapes_that_do_not_fit(self, shape: str, data: bytes) -> None:
        dtype = b"cnumpy\ndtype\n(Vu1\nI0\nI1\ntR"
        state = b"(I1\n(" + shape.encode() + b"t" + dtype + b"I00\nU" + bytes([len(data)]) + data + b"tb"
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\1btR" + state
        with pytest.raises(DataPickleError, match="does not fit its"):
            load_data(array + b".")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lfw.bin")
    with pytest.raises(OSError, match="it is a pipe, expected a regular file"):
        read_verification_bin(tmp_path / "lfw.bin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([b"x"], "holds a list, expected"),
        (b"xy", "holds a bytes, expected"),
        ((b"xx", [True]), "holds a bytes where a list"),
        (([b"x", b"y"], True), "holds a bool where a list"),
        (([b"x", "text"], [True]), "image 1 is a str"),
        (([b"x", b""], [True]), "image 1 is empty"),
        (([b"x", None], [True]), "image 1 is a NoneType"),
        (([b"x", np.array([True])], [True]), "image 1 is a PickledArray"),
        (([b"x", b"y"], [2]), "pair 0 is a int"),
        (([b"x", b"y"], [1.0]), "pair 0 is a float"),
        (([b"x", b"y"], [b"1"]), "pair 0 is a bytes"),
        (([b"x", b"y", b"z"], [True]), "3 images and 1 pairs"),
        (([b"x", b"y"], [True, False]), "2 images and 2 pairs"),
        (([], []), "0 images and 0 pairs"),
        ((np.zeros(0, "u1"), np.zeros(0, bool)), "0 images and 0 pairs"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_layouts(tmp_path: Path, content: object, message: str, protocol: int) -> None:
    with pytest.raises(VerificationBinError, match=message):
        read(tmp_path, pickle.dumps(content, protocol))


@pytest.mark.parametrize(
    ("images", "is_genuine", "message"),
    [
        (IMAGES, [1, 0], "int64"),
        (IMAGES, [[True, False]], r"\[1, 2\]"),
        (IMAGES[:3], IS_GENUINE, "3 images and 2 pairs"),
        ([], np.zeros(0, bool), "0 images and 0 pairs"),
        ([b"x", b""], [True], "non-empty bytes"),
        ([b"x", "text"], [True], "non-empty bytes"),
    ],
)
def test_sets_that_cannot_be_written(tmp_path: Path, images: Any, is_genuine: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_verification_bin(tmp_path / "set.bin", images, is_genuine)
    assert list(tmp_path.iterdir()) == []


CONTENTS = [pickle.dumps((IMAGES, IS_GENUINE), protocol) for protocol in range(6)]
CONTENTS += [
    pickle.dumps(([np.frombuffer(image, np.uint8) for image in IMAGES], np.array(IS_GENUINE)), protocol)
    for protocol in (0, 2, 4, 5)
]


@settings(deadline=None, max_examples=600)
@given(content=st.sampled_from(CONTENTS), data=st.data())
def test_damaged_pickles_are_read_or_refused(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(1, len(damaged))) :]
    try:
        load_data(bytes(damaged))
    except DataPickleError as error:
        assert len(str(error)) < 400  # noqa: PT017 - most damage is fine, no message is endless


@settings(deadline=None, max_examples=300)
@given(content=st.binary(max_size=60))
def test_random_bytes_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "random.bin"
    path.write_bytes(content)
    with pytest.raises(VerificationBinError):
        read_verification_bin(path)


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: f"{len(content)} bytes")
def test_truncation_at_any_byte_is_noticed(content: bytes) -> None:
    for size in range(len(content)):
        with pytest.raises(DataPickleError):
            load_data(content[:size])


@pytest.mark.skipif(not LFW_BIN.is_file(), reason="the development faces are absent")
def test_lfw_dev() -> None:
    loaded = read_verification_bin(LFW_BIN)
    images, is_genuine = pickle.loads(LFW_BIN.read_bytes(), encoding="bytes")
    assert list(loaded.images) == images
    assert loaded.is_genuine.tolist() == is_genuine
    assert (len(loaded.images), len(loaded.is_genuine), loaded.is_genuine.sum()) == (1800, 900, 450)
    assert loaded.decode(1799).shape == (112, 112, 3)

"""What a small file may cost: memory and time that grow with the file, and no waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from eval_tools.columns import read_npz
from eval_tools.models.packs import pack_recogniser
from eval_tools.precomputed import (
    PrecomputedEmbeddings,
    PrecomputedQuality,
    read_scored_pairs,
)
from eval_tools.row_files import load_rows
from eval_tools.test_sets import open_test_set
from igfiqa_head.calibration import Calibration

PAIRS = {
    "similarity": np.linspace(0, 1, 6),
    "is_genuine": np.array([0, 1] * 3),
    "sharpness": np.array([0.3, 0.1, 0.9, 0.5, 0.7, 0.2]),
}


def header(shape: tuple[int, ...]) -> bytes:
    stream = BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def limited(program: str, *arguments: object) -> str:
    """What a program prints that may have 150 MB more than Python and NumPy, and 8 s of a processor."""
    start = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from eval_tools.precomputed import PrecomputedEmbeddings, PrecomputedQuality, read_scored_pairs\n"
        "from eval_tools.columns import read_npz\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "most = pages * resource.getpagesize() + 150 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (8, 8))\n"
    )
    command = [sys.executable, "-c", start + program, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout.strip()


needs_linux = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no limits of memory here")


@needs_linux
def test_arrays_that_nobody_asks_for_take_no_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "a.npz", 250 * 2**20
    np.savez(path, **PAIRS, quality=np.arange(4.0), embeddings=np.ones((4, 2)))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("unused.npy", header((size,)) + bytes(size))
    program = (
        "print(len(PrecomputedQuality(sys.argv[1]).lookup('abcd').values))\n"
        "print(len(PrecomputedEmbeddings(sys.argv[1]).lookup('abcd').values))\n"
        "print(list(read_scored_pairs(sys.argv[1]).quality))"
    )
    assert limited(program, path) == "4\n4\n['sharpness']"


def declared(path: Path, shape: tuple[int, ...], stored: int) -> Path:
    """An archive whose array and whose list of contents say what is not so."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("quality.npy", header(shape) + bytes(100))
        archive.infolist()[0].file_size = stored
    return path


@needs_linux
def test_an_archive_that_unfolds_to_far_more_than_it_has_is_refused(tmp_path: Path) -> None:
    size = 3 * 2**30
    path = declared(tmp_path / "q.npz", (size,), len(header((size,))) + size)
    program = "try: read_npz(Path(sys.argv[1]))\nexcept ValueError as error: print(error)"
    assert limited(program, path).endswith(
        "quality in it 3,072 MiB, more than is read of such a file: write it without compression, by np.savez"
    )


@pytest.mark.parametrize("shape", [(10**15,), (99,), (101,), (10**30, 10**30), (-1, -100)])
def test_an_array_of_another_size_than_the_archive_says_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = declared(tmp_path / "q.npz", shape, len(header(shape)) + 100)
    with pytest.raises(ValueError, match="q.npz is not a .npz file of plain arrays"):
        read_npz(path)


@needs_linux
def test_the_time_for_a_table_is_linear_in_its_columns(tmp_path: Path) -> None:
    count = 12_000
    names = ",".join(f"c{n}_a" for n in range(count))
    rows = [f"{s},{s > 0.2:d}," + ",".join(f"{s + n % 7}" for n in range(count)) for s in (0.1, 0.4, 0.3)]
    (tmp_path / "wide.csv").write_text("\n".join([f"similarity,is_genuine,{names}", *rows]))
    assert int(limited("print(len(read_scored_pairs(sys.argv[1]).quality))", tmp_path / "wide.csv")) > 10_000


def test_a_message_does_not_grow_with_the_columns(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(3_000)]
    for wide in (["similarity", "is_genuine", *names], names):
        text = "\n".join(",".join(row) for row in (wide, ["1"] * len(wide), ["0"] * len(wide)))
        (tmp_path / "wide.csv").write_text(text)
        with pytest.raises(ValueError, match=r"c28.* and 2,970 more") as caught:
            read_scored_pairs(tmp_path / "wide.csv")
        assert len(str(caught.value)) < 2_000


def calibration(path: Path) -> object:
    return Calibration.load(path.rename(path.with_name("c.json")))


def in_a_pack(path: Path) -> object:
    path.rename(path.with_name("manifest.json"))
    return pack_recogniser(path.parent)


def named(suffix: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.rename(path.with_suffix(suffix)))


READERS: dict[str, Callable[[Path], object]] = {
    "pairs.csv": named(".csv", read_scored_pairs),
    "pairs.npz": named(".npz", read_scored_pairs),
    "quality.csv": named(".csv", PrecomputedQuality),
    "quality.npz": named(".npz", PrecomputedQuality),
    "quality.txt": named(".txt", PrecomputedQuality),
    "embeddings.npz": named(".npz", PrecomputedEmbeddings),
    "pairs of images": named(".csv", open_test_set),
    "pairs of LFW": named(".txt", open_test_set),
    "calibration": calibration,
    "manifest": in_a_pack,
}


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """One that nobody writes to: who opens it without care waits for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_in_the_place_of_a_file_is_one_error(reader: str, pipe: Path) -> None:
    with pytest.raises((ValueError, OSError), match="pipe|no file|holds no .onnx file"):
        READERS[reader](pipe)


def test_a_pipe_in_a_cache_is_no_cache(pipe: Path) -> None:
    assert load_rows(pipe, (2, 3)) is None

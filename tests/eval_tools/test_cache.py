"""Results that are computed once: by content, whatever happens in between."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval_tools import cache
from eval_tools.cache import ChunkedArray, ImageFunction, apply_cached
from igfiqa_head.io.aligned_faces import LazyImages

ROOT = Path(__file__).resolve().parents[2]


class Means:
    """Mean and darkest value of each image; counts the images it is asked for."""

    image_size: tuple[int, int] | None = None
    row_shape: tuple[int, ...] = (2,)

    def __init__(self, fingerprint: str = "means", stop_after: int | None = None) -> None:
        self.fingerprint = fingerprint
        self.asked = 0
        self.stop_after = stop_after

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.stop_after is not None and self.asked >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += len(images)
        return np.stack([images.mean(axis=(1, 2, 3)), images.min(axis=(1, 2, 3))], axis=1).astype(np.float32)


class Images(Sequence):
    """Random images of which some cannot be read; counts how often each is read."""

    def __init__(self, count: int, bad: Sequence[int] = (), seed: int = 0) -> None:
        self.pixels = np.random.default_rng(seed).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
        self.bad = set(bad)
        self.reads = np.zeros(count, int)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        self.reads[index] += 1
        if index in self.bad:
            raise ValueError(f"photo_{index}.jpg: damaged")
        return self.pixels[index]

    def expected(self) -> NDArray[np.float32]:
        rows = Means()(self.pixels)
        rows[sorted(self.bad)] = np.nan
        return rows


def apply(function: ImageFunction, images: Sequence, folder: Path | None, **options: object) -> ChunkedArray:
    arrays, _ = apply_cached({"means": function}, images, folder, chunk=4, progress=False, **options)  # type: ignore[arg-type]
    return arrays["means"]


@pytest.mark.parametrize("in_memory", [True, False])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_results_are_those_of_the_function(
    in_memory: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    count = data.draw(st.integers(1, 14))
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    chunk = data.draw(st.integers(1, 5))
    images = Images(count, bad)
    folder = None if in_memory else tmp_path_factory.mktemp("cache")
    arrays, reasons = apply_cached(
        {"m": Means()}, images, folder, on_bad="exclude", chunk=chunk, progress=False
    )
    assert reasons == {index: f"image {index}: photo_{index}.jpg: damaged" for index in sorted(bad)}
    array, expected = arrays["m"], images.expected()
    assert (len(array), array.shape) == (count, (count, 2))
    np.testing.assert_array_equal(np.asarray(array), expected)
    starts, blocks = zip(*array.chunks(), strict=True)
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
    assert list(starts) == list(range(0, count, chunk))
    dropped = data.draw(st.sets(st.integers(0, count - 1)))
    kept = array.without(dropped)
    left = np.delete(expected, sorted(dropped), axis=0)
    np.testing.assert_array_equal(np.asarray(kept), left)
    assert kept.shape == left.shape
    positions = [start + row for start, rows in kept.chunks() for row in range(len(rows))]
    assert positions == list(range(len(left)))
    if len(left):
        np.testing.assert_array_equal(np.asarray(kept.without([0])), left[1:])


def test_every_image_is_read_once_for_all_functions() -> None:
    images = Images(10)
    functions = {"a": Means("a"), "b": Means("b")}
    apply_cached(functions, images, None, chunk=4, progress=False)
    assert (images.reads == 1).all()
    assert [function.asked for function in functions.values()] == [10, 10]


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    images = Images(10)
    first = np.asarray(apply(Means(), images, tmp_path))
    again = Means()
    np.testing.assert_array_equal(np.asarray(apply(again, images, tmp_path)), first)
    assert again.asked == 0


def test_changed_pixels_or_functions_are_computed_anew(tmp_path: Path) -> None:
    apply(Means(), Images(10), tmp_path)
    images = Images(10)
    images.pixels[5, 0, 0, 0] ^= 1
    changed = Means()
    np.testing.assert_array_equal(np.asarray(apply(changed, images, tmp_path)), images.expected())
    assert changed.asked == 4  # the chunk of image 5
    other = Means("another model")
    apply(other, images, tmp_path)
    assert other.asked == 10


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    images = Images(18)
    with pytest.raises(KeyboardInterrupt):
        apply(Means(stop_after=8), images, tmp_path)
    second = Means()
    np.testing.assert_array_equal(np.asarray(apply(second, images, tmp_path)), images.expected())
    assert second.asked == 10


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    script = f"""
    import os, signal
    from pathlib import Path
    from tests.eval_tools.test_cache import Images, Means, apply

    class Killed(Means):
        def __call__(self, images):
            if self.asked == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(images)

    apply(Killed(), Images(18), Path({str(tmp_path)!r}))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, timeout=120, check=False
    )
    assert result.returncode == -9
    second = Means()
    np.testing.assert_array_equal(np.asarray(apply(second, Images(18), tmp_path)), Images(18).expected())
    assert second.asked == 10


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("not an array")


def _array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((4, 2), np.float32))


def _long(path: Path) -> None:
    os.truncate(path, 1 << 40)


def _another_chunk(path: Path) -> None:
    other = next(file for file in path.parent.iterdir() if file != path and _size(file) == _size(path))
    path.write_bytes(other.read_bytes())


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _size(path: Path) -> int:
    return path.stat().st_size


def _cached(folder: Path, images: Images) -> Path:
    """A file of four rows, of all chunks but the last."""
    apply(Means(), images, folder)
    files = sorted(folder.glob("*.f32"), key=_size)
    assert len(files) == 3
    return files[-1]


@pytest.mark.parametrize("damage", [_truncate, _empty, _text, _array, _long, _another_chunk])
def test_damaged_files_are_computed_anew(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    images = Images(10)
    damage(_cached(tmp_path, images))
    again = Means()
    np.testing.assert_array_equal(np.asarray(apply(again, images, tmp_path)), images.expected())
    assert again.asked == 4
    assert len(list(tmp_path.glob("*.f32"))) == 3
    healed = Means()
    apply(healed, images, tmp_path)
    assert healed.asked == 0


def test_a_change_of_any_byte_is_noticed(tmp_path: Path) -> None:
    images = Images(10)
    path = _cached(tmp_path, images)
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        again = Means()
        np.testing.assert_array_equal(np.asarray(apply(again, images, tmp_path)), images.expected())
        assert again.asked == 4


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    images = Images(10)
    _pipe(_cached(tmp_path, images))
    np.testing.assert_array_equal(np.asarray(apply(Means(), images, tmp_path)), images.expected())


def test_a_folder_in_place_of_a_file_keeps_that_result_in_memory(tmp_path: Path) -> None:
    images = Images(10)
    path = _cached(tmp_path, images)
    path.unlink()
    path.mkdir()
    again = Means()
    np.testing.assert_array_equal(np.asarray(apply(again, images, tmp_path)), images.expected())
    assert again.asked == 4


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_place_of_the_folder_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=rf"the cache .*{name} cannot be used: .*--no-cache"):
        apply(Means(), Images(10), tmp_path / name)


def test_a_file_that_changes_while_it_is_used_is_one_error(tmp_path: Path) -> None:
    array = apply(Means(), Images(10), tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(ValueError, match="was changed or removed while it was in use"):
        np.asarray(array)


def test_a_bad_image_is_one_error_that_names_it() -> None:
    with pytest.raises(
        ValueError,
        match=r"^image 7 \(n7\): photo_7.jpg: damaged; .*--on-bad exclude \(in Python on_bad='exclude'\)$",
    ):
        apply(Means(), Images(10, [7, 9]), None, names=[f"n{index}" for index in range(10)])
    function = Means()
    with pytest.raises(ValueError, match="image 2: photo_2.jpg"):
        apply(function, Images(10, [2]), None)
    assert function.asked == 0


def test_other_sizes_and_types_are_bad_images() -> None:
    function = Means()
    function.image_size = (6, 5)
    images = list(Images(8).pixels)
    images[1] = images[1][:4]
    images[2] = images[2][..., 0]
    images[3] = images[3] / 255
    arrays, bad = apply_cached({"m": function}, images, None, on_bad="exclude", progress=False)
    assert list(bad) == [1, 2, 3]
    assert bad[1] == "image 1: the image is 5 x 4, expected 5 x 6: align and crop the faces first"
    assert "got uint8 [6, 5]" in bad[2]
    assert "got float64" in bad[3]
    assert np.isnan(arrays["m"]).all(axis=1).tolist() == [False, True, True, True] + [False] * 4


def test_an_image_of_another_size_is_not_decoded() -> None:
    images = Images(4)

    def load(index: int) -> NDArray[np.uint8]:
        assert index != 2
        return images[index]

    function = Means()
    function.image_size = (6, 5)
    sizes = [(6, 5), (5, 6), (8192, 8192), (6, 5)]  # the second is turned by its EXIF
    lazy = LazyImages(4, load, sizes.__getitem__)
    _, bad = apply_cached({"m": function}, lazy, None, on_bad="exclude", progress=False)
    assert bad == {2: "image 2: the image is 8192 x 8192, expected 5 x 6: align and crop the faces first"}
    images.reads[:] = 0
    function.image_size = None
    _, bad = apply_cached({"m": function}, lazy, None, on_bad="exclude", chunk=2, progress=False)
    assert list(bad) == [2]


def test_a_chunk_of_large_images_is_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK_BYTES", 2.5 * 6 * 5 * 3)
    images = Images(8, bad=[1])
    arrays, _ = apply_cached({"m": Means()}, images, None, on_bad="exclude", chunk=7, progress=False)
    starts, _ = zip(*arrays["m"].chunks(), strict=True)
    assert starts == (0, 4, 7)
    np.testing.assert_array_equal(np.asarray(arrays["m"]), images.expected())
    assert (images.reads == 1).all()


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_without_a_size_most_images_set_it(odd: int) -> None:
    images = list(Images(9).pixels)
    images[odd] = images[odd][:5]
    with pytest.raises(ValueError, match=f"image {odd}: the image is 5 x 5, expected 5 x 6"):
        apply(Means(), images, None)
    _, bad = apply_cached({"m": Means()}, images, None, on_bad="exclude", chunk=4, progress=False)
    assert list(bad) == [odd]


def test_a_first_chunk_of_another_size_is_one_error() -> None:
    images = [image[:5] if index < 4 else image for index, image in enumerate(Images(10).pixels)]
    with pytest.raises(ValueError, match="most images are 5 x 6, but the first ones are 5 x 5: align"):
        apply(Means(), images, None, on_bad="exclude")


def test_results_that_are_not_finite_are_bad(tmp_path: Path) -> None:
    class Broken(Means):
        def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            rows = super().__call__(images)
            rows[0, 1] = np.inf
            return rows

    for _ in range(2):  # computed, then from the cache
        with pytest.raises(ValueError, match="image 0: broken gives NaN or infinity"):
            apply_cached({"broken": Broken()}, Images(6), tmp_path, chunk=4, progress=False)
    _, bad = apply_cached({"b": Broken()}, Images(6), tmp_path, on_bad="exclude", chunk=4, progress=False)
    assert list(bad) == [0, 4]


def test_functions_that_break_their_promises_are_refused() -> None:
    class Short(Means):
        def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return super().__call__(images)[1:]

    with pytest.raises(ValueError, match=r"means gives float32 \[3, 2\], expected float32 \[4, 2\]"):
        apply(Short(), Images(8), None)


def test_functions_of_different_sizes_are_refused() -> None:
    functions = {"a": Means(), "b": Means()}
    functions["a"].image_size, functions["b"].image_size = (6, 5), (12, 12)
    with pytest.raises(ValueError, match=r"a 5 x 6, b 12 x 12\): run them one at a time"):
        apply_cached(functions, Images(4), None, progress=False)


def test_other_mistakes() -> None:
    with pytest.raises(ValueError, match="none of 3 images can be used; image 0: photo_0"):
        apply(Means(), Images(3, [0, 1, 2]), None, on_bad="exclude")
    with pytest.raises(ValueError, match="on_bad must be 'error' or 'exclude', got 'skip'"):
        apply(Means(), Images(3), None, on_bad="skip")
    assert apply_cached({}, Images(3, [0]), None) == ({}, {})
    assert apply(Means(), [], None).shape == (0, 2)


def test_an_array_is_made_as_numpy_asks_for_it() -> None:
    array = apply(Means(), Images(5), None)
    assert np.asarray(array, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="without a copy"):
        array.__array__(copy=False)


def test_the_progress_bar_is_for_terminals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_cached({"m": Means()}, Images(5), None, title="lfw")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    apply_cached({"m": Means()}, Images(5), None, title="lfw", progress=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    apply_cached({"m": Means()}, Images(5), None, title="lfw")
    assert "lfw: 100%" in capsys.readouterr().err


def test_only_this_user_can_read_what_is_kept_and_its_use_is_noted(tmp_path: Path) -> None:
    images, folder = Images(10), tmp_path / "cache"
    apply(Means(), images, folder)
    files = list(folder.glob("*.f32"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    earlier = time.time() - 80 * 24 * 3600
    for path in files:
        os.utime(path, (earlier, earlier))
    apply(Means(), images, folder)
    assert all(path.stat().st_mtime > time.time() - 60 for path in files)

"""Images decoded once: the same as before, made anew when they should be, and never trusted."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from easydict import EasyDict

from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import write_records
from plugins.datasets.image_folder import ImageFolderDataset
from plugins.datasets.recordio import RecordIODataset
from plugins.datasets.synthetic import SyntheticFaces
from trainer import build, build_data
from trainer.decoded_cache import DecodedFaces, open_decoded
from trainer.loader import Loader

Recipe = Callable[..., EasyDict]
LABELS = [0, 0, 0, 1, 1, 3, 3, 3]
SIDE = 6


def pictures(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (len(LABELS), SIDE, SIDE, 3), dtype=np.uint8)


def write(root: Path, images: np.ndarray) -> None:
    root.mkdir(exist_ok=True)
    write_records(root, [encode_image(image, ".png") for image in images], LABELS, image_size=SIDE)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    write(tmp_path / "records", pictures())
    return tmp_path / "records"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def decode(records: Path, cache: Path, num_workers: int = 0) -> DecodedFaces:
    dataset = RecordIODataset(records, image_size=SIDE)
    return open_decoded(dataset, cache, source="faces", num_workers=num_workers)


def assert_holds(faces: Any, images: np.ndarray, labels: list[int] = LABELS) -> None:
    assert len(faces) == len(images)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        np.testing.assert_array_equal(faces[index][0], image)
        assert faces[index][1] == label
        assert type(faces[index][1]) is int


def of_folder(cache: Path) -> list[str]:
    return sorted(path.suffix for path in cache.iterdir() if path.name != "CACHEDIR.TAG")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_it_holds_the_images_of_the_records(records: Path, cache: Path, num_workers: int) -> None:
    assert_holds(decode(records, cache, num_workers), pictures())
    assert of_folder(cache) == [".json", ".lock", ".npy"]
    np.testing.assert_array_equal(np.load(next(cache.glob("*.npy"))), pictures())


def test_it_holds_the_images_of_a_folder_and_rendered_ones(tmp_path: Path, cache: Path) -> None:
    for image, name in zip(pictures(), ("a/0", "a/1", "b/0"), strict=False):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / f"{name}.png").write_bytes(encode_image(image, ".png"))
    folder = ImageFolderDataset(tmp_path / "folder", image_size=SIDE)
    faces = open_decoded(folder, cache, source="folder", num_workers=0)
    assert_holds(faces, pictures()[:3], [0, 0, 1])
    (tmp_path / "folder" / "b" / "0.png").write_bytes(encode_image(pictures()[7], ".png"))
    folder = ImageFolderDataset(tmp_path / "folder", image_size=SIDE)
    faces = open_decoded(folder, cache, source="folder", num_workers=0)
    assert_holds(faces, pictures()[[0, 1, 7]], [0, 0, 1])

    for seed in (0, 1):
        rendered = SyntheticFaces(2, 2, seed=seed)
        faces = open_decoded(rendered, cache, source="synthetic", num_workers=0)
        assert_holds(faces, rendered.render(), [0, 0, 1, 1])


def test_it_is_made_once(records: Path, cache: Path, log_lines: list[str]) -> None:
    decode(records, cache)
    assert "decoding the images of faces" in log_lines[0]
    (path,) = cache.glob("*.npy")
    made = path.stat()
    del log_lines[:]
    assert_holds(decode(records, cache), pictures())
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert log_lines == [f"using the decoded images in {path}"]


def test_a_changed_data_set_is_decoded_anew(records: Path, cache: Path) -> None:
    earlier = decode(records, cache)
    write(records, pictures(1))
    assert_holds(decode(records, cache), pictures(1))
    assert of_folder(cache) == [".json", ".lock", ".npy"]
    assert_holds(earlier, pictures())  # who has opened it before may go on


def test_a_change_that_leaves_size_and_time_alone_is_noticed_by_the_images(
    records: Path, cache: Path, log_lines: list[str]
) -> None:
    decode(records, cache)
    status = (records / "train.rec").stat()
    content = bytearray((records / "train.rec").read_bytes())
    others = encode_image(pictures()[1], ".png")
    start = content.find(encode_image(pictures()[0], ".png"))
    content[start : start + len(others)] = others
    (records / "train.rec").write_bytes(content)
    os.utime(records / "train.rec", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert_holds(decode(records, cache), pictures()[[1, *range(1, 8)]])
    assert any("image 0 is not that of the data set" in line for line in log_lines)


def test_images_that_were_overwritten_in_the_cache_are_noticed(
    records: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    monkeypatch.setattr("trainer.decoded_cache._COMPARED", 2)  # the first and the last
    path = decode(records, cache).path
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(-4 * SIDE * SIDE * 3, os.SEEK_END)
        file.write(bytes(SIDE * SIDE * 3))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_holds(decode(records, cache), pictures())
    assert any("the file or the data set has changed" in line for line in log_lines)


def test_only_this_user_can_read_it(records: Path, cache: Path) -> None:
    decode(records, cache)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir() if path.name != "CACHEDIR.TAG"}
    assert (stat.S_IMODE(cache.stat().st_mode), modes) == (0o700, {0o600})


def test_being_used_is_noted(records: Path, cache: Path) -> None:
    decode(records, cache)
    (note,) = cache.glob("*.json")
    os.utime(note, (0, 0))
    for path in cache.glob("*.lock"):
        os.utime(path, (0, 0))
    decode(records, cache)
    assert note.stat().st_mtime > time.time() - 60


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def reshape(path: Path) -> None:
    np.save(path, np.load(path).reshape(-1, 2, SIDE, SIDE * 3))


def pickle_it(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)


def blacken(path: Path) -> None:
    np.save(path, np.zeros_like(np.load(path)))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def forget(path: Path) -> None:
    path.with_suffix(".json").unlink()


def lie(path: Path) -> None:
    path.with_suffix(".json").write_text("[" * 100_000)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage", [cut, lengthen, reshape, pickle_it, blacken, empty, forget, lie, replace_by_pipe]
)
def test_damaged_files_are_made_anew(records: Path, cache: Path, damage: Callable[[Path], None]) -> None:
    decode(records, cache)
    (path,) = cache.glob("*.npy")
    damage(path)
    assert_holds(decode(records, cache), pictures())
    assert_holds(decode(records, cache), pictures())


def test_a_link_in_its_place_is_not_followed(records: Path, cache: Path, tmp_path: Path) -> None:
    decode(records, cache)
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    for path in cache.iterdir():
        path.unlink()
        path.symlink_to(precious)
    assert_holds(decode(records, cache), pictures())
    assert precious.read_text() == "keep me"


class Slow(RecordIODataset):
    """Counts how often an image was decoded, in all processes; decoding can be made to take time."""

    decoded: Any
    seconds = 0.0

    def __getitem__(self, index: int) -> tuple[Any, int]:
        time.sleep(self.seconds)
        with self.decoded.get_lock():
            self.decoded.value += 1
        return super().__getitem__(index)


@pytest.fixture
def slow(records: Path) -> Slow:
    dataset = Slow(records, image_size=SIDE)
    dataset.decoded = multiprocessing.get_context("fork").Value("i", 0)
    return dataset


def start(dataset: Slow, cache: Path) -> Any:
    arguments = {"source": "faces", "num_workers": 0}
    process = multiprocessing.get_context("fork").Process(
        target=open_decoded, args=(dataset, cache), kwargs=arguments
    )
    process.start()
    return process


def test_killed_while_it_is_made(slow: Slow, records: Path, cache: Path) -> None:
    slow.seconds = 0.2
    process = start(slow, cache)
    deadline = time.monotonic() + 20
    while slow.decoded.value < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert of_folder(cache) == [".lock", ".npy"]
    assert len(list(cache.glob(".*.npy"))) == 1

    assert_holds(decode(records, cache), pictures())
    assert of_folder(cache) == [".json", ".lock", ".npy"]
    assert not list(cache.glob(".*"))


def test_of_several_processes_one_decodes(slow: Slow, cache: Path) -> None:
    slow.seconds = 0.02
    processes = [start(slow, cache) for _ in range(3)]
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    first_images, compared = 3 * 1 + 1, 2 * len(LABELS)  # a prefetcher, too, looks at the first image
    assert slow.decoded.value == first_images + len(LABELS) + compared


def test_a_full_disk_and_other_folders_that_do_not_do(
    records: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file")
    with pytest.raises(ValueError, match="cannot be kept in .*cache: .*name another folder"):
        decode(records, cache)
    cache.unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(ValueError, match="take 0.0 GiB, but .* has 0.0 GiB left: name another folder"):
        decode(records, cache)


def test_bad_images_are_reported_and_nothing_is_left(records: Path, cache: Path) -> None:
    content = bytearray((records / "train.rec").read_bytes())
    start = content.find(encode_image(pictures()[5], ".png"))
    content[start : start + 8] = b"no image"
    (records / "train.rec").write_bytes(content)
    for num_workers in (0, 1):
        with pytest.raises(ValueError, match=r"train\.rec, byte \d+: key 6: not a JPEG, PNG"):
            decode(records, cache, num_workers)
    assert of_folder(cache) == [".lock"]


def test_a_data_set_without_fingerprint(cache: Path) -> None:
    with pytest.raises(ValueError, match="needs a data set with a fingerprint, which list has not"):
        open_decoded([(pictures()[0], 0)], cache, source="list", num_workers=0)


def test_a_pickle_is_a_path(records: Path, cache: Path) -> None:
    faces = decode(records, cache)
    pickled = pickle.dumps(faces)
    assert_holds(pickle.loads(pickled), pictures())
    cut(faces.path)
    with pytest.raises(ValueError, match="is damaged: expected"):
        pickle.loads(pickled)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_batches_are_the_same(records: Path, cache: Path, num_workers: int) -> None:
    device = torch.device("cpu")
    plain = Loader(RecordIODataset(records, image_size=SIDE), 4, seed=1, num_workers=0, device=device)
    cached = Loader(decode(records, cache), 4, seed=1, num_workers=num_workers, device=device)
    for epoch in (0, 1):
        for expected, got in zip(plain.batches(epoch), cached.batches(epoch), strict=True):
            assert torch.equal(got.images, expected.images)
            assert torch.equal(got.labels, expected.labels)


def test_a_recipe_names_it(tiny_recipe: Recipe, cache: Path) -> None:
    config = tiny_recipe(f"decoded_cache={cache}")
    build.load_plugins(config)
    dataset = build_data.build_train_set(config)
    trainer = build.build_trainer(config, dataset, log=None, device=torch.device("cpu"))  # type: ignore[arg-type]
    (path,) = cache.glob("*.npy")
    np.testing.assert_array_equal(np.load(path), dataset.render())
    (batch, *_) = trainer.loader.batches(0)
    np.testing.assert_array_equal(batch.labels, dataset.labels[batch.indices])

"""Batches: every image once an epoch, the same whatever the workers, and from any position on."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from igfiqa_head.sub_batches import Batch, halves
from trainer import prefetch
from trainer.loader import Loader, to_network_input

CPU = torch.device("cpu")


class Numbered:
    """Image i is all of value i, but for a bright left edge that shows flips."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = np.full((4, 6, 3), index, np.uint8)
        image[:, 0] = 255
        return image, index % 3


class Damaged(Numbered):
    """Image 7 is not as it should be."""

    def __init__(self, damage: Exception | np.ndarray) -> None:
        self.damage = damage

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index != 7:
            return super().__getitem__(index)
        if isinstance(self.damage, Exception):
            raise self.damage
        return self.damage, 0


def make(batch_size: int = 4, num_workers: int = 0, seed: int = 5, **ranks: int) -> Loader:
    return Loader(Numbered(), batch_size, seed=seed, num_workers=num_workers, device=CPU, **ranks)


def assert_equal(got: Batch, expected: Batch) -> None:
    for name in ("images", "labels", "indices"):
        assert torch.equal(getattr(got, name), getattr(expected, name))
    assert got.epoch == expected.epoch


def test_an_epoch_covers_every_image_once() -> None:
    indices = torch.cat([batch.indices for batch in make(2).batches(0)])
    assert sorted(indices.tolist()) == list(range(22))


def test_the_incomplete_batch_is_dropped() -> None:
    loader = make(4)
    assert loader.batches_per_epoch == 5
    assert [len(batch.labels) for batch in loader.batches(0)] == [4] * 5


def test_labels_pixels_and_indices_belong_together() -> None:
    for batch in make().batches(1):
        assert batch.epoch == 1
        assert batch.labels.tolist() == [i % 3 for i in batch.indices.tolist()]
        value = batch.images[:, 0, 0, 3] * 127.5 + 127.5
        torch.testing.assert_close(value, batch.indices.float())


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(epoch: int, seed: int) -> list[int]:
        return torch.cat([b.indices for b in make(seed=seed).batches(epoch)]).tolist()

    assert order(0, 5) == order(0, 5)
    assert order(0, 5) != order(1, 5)
    assert order(0, 5) != order(0, 6)


def test_going_on_in_the_middle_equals_the_rest_of_the_epoch() -> None:
    whole = list(make().batches(3))
    rest = list(make().batches(3, first=2))
    assert len(rest) == 3
    for expected, got in zip(whole[2:], rest, strict=True):
        assert_equal(got, expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_image_once_upright_and_in_order(num_workers: int) -> None:
    loader = make(4, num_workers=num_workers)
    batches = list(loader.every_image())
    assert len(batches) == loader.batches_of_all == 6
    assert [len(batch.labels) for batch in batches] == [4, 4, 4, 4, 4, 2]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(22))
    assert torch.cat([batch.labels for batch in batches]).tolist() == [i % 3 for i in range(22)]
    assert all((batch.images[..., 0] == 1).all() for batch in batches)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_nothing(num_workers: int) -> None:
    alone, loader = make(), make(num_workers=num_workers)
    for epoch, first in ((0, 0), (1, 3)):
        for expected, got in zip(alone.batches(epoch, first), loader.batches(epoch, first), strict=True):
            assert_equal(got, expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_pass_may_be_left_for_another(num_workers: int) -> None:
    loader = make(2, num_workers)
    left = [loader.batches(0), loader.every_image(), loader.batches(1)]
    for batches in left:
        next(batches)
        next(batches)
    for expected, got in zip(make(2).batches(2), loader.batches(2), strict=True):
        assert_equal(got, expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_later_call_goes_on_where_an_earlier_one_is(num_workers: int) -> None:
    loader = make(4, num_workers)
    earlier = loader.batches(3)
    whole = [next(earlier), next(earlier), *loader.batches(3, first=2), *loader.batches(4)]
    for expected, got in zip([*make(4).batches(3), *make(4).batches(4)], whole, strict=True):
        assert_equal(got, expected)
    assert list(earlier) == []


class Counted(Numbered):
    """Counts the images read, by all processes."""

    def __init__(self) -> None:
        self.count = multiprocessing.Value("i", 0)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        with self.count:
            self.count.value += 1
        return super().__getitem__(index)


def test_the_next_epoch_is_begun_while_the_last_batch_is_used() -> None:
    dataset = Counted()
    loader = Loader(dataset, 11, seed=5, num_workers=1, device=CPU)
    assert len(list(loader.batches(0))) == 2
    wait_until(lambda: dataset.count.value == 1 + 22 + 2 * 11)
    for expected, got in zip(make(11).batches(1), loader.batches(1), strict=True):
        assert_equal(got, expected)


def test_bytes_stay_until_the_next_are_asked_for() -> None:
    loader = make(2, num_workers=2)
    for epoch in (0, 1):
        for faces in loader.faces(epoch):
            before = faces.images.clone()
            time.sleep(0.01)  # the workers are ahead by now
            assert torch.equal(faces.images, before)
            assert (faces.images[:, 0, 2, 0] == faces.indices).all()


@pytest.mark.parametrize("dataset", [Numbered(), Damaged(np.zeros(3, np.uint8))])
def test_workers_end_with_their_loader(dataset: Numbered) -> None:
    before = set(multiprocessing.active_children())
    loader = Loader(dataset, 11, seed=5, num_workers=1, device=CPU)
    workers = set(multiprocessing.active_children()) - before
    later = make(num_workers=1)  # its worker is a copy of this process, pipes included
    batches = loader.batches(0)
    with suppress(ValueError):
        next(batches)
        list(loader.batches(1))
    loader.itself = loader  # type: ignore[attr-defined]
    started = time.perf_counter()
    del loader, batches
    gc.collect()
    assert time.perf_counter() - started < 3
    wait_until(lambda: workers.isdisjoint(multiprocessing.active_children()))
    assert len(workers) == 1
    assert next(later.batches(0)) is not None


KILLED = """
import multiprocessing, sys, time
sys.path[:0] = {path!r}
from tests.trainer.test_loader import make
loader = make(2, num_workers=3)
next(loader.batches(0))
print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


def test_workers_end_with_a_killed_trainer() -> None:
    code = KILLED.format(path=sys.path)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        workers = [int(pid) for pid in trainer.stdout.readline().split()]
        trainer.kill()
    assert len(workers) == 3
    wait_until(lambda: not any(is_running(pid) for pid in workers))


def is_running(pid: int) -> bool:
    """Whether there is such a process that is no zombie; whether those are collected depends on init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_workers_that_are_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows, where they do not begin as copies of the trainer."""
    monkeypatch.setattr(prefetch, "multiprocessing", torch.multiprocessing.get_context("spawn"))
    loader = make(num_workers=1)
    for expected, got in zip(make().batches(1, 2), loader.batches(1, 2), strict=True):
        assert_equal(got, expected)


class TestRanks:
    """Two ranks share the steps of one that draws as much."""

    @pytest.mark.parametrize("first", [0, 1])
    def test_they_see_together_what_one_sees(self, first: int) -> None:
        ranks = [make(4, rank=rank, world_size=2) for rank in range(2)]
        alone = make(8)
        assert {loader.batches_per_epoch for loader in (*ranks, alone)} == {2}
        steps = zip(*(loader.batches(1, first) for loader in ranks), strict=True)
        for expected, shares in zip(alone.batches(1, first), steps, strict=True):
            of_ranks = [halves(share) for share in shares]
            for name in ("clean", "quality"):
                parts = [getattr(split, name) for split in of_ranks]
                together = Batch(*(torch.cat([part[i] for part in parts]) for i in range(3)), epoch=1)
                assert_equal(together, getattr(halves(expected), name))

    def test_every_image_is_divided_among_them(self) -> None:
        shares = [list(make(4, rank=rank, world_size=3).every_image()) for rank in range(3)]
        assert [len(share) for share in shares] == [
            make(4, rank=rank, world_size=3).batches_of_all for rank in range(3)
        ]
        assert torch.cat([batch.indices for share in shares for batch in share]).tolist() == list(range(22))


def test_flips_hit_half_of_the_images_and_follow_the_image_not_the_batch() -> None:
    def flipped(batch_size: int, epoch: int) -> dict[int, bool]:
        found = {}
        for batch in make(batch_size).batches(epoch):
            for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
                found[index] = bool(image[0, 0, -1] == 1)
        return found

    assert flipped(2, 0) == flipped(11, 0)
    share = np.mean([list(flipped(2, epoch).values()) for epoch in range(40)])
    assert share == pytest.approx(0.5, abs=0.08)


def test_loading_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    list(make().batches(0))
    assert torch.equal(before, torch.get_rng_state())


def test_too_few_images() -> None:
    with pytest.raises(ValueError, match="22 images, fewer than the 32"):
        make(32)


def test_network_input_range_and_layout() -> None:
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 1] = (255, 0, 51)
    pixels = to_network_input(torch.from_numpy(image), CPU)
    assert pixels.shape == (1, 3, 2, 2)
    assert pixels.is_contiguous()
    torch.testing.assert_close(pixels[0, :, 0, 1], torch.tensor([1.0, -1.0, 51 / 127.5 - 1]))


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (ValueError("train.rec: byte 4096: no image"), r"train\.rec: byte 4096: no image\Z"),
        (PermissionError(13, "Permission denied", "7.jpg"), r"image 7 cannot be read: .*Permission denied"),
        (np.zeros((4, 5, 3), np.uint8), r"image 7 is uint8 \[4, 5, 3\], the first one uint8 \[4, 6, 3\]"),
        (np.zeros((4, 6, 3), np.float32), "image 7 is float32"),
    ],
)
def test_an_unreadable_image_gives_one_line(damage: Any, message: str, num_workers: int) -> None:
    loader = Loader(Damaged(damage), 4, seed=0, num_workers=num_workers, device=CPU)
    with pytest.raises(ValueError, match=rf"^{message}.*\Z"):  # one line
        list(loader.batches(0)) + list(loader.batches(1))


def test_a_file_whose_name_is_no_utf8_is_named_by_a_worker() -> None:
    name = os.fsdecode(b"Andr\xe9/7.jpg: no image")
    loader = Loader(Damaged(ValueError(name)), 4, seed=0, num_workers=1, device=CPU)
    with pytest.raises(ValueError, match=f"^{name}$"):
        list(loader.batches(0)) + list(loader.batches(1))


def test_an_error_in_the_code_of_a_data_set_is_not_blamed_on_memory() -> None:
    loader = Loader(Damaged(TypeError("'NoneType' object")), 4, seed=0, num_workers=1, device=CPU)
    with pytest.raises(
        RuntimeError, match="^the data set fails: TypeError: 'NoneType' object; num_workers=0"
    ):
        list(loader.batches(0)) + list(loader.batches(1))


class Deadly(Numbered):
    """Takes the process that reads image 7 with it."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 7:
            self.end()
        return super().__getitem__(index)

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class DeadlyByItsCode(Deadly):
    def end(self) -> None:
        os._exit(3)


@pytest.mark.parametrize(
    ("dataset", "advice"),
    [(Deadly(), "Lower num_workers"), (DeadlyByItsCode(), r"3\): num_workers=0 reads")],
)
def test_a_dead_worker_ends_the_run(dataset: Deadly, advice: str) -> None:
    loader = Loader(dataset, 11, seed=0, num_workers=1, device=CPU)
    with pytest.raises(ChildProcessError, match=f"process that loads images died .*{advice}"):
        list(islice(loader.batches(0), 2))

"""Batches: every image once an epoch, the same whatever the workers, and from any position on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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


def make(batch_size: int = 4, num_workers: int = 0, seed: int = 5) -> Loader:
    return Loader(Numbered(), batch_size, seed=seed, num_workers=num_workers, device=CPU)


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
        assert torch.equal(expected.images, got.images)
        assert torch.equal(expected.labels, got.labels)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_image_once_upright_and_in_order(num_workers: int) -> None:
    loader = make(4, num_workers=num_workers)
    batches = list(loader.every_image())
    assert len(batches) == loader.batches_of_all == 6
    assert [len(batch.labels) for batch in batches] == [4, 4, 4, 4, 4, 2]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(22))
    assert torch.cat([batch.labels for batch in batches]).tolist() == [i % 3 for i in range(22)]
    assert all((batch.images[..., 0] == 1).all() for batch in batches)


def test_workers_change_nothing() -> None:
    alone, loader = make(), make(num_workers=2)
    for epoch in (0, 1):
        for expected, got in zip(alone.batches(epoch), loader.batches(epoch), strict=True):
            assert torch.equal(expected.images, got.images)


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


class Damaged(Numbered):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 7:
            raise ValueError("train.rec: byte 4096: no image")
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_image_gives_one_line(num_workers: int) -> None:
    loader = Loader(Damaged(), 4, seed=0, num_workers=num_workers, device=CPU)
    with pytest.raises(ValueError, match=r"^train\.rec: byte 4096: no image$"):
        list(loader.batches(0)) + list(loader.batches(1))

"""Which rank draws what: every image once over all ranks, and the same steps for any number of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.sampler import ShardedOrder, share_of


def ranks_of(size: int, drawn: int, world_size: int, seed: int = 7) -> list[ShardedOrder]:
    """The ranks that draw ``drawn`` images a step together."""
    return [ShardedOrder(size, drawn // world_size, seed, rank, world_size) for rank in range(world_size)]


def halves(batches: list[np.ndarray]) -> tuple[list[int], list[int]]:
    """First and second half of the step, from the batches of its ranks."""
    middle = len(batches[0]) // 2
    return (
        np.concatenate([batch[:middle] for batch in batches]).tolist(),
        np.concatenate([batch[middle:] for batch in batches]).tolist(),
    )


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_step_is_the_same_for_any_number_of_ranks(world_size: int) -> None:
    (alone,), ranks = ranks_of(100, 16, 1), ranks_of(100, 16, world_size)
    for epoch in (0, 3):
        for step in range(alone.steps):
            expected = halves([alone.batch(epoch, step)])
            assert halves([rank.batch(epoch, step) for rank in ranks]) == expected


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(1, 60),
    batch_size=st.integers(1, 7),
    world_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_no_image_comes_twice_and_few_are_left_out(
    size: int, batch_size: int, world_size: int, epoch: int
) -> None:
    drawn = batch_size * world_size
    if size < drawn:
        return
    ranks = ranks_of(size, drawn, world_size)
    assert {rank.steps for rank in ranks} == {size // drawn}
    batches = [rank.batch(epoch, step) for rank in ranks for step in range(rank.steps)]
    assert {len(batch) for batch in batches} == {batch_size}
    indices = np.concatenate(batches)
    assert len(np.unique(indices)) == len(indices) == size - size % drawn
    assert 0 <= indices.min() <= indices.max() < size


def test_other_images_are_left_out_in_each_epoch() -> None:
    ranks = ranks_of(22, 8, 2)

    def left_out(epoch: int) -> frozenset[int]:
        drawn = np.concatenate([rank.batch(epoch, step) for rank in ranks for step in range(2)])
        return frozenset(range(22)) - frozenset(drawn.tolist())

    assert {len(left_out(epoch)) for epoch in range(10)} == {6}
    assert len({left_out(epoch) for epoch in range(10)}) > 5
    assert frozenset.union(*map(left_out, range(40))) == frozenset(range(22))


def test_seeds_and_epochs_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        (alone,) = ranks_of(50, 50, 1, seed)
        alone.batch(9, 0)
        return alone.batch(epoch, 0).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize(("size", "world_size"), [(10, 1), (10, 3), (2, 4)])
def test_the_shares_are_everything_once(size: int, world_size: int) -> None:
    shares = [share_of(size, rank, world_size) for rank in range(world_size)]
    assert np.concatenate(shares).tolist() == list(range(size))
    assert np.ptp([len(share) for share in shares]) <= 1


def test_too_few_images_and_ranks_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"15 images, fewer than the 16 .* \(4 on each of 4 ranks\)"):
        ShardedOrder(15, 4, 0, rank=1, world_size=4)
    for rank in (-1, 2):
        with pytest.raises(ValueError, match=f"rank {rank} of 2"):
            ShardedOrder(15, 4, 0, rank=rank, world_size=2)

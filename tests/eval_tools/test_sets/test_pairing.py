"""All pairs, sampled pairs and balanced folds."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eval_tools.test_sets import all_pairs, balanced_pairs

labels = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


def reference_pairs(identities: list[int]) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(len(identities)), 2))


@settings(deadline=None, max_examples=100)
@given(identities=labels)
def test_all_pairs_in_order(identities: list[int]) -> None:
    expected = reference_pairs(identities)
    same = [identities[a] == identities[b] for a, b in expected]
    assume(any(same) and not all(same))
    pairs, is_genuine, notes = all_pairs(np.array(identities))
    assert list(map(tuple, pairs.tolist())) == expected
    assert is_genuine.tolist() == same
    assert pairs.dtype == np.int64
    assert notes == ()


@settings(deadline=None, max_examples=100)
@given(identities=labels, data=st.data(), seed=st.integers(0, 99))
def test_a_sample_keeps_all_genuine_pairs(identities: list[int], data: st.DataObject, seed: int) -> None:
    everything = reference_pairs(identities)
    genuine = {(a, b) for a, b in everything if identities[a] == identities[b]}
    assume(genuine and len(everything) - len(genuine) > 1)
    max_pairs = data.draw(st.integers(len(genuine) + 1, len(everything) - 1))
    pairs, is_genuine, notes = all_pairs(np.array(identities), max_pairs, seed)
    listed = list(map(tuple, pairs.tolist()))
    assert len(set(listed)) == len(listed) == max_pairs
    assert listed == sorted(listed)
    assert set(listed) <= set(everything)
    assert {pair for pair, flag in zip(listed, is_genuine, strict=True) if flag} == genuine
    assert notes == (
        f"All {len(genuine)} genuine pairs and a sample (seed {seed}) of {max_pairs - len(genuine)} of the "
        f"{len(everything) - len(genuine)} impostor pairs.",
    )


def test_the_sample_depends_on_the_seed_and_is_even() -> None:
    identities = np.arange(300) // 2
    chosen = [all_pairs(identities, 10_000, seed)[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert (chosen[0] != chosen[2]).any()
    comparisons = np.bincount(chosen[0].ravel(), minlength=300)
    assert 40 < comparisons.min() <= comparisons.max() < 100  # 66.7 in the mean


def test_every_impostor_pair_is_equally_likely() -> None:
    identities = np.array([0, 0, 1, 2, 3])  # nine impostor pairs, four of them sampled
    counts: dict[tuple[int, int], int] = {}
    for seed in range(3000):
        pairs, is_genuine, _ = all_pairs(identities, 5, seed)
        for a, b in pairs[~is_genuine].tolist():
            counts[a, b] = counts.get((a, b), 0) + 1
    assert len(counts) == 9
    assert min(counts.values()) > 3000 / 3 * 0.8
    assert max(counts.values()) < 3000 / 2 * 1.2


def test_many_images_take_little_time() -> None:
    identities = np.arange(200_000) // 4
    start = time.perf_counter()
    pairs, is_genuine, _ = all_pairs(identities, 1_000_000)
    assert time.perf_counter() - start < 5  # 20,000 million pairs were not made
    assert (len(pairs), is_genuine.sum()) == (1_000_000, 300_000)


@pytest.mark.parametrize(
    ("identities", "max_pairs", "message"),
    [
        ([1, 1], 9, "2 images of 1 identities make 1 genuine and 0 impostor pairs"),
        ([1, 2], 9, "2 images of 2 identities make 0 genuine and 1 impostor pairs"),
        ([1], 9, "1 images of 1 identities make 0 genuine and 0 impostor"),
        ([], 9, "0 images of 0 identities make 0 genuine and 0 impostor"),
        ([1, 1, 1, 2], 3, "3 genuine pairs, which leaves no room for impostor pairs within max_pairs=3"),
    ],
)
def test_sets_that_cannot_be_paired(identities: list[int], max_pairs: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        all_pairs(np.array(identities, np.int64), max_pairs)


def test_balanced_pairs() -> None:
    identities = np.repeat(np.arange(20), 5)
    pairs, same = balanced_pairs(identities, np.random.default_rng(1))
    assert same.sum() == 200  # all 20 * 10 genuine pairs
    assert len(same) == 400
    np.testing.assert_array_equal(identities[pairs[:, 0]] == identities[pairs[:, 1]], same)
    assert len({tuple(sorted(pair)) for pair in pairs.tolist()}) == 400
    assert same.reshape(10, 40).sum(1).tolist() == [20] * 10


def test_balanced_pairs_repeat_with_the_seed() -> None:
    identities = np.repeat(np.arange(6), 4)
    first, second = (balanced_pairs(identities, np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_too_few_images_for_folds() -> None:
    with pytest.raises(ValueError, match="4 images give 2 genuine and 4 impostor pairs, fewer than 10 folds"):
        balanced_pairs(np.array([0, 0, 1, 1]), np.random.default_rng(0))

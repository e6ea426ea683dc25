"""Keyed random numbers: golden values, uniformity, independence."""

import numpy as np
import pytest
from scipy import stats

from igfiqa_head.draws import keyed_uniforms

MASK = 2**64 - 1
GOLDEN_GAMMA = 0x9E3779B97F4A7C15
GOLDEN = [[0.5200042280556185, 0.03810286641511762], [0.6865022800577019, 0.8502431380176599]]


def mixed(x: int) -> int:
    """The finaliser of SplitMix64 in Python's integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def uniforms(*key: int, count: int) -> list[float]:
    """Every part of the key is folded into the state; the numbers are SplitMix64's stream from there."""
    state = 0
    for part in key:
        state = mixed((state + GOLDEN_GAMMA) & MASK) ^ (part & MASK)
    start = mixed(state)
    return [(mixed((start + k * GOLDEN_GAMMA) & MASK) >> 11) * 2.0**-53 for k in range(1, count + 1)]


def test_without_a_key_the_numbers_are_those_of_splitmix64_with_seed_0() -> None:
    published = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    assert keyed_uniforms(count=3).tolist() == [(bits >> 11) * 2.0**-53 for bits in published]


def test_golden_values() -> None:
    """Computed with Python integers by `uniforms`: they must never change, or resumed runs would."""
    drawn = keyed_uniforms(2048, 1, 3, np.array([0, 5_822_652]), count=2)
    assert drawn.tolist() == GOLDEN


@pytest.mark.parametrize("key", [(0,), (1, 2, 3), (3, 2, 1), (-1, 7), (2**63 - 1, 0, 5, 9), (-(2**63),)])
def test_numbers_match_python_integers(key: tuple[int, ...]) -> None:
    assert keyed_uniforms(*key, count=5).tolist() == uniforms(*key, count=5)


def test_keys_broadcast_and_every_entry_depends_on_its_own_key_only() -> None:
    indices = np.arange(12).reshape(3, 4)
    drawn = keyed_uniforms(7, np.array([[1], [2], [3]]), indices, count=6)
    assert drawn.shape == (3, 4, 6)
    assert drawn.dtype == np.float64
    assert drawn[2, 1].tolist() == uniforms(7, 3, 9, count=6)
    assert keyed_uniforms(7, range(0), count=6).shape == (0, 6)


def test_asking_for_more_numbers_does_not_change_the_first() -> None:
    assert np.array_equal(keyed_uniforms(1, 2, count=3), keyed_uniforms(1, 2, count=9)[:3])


def test_numbers_are_uniform_in_the_half_open_unit_interval() -> None:
    drawn = keyed_uniforms(0, 1, 0, np.arange(20_000), count=12)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    p_values = [stats.kstest(column, "uniform").pvalue for column in drawn.T]
    assert min(p_values) > 0.01 / len(p_values)


def test_columns_and_neighbouring_keys_are_uncorrelated() -> None:
    n = 20_000
    columns = keyed_uniforms(0, 1, 0, np.arange(n), count=12)
    streams = [keyed_uniforms(*key, np.arange(n), count=1) for key in ((0, 1, 1), (0, 2, 0), (1, 1, 0))]
    shifted = keyed_uniforms(0, 1, 0, np.arange(1, n + 1), count=1)
    correlation = np.corrcoef(np.hstack([columns, *streams, shifted]), rowvar=False)
    off_diagonal = correlation[~np.eye(len(correlation), dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(n)


def test_neighbouring_keys_share_no_number() -> None:
    seeds, epochs, indices = np.meshgrid(np.arange(10), np.arange(10), np.arange(50), indexing="ij")
    drawn = keyed_uniforms(seeds, epochs, indices, count=4)
    assert len(np.unique(drawn)) == drawn.size


def test_no_global_generator_is_touched() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    keyed_uniforms(1, count=5)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]

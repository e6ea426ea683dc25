"""Pairs for the tests: scored ones of every awkward kind, and embeddings."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval_tools.curve import ErrorRejectionCurve

Array = NDArray[Any]
Pairs = tuple[Array, Array, Array]
Rows = list[tuple[int, bool, int, int]]
FMRS = (1e-3, 0.02, 0.1, 0.35, 0.9)


def random_kinds(rng: np.random.Generator, size: int, share: float) -> Array:
    is_genuine = rng.random(size) < share
    is_genuine[rng.permutation(size)[:2]] = True, False
    return is_genuine


def _continuous(rng: np.random.Generator) -> Pairs:
    is_genuine = random_kinds(rng, 150, 0.4)
    return rng.normal(is_genuine * 1.5, 1.0), is_genuine, rng.normal(size=150)


def _tied(rng: np.random.Generator) -> Pairs:
    is_genuine = random_kinds(rng, 120, 0.5)
    return rng.integers(0, 6, 120) + 2.0 * is_genuine, is_genuine, rng.integers(0, 5, 120).astype(float)


def _all_equal(rng: np.random.Generator) -> Pairs:
    return np.full(30, 0.5), np.arange(30) % 2 == rng.integers(2), np.full(30, 7.0)


def _tiny(rng: np.random.Generator) -> Pairs:
    size = int(rng.integers(2, 7))
    return rng.integers(-2, 3, size) / 4, random_kinds(rng, size, 0.5), rng.integers(0, 3, size).astype(float)


def _negative(rng: np.random.Generator) -> Pairs:
    is_genuine = random_kinds(rng, 80, 0.3)
    return -5 + rng.random(80) * 0.5 + 0.3 * is_genuine, is_genuine, -1e6 - rng.random(80)


def _impostors_leave_first(rng: np.random.Generator) -> Pairs:
    is_genuine = random_kinds(rng, 60, 0.5)
    return rng.normal(is_genuine, 1.0), is_genuine, is_genuine + 0.5 * rng.random(60)


def _genuine_leave_first(rng: np.random.Generator) -> Pairs:
    is_genuine = random_kinds(rng, 60, 0.5)
    return rng.normal(is_genuine, 1.0), is_genuine, rng.random(60) - is_genuine


def _single_impostor(rng: np.random.Generator) -> Pairs:
    is_genuine = np.arange(25) != 11
    return rng.integers(0, 9, 25) / 8, is_genuine, rng.random(25)


INPUTS: dict[str, Callable[[np.random.Generator], Pairs]] = {
    "continuous": _continuous,
    "tied": _tied,
    "all equal": _all_equal,
    "tiny": _tiny,
    "negative": _negative,
    "impostors leave first": _impostors_leave_first,
    "genuine leave first": _genuine_leave_first,
    "single impostor": _single_impostor,
}
every_input = pytest.mark.parametrize("kind", INPUTS)
every_fmr = pytest.mark.parametrize("fmr", FMRS)


def make_pairs(kind: str, seed: int = 0) -> Pairs:
    """Similarity, whether genuine, and quality, [P] each."""
    return INPUTS[kind](np.random.default_rng([seed, len(kind)]))


# Score, kind and the qualities of the two images of each pair, with many ties.
pair_lists = st.lists(
    st.tuples(st.integers(-20, 20), st.booleans(), st.integers(-6, 6), st.integers(-6, 6)), max_size=50
).map(lambda rows: [*rows, (3, True, 0, 1), (-2, False, 1, 0)])


def columns(rows: Rows) -> tuple[Array, Array, Array, Array]:
    """Similarity, whether genuine, and the qualities of the first and second image, [P] each."""
    scores, kinds, first, second = (np.array(column) for column in zip(*rows, strict=True))
    return scores.astype(float), kinds, first.astype(float), second.astype(float)


def embedded_pairs(seed: int, pairs: int, spread: float, dim: int = 6) -> tuple[Array, Array]:
    """Embeddings [2P, D], pair i in rows 2i and 2i + 1, and whether pairs are genuine [P]."""
    rng = np.random.default_rng(seed)
    is_genuine = rng.random(pairs) < 0.5
    is_genuine[:2] = True, False
    first = rng.normal(size=(pairs, dim))
    second = np.where(is_genuine[:, None], first, rng.normal(size=(pairs, dim)))
    second = second + spread * rng.normal(size=(pairs, dim))
    return np.stack([first, second], axis=1).reshape(2 * pairs, dim), is_genuine


def simulated_pairs(
    seed: int, n_pairs: int = 900, noise_of_better: float = 0.1
) -> tuple[Array, Array, dict[str, Array]]:
    """Independent pairs, a third of them genuine, and two methods that see the true quality through noise."""
    rng = np.random.default_rng(seed)
    is_genuine = np.arange(n_pairs) % 3 == 0
    truth = rng.normal(size=n_pairs)
    similarity = rng.normal(size=n_pairs) + is_genuine * (2 + truth)
    noise = {"better": noise_of_better, "worse": 1.0}
    return similarity, is_genuine, {name: truth + n * rng.normal(size=n_pairs) for name, n in noise.items()}


def clustered_pairs(seed: int) -> tuple[Array, Array, Array, Array]:
    """40 people with 5 images each; who is hard to recognise is so in all his pairs."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(40), 5)
    first, second = np.triu_indices(people.size, 1)
    pairs = np.stack([people[first], people[second]], axis=1)
    is_genuine = pairs[:, 0] == pairs[:, 1]
    ease = rng.normal(2.5, 1.5, 40)
    similarity = rng.normal(size=first.size) + is_genuine * ease[pairs[:, 0]]
    quality = rng.random(people.size)
    return similarity, is_genuine, np.minimum(quality[first], quality[second]), pairs


def source_line(warning: warnings.WarningMessage) -> str:
    """The line that a warning names."""
    return linecache.getline(warning.filename, warning.lineno)


def assert_same_curve(a: ErrorRejectionCurve, b: ErrorRejectionCurve) -> None:
    for name in ("discard", "error", "n_errors", "n_genuine", "n_impostor", "effective_fmr"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.auc == pytest.approx(b.auc, nan_ok=True)


MONOTONE: list[Callable[[Array], Array]] = [np.exp, lambda x: x**3, lambda x: 5 * x - 100, np.arctan]
every_monotone = st.sampled_from(MONOTONE)

"""Pairs made from the identities of images: all of them, or balanced folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eval_tools.scores import BoolArray, IntArray

MAX_PAIRS = 10_000_000
"""Default limit of :func:`all_pairs`: 160 MB of positions. IJB-C compares 15.7 million pairs."""


def all_pairs(
    identities: IntArray, max_pairs: int = MAX_PAIRS, seed: int = 0
) -> tuple[IntArray, BoolArray, tuple[str, ...]]:
    """Every pair of N images; where they are too many, all genuine ones and a sample of the impostor pairs.

    The sample takes one pair from each of equal shares of all impostor pairs, so that every image is compared
    about as often as any other.

    Args:
        identities: [N].
        max_pairs: at most so many pairs.
        seed: of the sample.

    Returns:
        (pairs [P, 2] in ascending order, is_genuine [P], notes).

    Raises:
        ValueError: no genuine or no impostor pair, or more genuine pairs than ``max_pairs`` leaves room for.
    """
    order = np.argsort(identities, kind="stable")
    _, sizes = np.unique(identities, return_counts=True)
    group_end = np.repeat(np.cumsum(sizes), sizes)
    position = np.arange(len(order))
    n_genuine = int((group_end - position - 1).sum())
    n_impostor = len(order) * (len(order) - 1) // 2 - n_genuine
    if not n_genuine or not n_impostor:
        raise ValueError(
            f"{len(order)} images of {len(sizes)} identities make {n_genuine} genuine and {n_impostor} "
            "impostor pairs: error rates need both kinds"
        )
    if n_genuine >= max_pairs:
        raise ValueError(
            f"{len(order)} images make {n_genuine} genuine pairs, which leaves no room for impostor pairs "
            f"within max_pairs={max_pairs}: raise it, or take fewer images of each identity"
        )
    chosen = _ranks(n_impostor, max_pairs - n_genuine, seed)
    genuine = _ranked_pairs(position + 1, group_end, np.arange(n_genuine))
    impostor = _ranked_pairs(group_end, np.full_like(group_end, len(order)), chosen)
    pairs = np.sort(order[np.concatenate([genuine, impostor])], axis=1)
    # Methods that discard tied qualities in the order of the pairs must not meet the genuine ones first.
    ascending = np.argsort(pairs[:, 0] * len(order) + pairs[:, 1])
    notes: tuple[str, ...] = ()
    if chosen.size < n_impostor:
        notes = (
            f"All {n_genuine} genuine pairs and a sample (seed {seed}) of {chosen.size} of the {n_impostor} "
            "impostor pairs.",
        )
    return pairs[ascending], (ascending < n_genuine), notes


def _ranks(population: int, count: int, seed: int) -> IntArray:
    """All of 0 .. population - 1, or ``count`` of them, one from each of equal shares."""
    if population <= count:
        return np.arange(population)
    share, rest = divmod(population, count)
    edges = np.arange(count + 1) * share + np.arange(count + 1) * rest // count
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:])


def _ranked_pairs(start: IntArray, stop: IntArray, ranks: IntArray) -> IntArray:
    """Pairs [R, 2] of the given ranks in the list (0, start[0]) .. (0, stop[0] - 1), (1, start[1]) .."""
    ends = np.cumsum(stop - start)
    first = np.searchsorted(ends, ranks, side="right")
    return np.stack([first, stop[first] - (ends[first] - ranks)], axis=1)


def balanced_pairs(
    identities: IntArray, rng: np.random.Generator, folds: int = 10
) -> tuple[IntArray, NDArray[np.bool_]]:
    """All genuine pairs of a set, and as many random impostor pairs, in folds of equal shares like LFW's.

    Args:
        identities: [N] identity of each image.
        rng: chooses the impostor pairs and the folds.
        folds: the number of genuine pairs is cut to a multiple of it.

    Returns:
        (pairs [P, 2], is_genuine [P]).

    Raises:
        ValueError: fewer genuine or impostor pairs than folds.
    """
    first, second = np.triu_indices(len(identities), k=1)
    same = identities[first] == identities[second]
    count = min(same.sum(), (~same).sum()) // folds
    if count == 0:
        raise ValueError(
            f"{len(identities)} images give {same.sum()} genuine and {(~same).sum()} impostor pairs, "
            f"fewer than {folds} folds need"
        )
    chosen = [rng.choice(np.flatnonzero(kind), (folds, count), replace=False) for kind in (same, ~same)]
    order = np.concatenate(chosen, axis=1).ravel()
    return np.stack([first[order], second[order]], axis=1), same[order]

"""Bootstrap resamples of scored pairs: how often each pair occurs, and the curves of pairs so repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.curve import ErrorRejectionCurve, Protocol
from eval_tools.pair_erc import (
    GriddedPairs,
    Threshold,
    crfiqa_curve,
    fixed_all_curve,
    fixed_curve,
    fixed_threshold,
)
from eval_tools.scores import BoolArray, FloatArray, IntArray, allowed_false_matches
from igfiqa_head.arrays import plain_array

Curves = Iterator[tuple[str, ErrorRejectionCurve]]


def multiplicities(
    is_genuine: BoolArray, pair_identities: ArrayLike | None, rng: np.random.Generator
) -> Iterator[IntArray]:
    """Endless resamples: how often each pair [P] occurs.

    With identities, people are drawn with replacement: a pair of one person drawn w times occurs w times, a
    pair of two people w1 * w2 times, so that the dependence of pairs that share a person is kept (the subsets
    bootstrap of Bolle, Ratha and Pankanti, Computer Vision and Image Understanding 93, 2004, with people on
    both sides of a pair). Without, genuine and impostor pairs are drawn with replacement, each among
    themselves. A draw without any genuine or without any impostor pair is drawn again.

    Args:
        is_genuine: [P].
        pair_identities: int [P, 2], the two people of each pair, or None.
        rng: source of the draws.

    Raises:
        ValueError: identities of another shape or type, or that contradict ``is_genuine``.
    """
    if pair_identities is None:
        draw = _pair_draws(is_genuine, rng)
    else:
        draw = _identity_draws(is_genuine, _check_pair_identities(pair_identities, is_genuine), rng)
    return _with_both_kinds(draw, np.flatnonzero(is_genuine))


def _with_both_kinds(draw: Callable[[], IntArray], genuine: IntArray) -> Iterator[IntArray]:
    while True:
        times = draw()
        if 0 < times[genuine].sum() < times.sum():
            yield times


def _check_pair_identities(pair_identities: ArrayLike, is_genuine: BoolArray) -> IntArray:
    people = plain_array("pair_identities", pair_identities)
    if people.shape != (is_genuine.size, 2) or people.dtype.kind not in "iu":
        raise ValueError(
            f"pair_identities must be whole numbers of shape ({is_genuine.size}, 2), the two people of each "
            f"pair, got {people.dtype} {people.shape}"
        )
    wrong = np.flatnonzero((people[:, 0] == people[:, 1]) != is_genuine)
    if wrong.size:
        first = wrong[0]
        raise ValueError(
            f"pair_identities contradict is_genuine at {wrong.size} pairs, the first at index {first}: "
            f"people {people[first, 0]} and {people[first, 1]}, is_genuine {is_genuine[first]}"
        )
    return people


def _pair_draws(is_genuine: BoolArray, rng: np.random.Generator) -> Callable[[], IntArray]:
    kinds = np.flatnonzero(is_genuine), np.flatnonzero(~is_genuine)

    def draw() -> IntArray:
        times = np.empty(is_genuine.size, dtype=np.int64)
        for pairs in kinds:
            times[pairs] = _times_drawn(pairs.size, rng)
        return times

    return draw


def _identity_draws(
    is_genuine: BoolArray, people: IntArray, rng: np.random.Generator
) -> Callable[[], IntArray]:
    names, codes = np.unique(people, return_inverse=True)
    first, second = codes.reshape(-1, 2).T
    # Genuine pairs have one person: their second factor is the 1 put behind the last person.
    second = np.where(is_genuine, names.size, second)

    def draw() -> IntArray:
        times = np.append(_times_drawn(names.size, rng), 1)
        return times[first] * times[second]

    return draw


def _times_drawn(count: int, rng: np.random.Generator) -> IntArray:
    """How often each of ``count`` items is drawn in ``count`` draws with replacement."""
    return np.bincount(rng.integers(0, count, count), minlength=count)


class RepeatedPairs:
    """Error-versus-reject curves of several quality methods over pairs of which each occurs so many times.

    The pairs are sorted once, by score and by each method's quality; a resample repeats them in place, so it
    is sorted too. Its curves are those that :func:`eval_tools.erc.error_rejection_curve` gives for the
    repeated pairs.

    Args:
        similarity: [P], higher is more alike.
        is_genuine: [P], both kinds occur.
        qualities: method -> quality [P].
        fmr: target FMR.
        protocol: "fixed", "crfiqa" or "fixed-all".
    """

    def __init__(
        self,
        similarity: FloatArray,
        is_genuine: BoolArray,
        qualities: Mapping[str, FloatArray],
        fmr: float,
        protocol: Protocol,
    ) -> None:
        self._similarity, self._is_genuine, self._qualities = similarity, is_genuine, qualities
        self._fmr, self._protocol = fmr, protocol
        self._genuine = np.flatnonzero(is_genuine)
        if protocol != "crfiqa":
            impostor = np.flatnonzero(~is_genuine)
            self._best_impostors_first = impostor[np.argsort(-similarity[impostor])]
        # ``fixed`` discards genuine pairs only.
        discarded = self._genuine if protocol == "fixed" else np.arange(is_genuine.size)
        self._orders = {
            name: discarded[np.argsort(quality[discarded], kind="stable")]
            for name, quality in qualities.items()
        }

    def curves(self, times: IntArray) -> Curves:
        """The curve of each method, with pair i occurring ``times[i]`` times (``times`` int [P])."""
        if self._protocol == "crfiqa":
            for name, order in self._orders.items():
                yield name, crfiqa_curve(self._gridded(order, times), self._fmr)
            return
        n_impostor = int(times.sum() - times[self._genuine].sum())
        threshold = self._threshold(times, n_impostor)
        for name, order in self._orders.items():
            if self._protocol == "fixed-all":
                yield name, fixed_all_curve(self._gridded(order, times), threshold, "fnmr")
            else:
                repeated = np.repeat(order, times[order])
                quality = self._qualities[name][repeated]
                yield name, fixed_curve(self._similarity[repeated], quality, n_impostor, threshold, "fnmr")

    def _gridded(self, order: IntArray, times: IntArray) -> GriddedPairs:
        repeated = np.repeat(order, times[order])
        return GriddedPairs.cut(self._similarity[repeated], self._is_genuine[repeated])

    def _threshold(self, times: IntArray, n_impostor: int) -> Threshold:
        """The threshold does not depend on the quality, and only the highest impostor scores decide it."""
        needed = allowed_false_matches(self._fmr, n_impostor) + 1
        count = needed
        while times[self._best_impostors_first[:count]].sum() < needed:
            count *= 2
        highest = self._best_impostors_first[:count]
        scores = np.repeat(self._similarity[highest], times[highest])
        return fixed_threshold(scores, self._fmr, n_impostor=n_impostor)

"""Finding a test set's images among names that were written elsewhere, with other folders and suffixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

MISSING, AMBIGUOUS = -1, -2


@dataclass(frozen=True)
class Match:
    """Where each wanted name was found.

    Attributes:
        positions: int64 [N] among the given names, ``MISSING`` or ``AMBIGUOUS``.
        how: the rule by which names were compared, None if they were equal.
    """

    positions: NDArray[np.int64]
    how: str | None


def match_names(wanted: Sequence[str], given: Sequence[str]) -> Match:
    """Find distinct names among distinct names, all by the strictest rule that finds all of them.

    The rules, from strict to lax: equal names; equal last parts of the paths, as many as possible; the same
    without the suffix; equal numbers (CR-FIQA calls the images of a ``.bin`` file 00000.jpg, 00001.jpg ... in
    file order). Where a rule does not tell two names of one side apart, they are ambiguous. If no rule finds
    all, the first of those that find the most is taken.
    """
    best: Match | None = None
    most = -1
    for how, key in _rules(wanted, given):
        positions = _positions([key(name) for name in wanted], [key(name) for name in given])
        found = int(np.count_nonzero(positions >= 0))
        if found > most:
            best, most = Match(positions, how), found
        if found == len(wanted):
            break
    return best or Match(np.empty(0, np.int64), None)


def _rules(wanted: Sequence[str], given: Sequence[str]) -> Iterator[tuple[str | None, Callable[[str], str]]]:
    yield None, str
    depth = 1 + min(max((name.count("/") for name in names), default=0) for names in (wanted, given))
    for suffix in ("with", "without"):
        for length in range(depth, 0, -1):
            parts = "part" if length == 1 else f"{length} parts"
            yield (
                f"the last {parts} of their paths, {suffix} the suffix",
                partial(_tail, length=length, bare=suffix == "without"),
            )
    yield "their number, whatever its zeros, folder and suffix", _number


def _tail(name: str, length: int, bare: bool) -> str:
    tail = "/".join(name.split("/")[-length:])
    stem, dot, suffix = tail.rpartition(".")
    return stem if bare and dot and "/" not in suffix else tail


def _number(name: str) -> str:
    stem = _tail(name, 1, bare=True)
    return str(int(stem)) if stem.isdecimal() else name


def _positions(wanted: Sequence[str], given: Sequence[str]) -> NDArray[np.int64]:
    index: dict[str, int] = {}
    for position, key in enumerate(given):
        index[key] = AMBIGUOUS if key in index else position
    asked: dict[str, int] = {}
    for key in wanted:
        asked[key] = asked.get(key, 0) + 1
    found = (index.get(key, MISSING) if asked[key] == 1 else AMBIGUOUS for key in wanted)
    return np.fromiter(found, np.int64, len(wanted))

"""Finding a test set's images among names that were written elsewhere, with other folders and suffixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eval_tools.names import composed

MISSING, AMBIGUOUS = -1, -2


@dataclass(frozen=True)
class Match:
    """Where each wanted name was found.

    Attributes:
        positions: int64 [N] among the given names, ``MISSING`` or ``AMBIGUOUS``.
        how: the rule by which names were compared, None if they were equal (in whatever Unicode form).
    """

    positions: NDArray[np.int64]
    how: str | None


def match_names(wanted: Sequence[str], given: Sequence[str]) -> Match:
    """Find distinct names among distinct names, all by the strictest rule that finds all of them.

    The rules, from strict to lax: equal names; equal last parts of the paths, as many as possible; the same
    without the suffix. Where a rule does not tell two names of one side apart, they are ambiguous. If no rule
    finds all, the first of those that find the most is taken. What a rule does not find, it finds in another
    Unicode form (see :mod:`eval_tools.names`), if one name alone has it.

    Images that are known by their positions 0 .. N - 1 alone, as those of a ``.bin`` file, are found by
    number, whatever its zeros, folder and suffix: CR-FIQA calls them 00000.jpg, 00001.jpg ... in file order.
    A number fits any set, so it is taken only from names that are the numbers 0 .. N - 1, each once.

    Raises:
        ValueError: images that are known by their positions, and other names than these.
    """
    if _are_positions(wanted):
        return _match_positions(wanted, given)
    best: Match | None = None
    most = -1
    for how, key in _rules(wanted, given):
        positions = _in_any_form([key(name) for name in wanted], [key(name) for name in given])
        found = int(np.count_nonzero(positions >= 0))
        if found > most:
            best, most = Match(positions, how), found
        if found == len(wanted):
            break
    return best or Match(np.empty(0, np.int64), None)


def _are_positions(names: Sequence[str]) -> bool:
    return len(names) > 0 and set(names) == set(map(str, range(len(names))))


def _match_positions(wanted: Sequence[str], given: Sequence[str]) -> Match:
    keys, positions = [_number(name) for name in given], set(wanted)
    if len(keys) != len(wanted) or set(keys) != positions:
        others = [name for name, key in zip(given, keys, strict=True) if key not in positions]
        example = next(iter([*others, *given]), "")
        raise ValueError(
            f"its {len(given)} names, such as {example!r}, are not those of the {len(wanted)} images of this "
            f"set: these are known by their position alone, so expected the numbers 0 .. {len(wanted) - 1}, "
            "each once, with any zeros, folder and suffix; write NaN for an image without a value"
        )
    same = set(given) == set(wanted)
    return Match(
        _positions(wanted, keys), None if same else "their number, whatever its zeros, folder and suffix"
    )


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


def _tail(name: str, length: int, bare: bool) -> str:
    tail = "/".join(name.split("/")[-length:])
    stem, dot, suffix = tail.rpartition(".")
    return stem if bare and dot and "/" not in suffix else tail


def _number(name: str) -> str:
    stem = _tail(name, 1, bare=True)
    return (stem.lstrip("0") or "0") if stem.isdecimal() else name


def _in_any_form(wanted: Sequence[str], given: Sequence[str]) -> NDArray[np.int64]:
    """Positions of the names as they are, and of the others in composed form."""
    positions = _positions(wanted, given)
    if (positions >= 0).all() or all(map(str.isascii, wanted)):
        return positions
    composed_ones = _positions(list(map(composed, wanted)), list(map(composed, given)))
    return np.where(positions == MISSING, composed_ones, positions)


def _positions(wanted: Sequence[str], given: Sequence[str]) -> NDArray[np.int64]:
    index: dict[str, int] = {}
    for position, key in enumerate(given):
        index[key] = AMBIGUOUS if key in index else position
    asked: dict[str, int] = {}
    for key in wanted:
        asked[key] = asked.get(key, 0) + 1
    found = (index.get(key, MISSING) if asked[key] == 1 else AMBIGUOUS for key in wanted)
    return np.fromiter(found, np.int64, len(wanted))

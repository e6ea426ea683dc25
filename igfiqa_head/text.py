"""Text of other people: made safe to print, and read as numbers."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Sequence
from typing import TextIO

_MOST_SHOWN = 100


def printable(text: str) -> str:
    """``text`` on one line, its line breaks, escape codes and the like written out as Python shows them."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def tell(line: str, file: TextIO | None = None) -> None:
    """Print :func:`printable` text, at once; to stdout if no file is given."""
    print(printable(line), file=file, flush=True)


def width_of(text: str) -> int:
    """The columns of a terminal that printable text takes: two for each wide letter, none for accents."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def padded(text: str, width: int, align: str = "<") -> str:
    """``text`` with spaces up to ``width`` columns, aligned as :func:`format` has it."""
    return format(text, f"{align}{max(width - width_of(text) + len(text), 0)}")


def number(text: str) -> float:
    """The number that a text holds.

    Raises:
        ValueError: it holds none, or one that Python alone would read: 1_000, or digits of another script.
    """
    if not has_plain_digits(text.strip()):
        raise ValueError(f"expected a number, got {text!r}")
    return float(text)


def integer(text: str) -> int:
    """The whole number that a text holds; errors as for :func:`number`."""
    number(text)
    return int(text)


def environment_number(variable: str, default: float, low: float, high: float) -> float:
    """The number that an environment variable holds, ``default`` if it is not set.

    Raises:
        ValueError: it holds none from ``low`` to ``high``.
    """
    text = os.environ.get(variable)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(
            f"the environment variable {variable} must be a number from {low:g} to {high:g}, got {text!r}"
        )
    return value


def has_plain_digits(text: str) -> bool:
    """Whether :class:`float` can be trusted with every number in it."""
    return text.isascii() and "_" not in text


def first_of(names: Sequence[str], most: int) -> str:
    """The first ``most`` names, and the number of the others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shown(value: object) -> str:
    """A plain value as Python writes it, cut short, and of anything else what it is."""
    if not isinstance(value, (bool, int, float, str, type(None))):
        return f"a {type(value).__name__}"
    if type(value) is int and abs(value) >= 2**64:  # Python may refuse to write down a longer one
        return "an integer of more than 64 bits"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."

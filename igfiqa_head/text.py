"""Text from other people's files, made safe to print."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_SHOWN = 100


def printable(text: str) -> str:
    """``text`` on one line, its line breaks, escape codes and the like written out as Python shows them."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


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

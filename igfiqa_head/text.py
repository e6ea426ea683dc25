"""Text from other people's files, made safe to print."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """``text`` on one line, its line breaks, escape codes and the like written out as Python shows them."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def first_of(names: Sequence[str], most: int) -> str:
    """The first ``most`` names, and the number of the others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

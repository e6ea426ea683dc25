"""Text from other people's files, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` on one line, its line breaks, escape codes and the like written out as Python shows them."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)

"""Names of one source among those of another, whatever Unicode form either is written in.

The é of a file name is one character (the composed form, NFC: Linux, Windows, most lists) or two (NFD: macOS,
and what was copied from there). Both look the same.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from functools import cached_property


def composed(name: str) -> str:
    """The name in composed form (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class Names:
    """Names to look up: as they are or, where no name is equal, in the form that one of them alone has."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = dict.fromkeys(names)

    def find(self, name: str) -> str | None:
        """The one of the names that is meant, None if there is none or there are several."""
        return name if name in self._names else self._by_form.get(composed(name))

    @cached_property
    def _by_form(self) -> dict[str, str | None]:
        forms: dict[str, str | None] = {}
        for name in self._names:
            form = composed(name)
            forms[form] = None if form in forms else name
        return forms


class Folders:
    """Names of files and folders on the disk, each folder listed once."""

    def __init__(self) -> None:
        self._listed: dict[str, Names] = {}

    def find(self, root: str, path: str) -> str | None:
        """``path``, relative to ``root`` and with slashes, as the disk spells it; None if it is not there."""
        if os.path.exists(os.path.join(root, path)):
            return path
        found: list[str] = []
        for part in path.split("/"):
            name = self._entries(os.path.join(root, *found)).find(part)
            if name is None:
                return None
            found.append(name)
        return "/".join(found)

    def _entries(self, folder: str) -> Names:
        if folder not in self._listed:
            self._listed[folder] = Names(os.listdir(folder) if os.path.isdir(folder) else ())
        return self._listed[folder]

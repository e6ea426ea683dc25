"""What to do about bad entries of a test set: stop with one error, or leave them out and count them."""

from __future__ import annotations

import os

from eval_tools.on_bad import EXCLUDE, OnBad, check_on_bad

_MAX_DETAIL = 400  # a damaged line can be as long as its file


class Exclusions:
    """Collects the bad entries of one file or folder.

    Args:
        path: named in errors.
        on_bad: "error" raises at the first bad entry, "exclude" counts them by kind.

    Raises:
        ValueError: another ``on_bad``.
    """

    def __init__(self, path: str | os.PathLike[str], on_bad: OnBad) -> None:
        check_on_bad(on_bad)
        self._path = path
        self._on_bad = on_bad
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, kind: str, detail: str) -> None:
        """A bad entry: ``kind`` is a plural that is counted, ``detail`` says where and what it is.

        Raises:
            ValueError: bad entries are errors.
        """
        detail = detail if len(detail) <= _MAX_DETAIL else f"{detail[:_MAX_DETAIL]} ..."
        if self._on_bad == "error":
            raise ValueError(f"{self._path}: {detail}; correct it, or leave such entries out with {EXCLUDE}")
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._first.setdefault(kind, detail)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind."""
        return tuple(
            f"{count} {kind} excluded; the first: {self._first[kind]}."
            for kind, count in self._counts.items()
        )

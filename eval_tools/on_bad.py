"""The choice between stopping at a bad entry of an input and leaving it out, counted."""

from __future__ import annotations

from typing import Literal, get_args

OnBad = Literal["error", "exclude"]

EXCLUDE = "--on-bad exclude (in Python on_bad='exclude')"
"""The advice of errors, in the words of the commands first."""


def check_on_bad(on_bad: OnBad) -> None:
    """``ValueError`` unless it is one of the choices."""
    if on_bad not in get_args(OnBad):
        raise ValueError(f"on_bad must be 'error' or 'exclude', got {on_bad!r}")

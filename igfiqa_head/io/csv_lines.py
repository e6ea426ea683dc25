"""Lines of CSV that hold text and numbers for a spreadsheet too, whatever other people's names are in them.

Text that a spreadsheet would take for a formula is written behind an apostrophe, and quoted where any
separator is in it, not only ours (OWASP, CSV Injection). Numbers are never changed.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable

_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # and what would be taken for one of ours
_QUOTED = re.compile('[,;\t"\r\n]')


def csv_line(cells: Iterable[object]) -> str:
    """A line of RFC 4180 without its end. Numbers are in full precision, None and NaN empty cells."""
    return ",".join(map(_cell, cells))


def text_of_cell(cell: str) -> str:
    """The text that :func:`csv_line` made this cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    text = f"'{value}" if _FORMULA.match(str(value)) else str(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text

"""Lines "name score", as CR-FIQA's scripts write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval_tools.cells import convert
from eval_tools.columns import open_text


def read_name_scores(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Names and scores of lines "name score"; names may contain spaces.

    Raises:
        ValueError: unreadable, empty, or a line that is not of this form.
    """
    with open_text(path, newline=None) as file:
        lines = [(number, line.rsplit(None, 1)) for number, line in enumerate(file, 1) if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty, expected lines 'name score'")

    def where(row: int) -> str:
        return f"{path}, line {lines[row][0]}"

    for row, (_, fields) in enumerate(lines):
        if len(fields) != 2 or fields[0][-1] in ",;":
            raise ValueError(
                f"{where(row)} is {' '.join(fields)[:80]!r}, expected 'name score' separated by white space; "
                "give a table with a header and commas the suffix .csv"
            )
    names = [fields[0].strip() for _, fields in lines]
    return names, convert([fields[1] for _, fields in lines], "number", "score", 0, where)

"""How figures become files: complete or not at all, and as publishers want them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igfiqa_head.io.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf")
DOTS_PER_INCH = 200

# Publishers refuse matplotlib's default, Type 3; 42 embeds TrueType.
_TRUETYPE: dict[Any, Any] = {"pdf.fonttype": 42}


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure as its suffix says: PNG, or PDF with embedded TrueType fonts.

    Raises:
        ValueError: another suffix.
    """
    import matplotlib  # here, as commands ask for the suffixes alone
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"figures are written as .png or .pdf, got {os.fspath(path)!r}")
    FigureCanvasAgg(figure)
    with matplotlib.rc_context(_TRUETYPE), atomic_path(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.08)

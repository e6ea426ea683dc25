"""What all figures share: colours, line styles, plain axes and the way to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from eval_tools.text import printable
from igfiqa_head.io.atomic import atomic_path

# Okabe and Ito's palette, distinct for colour-blind readers; the line style changes when it starts anew.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
DOTS_PER_INCH = 200

# Publishers refuse matplotlib's default, Type 3; 42 embeds TrueType.
_TRUETYPE: dict[Any, Any] = {"pdf.fonttype": 42}


def colour_of(index: int) -> str:
    """Colour of the curve that comes at this place, from 0."""
    return COLOURS[index % len(COLOURS)]


def line_style_of(index: int) -> Any:
    """Line style of the curve that comes at this place, from 0."""
    return LINE_STYLES[index // len(COLOURS) % len(LINE_STYLES)]


def plain(text: str) -> str:
    """``text`` as it stands: no formula between dollars, no name left out of a legend for its underscore."""
    return ("\u200b" if text.startswith("_") else "") + printable(text).replace("$", r"\$")


def tidy(axes: Axes) -> None:
    """A light grid behind the data, and no frame on top and right."""
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure as its suffix says."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".pdf"):
        raise ValueError(f"figures are written as .png or .pdf, got {os.fspath(path)!r}")
    FigureCanvasAgg(figure)
    with matplotlib.rc_context(_TRUETYPE), atomic_path(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.08)

"""What all figures share: colours, line styles and plain axes."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from igfiqa_head.text import printable

# Okabe and Ito's palette, distinct for colour-blind readers; the line style changes when it starts anew.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))


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

"""The common look of all figures: colours, line styles, markers and plain axes."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from igfiqa_head.text import printable

# Okabe and Ito's palette, distinct for colour-blind readers. Without colour, dashes and markers tell 28
# lines apart: their numbers, 4 and 7, share no divisor.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HANDLE_LENGTH = 3.2  # of a legend's lines, in font sizes: enough for the longest dashes
_MARKER_SIZE = 3.6  # points


def colour_of(index: int) -> str:
    """Colour of the curve that comes at this place, from 0."""
    return COLOURS[index % len(COLOURS)]


def line_style_of(index: int) -> Any:
    """Line style of the curve that comes at this place, from 0."""
    return LINE_STYLES[index % len(LINE_STYLES)]


def marker_of(index: int) -> str:
    """Marker of the curve that comes at this place, from 0."""
    return MARKERS[index % len(MARKERS)]


def look(index: int) -> dict[str, Any]:
    """The look of the line at this place, from 0, as matplotlib's keywords."""
    return {
        "color": colour_of(index),
        "linestyle": line_style_of(index),
        "marker": marker_of(index),
        "markersize": _MARKER_SIZE,
    }


def plain(text: str) -> str:
    """``text`` as it stands: no formula between dollars, no name left out of a legend for its underscore."""
    return ("\u200b" if text.startswith("_") else "") + printable(text).replace("$", r"\$")


def tidy(axes: Axes) -> None:
    """A light grid behind the data, and no frame on top and right."""
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

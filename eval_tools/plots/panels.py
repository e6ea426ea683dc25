"""The error-versus-reject curves of a comparison, a panel for each test set."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eval_tools.plots.erc import (
    discard_label,
    draw_curve,
    effective_fmr_text,
    error_label,
    highest_error,
    resolution_text,
    shade_unresolved,
)
from eval_tools.plots.style import HANDLE_LENGTH, colour_of, look, plain, tidy
from eval_tools.results import Comparison, MeasuredCurve
from igfiqa_head.figure_files import save

_MOST_COLUMNS = 4
_PANEL_WIDTH, _PANEL_HEIGHT = 2.15, 1.9  # inches: four panels span a page
_LINE_WIDTH = 1.2
MOST_SHADED = 3  # of the bands in a panel; more blend into one mass

Panel = Mapping[str, MeasuredCurve]


def plot_erc_panels(
    comparison: Comparison,
    path: str | os.PathLike[str],
    *,
    recogniser: str,
    protocol: str,
    fmr: float,
    log: bool = False,
    bands: bool | None = None,
) -> None:
    """Draw the curves of all quality methods, a panel for each test set, and write them as PNG or PDF.

    The panels share the legend and the discard axis but not the error axis, whose end is that of
    :func:`eval_tools.plots.erc.highest_error`. Each one states the FMR in effect and its numbers of genuine +
    impostor pairs; its ground is grey where the target FMR is not resolved.

    Args:
        comparison: what was measured; its ``limit`` is the right end of the discard axis.
        path: ends in ``.png`` or ``.pdf``.
        recogniser, protocol, fmr: which curves.
        log: logarithmic error axis; a curve that falls to 0 leaves it at the bottom.
        bands: shade the confidence bands of the curves that have one; None where at most three have.

    Raises:
        ValueError: the comparison has no such curves, or another suffix.
    """
    panels = _panels(comparison, recogniser, protocol, fmr)
    methods = [m for m in comparison.names("method") if any(m in panel for panel in panels.values())]
    shaded = has_few_bands(panels.values()) if bands is None else bands
    rows = math.ceil(len(panels) / _MOST_COLUMNS)
    columns = math.ceil(len(panels) / rows)
    size = _PANEL_WIDTH * max(columns, 1.6), _PANEL_HEIGHT * rows + 0.5
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    notes = {test_set: _note(panel, comparison.limit) for test_set, panel in panels.items()}
    pad = 6 + 7 * max(note.count("\n") + 1 for note in notes.values())
    for axes, (test_set, panel) in zip(grid, panels.items(), strict=False):
        _draw_panel(axes, panel, methods, comparison.limit, log=log, bands=shaded)
        axes.set_title(plain(test_set), fontsize=9, pad=pad)
        axes.annotate(notes[test_set], (0.5, 1), (0, 3), "axes fraction", "offset points", **_NOTE_STYLE)
        axes.xaxis.set_tick_params(labelbottom=True)
    for axes in grid[len(panels) :]:
        axes.remove()
    first = next(iter(next(iter(panels.values())).values())).curve
    for axes in grid[: len(panels)]:
        axes.set_xlabel(discard_label(first), fontsize=7)
    figure.supylabel(error_label(first), fontsize=8)
    handles = [_handle(index, method) for index, method in enumerate(methods)]
    legend_columns = min(len(handles), 2 * columns)
    figure.legend(
        handles=handles, loc="outside lower center", fontsize=8, frameon=False, ncols=legend_columns,
        handlelength=HANDLE_LENGTH,
    )  # fmt: skip
    save(figure, path)


def has_few_bands(panels: Iterable[Panel]) -> bool:
    """Whether the confidence bands of a panel can be told from each other, in every panel."""
    counts = (sum(measured.band is not None for measured in panel.values()) for panel in panels)
    return max(counts, default=0) <= MOST_SHADED


def _panels(comparison: Comparison, recogniser: str, protocol: str, fmr: float) -> Mapping[str, Panel]:
    """Test set -> method -> curve."""
    panels: dict[str, dict[str, MeasuredCurve]] = {}
    for key, measured in comparison.curves.items():
        if (key.recogniser, key.protocol, key.fmr) == (recogniser, protocol, fmr):
            panels.setdefault(key.test_set, {})[key.method] = measured
    if not panels:
        choices = sorted({f"{k.recogniser} / {k.protocol} / {k.fmr:g}" for k in comparison.curves})
        raise ValueError(
            f"there is no curve of recogniser {recogniser!r}, protocol {protocol!r}, FMR {fmr:g}; there are "
            + ("; ".join(choices) or "none")
        )
    return panels


def _draw_panel(
    axes: Axes, panel: Panel, methods: list[str], limit: float | None, *, log: bool, bands: bool
) -> None:
    curves = [measured.curve for measured in panel.values()]
    axes.set_xlim(0, limit or max(curve.end for curve in curves))
    shade_unresolved(axes, curves, limit)
    for index, method in enumerate(methods):
        if method in panel:
            draw_curve(axes, panel[method].curve, index, _LINE_WIDTH)
            if bands:
                _draw_band(axes, panel[method], colour_of(index))
    errors = np.concatenate([curve.error for curve in curves])
    if log and np.any(errors > 0):
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom=0.8 * np.min(errors[errors > 0]))
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylim(top=highest_error(curves))
    axes.tick_params(labelsize=7)
    tidy(axes)


def _draw_band(axes: Axes, measured: MeasuredCurve, colour: str) -> None:
    """A light tint, with edges that can be followed where bands overlap."""
    band = measured.band
    if band is None:
        return
    step: Literal["post"] | None = "post" if measured.curve.is_step else None
    axes.fill_between(
        band.discard, band.low, band.high, step=step, facecolor=(colour, 0.09), edgecolor=(colour, 0.45),
        linewidth=0.5,
    )  # fmt: skip


_NOTE_STYLE = {"ha": "center", "va": "bottom", "fontsize": 6, "color": "0.35"}


def _note(panel: Panel, limit: float | None) -> str:
    curves = {method: measured.curve for method, measured in panel.items()}
    counts = {f"{c.n_genuine[0]:,} + {c.n_impostor[0]:,} pairs" for c in curves.values()}
    resolution = resolution_text(curves.values(), limit)
    return "\n".join(filter(None, [resolution, effective_fmr_text(curves), ", ".join(sorted(counts))]))


def _handle(index: int, method: str) -> Line2D:
    return Line2D([], [], **look(index), linewidth=_LINE_WIDTH, label=plain(method))

"""Error-versus-reject curves in one panel, and how a curve is drawn in any panel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eval_tools.curve import ErrorRejectionCurve
from eval_tools.plots.style import HANDLE_LENGTH, MARKERS, look, plain, tidy
from eval_tools.scores import FloatArray
from igfiqa_head.figure_files import save

# Beyond it so few pairs are left that the rate jumps with each error: CR-FIQA's curves end here, too.
_LAST_STEADY_DISCARD = 0.95
_MARKERS_OF_A_CURVE = 6
_DISCARDED = {"image": "images", "crfiqa": "pairs", "fixed-all": "pairs"}


def plot_erc(
    curves: Mapping[str, ErrorRejectionCurve],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    limit: float | None = None,
    references: bool = True,
) -> None:
    """Draw error-versus-reject curves into one panel and write it as PNG or PDF.

    The line above the panel gives protocol, effective FMR and numbers of pairs, the legend the areas; where
    curves differ in their numbers of pairs, the legend gives these too. The error axis is that of
    :func:`highest_error`. The ground is grey where the target FMR is not resolved.

    Args:
        curves: name -> curve, all of one protocol, error and target FMR.
        path: ends in ``.png`` or ``.pdf``.
        title: printed on top.
        limit: right end of the discard axis, in (0, the curves' own end]; the areas are then partial areas.
        references: also draw the random level and the theoretical best for every distinct starting error.

    Raises:
        ValueError: no curve, curves that cannot share axes, a limit out of range, or another suffix.
    """
    first = _first_of_comparable(curves)
    counts = {name: _counts(curve) for name, curve in curves.items()}
    same_counts = len(set(counts.values())) == 1
    legend_columns = 2 if same_counts else 1
    figure = Figure(figsize=(5.2, 3.8 + 0.17 * len(curves) / legend_columns), layout="constrained")
    axes = figure.add_subplot(
        xlabel=discard_label(first), ylabel=error_label(first), xlim=(0, limit or first.end)
    )
    shade_unresolved(axes, curves.values(), limit)
    for index, (name, curve) in enumerate(curves.items()):
        area = f"AUC {curve.auc:.4g}" if limit is None else f"pAUC {curve.pauc(limit):.4g}"
        detail = area if same_counts else f"{area}; {counts[name]}"
        draw_curve(axes, curve, index).set_label(f"{plain(name)} ({detail})")
    if references:
        _draw_references(axes, list(curves.values()))
    axes.set_ylim(0, highest_error(curves.values()))
    tidy(axes)
    figure.legend(
        loc="outside lower center",
        fontsize=8,
        frameon=False,
        ncols=legend_columns,
        handlelength=HANDLE_LENGTH,
    )
    shared_counts = _counts(first) if same_counts else ""
    conditions = _conditions(curves, shared_counts, resolution_text(curves.values(), limit))
    axes.set_title(conditions, fontsize=8, color="0.35")
    if title:
        figure.suptitle(plain(title), fontsize=11)
    save(figure, path)


def _first_of_comparable(curves: Mapping[str, ErrorRejectionCurve]) -> ErrorRejectionCurve:
    if not curves:
        raise ValueError("there is no curve to plot")
    kinds = {(c.protocol, c.error_type, c.target_fmr, _fixed_threshold(c)) for c in curves.values()}
    if len(kinds) > 1:
        raise ValueError(
            "curves in one panel must share protocol, error and target FMR (or threshold), got "
            + "; ".join(sorted(map(str, kinds)))
        )
    return next(iter(curves.values()))


def _fixed_threshold(curve: ErrorRejectionCurve) -> float | None:
    """The threshold that was given, or None where a target FMR chose it."""
    return None if curve.target_fmr is not None else float(np.max(curve.threshold))


def highest_error(curves: Iterable[ErrorRejectionCurve]) -> float | None:
    """Upper end of an error axis: just above the curves up to a discard of 0.95, None if all are 0 or NaN.

    Beyond, where one error among the last pairs can make the rate jump to 1, curves may leave the panel.
    """
    steady = (curve.error[curve.discard <= _LAST_STEADY_DISCARD] for curve in curves)
    return 1.06 * max(float(np.nanmax(errors, initial=0.0)) for errors in steady) or None


def unresolved_from(curves: Iterable[ErrorRejectionCurve], limit: float | None) -> float | None:
    """Discard fraction from which a curve does not resolve its target FMR, None if all do up to the limit."""
    ends = [curve.resolved_end or 0.0 for curve in curves if not curve.resolved_to(limit)]
    return min(ends, default=None)


def resolution_text(curves: Iterable[ErrorRejectionCurve], limit: float | None) -> str:
    """The range in which curves resolve their target FMR, in words; empty if they do up to the limit."""
    start = unresolved_from(curves, limit)
    if start is None:
        return ""
    return f"FMR resolved up to discard {start:.2g}" if start else "FMR not resolved"


def shade_unresolved(axes: Axes, curves: Iterable[ErrorRejectionCurve], limit: float | None) -> None:
    """Put grey ground where the target FMR is not resolved; the discard axis must have its limits already."""
    start = unresolved_from(curves, limit)
    if start is not None:
        axes.axvspan(start, axes.get_xlim()[1], color="0.94", linewidth=0, zorder=0)


def draw_curve(axes: Axes, curve: ErrorRejectionCurve, index: int, linewidth: float = 1.4) -> Line2D:
    """Draw one curve in the look of its place, ``index``, among the curves of a panel.

    The discard axis must have its limits already: the markers are spread over it.
    """
    (line,) = axes.plot(*_line(curve, curve.discard, curve.error))
    line.set(**look(index), linewidth=linewidth, drawstyle=_drawstyle(curve))
    line.set_markevery(_marked_points(curve, index, axes.get_xlim()[1]))
    return line


def _marked_points(curve: ErrorRejectionCurve, index: int, end: float) -> list[int]:
    """Points that carry a marker, those of the next curve beside them: curves that coincide are all seen."""
    shift = (index % len(MARKERS) + 0.5) / len(MARKERS)
    discard = (np.arange(_MARKERS_OF_A_CURVE) + shift) / _MARKERS_OF_A_CURVE * end
    return np.unique(np.searchsorted(curve.discard, discard, side="right") - 1).tolist()


def _line(
    curve: ErrorRejectionCurve, discard: FloatArray, error: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What to draw: a step curve holds its last rate up to the end."""
    if not curve.is_step:
        return discard, error
    return np.append(discard, curve.end), np.append(error, error[-1])


def _drawstyle(curve: ErrorRejectionCurve) -> Literal["steps-post", "default"]:
    return "steps-post" if curve.is_step else "default"


def _draw_references(axes: Axes, curves: Sequence[ErrorRejectionCurve]) -> None:
    distinct = {(curve.error[0], curve.n_discardable): curve for curve in curves}
    for index, curve in enumerate(distinct.values()):
        random_label, best_label = ("random level", "theoretical best") if index == 0 else (None, None)
        axes.axhline(curve.error[0], color="0.5", linestyle=":", linewidth=1.2, label=random_label)
        best = _line(curve, *curve.best_curve())
        (line,) = axes.plot(*best, color="0.5", linestyle="--", linewidth=1.2, label=best_label)
        line.set_drawstyle(_drawstyle(curve))


def discard_label(curve: ErrorRejectionCurve) -> str:
    kind = "genuine pairs" if curve.error_type == "fnmr" else "impostor pairs"
    return f"discarded fraction of {_DISCARDED.get(curve.protocol, kind)}"


def error_label(curve: ErrorRejectionCurve) -> str:
    if curve.target_fmr is None:
        return f"{curve.error_type.upper()} at threshold {np.max(curve.threshold):.4g}"
    return f"{curve.error_type.upper()} at FMR {curve.target_fmr:g}"


def _counts(curve: ErrorRejectionCurve) -> str:
    return f"{curve.n_genuine[0]:,} genuine, {curve.n_impostor[0]:,} impostor pairs"


def effective_fmr_text(curves: Mapping[str, ErrorRejectionCurve]) -> str:
    """The FMR in effect, or its range over curves and points, and whether the target is not resolved."""
    effective = np.concatenate([np.atleast_1d(curve.effective_fmr) for curve in curves.values()])
    low, high = f"{np.nanmin(effective):.2g}", f"{np.nanmax(effective):.2g}"
    resolved = all(curve.resolved_end is not None for curve in curves.values())
    return f"effective FMR {low}{'' if low == high else f' to {high}'}{'' if resolved else ' (not resolved)'}"


def _conditions(curves: Mapping[str, ErrorRejectionCurve], counts: str, resolution: str) -> str:
    fmr = effective_fmr_text(curves)
    protocol = f"protocol {next(iter(curves.values())).protocol}"
    return ", ".join(filter(None, (protocol, fmr, counts))) + (f"\n{resolution}" if resolution else "")

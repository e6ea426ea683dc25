"""Figures for papers and reports: error-versus-reject curves, and sheets of faces sorted by quality.

Nothing here touches matplotlib's global state, and a file appears under its name only when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from eval_tools.curve import ErrorRejectionCurve
from eval_tools.scores import FloatArray, check_scores
from igfiqa_head.io.atomic import atomic_path

# Okabe and Ito's palette, distinct for colour-blind readers; the line style changes when it starts anew.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
DOTS_PER_INCH = 200

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
    curves differ in their numbers of pairs, the legend gives these too.

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
        xlabel=_discard_label(first), ylabel=_error_label(first), xlim=(0, limit or first.end)
    )
    for index, (name, curve) in enumerate(curves.items()):
        area = f"AUC {curve.auc:.4g}" if limit is None else f"pAUC {curve.pauc(limit):.4g}"
        detail = area if same_counts else f"{area}; {counts[name]}"
        colour = COLOURS[index % len(COLOURS)]
        style = LINE_STYLES[index // len(COLOURS) % len(LINE_STYLES)]
        (line,) = axes.plot(*_line(curve, curve.discard, curve.error), color=colour, linestyle=style)
        line.set(label=f"{name} ({detail})", linewidth=1.4, drawstyle=_drawstyle(curve))
    if references:
        _draw_references(axes, list(curves.values()))
    axes.set_ylim(bottom=0)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=legend_columns)
    shared_counts = _counts(first) if same_counts else ""
    axes.set_title(_conditions(curves, shared_counts), fontsize=8, color="0.35")
    if title:
        figure.suptitle(title, fontsize=11)
    _save(figure, path)


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


def _discard_label(curve: ErrorRejectionCurve) -> str:
    kind = "genuine pairs" if curve.error_type == "fnmr" else "impostor pairs"
    return f"discarded fraction of {_DISCARDED.get(curve.protocol, kind)}"


def _error_label(curve: ErrorRejectionCurve) -> str:
    if curve.target_fmr is None:
        return f"{curve.error_type.upper()} at threshold {np.max(curve.threshold):.4g}"
    return f"{curve.error_type.upper()} at FMR {curve.target_fmr:g}"


def _counts(curve: ErrorRejectionCurve) -> str:
    return f"{curve.n_genuine[0]:,} genuine, {curve.n_impostor[0]:,} impostor pairs"


def _conditions(curves: Mapping[str, ErrorRejectionCurve], counts: str) -> str:
    effective = np.concatenate([np.atleast_1d(curve.effective_fmr) for curve in curves.values()])
    low, high = f"{np.nanmin(effective):.2g}", f"{np.nanmax(effective):.2g}"
    fmr = f"effective FMR {low}" + ("" if low == high else f" to {high}")
    protocol = f"protocol {next(iter(curves.values())).protocol}"
    return ", ".join(filter(None, (protocol, fmr, counts)))


def plot_quality_sheet(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    quality: ArrayLike,
    path: str | os.PathLike[str],
    *,
    rows: int = 5,
    columns: int = 12,
) -> None:
    """Draw faces from the lowest to the highest quality, row by row, each above its score, as PNG or PDF.

    The faces are evenly spaced over the ranks, from the lowest to the highest. The number left of a row is
    the percentage of all images that rank below its first face.

    Args:
        images: [N, H, W, 3] RGB uint8, or a sequence of images of one size; only those shown are read.
        quality: [N], higher is better.
        path: ends in ``.png`` or ``.pdf``.
        rows, columns: size of the sheet; fewer images than cells leave the last cells empty.

    Raises:
        ValueError: nothing to show, lengths differ, a quality is not finite, images are not RGB uint8 of one
            size, or another suffix.
    """
    count = len(images)
    if not count or rows < 1 or columns < 1:
        raise ValueError(f"a sheet needs images, rows and columns, got {count} images, {rows} x {columns}")
    scores = check_scores("quality", quality, count)
    ranks = np.round(np.linspace(0, count - 1, min(count, rows * columns))).astype(np.int64)
    chosen = np.argsort(scores, kind="stable")[ranks]
    faces = _same_size([np.asarray(images[int(index)]) for index in chosen])
    rows, columns = -(-chosen.size // columns), min(columns, chosen.size)
    title = f"low  →  high quality, row by row ({chosen.size:,} of {count:,} images)"
    _save(_sheet(faces, scores[chosen], 100 * ranks / count, rows, columns, title), path)


def _same_size(faces: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    for face in faces:
        if face.dtype != np.uint8 or face.ndim != 3 or face.shape[2] != 3 or face.shape != faces[0].shape:
            raise ValueError(
                f"images must be RGB uint8 [H, W, 3] of one size, got {face.dtype} {face.shape} beside "
                f"{faces[0].dtype} {faces[0].shape}"
            )
    return faces


def _sheet(
    faces: list[NDArray[np.uint8]],
    scores: FloatArray,
    percent: FloatArray,
    rows: int,
    columns: int,
    title: str,
) -> Figure:
    """One mosaic of faces on a white canvas (an axes for each face is slow), annotated in its pixel units."""
    height, width = faces[0].shape[:2]
    cell_height, cell_width = round(1.28 * height), round(1.06 * width)
    canvas = np.full((rows * cell_height, columns * cell_width, 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(0.62 * columns, 0.62 * rows * cell_height / cell_width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_title(title, fontsize=9)
    for index, face in enumerate(faces):
        top, left = index // columns * cell_height, index % columns * cell_width
        canvas[top : top + height, left : left + width] = face
        middle = top + (height + cell_height) / 2
        score = np.format_float_positional(scores[index], precision=3, fractional=False, trim="-")
        axes.text(left + width / 2, middle, score, ha="center", va="center", fontsize=7)
        if left == 0:
            text = f"{percent[index]:.0f} %"
            axes.text(-0.1 * width, top + height / 2, text, ha="right", va="center", fontsize=7, color="0.35")
    axes.imshow(canvas, interpolation="antialiased")
    axes.set_axis_off()
    return figure


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure as its suffix says."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".pdf"):
        raise ValueError(f"figures are written as .png or .pdf, got {os.fspath(path)!r}")
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.08)

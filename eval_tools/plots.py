"""Figures for papers and reports: error-versus-reject curves, and sheets of faces sorted by quality.

Nothing here touches matplotlib's global state, and a file appears under its name only when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from eval_tools.curve import ErrorRejectionCurve
from eval_tools.scores import FloatArray, check_scores
from igfiqa_head.io.atomic import atomic_path

# Okabe and Ito's palette, distinct for colour-blind readers; the line styles serve grey print.
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

    The legend gives each curve's area. The line above the panel gives protocol, effective FMR and numbers of
    pairs; where curves differ in these, the legend does.

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
    notes = {name: _note(curve) for name, curve in curves.items()}
    shared_note = len(set(notes.values())) == 1
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    axes = figure.add_subplot(
        xlabel=_discard_label(first), ylabel=_error_label(first), xlim=(0, limit or first.end)
    )
    if references:
        _draw_references(axes, list(curves.values()))
    for index, (name, curve) in enumerate(curves.items()):
        area = f"AUC {curve.auc:.4g}" if limit is None else f"pAUC {curve.pauc(limit):.4g}"
        label = f"{name} ({area})" + ("" if shared_note else f"\n{notes[name]}")
        style = {"color": COLOURS[index % len(COLOURS)], "linestyle": LINE_STYLES[index % len(LINE_STYLES)]}
        _draw(axes, curve, curve.discard, curve.error, label=label, linewidth=1.6, **style)
    axes.set_ylim(bottom=0)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    if shared_note:
        axes.set_title(next(iter(notes.values())), fontsize=8, color="0.35")
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


def _draw(
    axes: Axes, curve: ErrorRejectionCurve, discard: FloatArray, error: FloatArray, **style: Any
) -> None:
    if curve.is_step:
        discard, error = np.append(discard, curve.end), np.append(error, error[-1])
    axes.plot(discard, error, drawstyle="steps-post" if curve.is_step else "default", **style)


def _draw_references(axes: Axes, curves: Sequence[ErrorRejectionCurve]) -> None:
    distinct = {(curve.error[0], curve.n_discardable): curve for curve in curves}
    for index, curve in enumerate(distinct.values()):
        labels = ("random level", "theoretical best") if index == 0 else (None, None)
        grey: dict[str, Any] = {"color": "0.55", "linewidth": 1.0}
        axes.axhline(curve.error[0], linestyle=":", label=labels[0], **grey)
        _draw(axes, curve, *curve.best_curve(), linestyle="-", label=labels[1], **grey)


def _discard_label(curve: ErrorRejectionCurve) -> str:
    kind = "genuine pairs" if curve.error_type == "fnmr" else "impostor pairs"
    return f"discarded fraction of {_DISCARDED.get(curve.protocol, kind)}"


def _error_label(curve: ErrorRejectionCurve) -> str:
    if curve.target_fmr is None:
        return f"{curve.error_type.upper()} at threshold {np.max(curve.threshold):.4g}"
    return f"{curve.error_type.upper()} at FMR {curve.target_fmr:g}"


def _note(curve: ErrorRejectionCurve) -> str:
    low, high = np.nanmin(curve.effective_fmr), np.nanmax(curve.effective_fmr)
    fmr = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
    counts = f"{curve.n_genuine[0]:,} genuine, {curve.n_impostor[0]:,} impostor pairs"
    return f"protocol {curve.protocol}, effective FMR {fmr}, {counts}"


def plot_quality_sheet(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    quality: ArrayLike,
    path: str | os.PathLike[str],
    *,
    rows: int = 5,
    columns: int = 12,
) -> None:
    """Draw faces from the lowest to the highest quality, row by row, each above its score, as PNG or PDF.

    The faces are evenly spaced over the ranks, from the lowest to the highest; the number left of a row is the
    percentage of all images that score below its first face.

    Args:
        images: [N, H, W, 3] RGB uint8, an array or a sequence of images of one size; only those shown are read.
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
    figure = _sheet(faces, scores[chosen], 100 * ranks / count, rows, columns)
    figure.suptitle(f"low  →  high quality, row by row ({chosen.size} of {count} images)", fontsize=9)
    _save(figure, path)


def _same_size(faces: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    for face in faces:
        if face.dtype != np.uint8 or face.ndim != 3 or face.shape[2] != 3 or face.shape != faces[0].shape:
            raise ValueError(
                f"images must be RGB uint8 [H, W, 3] of one size, got {face.dtype} {face.shape} beside "
                f"{faces[0].dtype} {faces[0].shape}"
            )
    return faces


def _sheet(
    faces: list[NDArray[np.uint8]], scores: FloatArray, percent: FloatArray, rows: int, columns: int
) -> Figure:
    """One mosaic of faces on a white canvas (an axes for each face is slow), annotated in its pixel units."""
    height, width = faces[0].shape[:2]
    cell_height, cell_width = round(1.28 * height), round(1.06 * width)
    canvas = np.full((rows * cell_height, columns * cell_width, 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(0.62 * columns + 0.5, 0.62 * rows * cell_height / cell_width + 0.4))
    axes = figure.add_subplot()
    for index, face in enumerate(faces):
        top, left = index // columns * cell_height, index % columns * cell_width
        canvas[top : top + height, left : left + width] = face
        middle = top + (height + cell_height) / 2
        axes.text(left + width / 2, middle, f"{scores[index]:.3g}", ha="center", va="center", fontsize=7)
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

"""Histograms: one method's quality on several test sets, and the scores of genuine and impostor pairs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from eval_tools.plots.style import colour_of, line_style_of, plain, tidy
from eval_tools.results import VerificationSummary
from eval_tools.scores import FloatArray
from eval_tools.verification import OperatingPoint
from igfiqa_head.arrays import plain_array
from igfiqa_head.figure_files import save

QUALITY_BINS, QUANTILES = 50, (0.01, 0.99)


def plot_quality_histogram(
    quality: Mapping[str, ArrayLike], path: str | os.PathLike[str], *, title: str | None = None
) -> None:
    """Draw the distributions of one method's quality on several test sets and write them as PNG or PDF.

    See :func:`quality_densities` for the normalisation, which is the same for all sets.

    Args:
        quality: test set -> quality [N]; NaN stands for an image without one and is left out.
        path: ends in ``.png`` or ``.pdf``.
        title: printed on top.

    Raises:
        ValueError: no quality at all, or another suffix.
    """
    edges, densities = quality_densities(quality)
    figure, axes = _panel(title)
    for index, (name, density) in enumerate(densities.items()):
        _draw_histogram(axes, density, edges, index, plain(name))
    axes.set(xlabel="quality, scaled: 0 and 1 are its 1 % and 99 % quantiles", ylabel="density", xlim=(0, 1))
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=min(len(densities), 4))
    save(figure, path)


def quality_densities(quality: Mapping[str, ArrayLike]) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Histograms of one method's quality on several test sets, each with an area of 1.

    The lowest 1 % quantile of a set becomes 0 and the highest 99 % quantile 1, which keeps the sets
    comparable and leaves room for a quality with a long tail. What lies beyond is in the bins at the ends.

    Args:
        quality: test set -> quality [N]; values that are not finite are left out.

    Returns:
        edges [B + 1] of the bins, from 0 to 1, and test set -> density [B].

    Raises:
        ValueError: no set holds a finite quality.
    """
    arrays = {name: plain_array(name, values).astype(np.float64).ravel() for name, values in quality.items()}
    finite = {name: values[np.isfinite(values)] for name, values in arrays.items()}
    finite = {name: values for name, values in finite.items() if values.size}
    if not finite:
        raise ValueError(f"there is no finite quality to draw, got {len(quality)} test sets")
    low, high = _ends(finite.values(), QUANTILES) or _ends(finite.values(), (0.0, 1.0)) or (0.0, 1.0)
    edges = np.linspace(0.0, 1.0, QUALITY_BINS + 1)
    return edges, {
        name: np.histogram(((values - low) / (high - low)).clip(0.0, 1.0), edges, density=True)[0]
        for name, values in finite.items()
    }


def _ends(sets: Iterable[FloatArray], quantiles: tuple[float, float]) -> tuple[float, float] | None:
    """The lowest and the highest of two quantiles of several sets; None if they are equal."""
    lows, highs = zip(*(np.quantile(values, quantiles) for values in sets), strict=True)
    return (float(min(lows)), float(max(highs))) if min(lows) < max(highs) else None


def plot_similarity_histogram(
    summary: VerificationSummary, path: str | os.PathLike[str], *, title: str | None = None
) -> None:
    """Draw the similarities of genuine and of impostor pairs, each with an area of 1, as PNG or PDF.

    Dotted lines mark the thresholds of the target FMRs.

    Args:
        summary: of one recogniser on one test set.
        path: ends in ``.png`` or ``.pdf``.
        title: printed on top.

    Raises:
        ValueError: another suffix.
    """
    figure, axes = _panel(title)
    for index, (kind, counts) in enumerate((("impostor", summary.impostor), ("genuine", summary.genuine))):
        density = counts / (counts.sum() * np.diff(summary.edges))
        _draw_histogram(axes, density, summary.edges, index, f"{kind} ({counts.sum():,} pairs)")
    for threshold, label in threshold_labels(summary):
        axes.axvline(threshold, color="0.35", linestyle=":", linewidth=1)
        axes.annotate(
            label, (threshold, 1), (2, -2), ("data", "axes fraction"), "offset points",
            rotation=90, ha="left", va="top", fontsize=7, color="0.35",
        )  # fmt: skip
    axes.set(xlabel="similarity", ylabel="density")
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=2)
    save(figure, path)


def threshold_labels(summary: VerificationSummary) -> list[tuple[float, str]]:
    """(threshold, label) of the target FMRs; those unresolved share one above all impostor scores."""
    points: dict[float, list[OperatingPoint]] = {}
    for point in summary.operating_points:
        points.setdefault(point.threshold, []).append(point)
    return [(threshold, _targets(sharing)) for threshold, sharing in points.items()]


def _targets(points: list[OperatingPoint]) -> str:
    fmrs = ", ".join(f"{point.target_fmr:g}" for point in points)
    return f"FMR {fmrs}" + ("" if points[0].resolved else " (unresolved)")


def _panel(title: str | None) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8)
    tidy(axes)
    if title:
        axes.set_title(plain(title), fontsize=10)
    return figure, axes


def _draw_histogram(axes: Axes, density: FloatArray, edges: FloatArray, index: int, label: str) -> None:
    colour, style = colour_of(index), line_style_of(index)
    axes.stairs(density, edges, fill=True, color=colour, alpha=0.15)
    axes.stairs(density, edges, color=colour, linestyle=style, linewidth=1.3, label=label)

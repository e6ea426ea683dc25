"""Detection error tradeoff: FNMR over FMR of recognisers on a test set."""

from __future__ import annotations

import os
from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eval_tools.plots.style import HANDLE_LENGTH, look, plain, tidy
from eval_tools.results import VerificationSummary
from igfiqa_head.figure_files import save


def plot_det(
    summaries: Mapping[str, VerificationSummary], path: str | os.PathLike[str], *, title: str | None = None
) -> None:
    """Draw the DET curves of recognisers on one test set (ISO/IEC 19795-1) and write them as PNG or PDF.

    Both axes are logarithmic and begin at the smallest rate that the pairs can resolve, 1 / their number.
    Markers show the target FMRs, at the FMR in effect; one that the impostor pairs do not resolve has none.

    Args:
        summaries: recogniser -> what it achieves on the set.
        path: ends in ``.png`` or ``.pdf``.
        title: printed on top.

    Raises:
        ValueError: no recogniser, or another suffix.
    """
    if not summaries:
        raise ValueError("there is no DET curve to plot")
    figure = Figure(figsize=(3.6, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="FMR", ylabel="FNMR", xscale="log", yscale="log")
    axes.plot([1e-12, 1], [1e-12, 1], color="0.75", linewidth=0.8)
    handles = []
    for index, (name, summary) in enumerate(summaries.items()):
        style = look(index) | {"linewidth": 1.4}
        axes.plot(summary.det_fmr, summary.det_fnmr, **style | {"marker": ""})
        marked = [(p.fmr, p.fnmr) for p in summary.operating_points if p.resolved]
        axes.plot(*zip(*marked, strict=True) if marked else ([], []), **style | {"linestyle": ""})
        handles.append(Line2D([], [], **style, label=f"{plain(name)} (EER {100 * summary.eer:.2f} %)"))
    axes.set_xlim(min(0.5, *(1 / summary.n_impostor for summary in summaries.values())), 1)
    axes.set_ylim(min(0.5, *(1 / summary.n_genuine for summary in summaries.values())), 1)
    for target in {point.target_fmr for summary in summaries.values() for point in summary.operating_points}:
        axes.axvline(target, color="0.5", linestyle=":", linewidth=0.9)
    axes.set_title(plain(title) if title else "", fontsize=10)
    axes.tick_params(labelsize=8)
    tidy(axes)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        fontsize=8,
        frameon=False,
        ncols=min(len(handles), 2),
        handlelength=HANDLE_LENGTH,
    )
    save(figure, path)

"""Figures for papers: error-versus-reject and DET curves, histograms, sheets of faces sorted by quality.

They are written as PNG, or as PDF with embedded TrueType fonts. Nothing here leaves a trace in matplotlib's
global state, and a file appears under its name only when it is complete.
"""

from eval_tools.plots.det import plot_det
from eval_tools.plots.erc import plot_erc
from eval_tools.plots.histograms import plot_quality_histogram, plot_similarity_histogram
from eval_tools.plots.panels import plot_erc_panels
from eval_tools.plots.style import COLOURS
from igfiqa_head.quality_sheet import plot_quality_sheet

__all__ = [
    "COLOURS",
    "plot_det",
    "plot_erc",
    "plot_erc_panels",
    "plot_quality_histogram",
    "plot_quality_sheet",
    "plot_similarity_histogram",
]

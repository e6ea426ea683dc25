"""Figures of whole comparisons: panels of curves, histograms and DET curves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from eval_tools.erc import error_rejection_curve
from eval_tools.plots import (
    plot_det,
    plot_erc,
    plot_erc_panels,
    plot_quality_histogram,
    plot_similarity_histogram,
)
from eval_tools.plots.erc import highest_error
from eval_tools.plots.histograms import quality_densities
from eval_tools.plots.style import look
from eval_tools.results import Comparison, VerificationSummary
from eval_tools.verification import OperatingPoint
from tests.eval_tools.simulated import FMRS, METHODS, RECOGNISERS, SETS, simulated_comparison


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return simulated_comparison(n_pairs=400)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved, as it was."""
    seen: list[Figure] = []
    original = Figure.savefig

    def savefig(figure: Figure, *args: object, **kwargs: object) -> None:
        seen.append(figure)
        original(figure, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", savefig)
    return seen


def _colours(path: Path) -> set[str]:
    image = cv2.imread(str(path))
    assert image is not None
    return {"#{:02X}{:02X}{:02X}".format(*bgr[::-1]) for bgr in np.unique(image.reshape(-1, 3), axis=0)}


def _panels(comparison: Comparison, path: Path, **options: object) -> None:
    chosen = {"recogniser": RECOGNISERS[0], "protocol": "fixed", "fmr": FMRS[0]} | options
    plot_erc_panels(comparison, path, **chosen)  # type: ignore[arg-type]


def test_a_panel_for_each_set_with_each_methods_curve(
    comparison: Comparison, tmp_path: Path, figures: list[Figure]
) -> None:
    _panels(comparison, tmp_path / "a.png")
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == list(SETS)
    for axes, test_set in zip(figure.axes, SETS, strict=True):
        for line, method in zip(axes.lines, METHODS, strict=True):
            curve = comparison.curves[test_set, RECOGNISERS[0], method, "fixed", FMRS[0]].curve  # type: ignore[index]
            np.testing.assert_array_equal(line.get_ydata()[: curve.error.size], curve.error)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(METHODS)
    assert {"#0072B2", "#D55E00"} <= _colours(tmp_path / "a.png")


def test_nothing_on_a_panel_figure_lies_on_something_else(
    comparison: Comparison, tmp_path: Path, figures: list[Figure]
) -> None:
    _panels(comparison, tmp_path / "a.png")
    figure = figures[0]
    legend = figure.legends[0].get_window_extent()
    for axes in figure.axes:
        for text in (axes.xaxis.label, axes.title, *axes.get_xticklabels()):
            assert not legend.overlaps(text.get_window_extent()), text.get_text()


def test_notes_of_neighbouring_panels_do_not_touch(
    comparison: Comparison, tmp_path: Path, figures: list[Figure]
) -> None:
    _panels(comparison, tmp_path / "a.png", protocol="crfiqa")  # a range of FMRs makes the longest notes
    notes = [axes.texts[0] for axes in figures[0].axes]
    assert all("effective FMR" in note.get_text() and "pairs" in note.get_text() for note in notes)
    renderer = figures[0].canvas.get_renderer()  # type: ignore[attr-defined]  # that of the file had more dots
    left, right = (note.get_window_extent(renderer) for note in notes)
    assert left.x1 < right.x0


@pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning")
def test_the_last_pairs_do_not_squash_the_panel(tmp_path: Path, figures: list[Figure]) -> None:
    """The pair of highest quality is an error: at the very end the rate is 1."""
    is_genuine = np.arange(400) < 200
    similarity, quality = is_genuine.astype(float), np.linspace(0, 1, 400)
    similarity[[0, 1, 2, 199]] = -1
    curve = error_rejection_curve(similarity - 0.01 * ~is_genuine, is_genuine, quality, fmr=0.01)
    assert curve.error[-1] == 1
    assert highest_error([curve]) == pytest.approx(1.06 * curve.error[curve.discard <= 0.95].max())
    plot_erc({"one": curve}, tmp_path / "a.png")
    assert figures[0].axes[0].get_ylim() == (0, highest_error([curve]))
    assert highest_error([dataclasses.replace(curve, n_errors=0 * curve.n_errors)]) is None


def test_fonts_are_embedded_as_truetype(comparison: Comparison, tmp_path: Path) -> None:
    _panels(comparison, tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/CIDFontType2" in content
    assert b"/Type3" not in content


def test_names_are_drawn_as_they_stand(comparison: Comparison, tmp_path: Path, figures: list[Figure]) -> None:
    summary = _summary(comparison)
    plot_det({"_hidden": summary, r"$\frac{$": summary}, tmp_path / "a.png", title="$x_")
    assert len(figures[0].legends[0].get_texts()) == 2


def test_bands_and_a_logarithmic_axis(comparison: Comparison, tmp_path: Path, figures: list[Figure]) -> None:
    _panels(comparison, tmp_path / "a.png")
    _panels(comparison, tmp_path / "b.pdf", bands=False, log=True)
    with_bands, without = figures
    assert with_bands.axes[0].collections
    assert not without.axes[0].collections
    assert without.axes[1].get_yscale() == "log"  # the easy set may have no error at all
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")


def test_many_bands_are_left_out_and_few_are_drawn(tmp_path: Path, figures: list[Figure]) -> None:
    """Six tints on each other are one brown mass; the last method of the simulation has no band."""
    for methods, drawn in ((("a", "b", "c", "d"), 3), (("a", "b", "c", "d", "e", "f"), 0)):
        many = simulated_comparison(SETS[:1], RECOGNISERS[:1], methods, n_pairs=200)
        for bands, expected in ((None, drawn), (True, len(methods) - 1), (False, 0)):
            _panels(many, tmp_path / "a.png", bands=bands)
            assert len(figures[-1].axes[0].collections) == expected
    for band in figures[-2].axes[0].collections:
        assert band.get_edgecolor()[0, 3] > 3 * band.get_facecolor()[0, 3]  # edges to follow


def test_lines_differ_without_colour(tmp_path: Path, figures: list[Figure]) -> None:
    assert len({(look(index)["linestyle"], look(index)["marker"]) for index in range(28)}) == 28
    methods = tuple("abcdefgh")
    _panels(simulated_comparison(SETS[:1], RECOGNISERS[:1], methods, n_pairs=200), tmp_path / "a.png")
    for lines in (figures[0].axes[0].lines, figures[0].legends[0].get_lines()):
        assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(methods)


def test_curves_that_coincide_all_show_their_markers(tmp_path: Path, figures: list[Figure]) -> None:
    similarity = np.random.default_rng(0).normal(np.arange(400) < 200)
    curve = error_rejection_curve(similarity, np.arange(400) < 200, similarity, fmr=0.1)
    for limit in (None, 0.3):
        plot_erc(dict.fromkeys("abcdefg", curve), tmp_path / "a.png", limit=limit, references=False)
        marked = [line.get_markevery() for line in figures[-1].axes[0].lines]
        assert all(len(points) >= 5 for points in marked)
        assert np.unique(np.concatenate(marked)).size == sum(map(len, marked))
        assert all(
            0 <= curve.discard[points].min() <= curve.discard[points].max() <= (limit or 1)
            for points in marked
        )


def test_figures_say_where_the_target_fmr_is_not_resolved(
    comparison: Comparison, tmp_path: Path, figures: list[Figure]
) -> None:
    """200 impostor pairs: enough for FMR 0.01 as long as half of them is left, and never for 0.001."""
    for protocol, fmr, text, start in (
        ("fixed", 1e-2, "", None),
        ("fixed", 1e-3, "FMR not resolved", 0.0),
        ("crfiqa", 1e-2, "FMR resolved up to discard 0.45", 0.45),
    ):
        of_set = {
            key.method: measured.curve
            for key, measured in comparison.curves.items()
            if (key.test_set, key.recogniser, key.protocol, key.fmr)
            == (SETS[0], RECOGNISERS[0], protocol, fmr)
        }
        plot_erc(of_set, tmp_path / "a.png")
        _panels(comparison, tmp_path / "b.png", protocol=protocol, fmr=fmr)
        for axes in (figures[-2].axes[0], figures[-1].axes[0]):
            said = "\n".join([axes.get_title(), *(note.get_text() for note in axes.texts)])
            assert text in said
            assert ("resolved" in said) == bool(text)
            assert [patch.get_x() for patch in axes.patches] == ([] if start is None else [start])
    limited = dataclasses.replace(comparison, limit=0.4)  # there everything is resolved
    _panels(limited, tmp_path / "b.png", protocol="crfiqa")
    assert not figures[-1].axes[0].patches


def test_unknown_curves_name_the_known_ones(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=RECOGNISERS[0]):
        _panels(comparison, tmp_path / "a.png", recogniser="nobody")


def test_quality_histograms_are_normalised_together() -> None:
    edges, densities = quality_densities({"a": np.array([2.0, 4.0, np.nan]), "b": np.array([6.0, 10.0])})
    assert edges[[0, -1]].tolist() == [0, 1]
    width = edges[1]
    for density in densities.values():
        assert density.sum() * width == pytest.approx(1)
    assert np.flatnonzero(densities["a"]).tolist() == [0, 12]
    assert np.flatnonzero(densities["b"]).tolist() == [25, 49]


def test_the_histogram_of_a_quality_with_a_long_tail_is_no_single_bar(
    tmp_path: Path, figures: list[Figure]
) -> None:
    values = np.concatenate([np.arange(1000.0), [1e6, 1e7]])
    _, densities = quality_densities({"sharpness": values})
    counts = densities["sharpness"] * len(values) / 50
    assert counts.sum() == pytest.approx(len(values))  # the outliers too
    assert (counts > 15).all()
    plot_quality_histogram({"sharpness": values}, tmp_path / "a.png")
    assert "1 % and 99 % quantiles" in figures[0].axes[0].get_xlabel()


def test_a_small_set_beyond_a_large_one_is_not_one_bar() -> None:
    sets = {"large": np.linspace(0, 1, 10_000), "small": np.linspace(5, 6, 50)}
    _, densities = quality_densities(sets)
    assert np.count_nonzero(densities["small"]) > 5


def test_quality_histograms_of_nearly_equal_scores_keep_their_ends() -> None:
    _, densities = quality_densities({"a": np.array([*np.ones(500), 3.0])})
    assert np.flatnonzero(densities["a"]).tolist() == [0, 49]


def test_quality_histogram_of_equal_scores_and_of_none(tmp_path: Path) -> None:
    plot_quality_histogram({"a": np.ones(5)}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="no finite quality"):
        plot_quality_histogram({"a": np.array([np.nan])}, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def _summary(comparison: Comparison) -> VerificationSummary:
    return comparison.verification[SETS[0], RECOGNISERS[0]]  # type: ignore[index]


def test_det_begins_where_the_pairs_resolve_it(
    comparison: Comparison, tmp_path: Path, figures: list[Figure]
) -> None:
    summary = _summary(comparison)
    plot_det({"one": summary, "$two_": summary}, tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert axes.get_xlim()[0] == pytest.approx(1 / summary.n_impostor)
    assert axes.get_ylim()[0] == pytest.approx(1 / summary.n_genuine)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    with pytest.raises(ValueError, match="DET"):
        plot_det({}, tmp_path / "b.png")


def test_similarity_histograms_show_shares_and_thresholds(
    comparison: Comparison, tmp_path: Path, figures: list[Figure]
) -> None:
    summary = _summary(comparison)
    plot_similarity_histogram(summary, tmp_path / "a.pdf", title="a $hostile_ name")
    lines = [line.get_xdata()[0] for line in figures[0].axes[0].lines]
    for point in summary.operating_points:
        assert any(x == pytest.approx(point.threshold) for x in lines)
    with pytest.raises(ValueError, match=r"\.png or \.pdf"):
        plot_similarity_histogram(summary, tmp_path / "a.svg")


def test_target_fmrs_of_one_threshold_share_its_label(
    comparison: Comparison, tmp_path: Path, figures: list[Figure]
) -> None:
    """Targets that are not resolved have the same threshold, and their labels lay on each other."""
    points = [OperatingPoint(fmr, 0.5, 0, 0, 100, 100) for fmr in (1e-3, 1e-4)]
    points.append(OperatingPoint(0.02, 0.3, 2, 0, 100, 100))
    summary = dataclasses.replace(_summary(comparison), operating_points=tuple(points))
    plot_similarity_histogram(summary, tmp_path / "a.png")
    labels = [text.get_text() for text in figures[0].axes[0].texts]
    assert labels == ["FMR 0.001, 0.0001 (unresolved)", "FMR 0.02"]


def test_an_empty_histogram_kind_is_drawn(comparison: Comparison, tmp_path: Path) -> None:
    summary = dataclasses.replace(_summary(comparison), operating_points=())
    plot_similarity_histogram(summary, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000

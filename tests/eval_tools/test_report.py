"""The page: nothing loaded from elsewhere, other people's names stay text, curves keep their shape."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eval_tools.curve import ErrorRejectionCurve
from eval_tools.erc import error_rejection_curve
from eval_tools.report import write_report
from eval_tools.report.charts import chart_data
from eval_tools.report.thinning import Corners, line_corners, thinned
from eval_tools.result_tables import area_table
from eval_tools.results import (
    Comparison,
    CurveKey,
    Gallery,
    GalleryItem,
    MeasuredCurve,
    QualityKey,
    SetKey,
    SignificanceKey,
)
from eval_tools.significance import PairedComparison
from tests.eval_tools.simulated import FMRS, METHODS, RECOGNISERS, SETS, simulated_comparison

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return simulated_comparison(n_pairs=400)


@pytest.fixture(scope="module")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(comparison, path)
    return path.read_text(encoding="utf-8")


def _without_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def _data(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', _without_scripts(page))
    assert "url(" not in _without_scripts(page)
    assert "default-src 'none'" in page  # the browser sees to the rest
    assert not re.findall(r"<script[^>]+src", page)


def test_every_area_is_on_the_page(page: str, comparison: Comparison) -> None:
    text = _without_scripts(page)
    for measured in comparison.curves.values():
        assert f"{measured.area:.4f}" in text


def test_methods_as_good_as_the_best_are_marked(page: str, comparison: Comparison) -> None:
    """The simulated p-values tell the second method from the first nowhere, and the others everywhere."""
    text = _without_scripts(page)
    marked = re.findall(r"<tr[^>]*><th>[^<]*</th><th>([^<]*)</th>(.*?)</tr>", text, re.DOTALL)
    rows = {method: 0 for method, _ in marked}
    for method, cells in marked:
        rows[method] += cells.count("≈")
    assert rows[METHODS[1]] > 0
    assert rows[METHODS[2]] == rows[METHODS[3]] == 0
    without = dataclasses.replace(comparison, significance={})
    assert not any(cell.alike for row in area_table(without, "fixed").cells for cell in row)


def _section(page: str, protocol: str) -> str:
    """The areas of one protocol, as HTML."""
    (section,) = re.findall(rf"<h3>Protocol {protocol}</h3>(.*?)(?=<h3>|</section>)", page, re.DOTALL)
    return section


def test_columns_that_are_not_resolved_have_no_best(page: str) -> None:
    """200 impostor pairs resolve FMR 0.01, but not 0.001, and what crfiqa leaves of them neither.

    In the easy set, which has no error, all are equal.
    """
    fixed, crfiqa = (_section(page, protocol) for protocol in ("fixed", "crfiqa"))
    wins = re.findall(r"<b>[^<]*</b> \((\d+) of (\d+)\)", fixed)
    assert wins == [(f"{len(RECOGNISERS)}", f"{len(RECOGNISERS)}")]
    assert "not resolved do not count" in fixed
    assert "Best most often" not in crfiqa
    assert "No method is best in a column that is resolved" in crfiqa
    for section in (fixed, crfiqa):
        cells = re.findall(r'<td( class="[a-z]+")?>(.*?)</td>', section)
        unresolved = [rank for rank, content in cells if "†" in content]
        assert len(unresolved) == (16 if section == fixed else 32)
        assert not any(unresolved)


def test_differences_at_rates_that_are_not_resolved_are_not_bold(page: str) -> None:
    (section,) = re.findall(r'<section id="significance">(.*?)</section>', page, re.DOTALL)
    rows = re.findall(r"<th>(fixed|crfiqa)</th><td>([^<]*)</td>.*?(<td[^>]*>)<span>([0-9.]+)</span>", section)
    assert len(rows) == len(SETS) * len(RECOGNISERS) * 2 * len(FMRS) * (len(METHODS) - 1)
    for protocol, fmr, cell, p_value in rows:
        resolved = protocol == "fixed" and fmr.startswith(f"{FMRS[0]:g}")
        assert ("†" in fmr) == (not resolved)
        assert ("best" in cell) == (resolved and float(p_value) < 0.05)


def test_a_method_that_is_worse_than_random_says_so_at_its_name(
    comparison: Comparison, tmp_path: Path
) -> None:
    keys = [CurveKey("hard", "ArcFace", METHODS[2], "fixed", fmr) for fmr in FMRS]  # the second is unresolved
    curves = dict(comparison.curves)
    for key in keys:
        against = PairedComparison(key.method, "random", 0.1, 0.05, 0.15, 0.01, 0.95, "pairs", 200)
        curves[key] = dataclasses.replace(curves[key], against_random=against)
    write_report(dataclasses.replace(comparison, curves=curves), tmp_path / "page.html")
    text = _without_scripts((tmp_path / "page.html").read_text(encoding="utf-8"))
    named = re.findall(r'<th>([^<]*)<small title="([^"]*)">worse than random</small></th>', text)
    assert named == [(METHODS[2], "hard, FMR 0.01")]


def test_points_beside_the_page_are_linked(page: str, comparison: Comparison, tmp_path: Path) -> None:
    assert "curves.csv" not in _without_scripts(page)
    (tmp_path / "erc_fixed_curves.csv").touch()
    write_report(comparison, tmp_path / "page.html")
    text = _without_scripts((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert re.findall(r'href="([^"#]+)"', text) == ["erc_fixed_curves.csv"]


def test_only_the_scripts_of_the_page_may_run(page: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    policy = html.unescape(policy)
    allowed = re.findall(r"script-src ([^;]*)", policy)[0].split()
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 2
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]


def test_the_charts_hold_every_curve(page: str, comparison: Comparison) -> None:
    data = _data(page)
    keys = {
        (c["test_set"], c["recogniser"], c["method"], c["protocol"], float(c["fmr"])) for c in data["curves"]
    }
    assert keys == set(comparison.curves)
    assert len(data["verification"]) == len(comparison.verification)


def _renamed(comparison: Comparison) -> Comparison:
    """The comparison with a hostile name wherever a name can be chosen by others."""

    def curve(key: CurveKey) -> CurveKey:
        return key._replace(test_set=key.test_set + HOSTILE, method=key.method + HOSTILE)

    image = np.zeros((8, 8, 3), np.uint8)
    return dataclasses.replace(
        comparison,
        settings={HOSTILE: HOSTILE},
        curves={curve(key): value for key, value in comparison.curves.items()},
        verification={
            SetKey(key.test_set + HOSTILE, key.recogniser): dataclasses.replace(value, notes=(HOSTILE,))
            for key, value in comparison.verification.items()
        },
        quality={
            QualityKey(key.test_set + HOSTILE, key.method + HOSTILE): value
            for key, value in comparison.quality.items()
        },
        significance={
            SignificanceKey(key.test_set + HOSTILE, *key[1:]): value
            for key, value in comparison.significance.items()
        },
        galleries=(Gallery(HOSTILE, HOSTILE, (GalleryItem((image,), HOSTILE),)),),
    )


def test_names_of_other_people_stay_text(comparison: Comparison, tmp_path: Path) -> None:
    write_report(_renamed(comparison), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert page.count("<script") == page.count("</script>") == 3 + _count_in_plotly("<script")
    assert _data(page)["methods"][0].endswith(HOSTILE)


def _count_in_plotly(text: str) -> int:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().count(text)


def test_a_comparison_without_quality_methods_has_a_page(comparison: Comparison, tmp_path: Path) -> None:
    bare = dataclasses.replace(comparison, curves={}, quality={}, significance={}, galleries=(), settings={})
    write_report(bare, tmp_path / "page.html")
    text = _without_scripts((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert 'id="curves"' not in text
    assert 'id="verification"' in text
    assert "biometric" not in text


def test_a_page_with_faces_says_what_it_holds(comparison: Comparison, tmp_path: Path) -> None:
    write_report(_renamed(comparison), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "This file holds these images, which are biometric data" in page


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_missing_packages_are_named(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package}.*igfiqa-head\[report\]"):
        write_report(comparison, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def _noisy_curve(n: int, seed: int = 0) -> ErrorRejectionCurve:
    """A step curve of n genuine pairs whose rate falls from some per cent to 0, with jumps at the end."""
    rng = np.random.default_rng(seed)
    is_genuine = np.arange(2 * n) < n
    similarity = rng.normal(3.0 * is_genuine)
    return error_rejection_curve(similarity, is_genuine, similarity + rng.normal(0, 2, 2 * n), fmr=0.1)


def _deviations(curve: ErrorRejectionCurve, corners: Corners) -> NDArray[np.float64]:
    """Of the line from the curve beside each step, where the rate is one number; relative, 0 from 0 is 0."""
    middles = np.arange(curve.n_discardable) + 0.5
    line = np.interp(middles, corners.n_discarded, curve.error[corners.points])
    true = curve.at(middles / curve.n_discardable)
    return np.abs(line - true) / np.where(np.abs(line - true) < 1e-12, 1.0, true)


@pytest.mark.parametrize("most", [100, 300, 1000, 40_000])
def test_thinning_keeps_the_shape_of_20000_points(most: int) -> None:
    curve = _noisy_curve(20_000)
    corners = line_corners(curve, most)
    assert corners.n_discarded[0] == 0
    assert corners.n_discarded[-1] == curve.n_discardable
    assert corners.points.size <= most
    # A line bends between two corners at most as much as at them.
    assert 0 < _deviations(curve, corners).max() <= corners.deviation + 1e-9
    assert np.diff(corners.n_discarded).max() < 0.03 * curve.n_discardable  # somewhere to hover
    assert (corners.deviation <= 0.002) == (most == 40_000)


def test_thinning_of_curves_that_are_short_flat_or_without_a_rate() -> None:
    short = _noisy_curve(12)
    flat = dataclasses.replace(short, n_errors=0 * short.n_errors)
    for curve in (short, flat):
        corners = line_corners(curve, 100)
        assert corners.deviation <= 0.002
        assert _deviations(curve, corners).max() <= 0.002
    undefined = dataclasses.replace(short, threshold=np.full(short.discard.size, np.nan))
    assert line_corners(undefined, 100).n_discarded[-1] == short.n_discardable


def test_many_curves_are_thinned_more_and_the_page_says_how_much(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, _ = thinned([_noisy_curve(3000)])
    monkeypatch.setattr("eval_tools.report.thinning.MOST_CORNERS", 3000)
    many, drawn = thinned([_noisy_curve(3000, seed) for seed in range(10)])
    assert few == 0.002 < many
    assert sum(corners.points.size for corners in drawn) <= 3000
    assert many >= max(corners.deviation for corners in drawn)
    write_report(comparison, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"off by at most {100 * _data(page)['deviation']:g} % of the rate" in " ".join(page.split())


def test_curves_can_be_drawn_from_the_counts_on_the_page(page: str, comparison: Comparison) -> None:
    for drawn in _data(page)["curves"]:
        key = CurveKey(
            drawn["test_set"], drawn["recogniser"], drawn["method"], drawn["protocol"], float(drawn["fmr"])
        )
        curve = comparison.curves[key].curve
        n_discarded, n_errors, n_genuine = (
            np.cumsum(drawn[name]) for name in ("n_discarded", "n_errors", "n_genuine")
        )
        at_ends = [0, -1]
        np.testing.assert_allclose((n_errors / n_genuine)[at_ends], curve.error[at_ends])
        assert n_discarded[0] == 0
        assert n_discarded[-1] / drawn["n_discardable"] == pytest.approx(curve.end, abs=1e-3)


def test_the_page_of_a_paper_stays_small(tmp_path: Path) -> None:
    """8 methods x 6 recognisers x 6 test sets under 2 protocols at 2 FMRs, 20,000 genuine pairs each."""
    methods = tuple(f"method {number}" for number in range(8))
    one = simulated_comparison(("a",), ("b",), methods, n_pairs=2000)
    big = MeasuredCurve(_noisy_curve(20_000), 0.1, None)
    curves = {
        key._replace(test_set=f"set {s}", recogniser=f"recogniser {r}"): (
            dataclasses.replace(big, band=measured.band) if key.protocol == "fixed" else measured
        )
        for s in range(6)
        for r in range(6)
        for key, measured in one.curves.items()
    }
    write_report(dataclasses.replace(one, curves=curves), tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 10e6


def test_charts_hold_no_nan(comparison: Comparison) -> None:
    json.dumps(chart_data(comparison), allow_nan=False)

"""The page: nothing loaded from elsewhere, other people's names stay text, curves keep their shape."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from eval_tools.report import write_report
from eval_tools.report.charts import _thinned, chart_data
from eval_tools.results import Comparison, CurveKey, Gallery, GalleryItem, QualityKey, SetKey, SignificanceKey
from tests.eval_tools.simulated import simulated_comparison

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


def test_thinning_keeps_the_shape_and_the_ends() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    errors = np.cumsum(rng.random(n)[::-1] < 0.1)[::-1] / np.arange(n, 0, -1)
    discard = np.arange(n) / n
    kept = _thinned(discard, errors)
    assert kept[0] == 0
    assert kept[-1] == n - 1
    held = errors[kept][np.searchsorted(kept, np.arange(n), side="right") - 1]
    assert np.abs(held - errors).max() <= 0.002 * errors.max()
    assert kept.size < n / 4


def test_charts_hold_no_nan(comparison: Comparison) -> None:
    json.dumps(chart_data(comparison), allow_nan=False)

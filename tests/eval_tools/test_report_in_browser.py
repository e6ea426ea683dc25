"""The page in headless Chromium: it draws, it can be worked with, and it asks nobody for anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from eval_tools.report import write_report
from tests.eval_tools.simulated import FMRS, METHODS, RECOGNISERS, SETS, simulated_comparison

HOSTILE = "</script><img src=x onerror='window.hacked=1'><b>bold</b>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium with the page open."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.fail("this test needs Chromium and its driver: apt-get install chromium chromium-driver")
    page = tmp_path_factory.mktemp("report") / "report.html"
    write_report(simulated_comparison(n_pairs=400), page)
    write_report(
        simulated_comparison(sets=(HOSTILE,), methods=(f"good{HOSTILE}", "$__proto__"), n_pairs=200),
        page.with_name("hostile.html"),
    )
    write_report(
        simulated_comparison(SETS[:1], RECOGNISERS[:1], tuple("abcdefgh"), n_pairs=200),
        page.with_name("one_set.html"),
    )
    write_report(
        simulated_comparison(SETS[:1], RECOGNISERS, (), n_pairs=200), page.with_name("verification.html")
    )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.get(page.as_uri())
    yield chrome
    chrome.quit()


@contextmanager
def _open(browser: webdriver.Chrome, name: str) -> Iterator[None]:
    """Another page, for a moment."""
    page = browser.current_url
    browser.get(page.replace("report.html", name))
    try:
        yield
    finally:
        browser.get(page)


def _lines(browser: webdriver.Chrome, panel: int = 0) -> int:
    """Lines that are drawn in a panel of the curves."""
    path = f"#erc > div:nth-child({panel + 1}) .scatterlayer .trace .js-line"
    return sum(1 for line in browser.find_elements(By.CSS_SELECTOR, path) if line.get_attribute("d"))


def _click(browser: webdriver.Chrome, selector: str) -> None:
    browser.find_element(By.CSS_SELECTOR, selector).click()


def test_every_set_has_a_panel_with_every_method(browser: webdriver.Chrome) -> None:
    assert len(browser.find_elements(By.CSS_SELECTOR, "#erc > div .cartesianlayer .subplot")) == len(SETS)
    for panel in range(len(SETS)):
        assert _lines(browser, panel) >= len(METHODS) + 2  # and the random level and the best


def test_a_method_is_toggled_in_all_panels(browser: webdriver.Chrome) -> None:
    before = [_lines(browser, panel) for panel in range(len(SETS))]
    _click(browser, f'input[data-method="{METHODS[0]}"]')
    during = [_lines(browser, panel) for panel in range(len(SETS))]
    assert all(few < many for few, many in zip(during, before, strict=True))
    _click(browser, f'input[data-method="{METHODS[0]}"]')
    assert [_lines(browser, panel) for panel in range(len(SETS))] == before


def test_the_error_axis_becomes_logarithmic(browser: webdriver.Chrome) -> None:
    def kind() -> str:
        return browser.execute_script("return document.querySelector('#erc > div')._fullLayout.yaxis.type")

    assert kind() == "linear"
    _click(browser, "#log")
    assert kind() == "log"
    _click(browser, "#log")
    assert kind() == "linear"


def test_the_choices_change_the_curves(browser: webdriver.Chrome) -> None:
    def first_curve() -> list[str]:
        script = "return document.querySelector('#erc > div').data.find(t => t.name === arguments[0]).text"
        return browser.execute_script(script, METHODS[0])

    assert "genuine pairs" in first_curve()[0]
    assert "impostor pairs" in first_curve()[0]
    seen = [first_curve()]
    for control, value in (("recogniser", RECOGNISERS[1]), ("protocol", "crfiqa"), ("fmr", f"{FMRS[1]:g}")):
        Select(browser.find_element(By.ID, control)).select_by_value(value)
        assert first_curve() not in seen
        seen.append(first_curve())


def test_a_single_test_set_can_be_looked_at(browser: webdriver.Chrome) -> None:
    choice = Select(browser.find_element(By.ID, "panel"))
    for value, panels in ((SETS[1], 1), ("", len(SETS))):
        choice.select_by_value(value)
        assert len(browser.find_elements(By.CSS_SELECTOR, "#erc > div .subplot.xy")) == panels


def test_other_charts_and_pictures_are_there(browser: webdriver.Chrome) -> None:
    for grid in ("det", "histograms"):
        assert browser.find_elements(By.CSS_SELECTOR, f"#{grid} > div .cartesianlayer .subplot")
    Select(browser.find_element(By.ID, "test_set")).select_by_value(SETS[1])
    script = "return [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert browser.find_elements(By.TAG_NAME, "img")
    assert browser.execute_script(script)


def test_it_fits_a_telephone(browser: webdriver.Chrome) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    fits = "return document.documentElement.scrollWidth <= 400"
    WebDriverWait(browser, 10).until(lambda chrome: chrome.execute_script(fits))  # charts follow the width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_error_was_logged_and_nothing_was_asked_for(browser: webdriver.Chrome) -> None:
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert urls
    assert all(url.startswith(("file:", "data:", "blob:", "chrome:", "about:")) for url in urls), urls
    assert len([url for url in urls if url.startswith("file:")]) == 1


def test_hostile_names_are_shown_and_do_nothing(browser: webdriver.Chrome) -> None:
    with _open(browser, "hostile.html"):
        assert not browser.find_elements(By.CSS_SELECTOR, 'img[src="x"]')
        assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "#erc .gtitle").text
        legends = browser.find_elements(By.CSS_SELECTOR, "#histograms .legendtext")
        assert {legend.text for legend in legends} == {HOSTILE}
        assert browser.execute_script("return window.hacked === undefined")
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("name", ["report.html", "one_set.html", "verification.html"])
def test_no_box_of_controls_is_empty(browser: webdriver.Chrome, name: str) -> None:
    """With one test set there is nothing to choose above the DET curves."""
    with _open(browser, name):
        boxes = browser.find_elements(By.CLASS_NAME, "controls")
        shown = [box.text.split("\n")[0] for box in boxes if box.is_displayed()]
        assert len(shown) == {"report.html": 2, "one_set.html": 1, "verification.html": 0}[name]
        assert all(shown)
        assert browser.find_elements(By.CSS_SELECTOR, "#det .subplot")


def test_lines_differ_without_colour(browser: webdriver.Chrome) -> None:
    script = """
      const traces = document.querySelector("#erc > div").data;
      return ["lines", "markers"].map(mode => traces.filter(t => t.mode === mode && (t.text || t.marker))
        .map(t => t.line ? t.line.dash : t.marker.symbol + t.marker.size))"""
    with _open(browser, "one_set.html"):
        dashes, symbols = browser.execute_script(script)
        assert len(dashes) == len(symbols) == len(set(zip(dashes, symbols, strict=True))) == 8
        swatches = browser.find_elements(By.CSS_SELECTOR, "#methods svg.swatch")
        drawn = browser.execute_script(
            "const looks = path => path.style.strokeDasharray + path.getAttribute('d');"
            "return arguments[0].map(swatch => [...swatch.children].map(looks).join())",
            swatches,
        )
        assert len(set(drawn)) == 8


def test_many_bands_are_off_at_first_and_can_be_switched_on(browser: webdriver.Chrome) -> None:
    assert browser.find_element(By.ID, "bands").is_selected()  # three bands can be told apart
    with _open(browser, "one_set.html"):
        assert not browser.find_element(By.ID, "bands").is_selected()
        before = _lines(browser)
        _click(browser, "#bands")
        assert _lines(browser) == before + 7


def test_panels_say_where_the_target_fmr_is_not_resolved(browser: webdriver.Chrome) -> None:
    def panel() -> tuple[str, list[float]]:
        title = browser.find_element(By.CSS_SELECTOR, "#erc .gtitle").text
        return title, browser.execute_script(
            "return (document.querySelector('#erc > div').layout.shapes).map(shape => shape.x0)"
        )

    title, ground = panel()
    assert "resolved" not in title
    assert ground == []
    choice = Select(browser.find_element(By.ID, "fmr"))
    choice.select_by_value(f"{FMRS[1]:g}")
    title, ground = panel()
    choice.select_by_value(f"{FMRS[0]:g}")
    assert "FMR not resolved" in title
    assert ground == [0]


def test_verification_alone_speaks_of_nothing_else(browser: webdriver.Chrome) -> None:
    with _open(browser, "verification.html"):
        text = f"{browser.title} {browser.find_element(By.TAG_NAME, 'body').text}".lower()
        assert "verif" in browser.title.lower()
        for word in ("reject", "discard", "quality measure", "auc"):
            assert word not in text
        assert "TAR" in browser.find_element(By.TAG_NAME, "header").text


def test_the_page_is_one_file(tmp_path: Path) -> None:
    write_report(simulated_comparison(n_pairs=200), tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]

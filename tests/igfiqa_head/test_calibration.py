"""Reading and applying calibrations: what interpolation gives, round trips, and files that mean harm."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igfiqa_head.calibration import (
    MAX_CHARACTERS,
    MAX_KNOTS,
    Calibration,
    ExpectedFNMR,
    PercentScale,
    short_decimals,
)

FNMR = ExpectedFNMR(
    recogniser="r50",
    target_fmr=1e-3,
    effective_fmr=9e-4,
    threshold=0.25,
    n_genuine=400,
    n_impostor=10_000,
    n_errors=40,
    scores=(-1.0, 0.0, 2.0),
    rates=(0.5, 0.5, 0.1),
)
CALIBRATION = Calibration("IG-FIQA", "lfw", PercentScale(8, (-1.0, 0.0, 3.0), (10.0, 50.0, 90.0)), FNMR)

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def test_percent_by_hand() -> None:
    scores = [[-9.0, -1.0], [-0.5, 0.0], [1.5, 3.0], [3.1, np.inf]]
    np.testing.assert_allclose(CALIBRATION.percent(scores), [[0, 10], [30, 50], [70, 90], [100, 100]])


def test_expected_fnmr_by_hand() -> None:
    got = CALIBRATION.expected_fnmr([-np.inf, -0.3, 0.0, 1.0, 2.0, 1e300])
    np.testing.assert_allclose(got, [0.5, 0.5, 0.5, 0.3, 0.1, 0.1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
def test_any_real_type_and_shape(dtype: type) -> None:
    for shape in [(), (0,), (3,), (2, 2)]:
        got = CALIBRATION.percent(np.ones(shape, dtype=dtype))
        assert np.shape(got) == shape
        np.testing.assert_allclose(got, np.full(shape, 50 + 40 / 3))


def test_one_knot_is_a_step_for_percentages_and_constant_for_rates() -> None:
    fnmr = dataclasses.replace(FNMR, scores=(2.0,), rates=(0.25,))
    calibration = Calibration("m", "r", PercentScale(5, (2.0,), (50.0,)), fnmr)
    np.testing.assert_array_equal(calibration.percent([1.9, 2.0, 2.1]), [0, 50, 100])
    np.testing.assert_array_equal(calibration.expected_fnmr([1.9, 2.0, 2.1]), [0.25, 0.25, 0.25])


def test_scores_of_float64_meet_their_float32_knots() -> None:
    """0.1 is one number as float32 and another as float64; both must find the knot."""
    calibration = Calibration("m", "r", PercentScale(1, short_decimals([0.1]), (50.0,)))
    assert calibration.percent(0.1) == calibration.percent(np.float32(0.1)) == 50


@settings(deadline=None, max_examples=80)
@given(st.lists(finite32, min_size=1, max_size=30, unique=True), st.lists(finite32, max_size=30))
def test_percentages_stay_in_range_and_never_fall(knots: list[float], scores: list[float]) -> None:
    knots = sorted({value + 0.0 for value in knots})  # -0.0 and 0.0 are one score
    percents = tuple(np.linspace(1, 99, len(knots)).tolist())
    calibration = Calibration("m", "r", PercentScale(10, tuple(knots), percents))
    percent = calibration.percent(np.sort(np.array([*scores, *knots])))
    assert np.all((percent >= 0) & (percent <= 100))
    assert np.all(np.diff(percent) >= -1e-9)
    np.testing.assert_allclose(calibration.percent(knots), percents)


@settings(deadline=None, max_examples=80)
@given(st.lists(finite32, min_size=1, max_size=50))
def test_short_decimals_are_the_same_float32(values: list[float]) -> None:
    np.testing.assert_array_equal(np.float32(short_decimals(values)), np.float32(values))


@pytest.mark.parametrize("scores", [[0.0, np.nan], np.nan, "0.5", ["a"], [True], [1j], None])
def test_scores_that_are_no_numbers(scores: Any) -> None:
    with pytest.raises(ValueError, match="scores"):
        CALIBRATION.percent(scores)


def test_without_error_rates() -> None:
    with pytest.raises(ValueError, match="'IG-FIQA' on 'lfw' has no error rates: calibrate with genuine"):
        dataclasses.replace(CALIBRATION, fnmr=None).expected_fnmr([1.0])


@pytest.mark.parametrize("calibration", [CALIBRATION, dataclasses.replace(CALIBRATION, fnmr=None)])
def test_round_trip(calibration: Calibration, tmp_path: Path) -> None:
    assert Calibration.from_json(calibration.to_json()) == calibration
    path = tmp_path / "calibration.json"
    path.write_text("old")
    calibration.save(path)
    assert Calibration.load(path) == calibration
    assert list(tmp_path.iterdir()) == [path]


def test_names_in_any_language_survive(tmp_path: Path) -> None:
    calibration = dataclasses.replace(CALIBRATION, method='Qualität "\\" \N{FACE WITH MONOCLE} \ud800')
    calibration.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == calibration


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CALIBRATION.save(tmp_path / "nowhere" / "calibration.json")
    with pytest.raises(FileNotFoundError):
        Calibration.load(tmp_path / "nowhere.json")


def _document() -> dict[str, Any]:
    return json.loads(CALIBRATION.to_json())


def _with(path: str, value: Any) -> str:
    document = _document()
    *parents, key = path.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    target[key] = value
    return json.dumps(document)


def _without(path: str) -> str:
    document = _document()
    *parents, key = path.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    del target[key]
    return json.dumps(document)


HUGE = 10**400
HOSTILE: list[tuple[str, str]] = [
    ("", "it is no JSON"),
    ("{", "it is no JSON"),
    ("[" * 200_000, "it is no JSON"),
    (" " * (MAX_CHARACTERS + 1), "more than 1,000,000 characters"),
    ("[1, 2]", "expected a JSON object"),
    ("null", "expected a JSON object"),
    ("{}", '"format" must be "igfiqa calibration"'),
    (_with("format", ["igfiqa calibration"]), '"format" must be'),
    (_with("version", 2), "this is version 2 of the calibration format, but only 1 can be read here"),
    (_with("version", True), "this is version True"),
    (_with("version", "1" * 10_000), "this is version '1{1,20}\\.\\.\\."),
    (_without("version"), "this is version None"),
    (_without("method"), "calibration must hold method, reference, percentile, fnmr; got"),
    (_with("surprise", 1), "calibration must hold method"),
    (_with("method", ""), "method must be text of 1 to 200 characters, got ''"),
    (_with("method", 3), "method must be text"),
    (_with("reference", "x" * 201), "reference must be text"),
    (_with("percentile", None), "percentile must be a JSON object, got None"),
    (_with("percentile", [1]), "percentile must be a JSON object"),
    (_without("percentile.scores"), "percentile must hold n_images, scores, percents; got"),
    (_with("percentile.n_images", 0), "n_images must be an integer of at least 1, got 0"),
    (_with("percentile.n_images", 8.0), "n_images must be an integer"),
    (_with("percentile.n_images", True), "n_images must be an integer"),
    (_with("percentile.scores", []), "scores must be 1 to 1001 numbers"),
    (_with("percentile.scores", list(range(MAX_KNOTS + 1))), "scores must be 1 to 1001 numbers"),
    (_with("percentile.scores", {"0": 1}), "scores must be 1 to 1001 numbers"),
    (_with("percentile.scores", [0, "1", 2]), "each of scores must be a number in"),
    (_with("percentile.scores", [0, True, 2]), "each of scores must be a number in"),
    (_with("percentile.scores", [0, [1], 2]), "each of scores must be a number in"),
    (_with("percentile.scores", [0, HUGE, 2]), "each of scores must be a number in"),
    (_with("percentile.scores", [0, 1e39, 2]), "each of scores must be a number in"),
    (_with("percentile.scores", [0, float("nan"), 2]), "each of scores must be a number in"),
    (_with("percentile.scores", [0, 1, float("inf")]), "each of scores must be a number in"),
    (_with("percentile.scores", [0, 2, 1]), "scores must ascend strictly as float32"),
    (_with("percentile.scores", [0, 1, 1 + 1e-12]), "scores must ascend strictly as float32"),
    (_with("percentile.percents", [10, 90]), "percents must be 3 numbers, one for each knot"),
    (_with("percentile.percents", [10, 50, 100.1]), "each of percents must be a number in"),
    (_with("percentile.percents", [-1, 50, 100]), "each of percents must be a number in"),
    (_with("percentile.percents", [10, 50, 49]), "percents must never fall"),
    (_with("fnmr", "none"), "fnmr must be a JSON object"),
    (_without("fnmr.rates"), "fnmr must hold recogniser"),
    (_with("fnmr.recogniser", None), "recogniser must be text"),
    (_with("fnmr.target_fmr", 1.5), "target_fmr must be a number in"),
    (_with("fnmr.effective_fmr", None), "effective_fmr must be a number in"),
    (_with("fnmr.threshold", HUGE), "threshold must be a number in"),
    (_with("fnmr.n_genuine", 0), "n_genuine must be an integer"),
    (_with("fnmr.n_impostor", "9"), "n_impostor must be an integer"),
    (_with("fnmr.n_errors", -1), "n_errors must be an integer"),
    (_with("fnmr.scores", [0, 0, 1]), "scores must ascend strictly"),
    (_with("fnmr.rates", [0.1, 0.2, 0.3]), "rates must never rise"),
    (_with("fnmr.rates", [1.1, 0.2, 0.1]), "each of rates must be a number in"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE, ids=[message[:30] for _, message in HOSTILE])
def test_hostile_json_gives_one_short_error(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Calibration.from_json(text)
    assert len(str(caught.value)) < 400
    path = tmp_path / "hostile.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"hostile.json: .*{message}"):
        Calibration.load(path)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"\x00" * 100, b"\x1f\x8b\x08"])
def test_files_that_are_no_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "binary.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="binary.json: "):
        Calibration.load(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n_images", "scores"]), inner)
    ),
    max_leaves=6,
)
PATHS = [
    "format",
    "version",
    "method",
    "reference",
    "percentile",
    "fnmr",
    *(f"percentile.{key}" for key in _document()["percentile"]),
    *(f"fnmr.{key}" for key in _document()["fnmr"]),
]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(PATHS), json_values)
def test_anything_in_any_place_is_usable_or_a_value_error(path: str, value: Any) -> None:
    try:
        calibration = Calibration.from_json(_with(path, value))
    except ValueError:
        return
    percent = calibration.percent(np.linspace(-5, 5, 11))
    assert np.all((percent >= 0) & (percent <= 100))
    if calibration.fnmr is not None:
        assert np.all(np.diff(calibration.expected_fnmr(np.linspace(-5, 5, 11))) <= 1e-12)
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_a_missing_file_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no such file .*missing.json; igfiqa-eval calibrate writes one"
    ):
        Calibration.load(tmp_path / "missing.json")

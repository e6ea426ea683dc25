"""The folder of results: what is written is read back, and nothing else is taken."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval_tools.curve_points import curve_points
from eval_tools.outputs import summary, tables
from eval_tools.report import page
from eval_tools.results import ARRAYS_FILE, JSON_FILE, Comparison
from tests.eval_tools.simulated import simulated_comparison


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return simulated_comparison(n_pairs=300)


def _assert_same(a: object, b: object) -> None:
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif hasattr(a, "__dataclass_fields__"):
        assert type(a) is type(b)
        for name in a.__dataclass_fields__:
            _assert_same(getattr(a, name), getattr(b, name))
    elif isinstance(a, dict):
        assert isinstance(b, dict)
        assert list(a) == list(b)
        assert [type(key) for key in a] == [type(key) for key in b]
        for key in a:
            _assert_same(a[key], b[key])
    elif isinstance(a, tuple) and not hasattr(a, "_asdict"):
        assert isinstance(b, tuple)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_same(x, y)
    else:
        assert a == b
        assert type(a) is type(b)


def test_what_is_saved_is_loaded(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    _assert_same(comparison, Comparison.load(tmp_path))


def test_saving_again_replaces_both_files(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    comparison.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([JSON_FILE, ARRAYS_FILE])


def test_results_from_before_ties_and_the_random_level_were_measured_are_read(
    comparison: Comparison, tmp_path: Path
) -> None:
    comparison.save(tmp_path)
    text = (tmp_path / JSON_FILE).read_text()
    document = json.loads(text)
    curves = document["fields"]["curves"]["items"]
    for _, measured in curves:
        del measured["fields"]["tied"], measured["fields"]["against_random"]
    del document["fields"]["number"]
    with np.load(tmp_path / ARRAYS_FILE) as content:
        np.savez(tmp_path / ARRAYS_FILE, **{name: content[name] for name in content if name != "number"})
    (tmp_path / JSON_FILE).write_text(json.dumps(document))
    _assert_same(comparison, replace(Comparison.load(tmp_path), number=comparison.number))


def test_an_empty_folder_says_what_it_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no results .*igfiqa-eval compare"):
        Comparison.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: json.dumps({"class": "Path", "fields": {}}),
        lambda text: json.dumps({"class": "Band", "fields": {}}),
        lambda text: json.dumps({"array": "a0"}),
        lambda text: json.dumps({"array": "no such array"}),
        lambda text: "[" * 100_000,
        lambda text: "\x00",
    ],
)
def test_damaged_documents_give_one_error(comparison: Comparison, tmp_path: Path, damage) -> None:
    comparison.save(tmp_path)
    document = tmp_path / JSON_FILE
    document.write_text(damage(document.read_text()))
    with pytest.raises(ValueError, match=r"are damaged|expected a comparison"):
        Comparison.load(tmp_path)


def test_damaged_arrays_give_one_error(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    arrays = tmp_path / ARRAYS_FILE
    for content in (b"", b"PK", arrays.read_bytes()[:-100], arrays.read_bytes()[200:]):
        arrays.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            Comparison.load(tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    simulated_comparison(("a",), ("r",), ("m", "n", "random"), n_pairs=200).save(folder)
    return folder


def _first(value: Any, kind: str) -> dict[str, Any]:
    """The fields of the first object of a class in a document."""
    if isinstance(value, dict):
        if value.get("class") == kind:
            return value["fields"]
        value = list(value.values())
    found = (_first(item, kind) for item in value) if isinstance(value, list) else ()
    return next(filter(None, found), {})


FIELDS = [
    ("Comparison", "curves", None),
    ("Comparison", "settings", "x"),
    ("Comparison", "settings", {"items": [["a", 1]]}),
    ("Comparison", "settings", {"items": 5}),
    ("Comparison", "galleries", 5),
    ("Comparison", "galleries", ["x"]),
    ("Comparison", "verification", {"items": []}),
    ("Comparison", "quality", {"items": [[{"class": "SetKey", "fields": {}}, {"array": "a0"}]]}),
    ("Comparison", "limit", "0.3"),
    ("CurveKey", "fmr", "x"),
    ("CurveKey", "recogniser", "another"),
    ("MeasuredCurve", "curve", None),
    ("MeasuredCurve", "area", None),
    ("ErrorRejectionCurve", "protocol", "x"),
    ("ErrorRejectionCurve", "n_genuine", {"array": "text"}),
    ("ErrorRejectionCurve", "discard", {"array": "floats"}),
    ("ErrorRejectionCurve", "n_errors", {"array": "floats"}),
    ("ErrorRejectionCurve", "threshold", {"array": "floats"}),
    ("Band", "low", {"array": "floats"}),
    ("Band", "low", [1.0, 2.0]),
    ("VerificationSummary", "det_fmr", {"array": "floats"}),
    ("VerificationSummary", "edges", {"array": "floats"}),
    ("VerificationSummary", "notes", "x"),
    ("OperatingPoint", "n_impostor", 0),
    ("GalleryItem", "images", []),
    ("GalleryItem", "images", [{"array": "floats"}]),
    ("Gallery", "items", None),
    ("CurveKey", "protocol", "unknown"),
    ("CurveKey", "protocol", "image"),
    ("CurveKey", "fmr", 2.0),
    ("SignificanceKey", "protocol", "unknown"),
    ("SignificanceKey", "test_set", "another"),
    ("PairedComparison", "first", "another"),
    ("PairedComparison", "p_value", -1),
    ("PairedComparison", "low", math.inf),
    ("OperatingPoint", "target_fmr", 10**30),
    ("OperatingPoint", "target_fmr", 1e308),
    ("OperatingPoint", "target_fmr", 1e-320),
    ("OperatingPoint", "threshold", 10**30),
    ("OperatingPoint", "n_false_match", -1),
    ("OperatingPoint", "n_false_non_match", 10**6),
    ("ErrorRejectionCurve", "target_fmr", 1e300),
    ("ErrorRejectionCurve", "threshold", 10**30),
    ("ErrorRejectionCurve", "effective_fmr", -0.5),
    ("ErrorRejectionCurve", "n_discardable", 0),
    ("VerificationSummary", "eer", math.nan),
    ("VerificationSummary", "n_genuine", 0),
    ("MeasuredCurve", "area", -1.0),
    ("MeasuredCurve", "tied", 2.0),
    ("Band", "level", 0),
    ("Comparison", "limit", -0.5),
]

ARRAYS = [
    ("ErrorRejectionCurve", "discard", "negative nan reversed"),
    ("ErrorRejectionCurve", "n_discarded", "negative reversed"),
    ("ErrorRejectionCurve", "n_errors", "negative"),
    ("ErrorRejectionCurve", "n_genuine", "negative reversed"),
    ("ErrorRejectionCurve", "best_errors", "negative nan"),
    ("VerificationSummary", "det_fmr", "negative nan reversed"),
    ("VerificationSummary", "det_fnmr", "negative nan reversed"),
    ("VerificationSummary", "edges", "nan reversed"),
    ("VerificationSummary", "genuine", "negative"),
    ("Band", "discard", "negative nan reversed"),
    ("Band", "low", "negative"),
    ("Comparison", "quality", "nan"),
]
DAMAGES = {
    "negative": lambda array: -1 - abs(array),
    "nan": lambda array: np.where(np.arange(array.size) == array.size // 2, np.nan, array),
    "reversed": lambda array: array[::-1],
    "huge": lambda array: array * 10.0**300,
    "none": lambda array: array[:0],
}


@pytest.mark.parametrize(("kind", "field", "value"), FIELDS)
def test_fields_of_other_types_and_lengths_give_one_error(
    saved: Path, tmp_path: Path, kind: str, field: str, value: Any
) -> None:
    document = json.loads((saved / JSON_FILE).read_text())
    with np.load(saved / ARRAYS_FILE) as content:
        np.savez(tmp_path / ARRAYS_FILE, **content, text=np.array(["a"] * 3), floats=np.ones(3))
    (tmp_path / JSON_FILE).write_text(json.dumps(document))
    Comparison.load(tmp_path)
    fields = _first(document, kind)
    assert field in fields
    fields[field] = value
    (tmp_path / JSON_FILE).write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"the results in .* are damaged: "):
        Comparison.load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "field", "damage"),
    [(kind, field, damage) for kind, field, damages in ARRAYS for damage in damages.split()],
)
def test_arrays_of_impossible_numbers_give_one_error(
    saved: Path, tmp_path: Path, kind: str, field: str, damage: str
) -> None:
    document = json.loads((saved / JSON_FILE).read_text())
    fields = _first(document, kind)
    value = fields[field]["items"][0][1] if field == "quality" else fields[field]
    with np.load(saved / ARRAYS_FILE) as content:
        arrays = dict(content)
    arrays[value["array"]] = DAMAGES[damage](arrays[value["array"]])
    np.savez(tmp_path / ARRAYS_FILE, **arrays)
    (tmp_path / JSON_FILE).write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"parts of a {kind} do not fit each other"):
        Comparison.load(tmp_path)


def _leaves(value: Any, kind: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(class and field, container, key) of every number and text in a document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in entries:
        if isinstance(part, dict | list):
            kind = value["class"] if key == "fields" else kind
            yield from _leaves(part, kind)
        elif key not in ("class", "array"):
            yield f"{kind}.{key}", value, key


NUMBERS = [10**400, -(10**400), 2**63, 1e308, 1e-320, 0, -1, 0.5, 2, math.nan, math.inf, None, "x"]
TEXTS = ["unknown", "image", "fixed", "pairs", 1]
_template = cache(page._template)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_results_with_any_other_values_are_refused_or_shown(
    saved: Path, tmp_path: Path, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_plotly", str)  # megabytes that nothing here depends on
    monkeypatch.setattr(page, "_template", _template)
    document = json.loads((saved / JSON_FILE).read_text())
    document["fields"]["galleries"] = []
    with np.load(saved / ARRAYS_FILE) as content:
        arrays = dict(content)
    if data.draw(st.booleans()):
        leaves = {where: (container, key) for where, container, key in _leaves(document)}
        container, key = leaves[data.draw(st.sampled_from(sorted(leaves)))]
        container[key] = data.draw(st.sampled_from(TEXTS if isinstance(container[key], str) else NUMBERS))
    else:
        name = data.draw(st.sampled_from(sorted(name for name in arrays if arrays[name].ndim == 1)))
        arrays[name] = DAMAGES[data.draw(st.sampled_from(sorted(DAMAGES)))](arrays[name])
    (tmp_path / JSON_FILE).write_text(json.dumps(document))
    np.savez(tmp_path / ARRAYS_FILE, **arrays)
    try:
        comparison = Comparison.load(tmp_path)
    except ValueError as error:
        assert "are damaged" in str(error) or "of another run" in str(error)  # noqa: PT017
        return
    for table in tables(comparison).values():
        table.to_text()
    json.dumps(summary(comparison))
    for protocol in comparison.names("protocol"):
        curve_points(comparison, protocol)
    page.write_report(comparison, tmp_path / "report.html")


@pytest.mark.parametrize("fields", [None, 5, [], "x"])
def test_fields_that_are_no_names_and_values_give_one_error(saved: Path, tmp_path: Path, fields: Any) -> None:
    (tmp_path / ARRAYS_FILE).write_bytes((saved / ARRAYS_FILE).read_bytes())
    (tmp_path / JSON_FILE).write_text(json.dumps({"class": "Comparison", "fields": fields}))
    with pytest.raises(ValueError, match="are damaged"):
        Comparison.load(tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_to_the_arrays_is_one_error_or_none(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / JSON_FILE).write_bytes((saved / JSON_FILE).read_bytes())
    content = bytearray((saved / ARRAYS_FILE).read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + data.draw(st.integers(1, 4))] = data.draw(st.binary(min_size=1, max_size=4))
    (folder / ARRAYS_FILE).write_bytes(content)
    try:
        Comparison.load(folder)
    except ValueError as error:
        assert "are damaged" in str(error)  # noqa: PT017 - damage to a date, for one, is harmless


def test_arrays_that_hold_objects_are_refused(comparison: Comparison, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    comparison.save(tmp_path)
    with np.load(tmp_path / ARRAYS_FILE) as content:
        arrays = dict(content)
    arrays["a0"] = np.array([Payload()], dtype=object)
    np.savez(tmp_path / ARRAYS_FILE, **arrays)
    with pytest.raises(ValueError, match="damaged"):
        Comparison.load(tmp_path)
    assert not (tmp_path / "ran").exists()

"""The folder of results: what is written is read back, and nothing else is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    (tmp_path / JSON_FILE).write_text(json.dumps(document))
    _assert_same(comparison, Comparison.load(tmp_path))


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
]


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

"""The folder of results: what is written is read back, and nothing else is taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

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

"""Metadata of ONNX files from anywhere: a model that works, or one error that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igfiqa_head.calibration import FORMAT, Calibration, ExpectedFNMR, PercentScale
from igfiqa_head.runtime import INPUT_CONTRACT, QualityModel
from tests.onnx_models import write_model

SCALE = PercentScale(n_images=3, scores=(0.0, 1.0), percents=(0.0, 100.0))
FNMR = ExpectedFNMR("r", 0.1, 0.1, 0.5, 10, 10, 5, (0.0, 1.0), (0.5, 0.1))
VALID = Calibration("m", "s", SCALE, FNMR).to_json()

text = st.text(st.characters(exclude_categories=()), max_size=20)  # surrogates, too
hostile = [10**400, -(2**63), 3 * 10**38, 4 * 10**38, 5e-324, True, -0.0]
numbers = st.integers() | st.floats() | st.sampled_from(hostile)
values = st.recursive(
    st.none() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
tables = st.lists(numbers, max_size=4).map(sorted) | st.lists(numbers, max_size=3)


@st.composite
def calibrations(draw: st.DrawFn) -> str:
    """JSON of a calibration, some of its values replaced."""
    document = json.loads(VALID)
    for part in (document, document["percentile"], document["fnmr"]):
        for key in draw(st.lists(st.sampled_from(sorted(part)), max_size=2)):
            part[key] = draw(tables if key in ("scores", "percents", "rates") else values)
    return json.dumps(document)


texts = [
    INPUT_CONTRACT, "quality", "both", "fused", "embedding", "", "\0", "[" * 100_000, '{"a":' * 50_000,
    "9" * 5_000, "NaN", "-Infinity", "x" * 2_000_000, '"\\ud800"',
]  # fmt: skip
versions = values.map(lambda version: json.dumps({"format": FORMAT, "version": version}))
written = calibrations() | versions | values.map(json.dumps) | text | st.sampled_from(texts)
contents = written.map(lambda value: value.encode("utf-8", "surrogatepass")) | st.binary(max_size=20)
known = [b"calibration", b"calibration", b"kind", b"input", b"precision", b"\xff"]
keys = st.sampled_from(known) | st.binary(max_size=20)


def field(number: int, value: bytes) -> bytes:
    """A field of a Protocol Buffers message that has a length."""
    size, length = len(value), []
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + value


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("fuzz") / "m.onnx", {"quality": 1})


def opened(path: Path) -> QualityModel | str:
    """The model, or what is wrong with it."""
    try:
        return QualityModel(path, threads=1)
    except ValueError as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(st.tuples(keys, contents), min_size=1, max_size=3))
def test_any_metadata_give_a_model_or_one_error(network: Path, entries: list[tuple[bytes, bytes]]) -> None:
    path = network.with_name("fuzzed.onnx")
    added = [field(14, field(1, key) + field(2, value)) for key, value in entries]
    path.write_bytes(network.read_bytes() + b"".join(added))
    model = opened(path)
    if isinstance(model, str):
        assert str(path) in model
        assert len(model) < 1_000
        return
    scores = model.score(np.full((1, 16, 16, 3), 90, np.uint8))
    assert scores.shape == (1,)
    if model.calibration is not None:
        assert 0 <= model.percent(scores)[0] <= 100
        assert Calibration.from_json(model.calibration.to_json()) == model.calibration
        if model.calibration.fnmr is not None:
            assert 0 <= model.calibration.expected_fnmr(scores)[0] <= 1


def test_a_name_that_is_no_text_is_one_error(network: Path) -> None:
    path = network.with_name("unnamed.onnx")
    path.write_bytes(network.read_bytes().replace(b"quality", b"\xff" * 7))
    with pytest.raises(ValueError, match=r"cannot load .*unnamed.onnx: 'utf-8' codec"):
        QualityModel(path)

"""Models that all tests of the command share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.igfiqa_head.cli.inputs import CALIBRATION, SIZE
from tests.onnx_models import write_model
from tests.packs import make_pack


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "quality.onnx", {"quality": 1}, size=SIZE)
    metadata = {"calibration": CALIBRATION.to_json()}
    write_model(folder / "calibrated.onnx", {"quality": 1}, size=SIZE, metadata=metadata)
    write_model(folder / "recogniser.onnx", {"embedding": 8}, size=SIZE)
    make_pack(folder)
    return folder


@pytest.fixture
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the models beside it."""
    for path in models.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path

"""recipe.json and metrics.json are JSON, whatever was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from trainer.run_files import write_json


def test_what_json_does_not_know_becomes_null(tmp_path: Path) -> None:
    content = {
        "nan": float("nan"), "in a block": {"inf": np.float64("inf"), "list": [1.5, -np.inf, (np.nan, 2)]},
        "zero": 0.0, "path": tmp_path,
    }  # fmt: skip
    write_json(content, tmp_path / "m.json")
    text = (tmp_path / "m.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {
        "nan": None, "in a block": {"inf": None, "list": [1.5, None, [None, 2]]}, "zero": 0.0,
        "path": str(tmp_path),
    }  # fmt: skip
    assert np.isnan(content["nan"])

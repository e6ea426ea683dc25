"""The card that goes with a quality model."""

from __future__ import annotations

import copy
import hashlib
import math
import re
from pathlib import Path
from typing import Any

import pytest

from igfiqa_head.recogniser_graph import RecogniserGraph
from tests.onnx_models import write_model
from trainer.model_card import model_card

RECIPE: dict[str, Any] = {
    "rec": "/home/somebody/faces",
    "erc_fmr": 1e-3,
    "ig_fiqa": {"degradation_p": 0.3, "further_p": 0.0, "variance_weights": True},
    "on_top": {"reads": ["norm", "embedding"], "hidden": 0, "replicas": 4, "degraded_share": 0.4},
}
AREA = {"IG-FIQA on top": 0.2184, "embedding norm": 0.31}
METRICS: dict[str, Any] = {
    "data": {
        "learned_images": 12345, "learned_identities": 900, "held_out_images": 640, "held_out_identities": 51,
    },
    "erc": {
        "held_out_degraded": {
            "fnmr_at_0": 0.25, "resolved": True, "n_genuine": 4000, "n_impostor": 900000, "area": AREA,
        },
        "lfw": {
            "fnmr_at_0": 0.0, "resolved": False, "n_genuine": 300, "n_impostor": 300,
            "area": dict.fromkeys(AREA, math.nan),
        },
    },
}  # fmt: skip


def card(tmp_path: Path, **changes: Any) -> str:
    """The card with changed recipe keys; ``metrics`` takes the place of all metrics."""
    metrics = changes.pop("metrics", METRICS)
    recipe = copy.deepcopy(RECIPE)
    for block, values in changes.items():
        recipe[block] |= values
    recogniser = RecogniserGraph(write_model(tmp_path / "r50.onnx", size=112))
    return model_card({"recipe": recipe}, recogniser, metrics, "9.8.7")


def test_what_it_was_made_of(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert text.startswith("# Model card: IG-FIQA on top of `r50.onnx`\n")
    assert hashlib.sha256((tmp_path / "r50.onnx").read_bytes()).hexdigest() in text
    assert "`faces`: 12,345 images of 900 identities" in text
    assert "one linear layer on embedding, norm |" in text
    assert "4 copies of each image, each of the paper's three kinds with probability 0.3 |" in text
    assert "weights by intra-class variance" in text
    assert "igfiqa 9.8.7" in text


def test_no_path_of_a_machine_is_passed_on(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert "/home" not in text
    assert str(tmp_path) not in text


def test_the_table(tmp_path: Path) -> None:
    rows = [line for line in card(tmp_path).splitlines() if line.startswith("|")][-4:]
    assert rows == [
        "| test set | genuine + impostor pairs | FNMR | IG-FIQA on top | embedding norm |",
        "| --- | --- | --- | --- | --- |",
        "| `held_out_degraded` | 4,000 + 900,000 | 0.2500 | 0.218 | 0.310 |",
        "| `lfw` | 300 + 300 | 0.0000† | no errors | no errors |",
    ]
    assert "† The impostor pairs are too few for this FMR" in card(tmp_path)
    resolved = {"held_out_degraded": METRICS["erc"]["held_out_degraded"]}
    assert "†" not in card(tmp_path, metrics=METRICS | {"erc": resolved})


def test_names_from_other_people_are_neither_html_nor_markdown(tmp_path: Path) -> None:
    metrics = METRICS | {"erc": {"a|b\n<b>": METRICS["erc"]["lfw"]}}
    path = write_model(tmp_path / "m`|<img src=x onerror=alert(1)>.onnx", size=112)
    recipe = RECIPE | {"rec": "/faces/``x`"}
    text = model_card({"recipe": recipe}, RecogniserGraph(path), metrics, "9.8.7")
    assert r"on top of `` m`\|<img src=x onerror=alert(1)>.onnx ``" in text
    assert "| data | ``` ``x` ```: 12,345" in text
    assert r"| `a\|b\n<b>` | 300 + 300 |" in text


def test_a_data_folder_without_a_name_is_shown_as_it_was_given(tmp_path: Path) -> None:
    recogniser = RecogniserGraph(write_model(tmp_path / "r50.onnx", size=112))
    assert "| data | `.`: " in model_card({"recipe": RECIPE | {"rec": "."}}, recogniser, METRICS, "9.8.7")


def test_what_was_measured_on(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert "640 of 51 other identities" in text
    assert "40% were damaged: low resolution, defocus," in text
    assert "were damaged" not in card(tmp_path, on_top={"degraded_share": 0.0})


def test_nothing_was_measured(tmp_path: Path) -> None:
    text = card(tmp_path, metrics=METRICS | {"erc": {}})
    assert "There was no test set: nothing was measured." in text
    assert "FNMR" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"on_top": {"hidden": 32}}, "32 hidden units on embedding"),
        ({"ig_fiqa": {"variance_weights": False}}, "equal weights"),
        ({"ig_fiqa": {"further_p": 0.15}}, "with probability 0.3, each of five further ones with 0.15"),
        ({"on_top": {"replicas": 0}}, "| degradations | none |"),
    ],
)
def test_settings(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in card(tmp_path, **changes)


def test_it_asks_for_licences(tmp_path: Path) -> None:
    text = card(tmp_path)
    for what in ("this file", "the recogniser", "the data"):
        assert re.search(rf"^- Licence of {what}.*: \.\.\.$", text, re.MULTILINE)

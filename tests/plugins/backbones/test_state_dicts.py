"""Parameter and buffer names and shapes equal arcface_torch's, so that checkpoints go both ways.

``state_dict_facts.json`` was computed from arcface_torch's own networks at 512 features: the number of
entries, the number of parameters, and the SHA-256 of the sorted lines "name [shape]".
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from plugins.backbones import get_model

FACTS = json.loads(Path(__file__).with_name("state_dict_facts.json").read_text(encoding="utf-8"))
SHARED = Path(__file__).resolve().parents[4] / "shared" / "facts"


def shapes(name: str) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {key: list(tensor.shape) for key, tensor in get_model(name).state_dict().items()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "r2060" else name for name in FACTS]
)
def test_names_and_shapes_match_the_fingerprint(name: str) -> None:
    with torch.device("meta"):
        model = get_model(name)
    state = model.state_dict()
    lines = "\n".join(sorted(f"{key} {list(tensor.shape)}" for key, tensor in state.items()))
    assert {
        "entries": len(state),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    } == FACTS[name]


def load_shared(file: str) -> dict[str, dict[str, list[int]]]:
    path = SHARED / file
    if not path.is_file():
        pytest.skip(f"{file} is not at hand")
    return json.loads(path.read_text(encoding="utf-8"))


def test_names_shapes_and_order_match_the_full_listing() -> None:
    for name, expected in load_shared("arcface_torch_state_dicts.json").items():
        found = shapes(name)
        assert found == expected
        assert list(found) == list(expected)  # optimizer states go by position


def test_cr_fiqa_checkpoints_hold_our_backbone_and_their_quality_layer() -> None:
    listings = load_shared("crfiqa_state_dicts.json")
    for depth in (18, 34, 50, 100):
        quality = {"qs.weight": [1, 512], "qs.bias": [1]}
        assert listings[f"iresnet{depth}"] == shapes(f"r{depth}") | quality


@pytest.mark.parametrize("name", ["r18", "mbf", "vit_t"])
def test_dropout_and_embedding_size_change_no_other_entry(name: str) -> None:
    with torch.device("meta"):
        other = get_model(name, dropout=0.4, num_features=64).state_dict()
    expected = shapes(name)
    assert list(other) == list(expected)
    changed = {key for key, tensor in other.items() if list(tensor.shape) != expected[key]}
    last_layers = {"r18": ("fc.", "features."), "mbf": ("features.layers.2.", "features.layers.3.")}
    assert all(key.startswith(last_layers.get(name, ("feature.2.", "feature.3."))) for key in changed)
    assert changed

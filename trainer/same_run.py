"""Whether all processes run the same training: else what they learn drifts apart, or they wait for ever."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from easydict import EasyDict

from igfiqa_head.ranks import Ranks
from igfiqa_head.text import first_of, printable
from trainer.run_files import ROOT, versions

# Paths on one machine, and how hard it works. All start from the weights that the first process has read.
_OF_A_MACHINE = ("rec", "decoded_cache", "backbone_weights", "plugins", "num_workers", "wandb_key")
_SOURCES = ("igfiqa_head", "plugins", "trainer")
_COMPARED_IMAGES = 8
_SHOWN = 3


def check_same_recipe(config: EasyDict, ranks: Ranks) -> None:
    """Refuse processes with other recipes, versions, or sources of this project or its plugins.

    Raises:
        ValueError: on all ranks: says what differs, and between which of them.
    """
    if ranks.size == 1:
        return
    own = [path for name in _SOURCES for path in sorted((ROOT / name).rglob("*.py"))]
    code = {
        "the code of igfiqa": _digest(*map(Path.read_bytes, own)),
        "the code of plugins": _digest(*map(_code_of_plugin, config.plugins)),
    }
    recipe = {key: value for key, value in config.items() if key not in _OF_A_MACHINE}
    _check_equal(recipe | code | {"version": versions()}, ranks)


def check_same_data(dataset: Any, ranks: Ranks) -> None:
    """Refuse processes with other training images: other numbers, labels, or pixels of a few of them.

    Raises:
        ValueError: on all ranks: says what differs, and between which of them.
    """
    if ranks.size == 1:
        return
    spread = np.linspace(0, len(dataset) - 1, _COMPARED_IMAGES).astype(np.int64)
    pixels = b"".join(dataset[index][0].tobytes() for index in spread.tolist())
    labels = np.asarray(dataset.labels, np.int64).tobytes()
    described = {
        "the number of images": len(dataset),
        "the number of classes": dataset.num_classes,
        "the digest of the labels": _digest(labels),
        "the digest of a few images": _digest(pixels),
    }
    _check_equal(described, ranks)


def check_same_network(config: EasyDict, ranks: Ranks) -> None:
    """Refuse processes whose ``backbone_weights`` are of other networks."""
    _check_equal({key: config[key] for key in ("network", "embedding_size")}, ranks)


def _check_equal(described: Mapping[str, Any], ranks: Ranks) -> None:
    first, *others = map(json.loads, ranks.texts(json.dumps(_flat(described), default=str)))
    for rank, other in enumerate(others, start=1):
        unlike = [
            f"{key} is {first.get(key)!r} on rank 0 and {other.get(key)!r} on rank {rank}"
            for key in {**first, **other}
            if first.get(key) != other.get(key)
        ]
        if unlike:
            raise ValueError(
                f"the processes do not train the same: {printable(first_of(unlike, _SHOWN))}. Start all with "
                "one recipe, one installation and copies of the same data"
            )


def _flat(described: Mapping[str, Any]) -> dict[str, Any]:
    """Key -> value; ``block.key`` for those of a block."""
    blocks = {key: value for key, value in described.items() if isinstance(value, Mapping)}
    flat = {key: value for key, value in described.items() if key not in blocks}
    return flat | {f"{block}.{key}": value for block, keys in blocks.items() for key, value in keys.items()}


def _code_of_plugin(plugin: str) -> bytes:
    """The content of its file; a package in many files goes by its name."""
    file = getattr(sys.modules.get(plugin), "__file__", None) or plugin
    return Path(file).read_bytes() if Path(file).is_file() else plugin.encode()


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:12]

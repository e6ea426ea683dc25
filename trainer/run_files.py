"""recipe.json and metrics.json: what a run was asked for, what it ran on, and what came of it."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict

from igfiqa_head import __version__
from igfiqa_head.io.atomic import atomic_path

ROOT = Path(__file__).resolve().parent.parent
_VERSIONS_OF = ("torch", "torchvision", "timm", "numpy", "onnx", "onnxruntime", "opencv-python-headless")


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """NaN and infinity, which JSON does not know, become null."""
    write_text(json.dumps(_finite(content), indent=2, default=str, allow_nan=False) + "\n", path)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(content: str, path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")


def resolved(config: EasyDict, dataset: Any, device: torch.device) -> dict[str, Any]:
    """The recipe as it was understood, and what it ran on."""
    counts = {"num_classes": dataset.num_classes, "num_image": len(dataset)}
    recipe = {key: value for key, value in config.items() if key != "wandb_key"} | counts
    environment = {"git_revision": _git_revision(), "device": str(device), "versions": versions()}
    return {"recipe": recipe} | environment


def versions() -> dict[str, str | None]:
    """Those of this project and of what its results depend on; None for what is not installed."""
    return {"igfiqa": __version__} | {name: _version(name) for name in _VERSIONS_OF}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None

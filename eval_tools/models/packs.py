"""The recogniser of an insightface model pack, chosen as insightface 2 itself chooses it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from igfiqa_head.io.regular_files import read_regular
from igfiqa_head.onnx_file import OnnxFile
from igfiqa_head.onnx_session import open_session

MANIFEST = "manifest.json"


def pack_recogniser(folder: Path) -> tuple[Path, tuple[float, float] | None]:
    """The file that insightface takes for the recogniser, and its (mean, std) if the pack states them.

    A manifest of version 2 names it. Otherwise it is the first file by name whose input is square, at least
    112 and a multiple of 16, unless inputs and outputs have the shapes of another task.

    Raises:
        ValueError: the pack has none, a file cannot be opened, or the manifest is damaged.
    """
    manifest = _manifest(folder)
    if manifest is not None:
        return _from_manifest(folder, manifest)
    paths = sorted(path for path in folder.glob("*.onnx") if not path.name.startswith("."))
    for path in paths:
        if _is_routed_to_recognition(path):
            return path, None
    found = ", ".join(path.name for path in paths) or "no .onnx file"
    raise ValueError(f"{folder} is no insightface pack with a recogniser: it holds {found}")


def _is_routed_to_recognition(path: Path) -> bool:
    session = open_session(OnnxFile(path), ["CPUExecutionProvider"])
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(session.get_outputs()) >= 5 or len(shape) != 4:  # a detector
        return False
    height, width = shape[2:]
    if not isinstance(height, int) or height != width or height in (96, 192):  # attributes, landmarks
        return False
    face_swap = len(inputs) == 2 and height == 128
    return height >= 112 and height % 16 == 0 and not face_swap


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest, if there is one of version 2; insightface ignores any other."""
    try:
        content = json.loads(read_regular(folder / MANIFEST).decode())
    except (OSError, ValueError, RecursionError):
        return None
    is_used = isinstance(content, dict) and content.get("manifest_version") == 2
    return content if is_used else None


def _from_manifest(folder: Path, manifest: dict[str, Any]) -> tuple[Path, tuple[float, float]]:
    where = folder / MANIFEST
    try:
        task = manifest["tasks"]["recognition"]
        path = folder / task["file"]
        stated = task.get("preprocessing", {"mean": 127.5, "std": 127.5})
        normalisation = (0.0, 1.0) if stated == "embedded" else (float(stated["mean"]), float(stated["std"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{where} describes no recogniser: {error!r} in tasks.recognition") from error
    if not Path(os.path.realpath(path)).is_relative_to(folder.resolve()) or not path.is_file():
        raise ValueError(f"{where} names the recogniser {task['file']!r}, which is no file of the pack")
    expected = task.get("sha256")
    if expected is not None and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise ValueError(f"{path} is not the file that {where} describes: its SHA-256 differs")
    return path, normalisation

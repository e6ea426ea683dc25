"""A folder to try the page with: a calibrated model, a pack, crops, photographs and what is no image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from igfiqa_head.calibration import Calibration, PercentScale
from tests.onnx_models import write_model
from tests.packs import make_pack, picture

CALIBRATION = Calibration("brightness", "grey", PercentScale(100, (-2.0, 2.0), (0.0, 100.0)))


def make_demo_folder(folder: Path) -> Path:
    """Fill and return a folder.

    It gets ``quality.onnx``, the pack ``models/testpack``, six ``crop_*.png`` of different brightness,
    ``group.png`` with the faces of the pack, ``nobody.png`` without any, and ``letter <b>.jpg``, a text.
    """
    metadata = {"calibration": CALIBRATION.to_json()}
    write_model(folder / "quality.onnx", {"quality": 1}, size=112, metadata=metadata)
    make_pack(folder)
    for number, grey in enumerate((120, 30, 250, 75, 160, 210)):
        cv2.imwrite(str(folder / f"crop_{number}.png"), np.full((112, 112, 3), grey, np.uint8))
    cv2.imwrite(str(folder / "group.png"), picture())
    cv2.imwrite(str(folder / "nobody.png"), np.zeros((256, 256, 3), np.uint8))
    (folder / "letter <b>.jpg").write_text("Dear all")
    return folder

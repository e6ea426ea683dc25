"""What a masked array hides never becomes a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval_tools.erc import error_rejection_curve, image_rejection_curve, pair_quality
from eval_tools.significance import bootstrap
from eval_tools.verification import verify
from igfiqa_head.alignment import align
from igfiqa_head.arrays import plain_array
from igfiqa_head.quality_sheet import plot_quality_sheet

HIDDEN = np.ma.array([0.9, 0.8, 0.2, 0.1], mask=[0, 1, 0, 0])
NUMBERS = HIDDEN.data
GENUINE = np.array([True, True, False, False])
EMBEDDINGS = np.eye(4)
PEOPLE = [0, 0, 1, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: error_rejection_curve(HIDDEN, GENUINE, NUMBERS, fmr=0.5),
        lambda: error_rejection_curve(NUMBERS, GENUINE, HIDDEN, fmr=0.5),
        lambda: error_rejection_curve(NUMBERS, np.ma.array(GENUINE), NUMBERS, fmr=0.5),
        lambda: image_rejection_curve(EMBEDDINGS, np.ma.array(PEOPLE), NUMBERS),
        lambda: image_rejection_curve(np.ma.array(EMBEDDINGS), PEOPLE, NUMBERS),
        lambda: pair_quality(HIDDEN, NUMBERS),
        lambda: verify(np.ma.array(EMBEDDINGS), [True, False], folds=2),
        lambda: bootstrap(NUMBERS, GENUINE, {"q": HIDDEN}, fmr=0.5, rng=np.random.default_rng(0)),
        lambda: plot_quality_sheet(np.zeros((4, 8, 8, 3), np.uint8), HIDDEN, Path("sheet.png")),
        lambda: align(np.zeros((8, 8, 3), np.uint8), np.ma.array(np.eye(5)[:, :2])),
    ],
)
def test_a_masked_array_is_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="is a masked array: leave the masked entries out"):
        call()


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="quality must be .* got rows of different lengths"):
        plain_array("quality", [[1.0], [2.0, 3.0]])

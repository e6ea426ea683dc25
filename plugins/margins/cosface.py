"""CosFace: an additive cosine margin on the target class (https://arxiv.org/abs/1801.09414)."""

from __future__ import annotations

from torch import Tensor

from igfiqa_head.margin import MarginOutput
from igfiqa_head.registry import MARGINS


@MARGINS.register("cosface")
class CosFace:
    """target' = cos(theta_y) - m.

    Args:
        margin: m in [0, 2], on the cosine.
    """

    def __init__(self, margin: float = 0.4) -> None:
        if not 0 <= margin <= 2:
            raise ValueError(
                f"the CosFace margin is subtracted from a cosine and lies in [0, 2], got {margin}"
            )
        self.margin = margin

    def __call__(self, target: Tensor, norms: Tensor, labels: Tensor) -> MarginOutput:
        return MarginOutput(target - self.margin)

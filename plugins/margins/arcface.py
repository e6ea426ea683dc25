"""ArcFace: an additive angular margin on the target class (https://arxiv.org/abs/1801.07698)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from igfiqa_head.margin import MarginOutput
from igfiqa_head.registry import MARGINS


@MARGINS.register("arcface")
class ArcFace:
    """target' = cos(theta_y + m), m in radians.

    Args:
        margin: m in [0, pi).
        straight_through: use arcface_torch's derivative, which is exactly 1 (it applies the margin
            without autograd), instead of the exact sin(theta + m) / sin(theta).
    """

    def __init__(self, margin: float = 0.5, straight_through: bool = False) -> None:
        if not 0 <= margin < math.pi:
            raise ValueError(f"the ArcFace margin is an angle in [0, pi) radians, got {margin}")
        self.margin = margin
        self.straight_through = straight_through

    def __call__(self, target: Tensor, norms: Tensor, labels: Tensor) -> MarginOutput:
        if self.straight_through:
            constant = target.detach()
            return MarginOutput(target + (self._shifted(constant) - constant))
        return MarginOutput(self._shifted(target))

    def _shifted(self, cosine: Tensor) -> Tensor:
        """cos(theta + m) by the addition theorem: arccos would lose half of the digits near +-1."""
        sine_squared = (1 - cosine) * (1 + cosine)
        positive = sine_squared > 0  # at +-1 the root has no derivative; its value there is 0
        sine = torch.where(positive, sine_squared, 1).sqrt() * positive
        return cosine * math.cos(self.margin) - sine * math.sin(self.margin)

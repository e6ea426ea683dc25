"""R on features of a network that does not change: one linear layer, or a small network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from igfiqa_head.recogniser_graph import Layer

_MIN_VARIATION = 1e-4
_LIMIT = 3.0


class FeatureRegressor(nn.Module):
    """Features [B, F] -> raw qualities [B].

    Features are taken to three standard deviations at most: damage that was never shown drives some of them
    far out, and what R would say there nobody has taught it.

    Args:
        mean, std: [G] of the features that are read, which are standardised first. One that varies by less
            than 1e-4 of its mean is left out: that is rounding, which differs from machine to machine.
        columns: [G] numbers of the features that are read; None for all of them.
        start: what it says of every face before it has learned, such as the mean label. With thousands of
            features random weights would be noise that takes long to unlearn.
        hidden: units of a hidden layer with ReLU; 0 for one linear layer, as in the paper.

    Raises:
        ValueError: sizes that make no sense, or a mean or standard deviation that is not finite.
    """

    mean: Tensor
    scale: Tensor
    columns: Tensor

    def __init__(
        self, mean: Tensor, std: Tensor, *, columns: Tensor | None = None, hidden: int = 0, start: float = 0.0
    ) -> None:
        super().__init__()
        columns = torch.arange(len(mean)) if columns is None else columns
        if mean.ndim != 1 or not mean.shape == std.shape == columns.shape or hidden < 0:
            shapes = ", ".join(str(list(x.shape)) for x in (mean, std, columns))
            raise ValueError(f"expected mean, std and columns [G] and hidden >= 0, got {shapes} and {hidden}")
        broken = int((~(mean.isfinite() & std.isfinite())).sum())
        if broken:
            raise ValueError(
                f"{broken} of {len(mean)} features are NaN or infinite, or are known of one face only: the "
                "network overflows on these faces, or is damaged"
            )
        self.register_buffer("columns", columns)
        varies = std > _MIN_VARIATION * mean.abs()
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", torch.where(varies, 1 / std, 0.0).float())
        sizes = [len(mean), hidden, 1] if hidden else [len(mean), 1]
        layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
        nn.init.zeros_(layers[-1].weight)
        nn.init.constant_(layers[-1].bias, start)
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor) -> Tensor:
        x = ((features[:, self.columns] - self.mean) * self.scale).clamp(-_LIMIT, _LIMIT)
        for number, layer in enumerate(self.layers):
            x = layer(x.relu() if number else x)
        return x.squeeze(1)

    def folded(self) -> list[Layer]:
        """The same as layers with ReLU between them, which every version of ONNX has.

        The limits are two of them: relu(2 L - relu(x + L)) = L - clamp(x, -L, L), for a limit L.
        """
        state = {name: value.cpu().double() for name, value in self.state_dict().items()}
        scale, mean = state["scale"], state["mean"]
        pairs = [(state[f"layers.{n}.weight"].T, state[f"layers.{n}.bias"]) for n in range(len(self.layers))]
        weight, bias = pairs[0]
        limits = [
            (scale, _LIMIT - mean * scale),
            (-torch.ones_like(scale), 2 * _LIMIT * torch.ones_like(scale)),
        ]
        pairs[0] = -weight, bias + _LIMIT * weight.sum(dim=0)
        return [Layer(*(x.numpy().astype(np.float32) for x in pair)) for pair in (*limits, *pairs)]

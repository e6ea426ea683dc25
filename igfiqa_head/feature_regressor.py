"""R on features of a network that does not change: one linear layer, or a small network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from igfiqa_head.recogniser_graph import Layer


class FeatureRegressor(nn.Module):
    """Features [B, F] -> raw qualities [B].

    Args:
        mean, std: [G] of the features that are read, which are standardised first. One that does not vary is
            left out: it says nothing, and must say nothing when one day it does.
        columns: [G] numbers of the features that are read; None for all of them.
        start: what it says of every face before it has learned, such as the mean label. With thousands of
            features random weights would be noise that takes long to unlearn.
        hidden: units of a hidden layer with ReLU; 0 for one linear layer, as in the paper.

    Raises:
        ValueError: sizes that make no sense.
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
            raise ValueError(
                f"expected mean, std and columns [G] and hidden >= 0, got {shapes} and {hidden}"
            )
        self.register_buffer("columns", columns)
        varies = std > 1e-6 * mean.abs()
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", torch.where(varies, 1 / std, 0.0).float())
        sizes = [len(mean), hidden, 1] if hidden else [len(mean), 1]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False))
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.constant_(self.layers[-1].bias, start)

    def forward(self, features: Tensor) -> Tensor:
        x = (features[:, self.columns] - self.mean) * self.scale
        for number, layer in enumerate(self.layers):
            x = layer(x.relu() if number else x)
        return x.squeeze(1)

    def folded(self) -> list[Layer]:
        """The layers as an ONNX graph holds them, the first of them with the standardisation within."""
        layers = [
            (layer.weight.detach().cpu().double().T, layer.bias.detach().cpu().double())
            for layer in self.layers
        ]
        weight, bias = layers[0]
        weight = weight * self.scale.cpu().double()[:, None]
        layers[0] = weight, bias - self.mean.cpu().double() @ weight
        return [Layer(*(x.numpy().astype(np.float32) for x in layer)) for layer in layers]

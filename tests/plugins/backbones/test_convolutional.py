"""Initial values and maps of the convolutional backbones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from plugins.backbones import get_model


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(("name", "map_size"), [("r18", 7), ("r50", 7), ("mbf", 7), ("mbf_large", 7)])
def test_the_embedding_sees_a_7_by_7_map(name: str, map_size: int) -> None:
    with torch.device("meta"), torch.no_grad():
        features = get_model(name).trunk(torch.empty(2, 3, 112, 112))
    assert features.shape[2:] == (map_size, map_size)


def test_iresnet_initial_weights() -> None:
    model = get_model("r18")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.1, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
            assert module.eps == 1e-5


@pytest.mark.parametrize("name", ["mbf", "mbf_large"])
def test_mobilefacenet_initial_weights(name: str) -> None:
    """Kaiming: variance 2 / fan-out."""
    for module in get_model(name).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx((2 / module.out_features) ** 0.5, rel=0.1)
            assert module.bias is None

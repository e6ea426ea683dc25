"""R on features: what it says, and that its folded layers say the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from igfiqa_head.feature_regressor import FeatureRegressor
from igfiqa_head.recogniser_graph import Layer

COLUMNS = torch.tensor([0, 1, 3, 4, 6])


def rows(count: int = 200) -> Tensor:
    """Features [N, 7] of very different sizes; number 3 never varies."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 100.0, 1e-4, 0.0, 3.0, 0.01, 1.0])
    shift = torch.tensor([0.0, 500.0, 1e-3, 7.0, -2.0, 0.0, 0.1])
    return torch.randn(count, 7, generator=generator) * scale + shift


def regressor(hidden: int = 0, columns: Tensor | None = COLUMNS, **options: float) -> FeatureRegressor:
    """With weights that are not those of the start."""
    features = rows() if columns is None else rows()[:, columns]
    std, mean = torch.std_mean(features, dim=0)
    model = FeatureRegressor(mean, std, columns=columns, hidden=hidden, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def regress(features: NDArray[np.float64], layers: Sequence[Layer]) -> NDArray[np.float64]:
    for number, layer in enumerate(layers):
        features = np.maximum(features, 0) if number else features
        weight = layer.weight.astype(np.float64)
        features = (features * weight if weight.ndim == 1 else features @ weight) + layer.bias
    return features[:, 0]


@pytest.mark.parametrize("columns", [None, COLUMNS], ids=["all", "some"])
@pytest.mark.parametrize("hidden", [0, 1, 6])
def test_it_is_a_network_on_standardised_features_and_folds(hidden: int, columns: Tensor | None) -> None:
    model = regressor(hidden, columns)
    features = rows().double().numpy()
    features = features if columns is None else features[:, columns]
    constant = features.std(axis=0) == 0
    centred = features - features.mean(axis=0)
    standardised = np.where(constant, 0, centred / np.where(constant, 1, features.std(axis=0, ddof=1)))
    assert (np.abs(standardised) > 2).any()
    far = np.concatenate([standardised, 1.7 * standardised])
    standardised = np.clip(far, -3, 3)
    assert (standardised != far).any()
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    layers = [
        Layer(state[f"layers.{n}.weight"].T, state[f"layers.{n}.bias"]) for n in range(len(model.layers))
    ]
    expected = regress(standardised, layers)
    given = torch.cat([rows(), rows().mean(dim=0) + 1.7 * (rows() - rows().mean(dim=0))])
    got = model(given)
    assert got.shape == (400,)
    np.testing.assert_allclose(got.detach(), expected, rtol=1e-4, atol=1e-4)
    folded = model.folded()
    assert [layer.weight.dtype for layer in folded] == [np.float32] * (4 if hidden else 3)
    read = given.double().numpy() if columns is None else given.double().numpy()[:, columns]
    np.testing.assert_allclose(regress(read, folded), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hidden", [0, 4])
def test_at_first_it_says_the_same_of_every_face_and_can_learn(hidden: int) -> None:
    std, mean = torch.std_mean(rows(), dim=0)
    model = FeatureRegressor(mean, std, hidden=hidden, start=0.7)
    np.testing.assert_allclose(model(rows()).detach(), 0.7, rtol=1e-6)
    target = rows()[:, 0]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        loss = (model(rows()) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * target.var()


@pytest.mark.parametrize("noise", [0.0, 1e-6, 3e-5])
def test_a_feature_of_rounding_alone_says_nothing_when_one_day_it_varies(noise: float) -> None:
    features = rows()
    features[:, 3] += noise * 7 * torch.randn(200, generator=torch.Generator().manual_seed(2))
    std, mean = torch.std_mean(features, dim=0)
    model = FeatureRegressor(mean, std)
    torch.nn.init.ones_(model.layers[0].weight)
    other = features.clone()
    other[:, 3] = 1000.0
    torch.testing.assert_close(model(features), model(other), rtol=0, atol=0)
    assert model.folded()[0].weight[3] == 0
    other[:, 2] *= 1.1
    assert (model(features) - model(other)).abs().min() > 0


def test_sizes_that_make_no_sense() -> None:
    two, three = torch.ones(2), torch.ones(3)
    for arguments, options in (
        ((two, three), {}),
        ((two, two), {"columns": torch.arange(3)}),
        ((torch.ones(2, 1), torch.ones(2, 1)), {}),
        ((two, two), {"hidden": -1}),
    ):
        with pytest.raises(ValueError, match=r"expected mean, std and columns \[G\] and hidden >= 0, got \["):
            FeatureRegressor(*arguments, **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_overflow(value: float) -> None:
    broken = torch.tensor([0.0, value, 1.0])
    for mean, std in ((broken, torch.ones(3)), (torch.ones(3), broken)):
        with pytest.raises(ValueError, match="^1 of 3 features are NaN or infinite"):
            FeatureRegressor(mean, std)

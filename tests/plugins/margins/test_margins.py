"""The margins: values and derivatives against trigonometry, and what every registered one must do."""

import math

import pytest
import torch

from igfiqa_head.margin import MarginOutput
from igfiqa_head.registry import CLASSIFIERS, MARGINS, import_submodules
from plugins.margins.arcface import ArcFace
from plugins.margins.cosface import CosFace
from tests.references import method

COSINES = [-1.0, -0.999, -0.5, 0.0, 1e-3, 0.3, 0.9, 0.99999, 1.0]
UNUSED = torch.ones(len(COSINES)), torch.zeros(len(COSINES), dtype=torch.long)


def applied(margin: ArcFace | CosFace, cosines: torch.Tensor) -> torch.Tensor:
    output = margin(cosines, *UNUSED)
    assert output.negatives is None
    assert output.regulariser is None
    return output.target


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("m", [0.0, 0.3, 0.5, 2.0])
def test_arcface_adds_an_angle(m: float, straight_through: bool) -> None:
    target = applied(ArcFace(m, straight_through), torch.tensor(COSINES, dtype=torch.float64))
    expected = [method.arcface(cosine, m) for cosine in COSINES]
    torch.testing.assert_close(target, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_arcface_keeps_its_digits_in_float32_near_one() -> None:
    cosines = torch.tensor([1 - k * 2.0**-24 for k in range(1, 10)])
    expected = torch.tensor([method.arcface(cosine, 0.5) for cosine in cosines.tolist()])
    torch.testing.assert_close(ArcFace(0.5)(cosines, *UNUSED).target, expected, rtol=0, atol=2e-7)


def test_arcface_derivative_is_exact() -> None:
    cosines = torch.tensor(COSINES[1:-1], dtype=torch.float64, requires_grad=True)
    ArcFace(0.5)(cosines, *UNUSED).target.sum().backward()
    expected = [method.arcface_derivative(cosine, 0.5) for cosine in COSINES[1:-1]]
    torch.testing.assert_close(cosines.grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=0)
    assert torch.autograd.gradcheck(
        lambda x: ArcFace(0.5)(x, *UNUSED).target, cosines[1:-1].detach().requires_grad_()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arcface_is_finite_with_its_derivative_at_the_ends(dtype: torch.dtype) -> None:
    cosines = torch.tensor([-1.0, 1.0], dtype=dtype, requires_grad=True)
    target = ArcFace(0.5)(cosines, *UNUSED).target
    target.sum().backward()
    expected = torch.tensor([-math.cos(0.5), math.cos(0.5)], dtype=dtype)
    torch.testing.assert_close(target, expected)
    assert cosines.grad is not None
    assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("margin", [ArcFace(0.5, straight_through=True), CosFace(0.35)])
def test_a_shift_by_a_constant_has_derivative_one(margin: ArcFace | CosFace) -> None:
    cosines = torch.tensor(COSINES, requires_grad=True)
    applied(margin, cosines).sum().backward()
    assert cosines.grad is not None
    assert cosines.grad.tolist() == [1.0] * len(COSINES)


def test_cosface_subtracts() -> None:
    target = applied(CosFace(0.35), torch.tensor(COSINES, dtype=torch.float64))
    expected = [method.cosface(cosine, 0.35) for cosine in COSINES]
    torch.testing.assert_close(target, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("m", [-0.1, math.pi, 28.6, math.nan])
def test_an_arcface_margin_in_degrees_is_refused(m: float) -> None:
    with pytest.raises(ValueError, match=rf"radians, got {m}"):
        ArcFace(m)


@pytest.mark.parametrize("m", [-0.1, 2.1, math.nan])
def test_a_cosface_margin_outside_the_cosines_is_refused(m: float) -> None:
    with pytest.raises(ValueError, match=rf"\[0, 2\], got {m}"):
        CosFace(m)


@pytest.mark.parametrize("name", MARGINS)
def test_every_margin_keeps_the_interface(name: str) -> None:
    target = torch.linspace(-0.9, 0.9, 6, requires_grad=True)
    output = MARGINS.get(name)()(target, torch.linspace(1, 30, 6), torch.arange(6))
    assert isinstance(output, MarginOutput)
    assert output.target.shape == (6,)
    assert output.target.dtype == torch.float32
    assert output.target.isfinite().all()
    if output.negatives is not None:
        assert output.negatives(torch.zeros(6, 9)).shape == (6, 9)
    if output.regulariser is not None:
        assert output.regulariser.shape == ()
    output.target.sum().backward()
    assert target.grad is not None
    assert target.grad.isfinite().all()


@pytest.mark.parametrize("name", MARGINS)
def test_every_margin_trains_the_classifier(name: str) -> None:
    import_submodules("plugins.classifiers")
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(30, 16, generator=generator) * 4
    labels = torch.arange(30) % 5
    embeddings += 4 * torch.nn.functional.one_hot(labels, 16)
    classifier = CLASSIFIERS.get("partial_fc")(16, 5, MARGINS.get(name)())
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = classifier(embeddings, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]

"""The chunked softmax against autograd through the whole matrix of cosines, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from igfiqa_head import class_chunks
from igfiqa_head.margin_softmax import Transform, other_classes, own_cosines
from tests.made_tensors import MadeTensors

SCALE = 16.0


def problem(b: int, c: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(b + 10 * c + 100 * d)
    x = 3 * torch.randn(b, d, generator=generator, dtype=torch.float64)
    prototypes = 0.2 * torch.randn(c, d, generator=generator, dtype=torch.float64)
    labels = torch.randint(c, (b,), generator=generator)
    return x.requires_grad_(), prototypes.requires_grad_(), labels


def chunked(
    x: Tensor,
    prototypes: Tensor,
    labels: Tensor,
    negatives: Transform | None = None,
    classes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """L, own cosine and the loss without a margin."""
    unit = F.normalize(x)
    own = labels if classes is None else (classes[:, None] == labels).int().argmax(dim=0)
    target, passed = own_cosines(unit, prototypes, labels)
    settings: dict[str, Any] = {"scale": SCALE, "negatives": negatives, "classes": classes}
    total, nearest = other_classes(unit, passed, own, **settings)
    return total, target, -F.logsigmoid(SCALE * target - total).mean(), nearest


def plain(
    x: Tensor,
    prototypes: Tensor,
    labels: Tensor,
    negatives: Transform | None = None,
    classes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The same from all cosines at once."""
    cosines = F.normalize(x) @ F.normalize(prototypes).T
    own = F.one_hot(labels, len(prototypes)).bool()
    absent = torch.ones_like(own[0])
    absent[slice(None) if classes is None else classes] = False
    logits = SCALE * (cosines if negatives is None else negatives(cosines))
    total = logits.masked_fill(own | absent, -torch.inf).logsumexp(dim=1)
    target = cosines[own]
    loss = F.cross_entropy(
        torch.where(own, SCALE * cosines, logits).masked_fill(absent & ~own, -torch.inf), labels
    )
    return total, target, loss, cosines.detach().masked_fill(own | absent, -torch.inf).amax(dim=1)


def gradients(outputs: tuple[Tensor, ...], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Of a sum in which every sample counts differently, so that nothing cancels."""
    total, target, loss, _ = outputs
    factors = torch.linspace(-1, 2, len(total), dtype=total.dtype)
    return torch.autograd.grad((factors * total + factors.flip(0) * target).sum() + 3 * loss, inputs)


def assert_equal_to_plain(*problem: Any, **settings: Any) -> None:
    outputs, expected = chunked(*problem, **settings), plain(*problem, **settings)
    for ours, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    pairs = zip(gradients(outputs, *problem[:2]), gradients(expected, *problem[:2]), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.fixture(params=[1, 3, 6, 7, 8, None], ids=lambda k: f"{k or 'all'}_in_a_chunk")
def classes_in_a_chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of so many classes; every problem of these tests has at most 5 samples and components."""
    if request.param is not None:
        monkeypatch.setattr(class_chunks, "CHUNK_VALUES", 5 * request.param)


@pytest.mark.usefixtures("classes_in_a_chunk")
@pytest.mark.parametrize(("b", "c", "d"), [(5, 7, 4), (1, 2, 5), (5, 14, 5), (5, 2, 1)])
def test_values_and_gradients_are_those_of_all_cosines_at_once(b: int, c: int, d: int) -> None:
    assert_equal_to_plain(*problem(b, c, d))


def curricular(cosines: Tensor) -> Tensor:
    """Like CurricularFace: cosines above a bound of their sample are hard, and grow with themselves."""
    bounds = torch.linspace(-0.3, 0.3, len(cosines), dtype=cosines.dtype)[:, None]
    return torch.where(cosines > bounds, cosines * (0.2 + cosines), cosines)


@pytest.mark.usefixtures("classes_in_a_chunk")
@pytest.mark.parametrize(
    "negatives", [curricular, lambda c: c.masked_fill(c > 0.1, 0), torch.exp, lambda c: 0.5 * c, lambda c: c]
)
def test_transformed_negatives(negatives: Transform) -> None:
    assert_equal_to_plain(*problem(5, 7, 4), negatives=negatives)


@pytest.mark.usefixtures("classes_in_a_chunk")
@pytest.mark.parametrize("negatives", [None, curricular])
def test_some_of_the_classes(negatives: Transform | None) -> None:
    x, prototypes, _ = problem(5, 14, 4)
    labels = torch.tensor([13, 2, 5, 2, 8])
    assert_equal_to_plain(
        x, prototypes, labels, negatives=negatives, classes=torch.tensor([2, 3, 5, 8, 11, 13])
    )


@pytest.mark.usefixtures("classes_in_a_chunk")
def test_derivatives_are_those_of_finite_differences() -> None:
    x, prototypes, labels = problem(3, 7, 4)
    assert torch.autograd.gradcheck(lambda x, w: chunked(x, w, labels, curricular)[:3], (x, prototypes))


@pytest.mark.parametrize("classes", [None, torch.tensor([1])])
def test_without_other_classes_the_loss_and_its_gradients_are_zero(classes: Tensor | None) -> None:
    x, prototypes, _ = problem(2, 1 if classes is None else 4, 3)
    labels = torch.zeros(2, dtype=torch.long) if classes is None else classes.expand(2)
    total, _, loss, nearest = chunked(x, prototypes, labels, classes=classes)
    loss.backward()
    assert loss == 0
    assert (total == -torch.inf).all()
    assert (nearest == -torch.inf).all()
    assert not any(leaf.grad is None or leaf.grad.any() for leaf in (x, prototypes))


def test_parts_of_the_classes_make_the_whole() -> None:
    """As with prototypes spread over ranks."""
    x, prototypes, labels = problem(5, 11, 4)
    unit, firsts, parts = F.normalize(x), (0, 4, 5), prototypes.split([4, 1, 6])
    targets, totals, nearest = [], [], []
    for part, first in zip(parts, firsts, strict=True):
        target, passed = own_cosines(unit, part, labels - first)
        others = other_classes(unit, passed, labels - first, scale=SCALE)
        targets.append(target)
        totals.append(others.log_sum_exp)
        nearest.append(others.nearest)
    target, total = torch.stack(targets).sum(dim=0), torch.stack(totals).logsumexp(dim=0)
    loss = -F.logsigmoid(SCALE * target - total).mean()
    merged = total, target, loss, torch.stack(nearest).amax(dim=0)
    whole = plain(x, prototypes, labels)
    for ours, theirs in zip(merged, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    for ours, theirs in zip(gradients(merged, x, prototypes), gradients(whole, x, prototypes), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("classes_in_a_chunk")
def test_logits_far_apart_neither_overflow_nor_vanish() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    prototypes = torch.tensor([[1.0, 0.0], [0.9, 0.1], [1.0, 1e-3], [2.0, 0.0]])
    unit = F.normalize(x)
    total, _ = other_classes(unit, prototypes, torch.tensor([0, 0]), scale=1000.0)
    total.sum().backward()
    cosines = F.normalize(x.detach().double()) @ F.normalize(prototypes.double()).T
    expected = (1000 * cosines[:, 1:]).logsumexp(dim=1)
    torch.testing.assert_close(total.detach().double(), expected, rtol=1e-6, atol=0)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_prototype_of_length_zero_has_the_cosine_zero() -> None:
    x, prototypes, labels = problem(4, 3, 5)
    with torch.no_grad():
        prototypes[1] = 0
    for ours, theirs in zip(chunked(x, prototypes, labels), plain(x, prototypes, labels), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_prototypes_are_widened_even_where_backward_runs_under_autocast(dtype: torch.dtype) -> None:
    x, prototypes, labels = problem(5, 7, 4)
    narrow_x, narrow = x.detach().float().requires_grad_(), prototypes.detach().to(dtype).requires_grad_()
    exact_x, exact = (leaf.detach().double().requires_grad_() for leaf in (narrow_x, narrow))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = chunked(narrow_x, narrow, labels)
        by_x, by_prototypes = gradients(outputs, narrow_x, narrow)
    expected = plain(exact_x, exact, labels)
    expected_by_x, expected_by_prototypes = gradients(expected, exact_x, exact)
    assert all(output.dtype == torch.float32 for output in outputs)
    for ours, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(by_x.double(), expected_by_x, rtol=1e-4, atol=1e-5)
    assert by_prototypes.dtype == dtype
    rounding = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(by_prototypes.double(), expected_by_prototypes, rtol=rounding, atol=rounding)


def test_gradients_add_up_over_steps() -> None:
    x, prototypes, labels = problem(5, 7, 4)
    for _ in range(2):
        chunked(x, prototypes, labels)[2].backward()
    once = torch.autograd.grad(plain(x, prototypes, labels)[2], (x, prototypes))
    for leaf, gradient in zip((x, prototypes), once, strict=True):
        torch.testing.assert_close(leaf.grad, 2 * gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("negatives", [None, curricular])
@pytest.mark.parametrize("share", [1, 2])
def test_nothing_but_the_gradient_of_the_prototypes_grows_with_the_classes(
    monkeypatch: pytest.MonkeyPatch, share: int, negatives: Transform | None
) -> None:
    """Not the logits [B, C], nor normalised prototypes, nor a second gradient [C, D]; [C] is allowed."""
    b, c, d, values = 24, 20_000, 32, 4096
    x, prototypes, _ = problem(b, c, d)
    classes = None if share == 1 else torch.arange(0, c, share)
    labels = share * torch.arange(b)
    own = torch.arange(b)
    monkeypatch.setattr(class_chunks, "CHUNK_VALUES", values)
    with MadeTensors() as made:
        unit = F.normalize(x)
        target, passed = own_cosines(unit, prototypes, labels)
        others = other_classes(unit, passed, own, scale=SCALE, negatives=negatives, classes=classes)
        assert max(made.sizes) <= max(values, c)
        F.logsigmoid(others.log_sum_exp - target).mean().backward()
    large = [size for size in made.sizes if size > max(values, c)]
    assert large == [c * d]

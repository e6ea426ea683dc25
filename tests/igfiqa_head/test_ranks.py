"""Ranks: how the classes are divided, and that what is exchanged has values and gradients of the whole."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from igfiqa_head.ranks import ALONE, Ranks
from tests.gloo import on_ranks

SIZES = (1, 2, 3)
ROWS = 2  # of each rank


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 64])
@pytest.mark.parametrize("num_classes", [64, 65, 71, 100, 127, 1000, 85_742])
def test_the_classes_are_divided_like_arcface_torch_does(num_classes: int, size: int) -> None:
    """Whole, in order, and the first C mod size ranks hold one more."""
    shares = np.array_split(np.arange(num_classes), size)
    for rank, share in enumerate(shares):
        held = Ranks(rank, size).classes(num_classes)
        assert (held.start, held.stop) == (share[0], share[-1] + 1)


@pytest.mark.parametrize(("num_classes", "size"), [(0, 1), (1, 2), (7, 8)])
def test_too_few_classes_are_refused(num_classes: int, size: int) -> None:
    with pytest.raises(ValueError, match=rf"{num_classes} classes .* {size} processes: start fewer"):
        Ranks(0, size).classes(num_classes)


def own(rank: int) -> Tensor:
    """[ROWS, 3]: what a rank contributes; not contiguous, as results of transposing are."""
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(3, ROWS, generator=generator, dtype=torch.float64).T


def of_all(whole: Tensor) -> Tensor:
    """A loss that every rank computes from all rows."""
    factors = torch.arange(1, 1 + whole.numel(), dtype=whole.dtype).view_as(whole)
    return (factors * whole.square()).sum()


def of_part(whole: Tensor, rank: int) -> Tensor:
    """A rank's part of a loss: each makes another of all rows."""
    return (rank + 1) * of_all(whole) + whole[rank].prod()


def exchanged(ranks: Ranks) -> dict[str, Any]:
    """Everything that the methods give, and the gradients of :func:`own` through them."""
    found: dict[str, Any] = {}

    def note(name: str, x: Tensor, result: Tensor, loss: Tensor) -> None:
        (gradient,) = torch.autograd.grad(loss, x)
        found[name] = (result.detach().clone(), gradient)

    x = own(ranks.rank).requires_grad_()
    gathered = ranks.gather(x)
    note("gather", x, gathered, of_all(gathered))
    found["own_rows"] = ranks.own_rows(gathered).detach()
    parts = torch.stack(ranks.parts(x))
    note("parts", x, parts, of_all(parts))
    gathered = ranks.gather_for_shards(x)
    note("gather_for_shards", x, gathered, of_part(gathered, ranks.rank))
    summed = ranks.sum(x)
    note("sum", x, summed, of_all(summed))
    once_each = ranks.counted_once_each(x)
    note("counted_once_each", x, once_each, of_all(ranks.gather(once_each)))

    averaged = ranks.averaged(x)
    note("averaged", x, averaged, of_part(averaged.expand(ranks.rank + 1, *x.shape), ranks.rank))

    found["labels"] = ranks.gather(torch.tensor([10 * ranks.rank, 7]))
    numbers = torch.tensor([1e8, 0.1, -1e-8, 3.0]) * (ranks.rank + 0.7)
    found["float32 sum"] = ranks.sum(numbers)
    large = x.detach().clone()
    found["total"] = ranks.total(large)
    found["is the same"] = found["total"] is large
    found["any"] = [ranks.any(condition) for condition in (False, True, ranks.rank == ranks.size - 1)]
    found["tensor"] = ranks.tensor(3)
    return found


@cache
def found_on(size: int) -> list[dict[str, Any]]:
    return on_ranks(size, exchanged)


def whole(size: int) -> Tensor:
    return torch.cat([own(rank) for rank in range(size)]).requires_grad_()


def assert_found(name: str, size: int, value: Tensor, gradient: Tensor) -> None:
    """``value`` on every rank, and each rank's rows of ``gradient``."""
    for rank, found in enumerate(found_on(size)):
        got, by_own = found[name]
        torch.testing.assert_close(got, value.detach(), rtol=0, atol=0)
        torch.testing.assert_close(by_own, gradient[rank * ROWS : (rank + 1) * ROWS], rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_gathered_has_the_gradient_of_the_whole(size: int) -> None:
    x = whole(size)
    (gradient,) = torch.autograd.grad(of_all(x), x)
    assert_found("gather", size, x, gradient)
    assert_found("parts", size, x.view(size, ROWS, 3), gradient)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_all_shards_are_summed(size: int) -> None:
    x = whole(size)
    (gradient,) = torch.autograd.grad(sum(of_part(x, rank) for rank in range(size)), x)
    assert_found("gather_for_shards", size, x, gradient)


@pytest.mark.parametrize("size", SIZES)
def test_a_sum_has_the_gradient_of_each_term(size: int) -> None:
    x = whole(size)
    summed = x.view(size, ROWS, 3).sum(dim=0)
    (gradient,) = torch.autograd.grad(of_all(summed), x)
    assert_found("sum", size, summed, gradient)


@pytest.mark.parametrize("size", SIZES)
def test_a_mean_over_ranks_leaves_the_gradient_of_what_is_counted_once_each(size: int) -> None:
    x = whole(size)
    (gradient,) = torch.autograd.grad(of_all(x), x)
    for rank, found in enumerate(found_on(size)):
        value, by_own = found["counted_once_each"]
        assert torch.equal(value, own(rank))
        torch.testing.assert_close(by_own / size, gradient[rank * ROWS : (rank + 1) * ROWS])


@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_of_what_all_have_alike_is_the_mean_of_theirs(size: int) -> None:
    gradients = []
    for rank in range(size):
        x = own(rank).requires_grad_()
        gradients += torch.autograd.grad(of_part(x.expand(rank + 1, *x.shape), rank), x)
    for rank, found in enumerate(found_on(size)):
        value, by_own = found["averaged"]
        assert torch.equal(value, own(rank))
        torch.testing.assert_close(by_own, torch.stack(gradients).mean(dim=0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_sums_are_the_same_to_the_last_bit_on_each_rank(size: int) -> None:
    first, *others = (found["float32 sum"] for found in found_on(size))
    assert all(torch.equal(first, other) for other in others)
    expected = torch.tensor([1e8, 0.1, -1e-8, 3.0]) * sum(rank + 0.7 for rank in range(size))
    torch.testing.assert_close(first, expected)


@pytest.mark.parametrize("size", SIZES)
def test_what_has_no_gradient(size: int) -> None:
    for rank, found in enumerate(found_on(size)):
        assert torch.equal(found["own_rows"], own(rank))
        assert found["labels"].tolist() == [x for other in range(size) for x in (10 * other, 7)]
        torch.testing.assert_close(found["total"], whole(size).detach().view(size, ROWS, 3).sum(dim=0))
        assert found["is the same"]
        assert found["any"] == [False, True, True]
        assert found["tensor"] == 3
        assert found["tensor"].shape == ()


def test_one_process_needs_no_group() -> None:
    x = own(0).requires_grad_()
    alone = (
        ALONE.gather(x),
        ALONE.gather_for_shards(x),
        ALONE.sum(x),
        ALONE.counted_once_each(x),
        ALONE.averaged(x),
        *ALONE.parts(x),
    )
    assert all(result is x for result in alone)

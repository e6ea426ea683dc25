"""L_Arc over the class prototypes against loops, and its sampling of negatives."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from igfiqa_head import class_center_similarities
from igfiqa_head.margin import Margin, MarginOutput
from plugins.classifiers.partial_fc import PartialFC
from plugins.margins.arcface import ArcFace
from plugins.margins.cosface import CosFace
from tests.made_tensors import MadeTensors
from tests.references import method

MARGINS: list[tuple[Margin, Callable[[float], float]]] = [
    (ArcFace(0.5), lambda t: method.arcface(t, 0.5)),
    (CosFace(0.4), lambda t: method.cosface(t, 0.4)),
]


def problem(b: int, c: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(b + 10 * c + 100 * d)
    embeddings = 3 * torch.randn(b, d, generator=generator, dtype=torch.float64)
    return embeddings.to(dtype), torch.randint(c, (b,), generator=generator)


def classifier(c: int, d: int, margin: Margin = MARGINS[0][0], **settings: Any) -> PartialFC:
    torch.manual_seed(0)
    return PartialFC(d, c, margin, **settings).double()


def reference(
    module: PartialFC,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    margin: Callable[[float], float],
    **settings: Any,
) -> float:
    x, w = embeddings.detach().double().numpy(), module.weight.detach().double().numpy()
    return method.margin_softmax_loss(x, w, labels.tolist(), margin, **settings)


@pytest.mark.parametrize(("margin", "oracle"), MARGINS)
@pytest.mark.parametrize("scale", [1.0, 64.0])
@pytest.mark.parametrize(("b", "c", "d"), [(1, 2, 4), (6, 7, 5), (9, 3, 16), (3, 1, 4)])
def test_the_loss_matches_the_loops(
    b: int, c: int, d: int, scale: float, margin: Margin, oracle: Callable[[float], float]
) -> None:
    embeddings, labels = problem(b, c, d)
    module = classifier(c, d, margin, scale=scale)
    expected = reference(module, embeddings, labels, oracle, scale=scale)
    assert module(embeddings, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_loss_is_float32_under_mixed_precision(dtype: torch.dtype) -> None:
    embeddings, labels = problem(6, 7, 5, dtype)
    module = classifier(7, 5).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module(embeddings, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference(module, embeddings, labels, MARGINS[0][1]), rel=1e-5)


@pytest.mark.parametrize(("margin", "oracle"), MARGINS)
def test_gradients_match_finite_differences_of_the_loops(
    margin: Margin, oracle: Callable[[float], float]
) -> None:
    embeddings, labels = problem(4, 5, 3)
    module = classifier(5, 3, margin, scale=8.0)
    module(embeddings.requires_grad_(), labels).backward()
    x, w, y = embeddings.detach().numpy(), module.weight.detach().numpy(), labels.tolist()

    def loss(x: np.ndarray, w: np.ndarray) -> float:
        return method.margin_softmax_loss(x, w, y, oracle, scale=8.0)

    assert embeddings.grad is not None
    assert module.weight.grad is not None
    by_embeddings = method.finite_differences(lambda x: loss(x, w), x)
    by_weight = method.finite_differences(lambda w: loss(x, w), w, step=1e-8)  # W is of the order of 0.01
    np.testing.assert_allclose(embeddings.grad, by_embeddings, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(module.weight.grad, by_weight, rtol=1e-5, atol=1e-4)


def test_interclass_filtering_counts_conflicting_negatives_as_zero() -> None:
    embeddings, labels = problem(8, 6, 3)
    module = classifier(6, 3, interclass_filtering_threshold=0.2)
    cosines = torch.nn.functional.linear(*map(torch.nn.functional.normalize, (embeddings, module.weight)))
    target = [method.arcface(cosines[i, y].item(), 0.5) for i, y in enumerate(labels)]
    filtered = cosines.where(cosines <= 0.2, 0.0)
    logits = [
        [64 * (target[i] if j == labels[i] else v) for j, v in enumerate(row)]
        for i, row in enumerate(filtered.tolist())
    ]
    expected = [
        math.log(math.fsum(math.exp(v - row[y]) for v in row)) for row, y in zip(logits, labels, strict=True)
    ]
    assert (cosines > 0.2).sum() > 5
    assert module(embeddings, labels).item() == pytest.approx(np.mean(expected), rel=1e-9)
    assert module(embeddings, labels).item() != pytest.approx(classifier(6, 3)(embeddings, labels).item())


def test_a_step_with_no_other_class_at_all() -> None:
    embeddings, _ = problem(3, 40, 5)
    module = classifier(40, 5, sample_rate=0.0)
    loss = module(embeddings.requires_grad_(), torch.full((3,), 7))
    loss.backward()
    assert loss == 0
    assert embeddings.grad is not None
    assert module.weight.grad is not None
    assert not embeddings.grad.any()
    assert not module.weight.grad.any()


def sampled_classes(module: PartialFC, labels: torch.Tensor, step: int) -> list[int]:
    """The classes of a step's softmax: those whose prototype gets a gradient (every softmax share is > 0)."""
    module.zero_grad()
    embeddings = torch.randn(len(labels), module.weight.shape[1], dtype=module.weight.dtype)
    module(embeddings, labels, step=step).backward()
    assert module.weight.grad is not None
    return module.weight.grad.abs().sum(1).nonzero().squeeze(1).tolist()


def test_the_loss_over_sampled_negatives_matches_the_loops() -> None:
    embeddings, labels = problem(6, 40, 5)
    module = classifier(40, 5, sample_rate=0.3, scale=4.0)
    chosen = set(sampled_classes(module, labels, step=2))
    expected = reference(
        module, embeddings, labels, MARGINS[0][1], scale=4.0, keep=lambda i, j, cosine: j in chosen
    )
    assert module(embeddings, labels, step=2).item() == pytest.approx(expected, rel=1e-9)
    assert set(labels.tolist()) < chosen
    assert len(chosen) < 40


def test_sampling_depends_on_seed_and_step_only() -> None:
    labels = torch.tensor([3, 0, 3])
    one, other = (classifier(60, 4, sample_rate=0.5, scale=1.0) for _ in range(2))
    reseeded = classifier(60, 4, sample_rate=0.5, scale=1.0, seed=1)
    for step in (0, 1, 1000):
        assert sampled_classes(one, labels, step) == sampled_classes(other, labels, step)
        assert sampled_classes(one, labels, step) != sampled_classes(reseeded, labels, step)
    assert sampled_classes(one, labels, 0) != sampled_classes(one, labels, 1)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_sampled_negatives_is_the_rate(rate: float) -> None:
    c, labels = 5000, torch.tensor([4999])
    module = classifier(c, 2, sample_rate=rate, scale=1.0)
    share = len(sampled_classes(module, labels, step=0)) / c
    assert abs(share - rate) < 5 * math.sqrt(rate * (1 - rate) / c)


def test_similarities_see_every_class_whatever_the_rate() -> None:
    embeddings, labels = problem(6, 40, 5)
    module = classifier(40, 5, sample_rate=0.05)
    got = module.class_center_similarities(embeddings.requires_grad_(), labels)
    expected = class_center_similarities(embeddings, module.weight, labels)
    assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(got, expected, strict=True))


def test_the_similarities_of_the_batch_just_seen_cost_no_product() -> None:
    embeddings, labels = problem(6, 40, 5)
    module = classifier(40, 5)
    expected = module.class_center_similarities(embeddings, labels)
    loss = module(embeddings.requires_grad_(), labels)
    with MadeTensors() as made:
        got = module.class_center_similarities(embeddings.detach(), labels)
    assert "mm" not in made.operations
    assert loss.requires_grad
    assert not any(similarity.requires_grad for similarity in got)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def other_values(module: PartialFC, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    embeddings[0, 0] += 1


def other_labels(module: PartialFC, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    labels[0] = (labels[0] + 1) % 40


def moved_prototypes(module: PartialFC, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    module(embeddings, labels).backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()


def moved_prototypes_unnoticed(module: PartialFC, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    module(embeddings, labels).backward()
    torch.optim.SGD(module.parameters(), lr=0.1, fused=True).step()  # leaves the version as it was


def loaded_prototypes(module: PartialFC, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    module.load_state_dict({"weight": torch.randn(40, 5, dtype=torch.float64)})


def another_precision(module: PartialFC, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    embeddings.data = embeddings.data.float()
    module.float()


def fewer(module: PartialFC, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    embeddings.data, labels.data = embeddings.data[:2], labels.data[:2]


@pytest.mark.parametrize(
    "change",
    [
        other_values,
        other_labels,
        moved_prototypes,
        moved_prototypes_unnoticed,
        loaded_prototypes,
        another_precision,
        fewer,
    ],
)
def test_similarities_of_anything_else_are_not_those_just_seen(
    change: Callable[[PartialFC, torch.Tensor, torch.Tensor], None],
) -> None:
    embeddings, labels = problem(6, 40, 5)
    module = classifier(40, 5)
    module(embeddings, labels)
    change(module, embeddings, labels)
    got = module.class_center_similarities(embeddings, labels)
    expected = class_center_similarities(embeddings, module.weight, labels)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_loss_seen_before_does_not_lift_the_checks_of_the_similarities() -> None:
    embeddings, labels = problem(6, 40, 5)
    module, lonely = classifier(40, 5), classifier(1, 5)
    module(embeddings, labels)
    with pytest.raises(ValueError, match="integers"):
        module.class_center_similarities(embeddings, labels.double())
    lonely(embeddings, labels * 0)
    with pytest.raises(ValueError, match="at least 2 classes"):
        lonely.class_center_similarities(embeddings, labels * 0)


def test_a_softmax_over_some_classes_does_not_pass_for_one_over_all() -> None:
    embeddings, labels = problem(6, 40, 5)
    module = classifier(40, 5, sample_rate=0.05)
    module(embeddings, labels)
    got = module.class_center_similarities(embeddings, labels)
    torch.testing.assert_close(got, class_center_similarities(embeddings, module.weight, labels))


class Recorder:
    """A margin that uses the whole interface."""

    def __call__(self, target: torch.Tensor, norms: torch.Tensor, labels: torch.Tensor) -> MarginOutput:
        self.norms = norms
        return MarginOutput(target - 0.1, lambda cosines: 0.5 * cosines, norms.mean())


def test_a_margin_may_use_norms_and_change_negatives_and_add_a_regulariser() -> None:
    embeddings, labels = problem(4, 3, 5)
    margin = Recorder()
    module = classifier(3, 5, margin, scale=2.0)
    cosines = torch.nn.functional.linear(*map(torch.nn.functional.normalize, (embeddings, module.weight)))
    own = torch.nn.functional.one_hot(labels, 3).bool()
    logits = 2.0 * torch.where(own, cosines - 0.1, 0.5 * cosines)
    expected = -logits.log_softmax(1)[own].mean() + embeddings.norm(dim=1).mean()
    torch.testing.assert_close(module(embeddings, labels), expected)
    torch.testing.assert_close(margin.norms, embeddings.norm(dim=1))


def test_the_state_is_upstreams() -> None:
    module = PartialFC(16, 2000, ArcFace())
    assert {name: tuple(x.shape) for name, x in module.state_dict().items()} == {"weight": (2000, 16)}
    assert module.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert module.weight.mean().item() == pytest.approx(0, abs=3e-4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), r"\[0, 3\).*0 \.\. 3"),
        (torch.tensor([-1, 0]), r"-1 \.\. 0"),
        (torch.tensor([0.0, 1.0]), "integers"),
        (torch.tensor([[0], [1]]), r"\(2, 1\)"),
    ],
)
def test_bad_labels_are_refused(labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(3, 4)(torch.ones(2, 4, dtype=torch.float64), labels)


@pytest.mark.parametrize("rate", [-0.5, 1.5, math.nan])
def test_a_sample_rate_outside_the_unit_interval_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="sample_rate"):
        classifier(3, 4, sample_rate=rate)


@pytest.mark.parametrize(("shape", "count"), [((2, 4), 3), ((2, 5), 2), ((4,), 1)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(ValueError, match="embeddings"):
        classifier(3, 4)(torch.ones(shape, dtype=torch.float64), torch.arange(count))


def test_prototypes_start_from_means_at_unit_length() -> None:
    module = classifier(5, 3)
    before = module.weight.detach().clone()
    means = torch.tensor([[0.3, 0.0, -0.4], [0.0, 0.0, 0.0], [0.0, 1e-3, 0.0]], dtype=torch.float64)
    module.start_from(torch.tensor([4, 1, 0]), means)
    expected = before.clone()
    expected[4] = torch.tensor([0.6, 0.0, -0.8])
    expected[0] = torch.tensor([0.0, 1.0, 0.0])  # class 1 has no direction, 2 and 3 have no images
    torch.testing.assert_close(module.weight.detach(), expected)
    assert module.weight.requires_grad

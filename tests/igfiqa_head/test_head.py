"""R, the quality loss (Eq. 3 and 10) and the IG-FIQA head, step by step against the loops."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from igfiqa_head import IGFIQAHead, QualityRegressor, class_center_similarities
from igfiqa_head.quality_head import QualityHead, quality_regression_loss
from tests.references import method

CHOICES: dict[str, Any] = {"variance_init": "first_pass", "sub_batch": "mirror", "quality_bn": "clean"}


class Prototypes(nn.Module):
    """A classifier reduced to what a quality head asks of it."""

    def __init__(self, num_classes: int, embedding_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_size, generator=generator, dtype=dtype))

    def class_center_similarities(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return class_center_similarities(embeddings, self.weight, labels)


def batch(b: int, c: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = 2 * torch.randn(b, d, generator=generator, dtype=torch.float64)
    return embeddings.to(dtype), torch.randint(c, (b,), generator=generator)


def grad(x: Tensor) -> Tensor:
    """The gradient that a backward pass has left there."""
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_regressor_is_one_linear_layer_with_a_flat_float32_output(dtype: torch.dtype) -> None:
    regressor = QualityRegressor(8)
    embeddings = batch(5, 3, 8)[0].to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quality = regressor(embeddings)
    assert quality.shape == (5,)
    assert quality.dtype == torch.float32
    expected = embeddings.double() @ regressor.weight[0].double() + regressor.bias.double()
    torch.testing.assert_close(quality.double(), expected, rtol=1e-5, atol=1e-6)
    assert {name: tuple(x.shape) for name, x in regressor.state_dict().items()} == {
        "weight": (1, 8),
        "bias": (1,),
    }
    assert QualityRegressor().in_features == 512


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_mean_over_the_samples_of_weighted_smooth_l1(beta: float, weighted: bool) -> None:
    predicted = torch.linspace(-3, 3, 25, dtype=torch.float64)
    certainty = torch.linspace(0.5, -0.5, 25, dtype=torch.float64)
    weights = torch.linspace(0, 0.9, 25, dtype=torch.float64) if weighted else None
    loss = quality_regression_loss(predicted, certainty, weights, beta)
    ones = [1.0] * 25
    expected = method.ig_loss(
        certainty.tolist(), predicted.tolist(), ones if weights is None else weights.tolist(), beta
    )
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_loss_on_numbers_worked_by_hand() -> None:
    """d = 0.25 is quadratic (0.0625), d = -2 linear (1.75), the weight 0 counts in the number of samples."""
    predicted, certainty = torch.tensor([0.25, 3.0, 9.0]), torch.tensor([0.5, 1.0, 1.0])
    loss = quality_regression_loss(predicted, certainty, torch.tensor([1.0, 0.5, 0.0]))
    assert loss.item() == pytest.approx((0.0625 + 0.5 * 1.75) / 3)


def test_no_gradient_flows_into_labels_and_weights() -> None:
    predicted, certainty, weights = torch.rand(3, 4, dtype=torch.float64)
    for x in (predicted, certainty, weights):
        x.requires_grad_()
    quality_regression_loss(predicted, certainty, weights).backward()
    assert predicted.grad is not None
    assert certainty.grad is weights.grad is None


def test_the_loss_passes_gradcheck() -> None:
    certainty = torch.tensor([0.1, -0.4, 0.9, 0.3], dtype=torch.float64)
    weights = torch.tensor([0.0, 0.3, 1.0, 0.7], dtype=torch.float64)
    predicted = torch.tensor([0.5, 2.0, 0.8, -1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: quality_regression_loss(x, certainty, weights), predicted)


@pytest.mark.parametrize(
    "shapes",
    [((4, 1), (4,), (4,)), ((4,), (4, 1), (4,)), ((4,), (4,), (4, 1)), ((4, 1),) * 3, ((4,), (3,), (4,))],
)
def test_shapes_that_would_broadcast_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    predicted, certainty, weights = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"all be \[B\]"):
        quality_regression_loss(predicted, certainty, weights)


@pytest.mark.parametrize("variance_init", ["ones", "seen", "first_pass"])
@pytest.mark.parametrize("fractional", [False, True])
@pytest.mark.parametrize(("b", "c", "d"), [(1, 2, 3), (12, 5, 8), (30, 40, 16)])
def test_steps_of_the_head_match_the_loops(
    b: int, c: int, d: int, fractional: bool, variance_init: str
) -> None:
    head = IGFIQAHead(d, c, num_epoch=4, fractional_momentum=fractional, variance_init=variance_init)
    prototypes = Prototypes(c, d)
    variance, seen = np.ones(c), np.zeros(c, dtype=bool)
    if head.needs_first_pass:
        embeddings, labels = batch(50, c, d, seed=99)
        ccs, _ = prototypes.class_center_similarities(embeddings, labels)
        head.start_from(labels, ccs)
        seen[labels] = True
        variance = method.update_variance(variance, labels.tolist(), ccs.tolist(), 0.0)
    for seed, epoch in enumerate([0.0, 0.5, 1.25, 3.75]):
        embeddings, labels = batch(b, c, d, seed)
        output = head(embeddings, labels, prototypes, epoch=epoch)
        true_ccs, true_nnccs = method.class_center_similarities(
            embeddings.double().numpy(), prototypes.weight.detach().double().numpy(), labels.tolist()
        )
        momentum = method.momentum_at(epoch if fractional else int(epoch), 4)
        variance = method.update_variance(variance, labels.tolist(), true_ccs.tolist(), momentum)
        seen[labels] = True
        only = None if variance_init == "ones" and epoch < 1 else seen.tolist()
        weights = method.variance_weights(variance.tolist(), labels.tolist(), only)
        predicted = (embeddings @ head.regressor.weight[0] + head.regressor.bias).tolist()
        certainty = method.certainty_ratio(true_ccs, true_nnccs)
        expected = method.ig_loss(certainty.tolist(), predicted, weights.tolist())
        np.testing.assert_allclose(head.variance.variance, variance, rtol=2e-6)
        assert output.loss.item() == pytest.approx(expected, rel=1e-4)
        assert output.statistics["zero_weights"].item() == pytest.approx((weights == 0).mean())
        assert output.statistics["weight_mean"].item() == pytest.approx(weights.mean(), abs=1e-4)
        assert output.statistics["momentum"].item() == pytest.approx(momentum)
        assert not any(value.requires_grad for value in output.statistics.values())


def beside_unused(prototypes: Tensor, unused: int) -> tuple[Tensor, Tensor]:
    """The prototypes among ``unused`` others, which no face is near to, and where they are."""
    everyone = torch.zeros(len(prototypes) + unused, prototypes.shape[1], dtype=prototypes.dtype)
    everyone[:, 0] = -1
    places = torch.arange(len(prototypes)) * (2 if unused >= len(prototypes) else 1)
    everyone[places] = prototypes
    return everyone, places


@pytest.mark.parametrize("variance_init", ["ones", "seen", "first_pass"])
@pytest.mark.parametrize("unused", [3, 8, 50])
def test_labels_without_images_change_nothing(unused: int, variance_init: str) -> None:
    """Of a head in a loop that does not know its data, with ``ones`` from the second epoch on."""
    prototypes = torch.randn(8, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    everyone, places = beside_unused(prototypes, unused)
    heads = [IGFIQAHead(16, len(w), num_epoch=4, variance_init=variance_init) for w in (prototypes, everyone)]
    for head in heads:
        head.regressor.double().load_state_dict(heads[0].regressor.state_dict())
    for seed, epoch in enumerate([0, 0, 1, 1, 2]):
        embeddings, _ = batch(40, 8, 16, seed, torch.float64)
        embeddings[:, 0] = 9
        outputs = []
        for head, weight, own in zip(heads, (prototypes, everyone), (torch.arange(8), places), strict=True):
            classifier, labels = Prototypes(2, 2), own.repeat(5)
            classifier.weight = nn.Parameter(weight)
            if seed == 0 and head.needs_first_pass:
                head.start_from(labels, classifier.class_center_similarities(embeddings, labels)[0])
            outputs.append(head(embeddings, labels, classifier, epoch=epoch))
        if variance_init != "ones" or epoch >= 1:
            found, expected = ({"loss": o.loss} | o.statistics for o in reversed(outputs))
            for name, value in expected.items():
                assert found[name].item() == pytest.approx(value.item(), rel=1e-12)
    assert torch.equal(heads[1].class_weights()[places], heads[0].class_weights())
    assert 0 < heads[0].class_weights().mean() < 1


@pytest.mark.parametrize("unused", [0, 5])
def test_classes_that_an_epoch_has_not_shown_are_told_once(
    unused: int, caplog: pytest.LogCaptureFixture
) -> None:
    head = IGFIQAHead(8, 5 + unused, num_epoch=4)
    prototypes = Prototypes(5 + unused, 8)
    for epoch in (0, 0.9, 1, 1.5, 3):
        head(torch.randn(10, 8), torch.arange(10) % 5, prototypes, epoch=epoch)
    told = [record.getMessage()[:27] for record in caplog.records]
    assert told == (["no image of 5 of 10 classes"] if unused else [])


def test_the_paper_counts_classes_at_their_initial_value_where_all_are_known_to_have_images() -> None:
    head = IGFIQAHead(8, 10, num_epoch=4)
    head.has_images_of_all_classes = True
    for epoch in range(4):
        statistics = head(torch.randn(10, 8), torch.arange(10) % 5, Prototypes(10, 8), epoch=epoch).statistics
        v = head.variance.variance.double()
        assert statistics["variance_mean"].item() == pytest.approx(v.mean().item())
    assert (v[5:] == 1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_leaves_statistics_and_loss_in_float32(dtype: torch.dtype) -> None:
    embeddings, labels = batch(12, 5, 8, dtype=dtype)
    head = IGFIQAHead(8, 5)
    twin = copy.deepcopy(head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(embeddings, labels, Prototypes(5, 8), epoch=0)
    expected = twin(embeddings.float(), labels, Prototypes(5, 8), epoch=0)
    assert output.loss.dtype == head.variance.variance.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected.loss)
    torch.testing.assert_close(head.variance.variance, twin.variance.variance)


def test_gradients_are_those_of_r_alone_and_prototypes_get_none() -> None:
    embeddings, labels = batch(12, 5, 8)
    prototypes, head = Prototypes(5, 8), IGFIQAHead(8, 5)
    backbone = nn.Linear(8, 8)
    features = backbone(embeddings)
    features.retain_grad()
    head(features, labels, prototypes, epoch=0).loss.backward()

    x = features.detach().double().numpy()
    ccs, nnccs = method.class_center_similarities(
        x, prototypes.weight.detach().double().numpy(), labels.tolist()
    )
    by_embedding, by_regressor, by_bias = method.ig_loss_gradients(
        x,
        head.regressor.weight.detach()[0].double().numpy(),
        head.regressor.bias.item(),
        method.certainty_ratio(ccs, nnccs),
        method.variance_weights(head.variance.variance.tolist(), labels.tolist()),
        beta=0.5,
    )
    np.testing.assert_allclose(grad(features), by_embedding, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(grad(head.regressor.weight)[0], by_regressor, rtol=1e-4, atol=1e-7)
    assert grad(head.regressor.bias).item() == pytest.approx(by_bias, rel=1e-4)
    assert grad(backbone.weight).abs().sum() > 0
    assert prototypes.weight.grad is None


def test_detach_backbone_stops_the_loss_at_the_embedding() -> None:
    embeddings, labels = batch(12, 5, 8)
    head, prototypes = IGFIQAHead(8, 5, detach_backbone=True), Prototypes(5, 8)
    attached = IGFIQAHead(8, 5)
    attached.load_state_dict(head.state_dict())
    output = head(embeddings.requires_grad_(), labels, prototypes, epoch=0)
    output.loss.backward()
    assert embeddings.grad is None
    assert grad(head.regressor.weight).abs().sum() > 0
    torch.testing.assert_close(output.loss, attached(embeddings, labels, prototypes, epoch=0).loss)


def test_without_variance_weights_every_sample_counts_but_v_is_still_tracked() -> None:
    embeddings, labels = batch(12, 5, 8)
    plain, weighted = IGFIQAHead(8, 5, variance_weights=False), IGFIQAHead(8, 5)
    plain.load_state_dict(weighted.state_dict())
    prototypes = Prototypes(5, 8)
    outputs = [head(embeddings, labels, prototypes, epoch=0) for head in (plain, weighted)]
    predicted = plain.regressor(embeddings)
    ccs, nnccs = prototypes.class_center_similarities(embeddings, labels)
    certainty = torch.tensor(method.certainty_ratio(ccs.tolist(), nnccs.tolist())).float()
    torch.testing.assert_close(outputs[0].loss, quality_regression_loss(predicted, certainty))
    assert outputs[1].loss < outputs[0].loss
    assert torch.equal(plain.variance.variance, weighted.variance.variance)
    assert plain.class_weights().tolist() == [1] * 5
    assert outputs[0].statistics["zero_weights"] == 0


@pytest.mark.parametrize("variance_weights", [True, False])
def test_a_step_sweeps_over_all_classes_once_and_logs_what_it_weighed_by(
    monkeypatch: pytest.MonkeyPatch, variance_weights: bool
) -> None:
    head = IGFIQAHead(8, 5, variance_weights=variance_weights)
    sweeps = []
    sweep = head.variance.mean_and_std
    monkeypatch.setattr(head.variance, "mean_and_std", lambda: sweeps.append(sweep()) or sweeps[-1])
    embeddings, labels = batch(12, 5, 8)
    statistics = head(embeddings, labels, Prototypes(5, 8), epoch=0).statistics
    assert len(sweeps) == 1
    assert (statistics["variance_mean"], statistics["variance_std"]) == sweeps[0]
    assert statistics["variance_mean"].item() == pytest.approx(head.variance.variance.double().mean().item())


def test_class_weights_are_the_weights_of_every_class() -> None:
    head = IGFIQAHead(8, 5)
    head.start_from(torch.arange(5), torch.tensor([0.9, 0.1, 0.2, 0.1, 0.3]))
    expected = method.variance_weights(head.variance.variance.tolist(), range(5))
    np.testing.assert_allclose(head.class_weights(), expected, atol=1e-6)
    assert head.class_weights()[0] == 0


def test_v_is_updated_from_the_similarities_it_is_given_and_saved_with_the_head() -> None:
    embeddings, labels = batch(6, 5, 8)
    head = IGFIQAHead(8, 5)
    head(embeddings, labels, Prototypes(5, 8), epoch=0)
    assert set(head.state_dict()) == {
        "regressor.weight",
        "regressor.bias",
        "variance.variance",
        "variance.seen",
    }
    assert {name for name, _ in head.named_parameters()} == {"regressor.weight", "regressor.bias"}
    assert set(head.variance.seen.nonzero().flatten().tolist()) == set(labels.tolist())
    resumed = IGFIQAHead(8, 5)
    resumed.load_state_dict(head.state_dict())
    assert torch.equal(resumed.variance.variance, head.variance.variance)


def test_momentum_follows_the_schedule() -> None:
    whole = IGFIQAHead(8, 5, num_epoch=10)
    fractional = IGFIQAHead(8, 5, num_epoch=10, fractional_momentum=True)
    custom = IGFIQAHead(8, 5, num_epoch=10, momentum_start=0.5, momentum_end=0.7)
    assert whole.momentum(5.9) == pytest.approx(0.95)
    assert fractional.momentum(5.5) == pytest.approx(0.955)
    assert custom.momentum(5) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="num_epoch = 10"):
        whole.momentum(10)


@pytest.mark.parametrize("name", CHOICES)
def test_an_unknown_choice_is_refused_with_the_known_ones(name: str) -> None:
    IGFIQAHead(8, 5, **{name: CHOICES[name]})
    unknown: dict[str, Any] = {name: "nonsense"}
    with pytest.raises(ValueError, match=rf"{name}.*{CHOICES[name]}.*got 'nonsense'"):
        IGFIQAHead(8, 5, **unknown)


@pytest.mark.parametrize("setting", [{"degradation_p": 1.5}, {"rescale": (0, 1)}, {"erase_area": (0.5, 0.1)}])
def test_a_degradation_that_makes_no_sense_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="degradation"):
        IGFIQAHead(8, 5, **setting)


@pytest.mark.parametrize(
    "setting", [{"beta": -1.0}, {"num_epoch": 0}, {"momentum_start": 1.5}, {"momentum_end": -0.1}]
)
def test_a_setting_outside_its_range_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        IGFIQAHead(8, 5, **setting)


@pytest.mark.parametrize("num_classes", [0, 1])
def test_fewer_than_two_classes_are_refused(num_classes: int) -> None:
    with pytest.raises(ValueError, match=f"at least 2 classes, got {num_classes}"):
        IGFIQAHead(8, num_classes)


def test_a_head_without_statistics_says_so() -> None:
    head = QualityHead(8, 3)
    assert head.class_weights().tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="keeps no statistics"):
        head.start_from(torch.tensor([0]), torch.tensor([0.5]))

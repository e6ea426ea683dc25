"""What every registered quality head must do, and the baseline CR-FIQA against the loops."""

import pytest
import torch
from torch import Tensor, nn

from igfiqa_head import IGFIQAHead, class_center_similarities
from igfiqa_head.quality_head import QualityHead
from igfiqa_head.registry import QUALITY_HEADS
from igfiqa_head.sub_batches import Batch
from plugins.classifiers.partial_fc import PartialFC
from plugins.margins.arcface import ArcFace
from plugins.quality_heads.cr_fiqa import CRFIQAHead
from tests.made_tensors import MadeTensors
from tests.references import method

NUM_CLASSES, SIZE = 6, 8


class Prototypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(NUM_CLASSES, SIZE, generator=generator))

    def class_center_similarities(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return class_center_similarities(embeddings, self.weight, labels)


def loaded(count: int = 12) -> Batch:
    images = 2 * torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    return Batch(images, torch.arange(count) % NUM_CLASSES, torch.arange(count))


def embedded(count: int = 12) -> tuple[Tensor, Tensor]:
    embeddings = 2 * torch.randn(count, SIZE, generator=torch.Generator().manual_seed(2))
    return embeddings, torch.arange(count) % NUM_CLASSES


def grad(x: Tensor) -> Tensor:
    """The gradient that a backward pass has left there."""
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("name", QUALITY_HEADS)
def test_every_head_trains_r_and_the_backbone_but_not_the_prototypes(name: str) -> None:
    head = QUALITY_HEADS.get(name)(SIZE, NUM_CLASSES)
    assert isinstance(head, QualityHead)
    assert head.loss_weight == 10
    assert head.quality_bn in ("shared", "clean")
    clean, quality = head.split(loaded(head.images_drawn(12)))
    torch.manual_seed(0)
    backbone, prototypes = nn.Sequential(nn.Flatten(), nn.Linear(768, SIZE)), Prototypes()
    output = head(backbone(quality.images), quality.labels, prototypes, epoch=0)
    output.loss.backward()
    assert len(clean.labels) == len(clean.images)
    assert output.loss.shape == ()
    assert output.loss.isfinite()
    assert all(grad(parameter).abs().sum() > 0 for parameter in [*head.parameters(), *backbone.parameters()])
    assert prototypes.weight.grad is None
    assert {"ccs", "nnccs", "cr"} <= set(output.statistics)
    assert all(value.shape == () and not value.requires_grad for value in output.statistics.values())


@pytest.mark.parametrize("name", QUALITY_HEADS)
def test_every_head_learns_the_certainty_ratio(name: str) -> None:
    torch.manual_seed(0)
    head, prototypes = QUALITY_HEADS.get(name)(SIZE, NUM_CLASSES), Prototypes()
    embeddings, labels = embedded(60)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = head(embeddings, labels, prototypes, epoch=0).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", QUALITY_HEADS)
def test_every_head_resumes_from_its_state(name: str) -> None:
    head, resumed = (QUALITY_HEADS.get(name)(SIZE, NUM_CLASSES) for _ in range(2))
    embeddings, labels = embedded()
    head(embeddings, labels, Prototypes(), epoch=0)
    resumed.load_state_dict(head.state_dict())
    first, second = (module(embeddings, labels, Prototypes(), epoch=1).loss for module in (head, resumed))
    assert torch.equal(first, second)
    assert tuple(head.state_dict()["regressor.weight"].shape) == (1, SIZE)


@pytest.mark.parametrize("name", QUALITY_HEADS)
def test_every_head_gives_class_weights_and_refuses_one_class(name: str) -> None:
    weights = QUALITY_HEADS.get(name)(SIZE, NUM_CLASSES).class_weights()
    assert weights.shape == (NUM_CLASSES,)
    assert ((weights >= 0) & (weights <= 1)).all()
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        QUALITY_HEADS.get(name)(SIZE, 1)


def test_the_registered_ig_fiqa_is_the_public_class() -> None:
    assert QUALITY_HEADS.get("ig_fiqa") is IGFIQAHead


def test_cr_fiqa_is_eq_3_and_4_with_equal_weights() -> None:
    head, prototypes = CRFIQAHead(SIZE, NUM_CLASSES, beta=0.7), Prototypes()
    embeddings, labels = embedded()
    output = head(embeddings, labels, prototypes, epoch=0)
    similarities = method.class_center_similarities(
        embeddings.numpy(), prototypes.weight.detach().numpy(), labels.tolist()
    )
    certainty = method.certainty_ratio(*(s.tolist() for s in similarities)).tolist()
    predicted = (embeddings @ head.regressor.weight[0] + head.regressor.bias).tolist()
    expected = method.ig_loss(certainty, predicted, [1.0] * 12, beta=0.7)
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


def test_cr_fiqa_feeds_the_whole_batch_to_both_losses_in_one_pass() -> None:
    batch = loaded()
    clean, quality = CRFIQAHead(SIZE, NUM_CLASSES).split(batch)
    assert clean is quality
    assert clean.images is batch.images
    assert CRFIQAHead(SIZE, NUM_CLASSES).images_drawn(1023) == 1023


def test_cr_fiqa_with_augmentation_degrades_the_images_of_both_losses() -> None:
    batch = loaded()
    clean, quality = CRFIQAHead(SIZE, NUM_CLASSES, degradation_p=1.0).split(batch)
    assert clean is quality
    assert (clean.images != batch.images).flatten(1).any(1).all()
    again, _ = CRFIQAHead(SIZE, NUM_CLASSES, degradation_p=1.0).split(batch)
    reseeded, _ = CRFIQAHead(SIZE, NUM_CLASSES, degradation_p=1.0, seed=1).split(batch)
    assert torch.equal(again.images, clean.images)
    assert not torch.equal(reseeded.images, clean.images)


def test_cr_fiqa_takes_its_labels_from_the_products_of_the_loss() -> None:
    head, classifier = CRFIQAHead(SIZE, NUM_CLASSES), PartialFC(SIZE, NUM_CLASSES, ArcFace())
    embeddings, labels = embedded()
    with MadeTensors() as made:
        classifier(embeddings, labels)
        of_the_loss = made.operations.count("mm")
        head(embeddings, labels, classifier, epoch=0)
    assert made.operations.count("mm") == of_the_loss == 1


def test_cr_fiqa_can_stop_at_the_embedding() -> None:
    head = CRFIQAHead(SIZE, NUM_CLASSES, detach_backbone=True)
    embeddings, labels = embedded()
    head(embeddings.requires_grad_(), labels, Prototypes(), epoch=0).loss.backward()
    assert embeddings.grad is None
    assert grad(head.regressor.weight).abs().sum() > 0

"""Class means and what v starts from, against every image's own cosines."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from igfiqa_head import class_center_similarities
from igfiqa_head.margin import Margin
from igfiqa_head.sub_batches import Batch
from plugins.classifiers.partial_fc import PartialFC
from plugins.margins.arcface import ArcFace
from trainer.first_pass import class_means, mean_similarities

CLASSES, SIZE = 7, 6
LABELS = torch.tensor([0, 3, 0, 5, 3, 0, 6, 6, 6, 6, 0])  # of unequal size; 1, 2 and 4 have no images
MARGIN: Margin = ArcFace(0.5)


class Embeddings(nn.Module):
    """Takes embeddings for images."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def embeddings() -> Tensor:
    return torch.randn(len(LABELS), SIZE, generator=torch.Generator().manual_seed(3)) * 20


def batches(x: Tensor, size: int = 4) -> list[Batch]:
    indices = torch.arange(len(x)).split(size)
    return [Batch(x[i], LABELS[i], i, 0) for i in indices]


def prototypes() -> PartialFC:
    torch.manual_seed(1)
    return PartialFC(SIZE, CLASSES, MARGIN)


def test_means_are_of_unit_embeddings() -> None:
    x = embeddings()
    found = class_means(Embeddings(), batches(x), CLASSES)
    assert found.classes.tolist() == [0, 3, 5, 6]
    for label, mean in zip(found.classes, found.means, strict=True):
        own = [row / row.norm() for row in x[label == LABELS]]
        torch.testing.assert_close(mean, sum(own, torch.zeros(SIZE)) / len(own))


@pytest.mark.parametrize("start", ["random", "class_means"])
def test_the_mean_ccs_of_a_class_is_that_of_its_images(start: str) -> None:
    x, classifier = embeddings(), prototypes()
    found = class_means(Embeddings(), batches(x), CLASSES)
    if start == "class_means":
        classifier.start_from(found.classes, found.means)
    each, _ = class_center_similarities(x, classifier.weight, LABELS)
    expected = torch.stack([each[label == LABELS].mean() for label in found.classes])
    torch.testing.assert_close(mean_similarities(found.means, classifier.weight[found.classes]), expected)


def test_the_mean_is_the_prototype_of_highest_ccs() -> None:
    x, classifier = embeddings(), prototypes()
    found = class_means(Embeddings(), batches(x), CLASSES)
    classifier.start_from(found.classes, found.means)
    best = mean_similarities(found.means, classifier.weight[found.classes])
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        with torch.no_grad():
            other = PartialFC(SIZE, CLASSES, MARGIN)
            other.weight.copy_(classifier.weight + 0.1 * torch.randn(CLASSES, SIZE, generator=generator))
        assert (mean_similarities(found.means, other.weight[found.classes]) < best).all()


def test_an_embedding_that_is_not_finite_is_named() -> None:
    x = embeddings()
    x[6, 2] = torch.inf
    with pytest.raises(ValueError, match="the embedding of image 6 is not finite"):
        class_means(Embeddings(), batches(x), CLASSES)

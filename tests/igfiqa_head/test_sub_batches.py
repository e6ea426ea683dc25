"""The mini-batch separation and the draws that belong to an image, not to its place in a batch."""

import pytest
import torch

from igfiqa_head import IGFIQAHead
from igfiqa_head.degradations import Degradations
from igfiqa_head.sub_batches import Batch, degraded, halves

INDICES = torch.tensor([900, 3, 77, 5_000_000, 12, 13, 14, 15])


def loaded(indices: torch.Tensor = INDICES, epoch: int = 0) -> Batch:
    """What a loader gives for these samples: an image is a function of its index."""
    images = [
        torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in indices.tolist()
    ]
    return Batch(torch.stack(images), indices % 10, indices, epoch)


def test_split_makes_two_disjoint_halves_and_degrades_the_second() -> None:
    batch = loaded()
    clean, quality = IGFIQAHead(8, 10, degradation_p=1.0).split(batch)
    assert clean.indices.tolist() + quality.indices.tolist() == INDICES.tolist()
    assert clean.labels.tolist() + quality.labels.tolist() == (INDICES % 10).tolist()
    assert torch.equal(clean.images, batch.images[:4])
    assert quality.images.shape == (4, 3, 16, 16)
    assert (quality.images != batch.images[4:]).flatten(1).any(1).all()


def test_mirror_shows_the_quality_half_degraded_copies() -> None:
    batch = loaded()
    before = batch.images.clone()
    clean, quality = IGFIQAHead(8, 10, degradation_p=1.0, sub_batch="mirror").split(batch)
    assert torch.equal(clean.images, before)
    assert torch.equal(clean.labels, quality.labels)
    assert torch.equal(clean.indices, quality.indices)
    assert (quality.images != clean.images).flatten(1).any(1).all()


@pytest.mark.parametrize("sub_batch", ["split", "mirror"])
def test_without_augmentation_the_quality_images_are_bit_identical(sub_batch: str) -> None:
    batch = loaded()
    _, quality = IGFIQAHead(8, 10, degradation_p=0.0, sub_batch=sub_batch).split(batch)
    assert torch.equal(quality.images, batch.images[-len(quality.labels) :])


@pytest.mark.parametrize(("sub_batch", "drawn"), [("split", 1024), ("mirror", 512)])
def test_both_forms_forward_the_same_number_of_images(sub_batch: str, drawn: int) -> None:
    head = IGFIQAHead(8, 10, sub_batch=sub_batch)
    assert head.images_drawn(1024) == drawn
    assert head.images_drawn(2) == drawn // 512


@pytest.mark.parametrize("sub_batch", ["split", "mirror"])
@pytest.mark.parametrize("size", [-2, 0, 1, 7])
def test_a_batch_size_without_halves_is_refused(sub_batch: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"even.*got {size}"):
        IGFIQAHead(8, 10, sub_batch=sub_batch).images_drawn(size)


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_batch_without_halves_is_refused(size: int) -> None:
    batch = Batch(torch.zeros(size, 3, 8, 8), torch.zeros(size), torch.zeros(size))
    with pytest.raises(ValueError, match=f"even.*got {size}"):
        halves(batch)


def test_the_draw_belongs_to_seed_epoch_and_index() -> None:
    """The same whatever the order, the batch size and the company; bit-identical where nothing hits."""
    settings = Degradations(p=0.5)
    images = degraded(loaded(), settings, seed=1).images
    order = torch.tensor([5, 0, 7, 2])
    torch.testing.assert_close(
        degraded(loaded(INDICES[order]), settings, seed=1).images, images[order], rtol=0, atol=1e-6
    )
    alone = [degraded(loaded(INDICES[i : i + 1]), settings, seed=1).images for i in range(8)]
    torch.testing.assert_close(torch.cat(alone), images, rtol=0, atol=1e-6)
    changed = (images != loaded().images).flatten(1).any(1)
    assert 0 < changed.sum() < 8


@pytest.mark.parametrize(("seed", "epoch"), [(2, 0), (1, 1)])
def test_other_seeds_and_epochs_draw_anew(seed: int, epoch: int) -> None:
    indices = torch.arange(64)
    images = degraded(loaded(indices), Degradations(p=1.0), seed=1).images
    others = degraded(loaded(indices, epoch), Degradations(p=1.0), seed).images
    assert ((images - others).abs().flatten(1).amax(1) > 0.05).all()


def test_neighbouring_samples_are_hit_independently() -> None:
    indices = torch.arange(6000)
    batch = Batch(torch.full((6000, 3, 8, 8), 0.5), indices, indices, 3)
    batch.images[:, :, ::2] = -0.5
    touched = (degraded(batch, Degradations(rescale=(0.2, 0.8)), 0).images != batch.images).flatten(1).any(1)
    share = 1 - 0.7**3
    tolerance = 5 * (share * (1 - share) / 6000) ** 0.5
    assert abs(touched.float().mean().item() - share) < tolerance
    assert abs((touched[1:] & touched[:-1]).float().mean().item() - share**2) < tolerance


def test_degrading_touches_neither_the_input_nor_the_global_generator() -> None:
    batch = loaded()
    before, state = batch.images.clone(), torch.get_rng_state()
    result = degraded(batch, Degradations(p=1.0), seed=0)
    assert torch.equal(batch.images, before)
    assert torch.equal(state, torch.get_rng_state())
    assert result.labels is batch.labels
    assert result.indices is batch.indices


@pytest.mark.parametrize("sub_batch", ["split", "mirror"])
def test_the_quality_half_is_a_batch_of_its_own_even_without_degradations(sub_batch: str) -> None:
    """One object for both would tell the trainer that a single forward pass does."""
    batch = Batch(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]), torch.arange(4))
    clean, quality = IGFIQAHead(2, 2, sub_batch=sub_batch, degradation_p=0.0).split(batch)
    assert quality is not clean

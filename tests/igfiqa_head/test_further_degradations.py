"""The kinds of degradation beside the paper's three, image by image, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from igfiqa_head.degradations import Degradations
from igfiqa_head.further_degradations import NUM_FURTHER_DRAWS, degrade_further

# First draw of each kind, and how many follow it.
KINDS = {"defocus": (0, 1), "dead pixels": (2, 2), "gamma": (5, 1), "misalignment": (7, 4), "mosaic": (12, 1)}
MISS = 0.999
SIZES = [(32, 32), (112, 112), (24, 40)]


def faces(count: int, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    smooth = torch.rand(count, 3, 5, 5, generator=generator, dtype=torch.float64)
    enlarged = torch.nn.functional.interpolate(smooth, (height, width), mode="bicubic")
    return enlarged.clamp(0, 1) * 2 - 1


def draw(kind: str, *numbers: float) -> Tensor:
    row = torch.full((1, NUM_FURTHER_DRAWS), 0.5, dtype=torch.float64)
    row[0, [first for first, _ in KINDS.values()]] = MISS
    first, count = KINDS[kind]
    assert len(numbers) == count
    row[0, first : first + 1 + count] = torch.tensor([0.0, *numbers], dtype=torch.float64)
    return row


def degraded(images: Tensor, kind: str, cases: list[tuple[float, ...]]) -> Tensor:
    return degrade_further(images, 0.5, torch.cat([draw(kind, *case) for case in cases]))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_defocus_spreads_each_point_over_a_disc(height: int, width: int) -> None:
    cases = [(0.0,), (0.4,), (0.999,)]
    images = faces(3, height, width)
    for image, result, (u,) in zip(images, degraded(images, "defocus", cases), cases, strict=True):
        radius = (0.01 + 0.04 * u) * min(height, width)
        reach = math.ceil(radius)
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
        expected = [ndimage.convolve(c, disc / disc.sum(), mode="nearest") for c in image.numpy()]
        np.testing.assert_allclose(result, expected, atol=1e-12)


def test_dead_pixels_are_black_or_white_in_all_channels_and_as_many_as_drawn() -> None:
    cases = [(u, seed) for u in (0.0, 0.5, 0.999) for seed in (0.1, 0.7)]
    images = faces(len(cases), 112, 112)
    results = degraded(images, "dead pixels", cases)
    for image, result, (u, _) in zip(images, results, cases, strict=True):
        changed = (result != image).any(dim=0)
        share = 0.005 + 0.195 * u
        assert changed.double().mean() == pytest.approx(share, abs=4 * math.sqrt(share / 112**2))
        dead = result[:, changed]
        assert (dead.abs() == 1).all()
        assert (dead == dead[0]).all()
        assert (dead[0] == 1).double().mean() == pytest.approx(0.5, abs=0.25)
    assert (results[2] != results[3]).any()


def test_gamma_bends_the_tone_curve() -> None:
    cases = [(0.0,), (0.5,), (0.9,)]
    images = faces(3)
    for image, result, (u,) in zip(images, degraded(images, "gamma", cases), cases, strict=True):
        gamma = math.exp((2 * u - 1) * math.log(3))
        np.testing.assert_allclose(result, ((image + 1) / 2) ** gamma * 2 - 1, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_misalignment_turns_scales_and_shifts(height: int, width: int) -> None:
    """Each pixel is taken from where the inverse transformation, in units of half an image, leads."""
    cases = [(0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.9, 0.3), (0.8, 0.1, 0.5, 0.5), (0.1, 0.9, 0.2, 0.6)]
    images = faces(len(cases), height, width)
    for image, result, u in zip(images, degraded(images, "misalignment", cases), cases, strict=True):
        angle, zoom = math.radians(25) * (2 * u[0] - 1), math.exp(0.25 * (2 * u[1] - 1))
        right, down = (0.15 * (2 * x - 1) for x in u[2:])
        y, x = np.mgrid[:height, :width]
        ny, nx = (2 * y + 1) / height - 1, (2 * x + 1) / width - 1
        sx = (math.cos(angle) * nx - math.sin(angle) * ny) / zoom + 2 * right
        sy = (math.sin(angle) * nx + math.cos(angle) * ny) / zoom + 2 * down
        where = [((sy + 1) * height - 1) / 2, ((sx + 1) * width - 1) / 2]
        expected = [ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in image.numpy()]
        np.testing.assert_allclose(result, expected, atol=1e-9)


def test_a_mosaic_has_the_mean_colour_of_each_tile() -> None:
    image = faces(1, 32, 32)
    tiles = 8
    u = (1 / tiles - 0.03) / 0.12
    expected = image.reshape(1, 3, tiles, 4, tiles, 4).mean(dim=(3, 5))
    expected = expected.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(degraded(image, "mosaic", [(u,)]), expected)


def test_each_image_is_degraded_as_if_it_were_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    images, draws = (
        faces(40, 112, 112),
        torch.rand(40, NUM_FURTHER_DRAWS, generator=generator, dtype=torch.float64),
    )
    together = degrade_further(images, 0.4, draws)
    alone = torch.cat([degrade_further(images[i : i + 1], 0.4, draws[i : i + 1]) for i in range(40)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    assert together.abs().max() <= 1
    untouched = (draws[:, [first for first, _ in KINDS.values()]] >= 0.4).all(dim=1)
    assert 0 < untouched.sum() < 40
    assert torch.equal(together[untouched], images[untouched])
    assert (together != images).flatten(1).any(dim=1).equal(~untouched)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_type_of_the_images_stays(dtype: torch.dtype) -> None:
    draws = torch.rand(8, NUM_FURTHER_DRAWS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = degrade_further(faces(8).to(dtype), 1.0, draws)
    assert result.dtype == dtype
    assert result.isfinite().all()


def test_they_follow_the_papers_three_and_are_off_by_default() -> None:
    images = faces(20).float()
    draws = torch.rand(20, 12 + NUM_FURTHER_DRAWS, generator=torch.Generator().manual_seed(0)).double()
    three = Degradations(0.5)(images, draws)
    torch.testing.assert_close(
        Degradations(0.5, further_p=0.6)(images, draws), degrade_further(three, 0.6, draws[:, 12:])
    )
    with pytest.raises(ValueError, match=r"further_p must lie in \[0, 1\], got 1.5"):
        Degradations(further_p=1.5)

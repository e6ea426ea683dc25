"""The three degradations, image by image, against `F.interpolate` and loops."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from igfiqa_head import degrade
from igfiqa_head.degradations import NUM_DRAWS, Degradations
from tests.references import method

# The resampling weights are float32 whatever the images: torch computes source positions in it.
TOLERANCE = {torch.float64: 2e-5, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}
SIZES = [(32, 32), (112, 112), (24, 40), (41, 13)]
MISS = 0.999  # a draw above p


def faces(b: int, height: int = 32, width: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(b)
    return (2 * torch.rand(b, 3, height, width, generator=generator) - 1).to(dtype)


def draw(
    rescale: Sequence[float] | None = None,
    jitter: Sequence[float] | None = None,
    erase: Sequence[float] | None = None,
) -> Tensor:
    """One image's numbers: hit, ratio, mode; hit, three factors; hit, area, aspect, top, left."""
    row: list[float] = []
    for numbers, count in ((rescale, 2), (jitter, 3), (erase, 4)):
        row += [MISS, *[0.5] * count] if numbers is None else [0.0, *numbers]
    return torch.tensor([row], dtype=torch.float64)


def rescaled(image: Tensor, ratio: float, mode: str) -> Tensor:
    height, width = image.shape[1:]
    return method.rescale(image, max(1, round(ratio * height)), max(1, round(ratio * width)), mode)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_rescale_equals_area_down_and_random_up_of_every_image(
    height: int, width: int, dtype: torch.dtype
) -> None:
    cases = [(u, mode) for u in (0.0, 0.1, 0.37, 0.5, 0.93, 1 - 2**-53) for mode in (0, 1)]
    images = faces(len(cases), height, width, dtype)
    draws = torch.cat([draw(rescale=(u, mode / 2)) for u, mode in cases])
    got = Degradations()(images, draws)
    assert got.dtype == dtype
    for image, result, (u, mode) in zip(images, got, cases, strict=True):
        expected = rescaled(image, 0.2 + 0.8 * u, ("bilinear", "bicubic")[mode])
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=TOLERANCE[dtype])


def test_rescale_of_black_and_white_stays_in_range() -> None:
    """Bicubic enlargement overshoots at edges."""
    images = faces(40).sign()
    draws = torch.cat([draw(rescale=(u, 0.5)) for u in np.linspace(0, 0.99, 40)])
    enlarged = Degradations()(images, draws)
    assert enlarged.abs().max() == 1
    assert (enlarged != images).any()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_jitter_equals_the_loops(height: int, width: int, dtype: torch.dtype) -> None:
    cases = [(0.0, 0.0, 0.0), (0.99, 0.99, 0.99), (0.5, 0.5, 0.5), (0.1, 0.9, 0.7), (0.8, 0.2, 0.4)]
    images = faces(len(cases), height, width, dtype)
    got = Degradations()(images, torch.cat([draw(jitter=case) for case in cases]))
    assert got.dtype == dtype
    assert got.abs().max() <= 1
    for image, result, factors in zip(images, got, cases, strict=True):
        expected = method.color_jitter(image.double().numpy(), *(0.5 + u for u in factors))
        np.testing.assert_allclose(result.double(), expected, rtol=0, atol=TOLERANCE[dtype])


def erased_rectangle(image: Tensor) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the black part of a white image."""
    black = (image == -1).all(0)
    rows, columns = black.any(1).nonzero().flatten(), black.any(0).nonzero().flatten()
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_erasing_blackens_one_rectangle_of_the_wanted_area_and_aspect(
    height: int, width: int, dtype: torch.dtype
) -> None:
    images = torch.ones(200, 3, height, width, dtype=dtype)
    numbers = torch.rand(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = Degradations()(images, torch.cat([draw(erase=row) for row in numbers.tolist()]))
    assert got.dtype == dtype
    for image, result, (u_area, u_aspect, _, _) in zip(images, got, numbers.tolist(), strict=True):
        top, left, tall, wide = erased_rectangle(result)
        expected = method.erase(image.double().numpy(), top, left, tall, wide)
        np.testing.assert_array_equal(result.double(), expected)
        area = (0.02 + 0.31 * u_area) * height * width
        aspect = 0.3 * (3.3 / 0.3) ** u_aspect
        assert tall == min(height, max(1, round(math.sqrt(area * aspect))))
        assert wide == min(width, max(1, round(math.sqrt(area / aspect))))


def test_erased_rectangles_lie_anywhere() -> None:
    corners = torch.tensor([(0.0, 0.0), (0.0, 1 - 2**-53), (1 - 2**-53, 0.0), (1 - 2**-53, 1 - 2**-53)])
    draws = torch.cat(
        [draw(erase=(0.5, 0.5, *corner)) for corner in corners.double().clamp_max(1 - 2**-53).tolist()]
    )
    got = Degradations()(torch.ones(4, 3, 30, 50), draws)
    for result, (at_bottom, at_right) in zip(got, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        top, left, tall, wide = erased_rectangle(result)
        assert (top, left) == (at_bottom * (30 - tall), at_right * (50 - wide))


def test_the_order_is_rescale_then_jitter_then_erase() -> None:
    image = faces(1)
    numbers = {"rescale": (0.2, 0.7), "jitter": (0.9, 0.1, 0.8), "erase": (0.3, 0.4, 0.5, 0.6)}
    got = Degradations()(image, draw(**numbers))[0]
    expected = rescaled(image[0], 0.36, "bicubic").numpy()
    expected = method.color_jitter(expected, 1.4, 0.6, 1.3)
    white = Degradations()(torch.ones(1, 3, 32, 32), draw(erase=numbers["erase"]))[0]
    expected = method.erase(expected, *erased_rectangle(white))
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-6)


def test_each_degradation_hits_below_p_and_leaves_the_others_alone() -> None:
    image = faces(1)
    settings = Degradations(p=0.25)
    for first in (0, 3, 7):
        for number, is_hit in ((0.0, True), (0.25 - 2**-53, True), (0.25, False), (0.9, False)):
            draws = torch.full((1, NUM_DRAWS), MISS, dtype=torch.float64)
            draws[0, first + 1 :] = 0.3
            draws[0, [column for column in (3, 7) if column > first]] = MISS
            draws[0, first] = number
            assert torch.equal(settings(image, draws), image) != is_hit


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_p_zero_returns_an_identical_copy(dtype: torch.dtype) -> None:
    images = faces(50, dtype=dtype)
    got = degrade(images, p=0.0)
    assert torch.equal(got, images)
    assert got.data_ptr() != images.data_ptr()


def test_p_one_hits_every_image_and_leaves_the_input_alone() -> None:
    images = faces(100)
    before = images.clone()
    got = degrade(images, p=1.0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, before)
    assert ((got != images).flatten(1).float().mean(1) > 0.5).all()
    black = (got == -1).all(dim=1).flatten(1).sum(1)
    assert (black >= 0.015 * 32 * 32).all()


@pytest.mark.parametrize("p", [0.1, 0.3, 0.6])
def test_the_share_of_untouched_images_is_that_of_three_misses(p: float) -> None:
    images, n = faces(1, 12, 12).expand(20_000, -1, -1, -1), 20_000
    got = degrade(images, p, torch.Generator().manual_seed(0), rescale=(0.2, 0.8))
    untouched = int((got == images).flatten(1).all(1).sum())
    assert stats.binomtest(untouched, n, (1 - p) ** 3).pvalue > 1e-3


def test_degradations_are_drawn_independently_and_uniformly() -> None:
    """From the public function only: the rectangle of the erasing, the gain of a grey image's jitter."""
    generator = torch.Generator().manual_seed(0)
    white = torch.ones(4000, 3, 40, 40)
    got = degrade(white, 0.5, generator, jitter=(0.5, 1.0))
    erased = (got == -1).flatten(1).any(1)
    brightness = (got.flatten(1).amax(1) + 1) / 2
    jittered = brightness < 1
    both = int((erased & jittered).sum())
    assert stats.binomtest(both, 4000, 0.25).pvalue > 1e-3
    assert stats.kstest(brightness[jittered], stats.uniform(0.5, 0.5).cdf).pvalue > 1e-3
    rectangles = torch.tensor([erased_rectangle(image) for image in got[erased][:1000]]).double()
    area = rectangles[:, 2] * rectangles[:, 3] / 1600
    aspect = rectangles[:, 2] / rectangles[:, 3]
    assert area.min() > 0.012
    assert area.max() < 0.35
    assert 0.2 < aspect.min() < 0.4
    assert 2.5 < aspect.max() < 4.5
    assert aspect.log().mean().abs() < 0.1  # tall and wide alike


def test_a_result_does_not_depend_on_the_rest_of_the_batch() -> None:
    images, draws = faces(64), torch.rand(64, NUM_DRAWS, generator=torch.Generator().manual_seed(0)).double()
    together = Degradations(p=0.7)(images, draws)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    shuffled = Degradations(p=0.7)(images[order], draws[order])
    alone = torch.cat([Degradations(p=0.7)(images[i : i + 1], draws[i : i + 1]) for i in range(64)])
    torch.testing.assert_close(shuffled, together[order], rtol=0, atol=1e-6)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)


def test_a_generator_makes_it_reproducible_and_spares_the_global_one() -> None:
    images = faces(20)
    state = torch.get_rng_state()
    first, second, other = (degrade(images, generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
    degrade(images)
    assert not torch.equal(state, torch.get_rng_state())


def test_consecutive_calls_of_one_generator_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(degrade(faces(20), generator=generator), degrade(faces(20), generator=generator))


def test_gradients_pass_through_untouched_pixels_only() -> None:
    images = faces(1).requires_grad_()
    got = Degradations()(images, draw(erase=(0.5, 0.5, 0.5, 0.5)))
    got.sum().backward()
    assert images.grad is not None
    assert torch.equal(images.grad == 0, got == -1)


def test_an_empty_batch_stays_empty() -> None:
    assert degrade(torch.zeros(0, 3, 8, 8), p=1.0).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(2, 1, 8, 8),
        torch.zeros(2, 8, 8, 3),
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
    ],
)
def test_other_images_are_refused_with_their_shape(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\].*got torch\.\w+ \(\d"):
        degrade(images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": -0.1}, r"p must lie in \[0, 1\], got -0.1"),
        ({"p": 1.1}, r"p must lie in \[0, 1\], got 1.1"),
        ({"p": math.nan}, r"p must lie in \[0, 1\], got nan"),
        ({"rescale": (0.0, 1.0)}, r"rescale.*got \(0.0, 1.0\)"),
        ({"rescale": (0.5, 1.5)}, r"rescale.*got \(0.5, 1.5\)"),
        ({"jitter": (-0.1, 1.0)}, r"jitter.*got \(-0.1, 1.0\)"),
        ({"jitter": (1.5, 0.5)}, r"jitter.*got \(1.5, 0.5\)"),
        ({"erase_area": (0.02, 1.2)}, r"erase_area.*got \(0.02, 1.2\)"),
        ({"erase_aspect": (0.0, 3.3)}, r"erase_aspect.*got \(0.0, 3.3\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        degrade(torch.zeros(1, 3, 8, 8), **settings)

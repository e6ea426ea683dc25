"""Error-versus-reject curves over images: against pairs formed and counted afresh at every quality."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval_tools.erc import UnresolvedFMRWarning, image_rejection_curve
from tests.eval_tools.pairs import source_line
from tests.references import erc as reference
from tests.references.verification import all_pairs

pytestmark = pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning")

Array = NDArray[Any]
Images = tuple[Array, Array, Array]


def _continuous(rng: np.random.Generator) -> Images:
    identities = np.append(rng.integers(0, 5, 24), [0, 0, 1])
    return rng.normal(size=(5, 6))[identities] + rng.normal(size=(27, 6)), identities, rng.normal(size=27)


def _signs(rng: np.random.Generator, size: int = 24) -> Array:
    """Vectors whose norms and cosines are exact in floating point, so that ties are ties."""
    return rng.choice([-1.0, 1.0], (size, 4))


def _tied(rng: np.random.Generator) -> Images:
    return _signs(rng), np.append(rng.integers(0, 4, 21), [0, 0, 1]), rng.integers(0, 6, 24).astype(float)


def _constant(rng: np.random.Generator) -> Images:
    return _signs(rng), np.arange(24) % 3, np.full(24, -2.5)


def _duplicates(rng: np.random.Generator) -> Images:
    return np.repeat(_signs(rng, 6), 4, axis=0), np.repeat(np.arange(6), 4), rng.random(24)


def _tiny(rng: np.random.Generator) -> Images:
    return _signs(rng, 3), np.array([0, 1, 0]), rng.integers(0, 3, 3).astype(float)


def _one_negative_direction(rng: np.random.Generator) -> Images:
    """Impostor similarities all below zero, qualities all negative."""
    identities = np.arange(20) % 2
    signs = np.where(identities, 1.0, -1.0)[:, None]
    return signs * (2 + rng.random((20, 3))), identities, -1 - rng.random(20)


INPUTS: dict[str, Callable[[np.random.Generator], Images]] = {
    "continuous": _continuous,
    "tied": _tied,
    "constant": _constant,
    "duplicates": _duplicates,
    "tiny": _tiny,
    "all negative": _one_negative_direction,
}


def _images(kind: str, seed: int = 0) -> Images:
    return INPUTS[kind](np.random.default_rng([seed, len(kind)]))


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("fmr", [1e-3, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(2))
def test_image(kind: str, fmr: float, seed: int) -> None:
    embeddings, identities, quality = _images(kind, seed)
    points = reference.image_curve(embeddings.tolist(), identities.tolist(), quality.tolist(), fmr)
    curve = image_rejection_curve(embeddings, identities, quality, fmr=fmr, block=5)
    np.testing.assert_allclose(curve.discard, [point.discard for point in points], rtol=0, atol=1e-12)
    np.testing.assert_allclose(curve.fnmr, [point.fnmr for point in points], rtol=1e-12)
    np.testing.assert_allclose(curve.threshold, [point.threshold for point in points], atol=1e-12)
    np.testing.assert_allclose(curve.effective_fmr, [point.fmr for point in points], rtol=1e-12)
    np.testing.assert_array_equal(curve.n_genuine, [point.n_genuine for point in points])
    np.testing.assert_array_equal(curve.n_impostor, [point.n_impostor for point in points])
    np.testing.assert_array_equal(curve.n_discarded, np.round(curve.discard * len(quality)))
    steps = list(zip(curve.discard.tolist(), curve.fnmr.tolist(), strict=True))
    for limit in (0.2, 0.3, 1.0):
        assert curve.pauc(limit) == pytest.approx(reference.step_area(steps, limit), abs=1e-12)
    assert curve.auc == pytest.approx(reference.step_area(steps, 1.0))
    assert curve.auc_random == pytest.approx(points[0].fnmr)


@pytest.mark.parametrize("block", [1, 2, 7, 27, 1000])
def test_block_size_changes_nothing(block: int) -> None:
    images = _images("tied")
    curve = image_rejection_curve(*images, fmr=0.1)
    other = image_rejection_curve(*images, fmr=0.1, block=block)
    for name in ("discard", "fnmr", "threshold", "effective_fmr", "n_genuine", "n_impostor"):
        np.testing.assert_array_equal(getattr(curve, name), getattr(other, name))


def test_length_of_embeddings_type_and_labels_change_nothing() -> None:
    embeddings, identities, quality = _images("tied")
    curve = image_rejection_curve(embeddings, identities, quality, fmr=0.1)
    scales = 2.0 ** np.random.default_rng(0).integers(-3, 4, (24, 1))
    names = [f"person {identity}" for identity in identities]
    other = image_rejection_curve((embeddings * scales).astype(np.float32), names, list(quality), fmr=0.1)
    np.testing.assert_array_equal(curve.fnmr, other.fnmr)
    np.testing.assert_array_equal(curve.effective_fmr, other.effective_fmr)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([np.exp, np.arctan, lambda x: x**3]))
def test_monotone_transform_of_quality_changes_nothing(
    seed: int, transform: Callable[[Array], Array]
) -> None:
    embeddings, identities, quality = _images("tied", seed)
    curve = image_rejection_curve(embeddings, identities, quality, fmr=0.1)
    other = image_rejection_curve(embeddings, identities, transform(quality), fmr=0.1)
    np.testing.assert_array_equal(curve.fnmr, other.fnmr)
    np.testing.assert_array_equal(curve.discard, other.discard)


def test_order_of_images_changes_nothing() -> None:
    embeddings, identities, quality = _images("tied")
    order = np.random.default_rng(2).permutation(len(quality))
    curve = image_rejection_curve(embeddings, identities, quality, fmr=0.1)
    other = image_rejection_curve(embeddings[order], identities[order], quality[order], fmr=0.1)
    np.testing.assert_array_equal(curve.fnmr, other.fnmr)
    np.testing.assert_array_equal(curve.threshold, other.threshold)


@pytest.mark.parametrize("seed", range(4))
def test_no_choice_of_images_beats_the_theoretical_best(seed: int) -> None:
    """At the first threshold, every subset of the images has at least that rate."""
    rng = np.random.default_rng(seed)
    embeddings, identities = _signs(rng, 9), np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])
    curve = image_rejection_curve(embeddings, identities, rng.random(9), fmr=0.2)
    first = float(np.broadcast_to(curve.threshold, curve.discard.shape)[0])
    for kept in itertools.chain.from_iterable(itertools.combinations(range(9), n) for n in range(2, 10)):
        chosen = list(kept)
        scores, same = all_pairs(embeddings[chosen].tolist(), identities[chosen].tolist())
        genuine, _ = reference.split(scores, same)
        if genuine:
            best = curve.best_errors[min(9 - len(chosen), curve.best_errors.size - 1)]
            assert reference.fnmr_at(first, genuine) >= best - 1e-12


def test_theoretical_best_by_hand() -> None:
    """One stray image takes part in three of the three errors: without it none is left."""
    embeddings = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, 1]])
    curve = image_rejection_curve(embeddings, [0, 0, 0, 0, 1, 2], [4, 5, 6, 1, 2, 3], fmr=0.4)
    np.testing.assert_allclose(curve.best_errors, [0.5, 0.0])
    np.testing.assert_allclose(curve.fnmr[:2], [0.5, 0.0])
    assert curve.auc_best == pytest.approx(0.5 / 6)


def test_constant_quality_has_one_point() -> None:
    curve = image_rejection_curve(*_images("constant"), fmr=0.3)
    np.testing.assert_array_equal(curve.discard, [0.0])
    assert curve.auc == pytest.approx(curve.auc_random)


def test_unresolved_fmr_warns_at_the_caller() -> None:
    with pytest.warns(UnresolvedFMRWarning, match="image curve at .* FMR 1e-05 cannot be resolved") as record:
        curve = image_rejection_curve(*_images("continuous"), fmr=1e-5)
    assert "image_rejection_curve(" in source_line(record[0])
    assert not curve.resolved


def test_resolved_fmr_is_silent() -> None:
    embeddings, identities, _ = _images("continuous")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_rejection_curve(embeddings, identities, np.ones(27), fmr=0.1).resolved


GOOD: dict[str, Any] = {"embeddings": np.eye(3), "identities": [0, 0, 1], "quality": [1.0, 2.0, 3.0]}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"embeddings": np.diag([1, 1, 0.0])}, "1 embeddings are zero or not finite, the first at row 2"),
    ({"embeddings": np.diag([1, np.nan, 1])}, "zero or not finite, the first at row 1"),
    ({"embeddings": np.diag([np.inf, 1, 1])}, "zero or not finite, the first at row 0"),
    ({"embeddings": np.ones(3)}, r"non-empty array \[N, D\], got shape \(3,\)"),
    ({"embeddings": np.empty((0, 4))}, r"non-empty array \[N, D\], got shape \(0, 4\)"),
    ({"identities": [0, 1]}, r"identities must have shape \(3,\)"),
    ({"identities": [0, 1, 2]}, "make 0 genuine and 3 impostor pairs"),
    ({"identities": [4, 4, 4]}, "make 3 genuine and 0 impostor pairs"),
    ({"quality": [1.0, 2.0]}, r"quality must have shape \(3,\)"),
    ({"quality": [1.0, np.nan, 2.0]}, "quality has 1 NaN or infinite values, the first at index 1"),
    ({"quality": [1.0, 3.0, np.inf]}, "quality has 1 NaN or infinite values"),
    ({"fmr": 0.0}, "fmr must lie strictly between 0 and 1"),
    ({"fmr": 1.0}, "fmr must lie strictly between 0 and 1"),
    ({"fmr": "0.1"}, "fmr must lie strictly between 0 and 1, got '0.1'"),
    ({"fmr": True}, "fmr must lie strictly between 0 and 1, got True"),
    ({"block": 0}, "block must be a whole number from 1 on, got 0"),
    ({"block": -5}, "block must be a whole number from 1 on, got -5"),
    ({"quality": ["1", "2", "3"]}, "quality must hold real numbers, got dtype <U1"),
    ({"embeddings": np.full((3, 2), "1")}, "embeddings must hold real numbers, got dtype <U1"),
    ({"identities": [0, 0, None]}, "identities must be whole numbers or names, got dtype object"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_rejection_curve(**{**GOOD, **change})

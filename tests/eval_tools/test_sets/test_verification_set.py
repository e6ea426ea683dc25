"""The set itself: parts that fit, similarities and qualities of pairs, sets without some images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.test_sets import VerificationSet
from eval_tools.test_sets.embeddings import Flip
from eval_tools.test_sets.images import LazyImages
from eval_tools.verification import verify
from tests.eval_tools.test_sets.making import face

IMAGES = [face(seed) for seed in range(5)]
PAIRS = np.array([[0, 1], [2, 3], [1, 2], [0, 4]])
GENUINE = np.array([True, True, False, False])
IDENTITIES = np.array([7, 7, 3, 3, 9])
NAMES = ["a", "b", "c", "d", "e"]


def small_set(**changes: Any) -> VerificationSet:
    parts = {"identities": IDENTITIES, "names": NAMES, "folds": 2, "notes": ("A note.",)}
    return VerificationSet(IMAGES, PAIRS, GENUINE, **{**parts, **changes})


class TestParts:
    def test_three_are_enough(self) -> None:
        test_set = VerificationSet(IMAGES, PAIRS, GENUINE)
        assert (test_set.identities, test_set.pair_identities, test_set.folds) == (None, None, None)
        assert list(test_set.names) == ["0", "1", "2", "3", "4"]
        assert test_set.notes == ()

    def test_labels_of_0_and_1(self) -> None:
        assert VerificationSet(IMAGES, PAIRS, np.array([1, 1, 0, 0])).is_genuine.dtype == np.bool_

    def test_pair_identities(self) -> None:
        assert small_set().pair_identities.tolist() == [[7, 7], [3, 3], [7, 3], [7, 9]]

    @pytest.mark.parametrize("pair", [[0, 5], [-1, 0]])
    def test_pairs_must_index_the_images(self, pair: list[int]) -> None:
        with pytest.raises(ValueError, match="pairs must index 5 images"):
            VerificationSet(IMAGES, np.array([pair]), np.array([True]))

    def test_pairs_must_fit_the_labels(self) -> None:
        with pytest.raises(ValueError, match=r"pairs must be \[4, 2\] to fit is_genuine, got \(1, 2\)"):
            VerificationSet(IMAGES, PAIRS[:1], GENUINE)

    @pytest.mark.parametrize(("flags", "kind"), [([True] * 4, "impostor"), ([False] * 4, "genuine")])
    def test_both_kinds_are_needed(self, flags: list[bool], kind: str) -> None:
        with pytest.raises(ValueError, match=f"no {kind} pair among 4 pairs"):
            VerificationSet(IMAGES, PAIRS, np.array(flags))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"names": ["a"]}, "names must be one for each of the 5 images, got 1"),
            ({"folds": 1}, "folds must be from 2 to the 4 pairs, got 1"),
            ({"folds": 5}, "folds must be from 2 to the 4 pairs, got 5"),
            ({"identities": IDENTITIES[:4]}, r"identities must have shape \(5,\)"),
            ({"identities": np.array([7, 8, 3, 3, 8])}, r"contradict 1 pairs.* pair 0, genuine, of a \(7\)"),
            ({"identities": np.array([7, 7, 3, 3, 7])}, r"contradict 1 pairs.* pair 3, impostor, of a \(7\)"),
        ],
    )
    def test_parts_that_do_not_fit(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            small_set(**changes)


class Chunked:
    """Embeddings as the cache gives them."""

    def __init__(self, embeddings: np.ndarray, size: int) -> None:
        self.embeddings, self.size = embeddings, size

    def __len__(self) -> int:
        return len(self.embeddings)

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(self.embeddings), self.size):
            yield start, self.embeddings[start : start + self.size]


def unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(math.fsum(value * value for value in vector))
    return [value / norm for value in vector]


def reference_similarity(embeddings: np.ndarray, pair: tuple[int, int], flip: Flip) -> float:
    """One pair at a time, from the definitions."""
    joined = []
    for image in pair:
        views = embeddings[image].astype(float).tolist()
        if flip == "sum":
            joined.append(unit([math.fsum(column) for column in zip(*views, strict=True)]))
        elif flip == "concat":
            joined.append(unit([value for view in views for value in unit(view)]))
        else:
            joined.append(unit(views[0]))
    return math.fsum(a * b for a, b in zip(*joined, strict=True))


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(2, 12), st.integers(1, 2), st.integers(1, 6)),
    flip=st.sampled_from(["sum", "concat", "none"]),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    chunk=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_similarity_is_that_of_the_definitions(
    shape: tuple[int, int, int], flip: Flip, dtype: str, chunk: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    embeddings = (rng.normal(size=shape) + np.copysign(0.5, rng.normal())).astype(dtype)
    pairs = list(itertools.combinations_with_replacement(range(shape[0]), 2))
    test_set = VerificationSet([None] * shape[0], np.array(pairs), np.arange(len(pairs)) > 0)
    expected = [reference_similarity(embeddings, pair, flip) for pair in pairs]
    tolerance = 1e-12 if dtype == "f8" else 1e-5
    for given_embeddings in (embeddings, Chunked(embeddings, chunk)):
        similarity = test_set.similarity(given_embeddings, flip)
        assert similarity.dtype == np.float64
        np.testing.assert_allclose(similarity, expected, atol=tolerance)


def test_similarity_over_many_blocks_of_images_and_pairs() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(3000, 2, 8)).astype(np.float32)
    pairs = rng.integers(0, 3000, (5000, 2))
    test_set = VerificationSet([None] * 3000, pairs, np.arange(5000) % 2 == 0)
    summed = embeddings.sum(axis=1)
    summed /= np.linalg.norm(summed, axis=1, keepdims=True)
    expected = (summed @ summed.T)[pairs[:, 0], pairs[:, 1]]
    np.testing.assert_allclose(test_set.similarity(embeddings), expected, atol=1e-6)


def test_similarity_agrees_with_verify() -> None:
    embeddings = np.random.default_rng(1).normal(size=(8, 2, 16))
    test_set = VerificationSet([None] * 8, np.arange(8).reshape(4, 2), GENUINE)
    expected = verify(embeddings.sum(axis=1), GENUINE, folds=2).similarity
    np.testing.assert_allclose(test_set.similarity(embeddings), expected, atol=1e-12)


def test_embeddings_of_any_size_are_compared() -> None:
    embeddings = np.full((5, 1, 4), 1e30, np.float32)  # whose squares are infinite in float32
    np.testing.assert_allclose(small_set().similarity(embeddings), 1, atol=1e-6)


class TestEmbeddingErrors:
    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
    @pytest.mark.parametrize("flip", ["sum", "concat", "none"])
    def test_the_image_is_named(self, value: float, flip: Flip) -> None:
        embeddings = np.ones((5, 2, 4), np.float32)
        embeddings[[2, 4]] = value
        for given_embeddings in (embeddings, Chunked(embeddings, 2)):
            with pytest.raises(ValueError, match="the embedding of image c is zero or not finite"):
                small_set().similarity(given_embeddings, flip)

    def test_views_that_cancel(self) -> None:
        embeddings = np.ones((5, 2, 4))
        embeddings[3, 1] = -1
        with pytest.raises(ValueError, match="the embedding of image d is zero"):
            small_set().similarity(embeddings, "sum")
        assert small_set().similarity(embeddings, "none").tolist() == [1, 1, 1, 1]

    @pytest.mark.parametrize("shape", [(5, 4), (4, 1, 4), (6, 1, 4), (5, 0, 4), (5, 1, 0), (0, 1, 4)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="embeddings must be"):
            small_set().similarity(np.ones(shape))

    @pytest.mark.parametrize("sizes", [[3], [3, 3], [5, 1]])
    def test_chunks_that_do_not_cover_the_set(self, sizes: list[int]) -> None:
        chunked = Chunked(np.ones((sum(sizes), 1, 4)), sizes[0])
        with pytest.raises(ValueError, match=r"embeddings must be \[5, V, D\]"):
            small_set().similarity(chunked)

    def test_chunks_of_other_widths(self) -> None:
        class Uneven(Chunked):
            def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
                yield 0, np.ones((3, 1, 4))
                yield 3, np.ones((2, 1, 3))

        with pytest.raises(ValueError, match=r"got \[2, 1, 3\] from image 3 on"):
            small_set().similarity(Uneven(np.ones((5, 1, 4)), 3))

    def test_unknown_flip(self) -> None:
        with pytest.raises(ValueError, match="unknown flip 'both'"):
            small_set().similarity(np.ones((5, 1, 4)), "both")  # type: ignore[arg-type]


class TestPairQuality:
    @pytest.mark.parametrize(("how", "expected"), [("min", [1, 3, 2, 1]), ("max", [2, 4, 3, 5])])
    def test_of_the_two_images(self, how: Any, expected: list[float]) -> None:
        assert small_set().pair_quality([1, 2, 3, 4, 5], how).tolist() == expected

    @pytest.mark.parametrize("quality", [[1, 2], [[1, 2, 3, 4, 5]], [1, 2, 3, 4, np.nan]])
    def test_errors(self, quality: Any) -> None:
        with pytest.raises(ValueError, match="quality"):
            small_set().pair_quality(quality)


class TestWithoutImages:
    def test_images_are_numbered_anew(self) -> None:
        left = small_set().without_images([4])
        assert (left.pairs.tolist(), left.is_genuine.tolist()) == (PAIRS[:3].tolist(), [True, True, False])
        smaller = small_set().without_images({1})
        assert smaller.pairs.tolist() == [[1, 2], [0, 3]]
        assert smaller.is_genuine.tolist() == [True, False]
        assert smaller.identities.tolist() == [7, 3, 3, 9]
        assert list(smaller.names) == ["a", "c", "d", "e"]
        assert smaller.folds == 2
        assert smaller.notes == (
            "A note.",
            "1 of 5 images (the first: b) and the 2 of 4 pairs that need them were excluded.",
        )
        for index, name in enumerate(smaller.names):
            np.testing.assert_array_equal(smaller.images[index], IMAGES[NAMES.index(name)])
        with pytest.raises(IndexError):
            smaller.images[4]

    def test_twice(self) -> None:
        left = small_set(folds=4).without_images(np.array([1])).without_images([])
        assert left.folds is None  # fewer pairs than folds
        assert len(left.notes) == 2

    def test_nothing_to_leave_out(self) -> None:
        test_set = small_set()
        assert test_set.without_images([]) is test_set

    @pytest.mark.parametrize("indices", [[5], [-1], [0, 99]])
    def test_images_that_are_not_there(self, indices: list[int]) -> None:
        with pytest.raises(ValueError, match="images to leave out must be from 0 to 4"):
            small_set().without_images(indices)

    def test_nothing_left(self) -> None:
        with pytest.raises(ValueError, match="2 of 5 images .* were excluded: no genuine pair among 1 pairs"):
            small_set().without_images([1, 2])
        with pytest.raises(ValueError, match="5 of 5 images .* were excluded: there are no pairs"):
            small_set().without_images(range(5))

    def test_the_original_is_not_loaded(self) -> None:
        def refuse(index: int) -> Any:
            raise AssertionError(index)

        test_set = VerificationSet(LazyImages(5, refuse), PAIRS, GENUINE)
        assert len(test_set.without_images([4]).images) == 4

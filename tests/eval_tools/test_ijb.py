"""IJB-B/C: reading, templates beside a slow reference, and a small set of drawn faces from end to end."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval_tools.ijb import ARCFACE_TORCH, CRFIQA, IJBSet, TemplateOptions
from eval_tools.scores import UnresolvedFMRWarning
from eval_tools.test_sets.embeddings import IMAGES_PER_BLOCK, Flip
from tests.references import ijb as reference

Array = NDArray[Any]

ALL_OPTIONS = [
    TemplateOptions(*values) for values in itertools.product(get_args(Flip), (True, False), (True, False))
]


class Chunked:
    """Embeddings in parts of uneven sizes."""

    def __init__(self, embeddings: Array, ends: Sequence[int]) -> None:
        self.embeddings, self.ends = embeddings, ends

    def __len__(self) -> int:
        return len(self.embeddings)

    def chunks(self) -> Iterator[tuple[int, Array]]:
        for start, end in itertools.pairwise((0, *self.ends, len(self.embeddings))):
            yield start, self.embeddings[start:end]


def _made_set(
    seed: int = 0, num_templates: int = 6, media: int = 3, images: int = 4, num_pairs: int = 12
) -> tuple[IJBSet, list[int]]:
    """A set without pictures, its images in no order, and the template number of each image."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(1000, num_templates, replace=False)
    template, medium = [], []
    for t in range(num_templates):
        for _ in range(rng.integers(1, media + 1)):
            count = rng.integers(1, images + 1)
            template += [t] * count
            medium += [int(rng.integers(5))] * count  # media are shared by templates, and met again in one
    order = rng.permutation(len(template))
    template_ids, positions = np.unique(ids[np.array(template)[order]], return_inverse=True)
    every = np.array(list(itertools.combinations(range(num_templates), 2)))
    pairs = every[rng.permutation(len(every))[:num_pairs]]
    made = IJBSet(
        images=[np.zeros((2, 2, 3), np.uint8)] * len(order),
        names=[f"{i}.jpg" for i in range(len(order))],
        template=positions,
        media=np.array(medium)[order],
        detector_score=rng.uniform(0.1, 1.0, len(order)),
        template_ids=template_ids,
        template_pairs=pairs,
        is_genuine=np.arange(len(pairs)) % 3 == 0,
    )
    return made, template_ids[positions].tolist()


def _rows(ijb: IJBSet, embeddings: Array) -> list[reference.Row]:
    columns = (ijb.template, ijb.media, ijb.detector_score, embeddings)
    return [reference.Row(int(t), int(m), float(s), e.tolist()) for t, m, s, e in zip(*columns, strict=True)]


def reference_scores(ijb: IJBSet, embeddings: Array, options: TemplateOptions) -> list[float]:
    features = reference.template_features(_rows(ijb, embeddings), **dataclasses.asdict(options))
    return reference.scores(features, [(int(a), int(b)) for a, b in ijb.template_pairs])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
def test_scores_are_the_references(options: TemplateOptions, views: int, dtype: type) -> None:
    ijb, _ = _made_set(views)
    ijb = dataclasses.replace(ijb, options=options)
    embeddings = np.random.default_rng(1).normal(size=(len(ijb.names), views, 7)).astype(dtype)
    expected = reference_scores(ijb, embeddings, options)
    np.testing.assert_allclose(ijb.similarity(embeddings), expected, rtol=1e-10, atol=1e-12)
    for flip in get_args(Flip):
        expected = reference_scores(ijb, embeddings, dataclasses.replace(options, flip=flip))
        np.testing.assert_allclose(ijb.similarity(embeddings, flip), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("media", "images"), [(1, 1), (1, 9), (9, 1), (12, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_templates_of_every_shape(media: int, images: int, seed: int) -> None:
    ijb, _ = _made_set(seed, 8, media, images)
    embeddings = np.random.default_rng(seed).normal(size=(len(ijb.names), 2, 5))
    expected = reference_scores(ijb, embeddings, ARCFACE_TORCH)
    np.testing.assert_allclose(ijb.similarity(embeddings), expected, rtol=1e-10, atol=1e-12)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 30), max_size=6))
@settings(max_examples=60, deadline=None)
def test_chunks_of_any_size_give_the_same(seed: int, ends: list[int]) -> None:
    ijb, _ = _made_set(seed)
    embeddings = np.random.default_rng(seed).normal(size=(len(ijb.names), 2, 4)).astype(np.float32)
    ends = sorted(min(end, len(embeddings)) for end in ends)
    for options in (ARCFACE_TORCH, CRFIQA):
        judged = dataclasses.replace(ijb, options=options)
        whole = judged.similarity(embeddings)
        np.testing.assert_allclose(judged.similarity(Chunked(embeddings, ends)), whole, rtol=0, atol=1e-13)


def test_arrays_are_taken_in_chunks_too() -> None:
    count = 2 * IMAGES_PER_BLOCK + 3
    template = np.arange(count) % 3
    ijb = IJBSet(
        images=[np.zeros((1, 1, 3), np.uint8)] * count,
        names=[""] * count,
        template=template,
        media=np.arange(count),
        detector_score=np.ones(count),
        template_ids=np.arange(3),
        template_pairs=np.array([[0, 1], [1, 2]]),
        is_genuine=np.array([True, False]),
    )
    embeddings = np.random.default_rng(0).normal(1, 1, size=(count, 1, 3))
    sums = np.array([embeddings[template == t, 0].sum(axis=0) for t in range(3)])
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(ijb.similarity(embeddings), [sums[0] @ sums[1], sums[1] @ sums[2]], rtol=1e-12)


def test_memory_is_that_of_the_templates_not_of_the_embeddings() -> None:
    count, views, size = 40_000, 2, 64
    ijb = IJBSet(
        images=[np.zeros((1, 1, 3), np.uint8)] * count,
        names=[""] * count,
        template=np.arange(count) % 50,
        media=np.arange(count) % 700,
        detector_score=np.ones(count),
        template_ids=np.arange(50),
        template_pairs=np.array([[0, 1], [2, 3]]),
        is_genuine=np.array([True, False]),
    )

    class Generated(Chunked):
        def chunks(self) -> Iterator[tuple[int, Array]]:
            rng = np.random.default_rng(0)
            for start in range(0, count, 1000):
                yield start, rng.normal(size=(1000, views, size)).astype(np.float32)

    ijb.similarity(Generated(np.empty(count), []))  # fills the cached weights
    tracemalloc.start()
    ijb.similarity(Generated(np.empty(count), []))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < count * views * size * 4 / 4


def test_presets_are_the_two_protocols() -> None:
    ijb, _ = _made_set(3)
    embeddings = np.random.default_rng(3).normal(size=(len(ijb.names), 2, 6))
    unit = embeddings / np.linalg.norm(embeddings, axis=2, keepdims=True)
    equal = dataclasses.replace(ijb, options=CRFIQA, detector_score=np.ones(len(ijb.names)))
    np.testing.assert_allclose(
        dataclasses.replace(ijb, options=CRFIQA).similarity(embeddings),
        equal.similarity(unit.reshape(len(unit), 1, -1), flip="none"),
    )
    assert not np.allclose(
        ijb.similarity(embeddings), dataclasses.replace(ijb, options=CRFIQA).similarity(embeddings)
    )
    scaled = embeddings * np.arange(1, len(embeddings) + 1)[:, None, None]
    assert not np.allclose(ijb.similarity(scaled), ijb.similarity(embeddings))  # norms count
    by_direction = dataclasses.replace(ijb, options=TemplateOptions(keep_norm=False))
    np.testing.assert_allclose(by_direction.similarity(scaled), by_direction.similarity(embeddings))
    with pytest.raises(ValueError, match="unknown flip 'both'"):
        ijb.similarity(embeddings, flip="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["min", "max", "mean"])
@pytest.mark.parametrize("seed", range(3))
def test_pair_quality_is_the_references(how: Any, seed: int) -> None:
    ijb, _ = _made_set(seed)
    quality = np.random.default_rng(seed).normal(size=len(ijb.names)).round(1)  # with ties
    pairs = [(int(a), int(b)) for a, b in ijb.template_pairs]
    rows = _rows(ijb, np.zeros((len(quality), 1, 1)))
    expected = reference.pair_quality(rows, quality.tolist(), pairs, how)
    np.testing.assert_allclose(ijb.pair_quality(quality, how), expected, rtol=1e-12)


def test_bad_qualities_are_refused() -> None:
    ijb, _ = _made_set()
    with pytest.raises(ValueError, match="unknown template quality 'product'"):
        ijb.pair_quality(np.ones(len(ijb.names)), "product")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        ijb.pair_quality(np.ones(len(ijb.names) + 1))
    with pytest.raises(ValueError, match="NaN"):
        ijb.pair_quality(np.full(len(ijb.names), np.nan))


@pytest.mark.parametrize("decimals", [1, 8])
def test_operating_points_count_as_the_reference_does(decimals: int) -> None:
    rng = np.random.default_rng(0)
    ijb, _ = _made_set(0, 30, num_pairs=435)
    similarity = rng.normal(size=435).round(decimals)  # with and without ties
    fmrs = (0.01, 0.1, 0.5)
    points = ijb.operating_points(similarity, fmrs)
    for fmr, point in zip(fmrs, points, strict=True):
        assert point.tar == reference.tar(similarity.tolist(), ijb.is_genuine.tolist(), fmr)
        assert point.target_fmr == fmr
        assert point.fmr <= fmr
    with pytest.warns(UnresolvedFMRWarning):
        ijb.operating_points(similarity)


@pytest.mark.parametrize("seed", range(4))
def test_without_images_is_the_set_of_the_others(seed: int) -> None:
    ijb, numbers = _made_set(seed)
    rng = np.random.default_rng(seed)
    whole_template = np.flatnonzero(ijb.template == rng.integers(6))
    gone = rng.permutation(np.union1d(whole_template, rng.choice(len(numbers), 3, replace=False)))
    embeddings = rng.normal(size=(len(numbers), 2, 4))
    fewer = ijb.without_images(gone)
    kept = np.setdiff1d(np.arange(len(numbers)), gone)

    rows = [
        row._replace(template=number) for row, number in zip(_rows(ijb, embeddings), numbers, strict=True)
    ]
    features = reference.template_features([rows[i] for i in kept], "sum", True, True)
    pairs = [tuple(pair) for pair in ijb.template_ids[ijb.template_pairs].tolist()]
    usable = [k for k, (a, b) in enumerate(pairs) if a in features and b in features]
    assert [tuple(pair) for pair in fewer.template_ids[fewer.template_pairs].tolist()] == [
        pairs[k] for k in usable
    ]
    np.testing.assert_array_equal(fewer.is_genuine, ijb.is_genuine[usable])
    expected = reference.scores(features, [pairs[k] for k in usable])
    np.testing.assert_allclose(fewer.similarity(embeddings[kept]), expected, rtol=1e-10, atol=1e-12)
    assert fewer.names == [f"{i}.jpg" for i in kept]
    assert len(fewer.images) == len(kept)
    assert fewer.notes == (
        f"{len(gone)} of {len(numbers)} images left out, and with them {6 - len(features)} templates that "
        f"have no other image and {12 - len(usable)} of 12 template pairs.",
    )


def test_without_images_checks_what_it_is_given() -> None:
    ijb, _ = _made_set()
    assert ijb.without_images([]) is ijb
    with pytest.raises(ValueError, match="numbered 0"):
        ijb.without_images([len(ijb.names)])
    with pytest.raises(ValueError, match="no template pair is left"):
        ijb.without_images(np.arange(len(ijb.names) - 1))


def _spoilt(embeddings: Array, value: float) -> Array:
    spoilt = embeddings.copy()
    spoilt[4, 1] = value
    return spoilt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[0], r"\[N, V, D\]"),
        (lambda e: 3.0, r"\[N, V, D\]"),
        (lambda e: e[:, :, :0], r"\[\d+, 2, 0\]"),
        (lambda e: e[:-1], r"\[28, V, D\]"),
        (lambda e: e[:0], "got 0"),
        (lambda e: np.concatenate([e, e]), r"\[28, V, D\]"),
        (lambda e: Gap(e), "from image 4 on"),
        (lambda e: Ragged(e), "from image 3 on"),
        (lambda e: _spoilt(e, np.nan), r"4\.jpg .*not finite"),
        (lambda e: _spoilt(e, np.inf), r"4\.jpg .*not finite"),
        (lambda e: _spoilt(e, 0.0), r"4\.jpg .*zero"),
        (lambda e: e.astype(str), "numbers"),
    ],
)
def test_bad_embeddings_are_refused(change: Any, message: str) -> None:
    ijb, _ = _made_set()
    embeddings = np.random.default_rng(0).normal(size=(len(ijb.names), 2, 4))
    with pytest.raises(ValueError, match=message):
        ijb.similarity(change(embeddings), flip="concat")


@pytest.mark.parametrize("flip", get_args(Flip))
@pytest.mark.parametrize("keep_norm", [True, False])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_no_option_lets_an_infinite_embedding_pass(flip: Flip, keep_norm: bool, value: float) -> None:
    ijb, _ = _made_set()
    ijb = dataclasses.replace(ijb, options=TemplateOptions(flip, keep_norm=keep_norm))
    embeddings = np.random.default_rng(0).normal(size=(len(ijb.names), 2, 4))
    embeddings[[2, 5], 0, 1] = value
    with pytest.raises(ValueError, match=r"the embedding of image 2\.jpg is .*not finite \(2 in all\)"):
        ijb.similarity(embeddings)


class Gap(Chunked):
    def __init__(self, embeddings: Array) -> None:
        super().__init__(embeddings, [3])

    def chunks(self) -> Iterator[tuple[int, Array]]:
        for start, chunk in super().chunks():
            yield start + (start > 0), chunk


class Ragged(Chunked):
    def __init__(self, embeddings: Array) -> None:
        super().__init__(embeddings, [3])

    def chunks(self) -> Iterator[tuple[int, Array]]:
        for start, chunk in super().chunks():
            yield start, chunk[:, :, : 4 - (start > 0)]


def test_a_template_without_a_direction_is_named() -> None:
    ijb, _ = _made_set()
    embeddings = np.random.default_rng(0).normal(size=(len(ijb.names), 2, 4))
    embeddings[ijb.template == 2] = 0
    with pytest.raises(ValueError, match=f"first template {ijb.template_ids[2]}:"):
        ijb.similarity(embeddings)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("names", ["a"], "in templates"),
        ("template_ids", np.arange(9), "at least one image"),
        ("template_pairs", np.zeros((3, 2), int), r"must be \[12, 2\]"),
        ("template_pairs", np.full((12, 2), 6), "must index 6 templates"),
        ("template_pairs", np.full((12, 2), -1), "must index 6 templates"),
    ],
)
def test_parts_that_do_not_fit_are_refused(field: str, value: Any, message: str) -> None:
    ijb, _ = _made_set()
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ijb, **{field: value})

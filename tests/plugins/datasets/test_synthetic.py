"""SyntheticFaces: reproducible bytes, known quality, planted low-variance classes, learnable identities."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plugins.datasets  # noqa: F401  (registers the data sets)
from igfiqa_head.registry import DATASETS
from plugins.datasets import synthetic
from plugins.datasets.faces.canvas import Canvas, build_canvas
from plugins.datasets.faces.capture import KINDS, STRENGTHS, degrade_capture, strength
from plugins.datasets.faces.renderer import TEMPLATE, render_face
from plugins.datasets.faces.shot import draw_shot
from plugins.datasets.faces.traits import BEARD_STYLES, HAIR_STYLES, Traits, draw_traits, restyle
from plugins.datasets.synthetic import SyntheticFaces


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(12, 5, low_variance_share=0.25, seed=3)


@pytest.fixture(scope="module")
def rendered(faces: SyntheticFaces) -> np.ndarray:
    return faces.render()


@pytest.fixture(scope="module")
def clean_faces() -> list[np.ndarray]:
    return [_clean_face(identity, shot=0) for identity in range(16)]


@lru_cache(maxsize=8)
def _person(identity: int) -> tuple[Traits, Canvas]:
    rng = np.random.default_rng((77, identity))
    traits = draw_traits(rng)
    return traits, build_canvas(traits, rng)


def _clean_face(identity: int, shot: int) -> np.ndarray:
    return render_face(*_person(identity), draw_shot(np.random.default_rng((78, identity, shot))))


def test_is_registered() -> None:
    assert DATASETS.get("synthetic") is SyntheticFaces


def test_item_is_an_rgb_image_and_its_label(faces: SyntheticFaces) -> None:
    image, label = faces[13]
    assert image.shape == (112, 112, 3)
    assert image.dtype == np.uint8
    assert type(label) is int
    assert label == 2


def test_bytes_do_not_depend_on_order_threads_or_instance(rendered: np.ndarray) -> None:
    again = SyntheticFaces(12, 5, low_variance_share=0.25, seed=3)
    order = np.random.default_rng(0).permutation(len(again))
    np.testing.assert_array_equal(np.stack([again[i][0] for i in order]), rendered[order])
    np.testing.assert_array_equal(again.render(order, num_threads=5), rendered[order])


def test_bytes_do_not_depend_on_the_process(faces: SyntheticFaces, rendered: np.ndarray) -> None:
    indices = [59, 0, 31]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = pool.submit(faces.render, indices).result()
    np.testing.assert_array_equal(elsewhere, rendered[indices])


def test_works_in_forked_data_loader_workers(faces: SyntheticFaces, rendered: np.ndarray) -> None:
    data = pytest.importorskip("torch.utils.data")
    loader: Any = data.DataLoader(faces, batch_size=16, num_workers=2, multiprocessing_context="fork")
    images, labels = zip(*loader, strict=True)
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in images]), rendered)
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in labels]), faces.labels)


@pytest.mark.parametrize("change", [{"seed": 4}, {"split": "test"}])
def test_seed_and_split_give_other_people(
    change: dict[str, Any], faces: SyntheticFaces, rendered: np.ndarray
) -> None:
    other = SyntheticFaces(12, 5, **({"seed": 3, "low_variance_share": 0.25} | change))
    assert not (faces.severity == other.severity).any()
    assert not (rendered == other.render()).all(axis=(1, 2, 3)).any()
    skins = [
        {synthetic._person(s.seed, s.split, i, False)[0].skin.colour.tobytes() for i in range(12)}
        for s in (faces, other)
    ]
    assert len(skins[0]) == len(skins[1]) == 12
    assert not skins[0] & skins[1]


def test_preload_renders_once_and_hands_out_copies(
    rendered: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = SyntheticFaces(12, 5, low_variance_share=0.25, seed=3)
    assert faces.preload() is faces
    monkeypatch.setattr(SyntheticFaces, "_render_one", lambda *_: pytest.fail("rendered again"))
    faces.preload()
    faces[7][0][...] = 0
    np.testing.assert_array_equal(faces[7][0], rendered[7])
    np.testing.assert_array_equal(faces.render([-1, 7]), rendered[[-1, 7]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(faces)).render(), rendered)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.floats(0, 1),
    st.sampled_from(["train", "test"]),
    st.integers(0, 2**40),
)
def test_counts_and_statistics_for_any_arguments(
    identities: int, images: int, share: float, split: str, seed: int
) -> None:
    faces = SyntheticFaces(identities, images, split, share, seed)
    assert len(faces) == identities * images
    assert faces.num_classes == identities
    assert faces.labels.dtype == np.int64
    np.testing.assert_array_equal(faces.labels, np.arange(len(faces)) // images)
    planted = faces.low_variance_ids
    assert len(planted) == round(share * identities)
    np.testing.assert_array_equal(planted, np.unique(planted))
    assert np.isin(planted, faces.labels).all()
    assert faces.severity.dtype == np.float32
    assert faces.severity.shape == (len(faces),)
    assert faces.severity.min() >= 0
    assert faces.severity.max() <= 1


def test_severity_spreads_as_documented_and_needs_no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyntheticFaces, "_render_one", lambda *_: pytest.fail("rendered"))
    faces = SyntheticFaces(2000, 10, low_variance_share=0.3, seed=1)
    by_identity = faces.severity.reshape(2000, 10)
    low = np.isin(np.arange(2000), faces.low_variance_ids)
    assert (by_identity[low] == by_identity[low, :1]).all()
    assert by_identity[low].min() >= 0.3
    assert np.histogram(by_identity[low, 0], bins=5, range=(0.3, 1))[0].min() > 60
    diverse = by_identity[~low].ravel()
    counts = np.histogram(diverse, bins=20, range=(0, 1))[0] / diverse.size
    assert counts[0] == pytest.approx(1 / 3, abs=0.02)
    assert counts[1:] == pytest.approx(np.full(19, 2 / 57), abs=0.007)


@pytest.mark.parametrize("share", [0.0, 0.9, 1.0])
def test_the_share_of_clean_images_can_be_chosen(share: float) -> None:
    severity = SyntheticFaces(500, 20, low_variance_share=0, clean_share=share).severity
    assert (severity <= 0.05).mean() == pytest.approx(share, abs=0.02)
    assert severity.max() > (0.04 if share == 1 else 0.95)


def test_low_variance_ids_differ_between_seeds() -> None:
    chosen = {tuple(SyntheticFaces(50, 1, seed=seed).low_variance_ids) for seed in range(10)}
    assert len(chosen) == 10


def test_huge_sets_cost_nothing_until_used() -> None:
    start = time.perf_counter()
    assert len(SyntheticFaces(10_000_000, 50)) == 500_000_000
    assert time.perf_counter() - start < 0.1
    assert SyntheticFaces(200_000, 10)[1_999_999][1] == 199_999


def test_index_semantics(faces: SyntheticFaces, rendered: np.ndarray) -> None:
    np.testing.assert_array_equal(faces[-1][0], rendered[-1])
    np.testing.assert_array_equal(faces[np.int64(4)][0], rendered[4])
    for index in (60, -61):
        with pytest.raises(IndexError, match=f"{index} is out of range for 60 images"):
            faces[index]
        with pytest.raises(IndexError):
            faces.render([0, index])
    with pytest.raises(TypeError):
        faces[1.5]  # type: ignore[index]
    with pytest.raises(ValueError, match="must be greater than 0"):
        faces.render(num_threads=0)
    assert faces.render([]).shape == (0, 112, 112, 3)
    assert sum(1 for _ in faces) == 60  # iteration ends by IndexError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_identities": 0}, "num_identities must be an integer >= 1, got 0"),
        ({"num_identities": 2.0}, "num_identities must be an integer >= 1, got 2.0"),
        ({"images_per_identity": -1}, "images_per_identity must be an integer >= 1, got -1"),
        ({"images_per_identity": True}, "got True"),
        ({"split": "val"}, "split must be one of 'train', 'test', got 'val'"),
        ({"low_variance_share": 1.01}, r"low_variance_share must be a number in \[0, 1\], got 1.01"),
        ({"low_variance_share": float("nan")}, "got nan"),
        ({"low_variance_share": "0.2"}, "got '0.2'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": None}, "got None"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticFaces(**({"num_identities": 2, "images_per_identity": 2} | arguments))


def test_low_variance_identities_are_near_duplicates_of_any_quality() -> None:
    faces = SyntheticFaces(24, 6, low_variance_share=0.5, seed=8)
    images = faces.render().astype(float).reshape(24, 6, -1)
    spread = images.std(axis=1).mean(axis=1)
    low = np.isin(np.arange(24), faces.low_variance_ids)
    assert spread[low].mean() < 0.1 * spread[~low].mean()
    assert spread[low].max() < 0.6 * spread[~low].min(), "even where the one capture is full of noise"
    assert (images[:, :-1] != images[:, 1:]).any(axis=2).all(), "near-duplicates, not copies"
    assert np.ptp(faces.severity[::6][low]) > 0.3


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_damage_grows_with_severity(kind: str, clean_faces: list[np.ndarray]) -> None:
    assert (np.diff(STRENGTHS[kind]) > 0).all()
    assert strength(kind, 0.0) == 0.0
    likeness = [
        np.mean([_likeness(face, _damaged(face, kind, severity, i)) for i, face in enumerate(clean_faces)])
        for severity in np.linspace(0.0, 1.0, 6)
    ]
    assert likeness[0] > 0.97, "no strength, no damage"
    assert (np.diff(likeness) < 0).all()
    assert likeness[-1] < 0.5


def test_joint_damage_grows_with_severity_and_starts_at_none(clean_faces: list[np.ndarray]) -> None:
    likeness = []
    for severity in (0.0, 0.25, 0.5, 0.75, 1.0):
        damaged = [
            degrade_capture(face, severity, np.random.default_rng((i, k)))
            for i, face in enumerate(clean_faces)
            for k in range(6)
        ]
        likeness.append(np.mean([_likeness(clean_faces[i // 6], image) for i, image in enumerate(damaged)]))
    assert likeness[0] == pytest.approx(1.0)
    assert (np.diff(likeness) < -0.03).all()
    assert likeness[-1] < 0.2


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_damage_leaves_its_input_alone(kind: str, clean_faces: list[np.ndarray]) -> None:
    before = clean_faces[0].copy()
    damaged = _damaged(clean_faces[0], kind, 0.6, 0)
    assert damaged.shape == before.shape
    assert damaged.dtype == np.uint8
    np.testing.assert_array_equal(clean_faces[0], before)


def _damaged(face: np.ndarray, kind: str, severity: float, seed: int) -> np.ndarray:
    return KINDS[kind](face, strength(kind, severity), np.random.default_rng(seed))


def _likeness(clean: np.ndarray, damaged: np.ndarray) -> float:
    """Correlation of the vertical luminance edges: eyes, brows, nose and mouth, not the overall colour."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (clean, damaged)]
    edges = [cv2.Sobel(image, cv2.CV_32F, 0, 1)[20:108, 20:92] for image in grey]
    a, b = (edge.ravel() - edge.mean() for edge in edges)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6))


def test_faces_are_aligned_to_the_template() -> None:
    luminance = np.mean([_clean_face(i, 1).astype(float).mean(axis=2) for i in range(60)], axis=0)
    for x, y in TEMPLATE[:2]:
        column, row = round(x), round(y)
        window = luminance[row - 3 : row + 10, column - 5 : column + 6].mean(axis=1)
        assert np.argmin(window) <= 5, "the darkest row around the eye is the eye's"
    left, right = luminance[48:56, :56].mean(), luminance[48:56, 56:].mean()
    assert left == pytest.approx(right, abs=6.0), "poses and lights favour no side"


def test_every_style_can_be_drawn() -> None:
    seen: set[str] = set()
    for identity in range(150):
        traits = draw_traits(np.random.default_rng(identity))
        seen |= {traits.hair.style, traits.beard, "glasses" if traits.glasses else "no glasses"}
    assert seen == {*HAIR_STYLES, *BEARD_STYLES, "glasses", "no glasses"}


def test_restyling_changes_hair_or_glasses_and_nothing_of_the_face() -> None:
    changed = 0
    for identity in range(60):
        traits = draw_traits(np.random.default_rng(identity))
        other = restyle(traits, np.random.default_rng(identity))
        for part in ("outline", "skin", "eyes", "brows", "nose", "mouth"):
            assert getattr(other, part) is getattr(traits, part)
        assert other.beard in (traits.beard, "none")
        assert other.hair.colour is traits.hair.colour
        changed += other.hair is not traits.hair or (other.glasses is None) != (traits.glasses is None)
    assert changed > 45


def test_identities_are_separable() -> None:
    """Nearest class mean on 16 x 16 thumbnails of clean faces: far above chance, below trivial."""
    num_identities, shots = 40, 10
    images = np.stack([_clean_face(i, k) for i in range(num_identities) for k in range(shots)])
    small = np.stack([cv2.resize(x[8:108, 16:96], (16, 16), interpolation=cv2.INTER_AREA) for x in images])
    vectors = small.reshape(num_identities, shots, -1).astype(float)
    vectors -= vectors.mean(axis=2, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    means = vectors[:, : shots - 2].mean(axis=1)
    nearest = np.argmax(vectors[:, shots - 2 :] @ means.T, axis=2)
    accuracy = np.mean(nearest == np.arange(num_identities)[:, None])
    assert accuracy > 10 / num_identities

"""Which images a head on top of a recogniser learns from, and how they are degraded."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from igfiqa_head.degradations import Degradations
from igfiqa_head.sub_batches import degraded
from plugins.datasets.synthetic import SyntheticFaces
from trainer.loader import Loader
from trainer.one_thread import one_thread
from trainer.replicas import Replicas, choose_identities

FACES = SyntheticFaces(5, 8)
CHOSEN = np.array([1, 3, 4, 17, 30, 31, 39])


@pytest.fixture(scope="module", autouse=True)
def _rendered() -> None:
    FACES.preload()


def replicas(
    count: int = 2, seed: int = 0, chosen: NDArray[np.int64] = CHOSEN, **settings: float
) -> Replicas:
    return Replicas(FACES, chosen, Degradations(**settings), count, seed)  # type: ignore[arg-type]


class TestReplicas:
    def test_the_first_are_the_images_as_they_are(self) -> None:
        found = replicas(3)
        assert len(found) == 4 * len(CHOSEN)
        for place, index in enumerate(CHOSEN):
            np.testing.assert_array_equal(found[place], FACES[int(index)][0])

    def test_without_degraded_ones(self) -> None:
        assert len(replicas(0)) == len(CHOSEN)

    def test_damage_depends_on_seed_replica_and_position_alone(self) -> None:
        found, others = replicas(2, p=0.8), replicas(5, chosen=CHOSEN[::-1][:4], p=0.8)
        for replica in (1, 2):
            for place, index in enumerate(CHOSEN[::-1][:4]):
                here = replica * len(CHOSEN) + int(np.flatnonzero(index == CHOSEN)[0])
                np.testing.assert_array_equal(found[here], others[replica * 4 + place])

    @pytest.mark.parametrize("other", [replicas(1, seed=1, p=0.8), replicas(2, p=0.8)])
    def test_seeds_and_replicas_differ(self, other: Replicas) -> None:
        one, size = replicas(1, p=0.8), len(CHOSEN)
        same = [np.array_equal(one[size + i], other[len(other) - size + i]) for i in range(size)]
        assert not any(same)

    def test_what_no_degradation_hits_is_at_most_flipped(self) -> None:
        found, size = replicas(20, p=0.0), len(CHOSEN)
        flipped = []
        for position in range(size, len(found)):
            image, original = found[position], found[position % size]
            flipped.append(np.array_equal(image, original[:, ::-1]))
            assert flipped[-1] or np.array_equal(image, original)
        assert 0.35 < np.mean(flipped) < 0.65

    def test_an_epoch_of_training_shows_the_same(self) -> None:
        """Replica r is what the quality head sees of the images in epoch r of a training."""
        loader = Loader(FACES, 40, seed=7, num_workers=0, device=torch.device("cpu"))
        (batch,) = loader.batches(epoch=1)
        images = degraded(batch, Degradations(), 7).images
        found = replicas(1, seed=7, chosen=np.arange(40))
        for image, index in zip(images, batch.indices.tolist(), strict=True):
            pixels = ((image + 1) * 127.5).permute(1, 2, 0).numpy()
            np.testing.assert_allclose(found[40 + index], pixels, atol=0.51)

    def test_reading_leaves_torchs_threads_alone(self) -> None:
        numbers: list[int] = []

        def read() -> None:
            numbers.append(torch.get_num_threads())
            replicas(1)[len(CHOSEN)]
            numbers.append(torch.get_num_threads())

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        read()
        assert len(set(numbers)) == 1


@pytest.mark.skipif(torch.get_num_threads() == 1, reason="one thread is all there is")
def test_one_thread_limits_its_own_thread_alone() -> None:
    numbers: list[int] = []
    with one_thread():
        thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        numbers.append(torch.get_num_threads())
    assert numbers == [torch.get_num_threads(), 1]


class TestChoice:
    @given(
        counts=st.lists(st.integers(1, 9), min_size=1, max_size=40),
        held_out=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
        max_images=st.integers(2, 200),
        seed=st.integers(0, 3),
    )
    def test_whole_identities_within_the_bounds(
        self, counts: list[int], held_out: float, max_images: int, seed: int
    ) -> None:
        labels = np.repeat(3 * np.arange(len(counts)), counts)[::-1].copy()
        try:
            parts = choose_identities(labels, held_out=held_out, max_images=max_images, seed=seed)
        except ValueError:
            return
        people = [set(labels[part].tolist()) for part in parts]
        assert not people[0] & people[1]
        for part, identities, limit in zip(parts, people, (1, held_out), strict=True):
            assert len(part) <= round(limit * max_images)
            assert sorted(part) == np.flatnonzero(np.isin(labels, list(identities))).tolist()
        assert len(people[0]) >= 2
        assert np.bincount(labels[parts[0]]).max() >= 2
        assert len(people[1]) >= 2 if held_out else not people[1]

    def test_without_a_bound_everybody_is_there(self) -> None:
        labels = np.repeat(np.arange(20), 3)
        learned, held_out = choose_identities(labels, held_out=0.25, max_images=10_000, seed=0)
        assert (len(learned), len(held_out)) == (45, 15)
        assert sorted([*learned, *held_out]) == list(range(60))

    def test_a_small_set_holds_out_two(self) -> None:
        _, held_out = choose_identities(np.repeat(np.arange(6), 4), held_out=0.1, max_images=100, seed=0)
        assert len(held_out) == 8

    def test_the_seed_decides(self) -> None:
        def choose(seed: int) -> list[int]:
            parts = choose_identities(np.repeat(np.arange(30), 2), held_out=0.3, max_images=20, seed=seed)
            return [*parts[0].tolist(), -1, *parts[1].tolist()]

        assert choose(1) == choose(1)
        assert choose(1) != choose(2)

    @pytest.mark.parametrize(
        ("labels", "held_out", "max_images", "message"),
        [
            (np.zeros(9, int), 0.0, 100, "9 images of 1 identities.* leave 1 identities to learn from"),
            (np.repeat([0, 1, 2], 4), 0.5, 100, "leave 1 identities to learn from and 2 to judge by"),
            (np.repeat([0, 1, 2, 3], 50), 0.5, 100, "and 1 to judge by.*raise on_top.max_images"),
            (np.repeat([0, 1, 2, 3], 50), 0.0, 60, "leave 1 identities to learn from"),
            (np.arange(50), 0.1, 100, "each of the 45 identities to learn from has a single image"),
        ],
    )
    def test_too_little(
        self, labels: NDArray[np.int64], held_out: float, max_images: int, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            choose_identities(labels, held_out=held_out, max_images=max_images, seed=0)


def test_three_million_labels() -> None:
    labels = np.repeat(np.arange(100_000), 30)
    learned, held_out = choose_identities(labels, held_out=0.1, max_images=10_000, seed=0)
    assert (len(learned), len(held_out)) == (9990, 990)

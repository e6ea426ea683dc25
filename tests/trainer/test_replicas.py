"""Which images a head on top of a recogniser learns from, and how they are degraded."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from igfiqa_head.degradations import Degradations
from igfiqa_head.sub_batches import degraded
from plugins.datasets.synthetic import SyntheticFaces
from trainer.loader import Loader
from trainer.one_thread import one_thread
from trainer.replicas import Replicas

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

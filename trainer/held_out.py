"""Identities that a run does not learn from, so that it can be judged by them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval_tools.test_sets import VerificationSet, all_pairs
from eval_tools.test_sets.images import RGBImage

NAME = "held_out"  # of the test set
MAX_PEOPLE, MAX_IMAGES = 200, 2000
_MAX_PAIRS = 2_000_000


@dataclass(frozen=True, eq=False)
class Split:
    """The images of a data set to learn from, and those to judge by, of other identities.

    Attributes:
        dataset: ``dataset[i] -> (RGB uint8 [H, W, 3], label)``, with ``labels`` [N].
        learned: int64, positions of the images to learn from, ascending.
        held_out: int64, positions of those to judge by; there may be none.
    """

    dataset: Any
    learned: NDArray[np.int64]
    held_out: NDArray[np.int64]

    def counts(self) -> dict[str, int]:
        """The part ``data`` of metrics.json."""
        parts = {"learned": self.learned, "held_out": self.held_out}
        images = {f"{name}_images": len(part) for name, part in parts.items()}
        people = {f"{name}_identities": len(np.unique(self.dataset.labels[p])) for name, p in parts.items()}
        return images | people

    @cached_property
    def training_set(self) -> Any:
        """The images to learn from; the data set itself where nothing is held out."""
        return Subset(self.dataset, self.learned) if len(self.held_out) else self.dataset

    def test_set(self) -> VerificationSet:
        """All pairs of the images to judge by, of which there are some.

        They are read now and kept: one that is damaged should not be found after the training.

        Raises:
            ValueError: they make no genuine or no impostor pair, or one cannot be read.
        """
        chosen = self.held_out
        identities = np.asarray(self.dataset.labels[chosen], np.int64)
        try:
            pairs, is_genuine, notes = all_pairs(identities, _MAX_PAIRS)
        except ValueError as error:  # a run on top of a recogniser may hold out single images alone
            raise ValueError(
                f"the held-out identities cannot be judged by: {error}. Raise on_top.held_out, or set it to "
                "0 to judge by none"
            ) from error
        images = [np.ascontiguousarray(self.dataset[index][0]) for index in chosen.tolist()]
        return VerificationSet(
            images, pairs, is_genuine, identities, chosen.astype(str).tolist(), notes=notes
        )


class Subset:
    """Chosen images of a data set, whose classes are numbered anew from 0 in the order of their labels.

    A class that is left out so has no prototype, which would be a negative to all others.

    Args:
        whole: the data set.
        chosen: int64 [K], positions in it.

    Attributes:
        labels: int64 [K], new class label of every image.
        num_classes: number of classes with images.
    """

    def __init__(self, whole: Any, chosen: NDArray[np.int64]) -> None:
        self.whole, self.chosen = whole, chosen
        self._classes, labels = np.unique(whole.labels[chosen], return_inverse=True)
        self.labels: NDArray[np.int64] = labels.astype(np.int64)
        self.num_classes = len(self._classes)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[RGBImage, int]:
        return self.whole[self.chosen.item(index)][0], self.labels.item(index)

    @property
    def low_variance_ids(self) -> NDArray[np.int64]:
        """New labels of the low-variance identities of rendered faces; of others there are none."""
        return np.flatnonzero(np.isin(self._classes, getattr(self.whole, "low_variance_ids", ())))


def hold_out(labels: NDArray[np.int64], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of images to learn from and of those to judge by, of different identities, ascending.

    The labels alone decide, not a seed: a run that goes on, and one that starts from its weights, must not be
    judged by people that were learned from.

    Args:
        labels: [N] identity of each image.
        share: of the identities to judge by, but 200 at most. They have two images at least, for a genuine
            pair; of their images 2,000 at most are taken, about equally many of each.

    Returns:
        All positions and none, where fewer than two identities are left for either purpose.
    """
    everything = np.arange(len(labels)), np.empty(0, np.int64)
    if not share:
        return everything
    identities, counts = np.unique(labels, return_counts=True)
    number = min(round(share * len(identities)), MAX_PEOPLE)
    people = np.random.default_rng(0).permutation(identities[counts > 1])[:number]
    is_held_out = np.isin(labels, people)
    if len(people) < 2 or len(identities) - len(people) < 2:
        return everything
    held_out = np.flatnonzero(is_held_out)
    return np.flatnonzero(~is_held_out), _thinned(held_out, labels[held_out])


def _thinned(positions: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """About ``MAX_IMAGES`` of the positions at most, of each label spread evenly: video frames are alike."""
    if len(positions) <= MAX_IMAGES:
        return positions
    _, counts = np.unique(labels, return_counts=True)
    most = max(2, MAX_IMAGES // len(counts))
    by_label = np.split(positions[np.argsort(labels, kind="stable")], np.cumsum(counts)[:-1])
    spread = [part[np.linspace(0, len(part) - 1, min(most, len(part))).astype(np.int64)] for part in by_label]
    return np.sort(np.concatenate(spread))


def choose_identities(
    labels: NDArray[np.int64], *, held_out: float, max_images: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same for a head on top of a recogniser, which learns from a bounded number of images.

    Args:
        labels: [N] identity of each image.
        held_out: share of the identities to judge by; unless it is 0, there are two at least.
        max_images: bound on the images to learn from; identities are taken whole, at random, until it is
            reached. To judge by there are in proportion as many at most, thinned beyond 2,000.
        seed: of the choice.

    Raises:
        ValueError: fewer than two identities to learn from or to judge by, or only such to learn from as have
            a single image.
    """
    identities, counts = np.unique(labels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(identities))
    split = max(2, round(held_out * len(identities))) if held_out else 0
    to_judge_by = _within(counts, order[:split], round(held_out * max_images))
    to_learn_from = _within(counts, order[split:], max_images)
    if len(to_learn_from) < 2 or (held_out and len(to_judge_by) < 2):
        raise ValueError(
            f"{len(labels)} images of {len(identities)} identities, on_top.held_out={held_out} and "
            f"on_top.max_images={max_images} leave {len(to_learn_from)} identities to learn from and "
            f"{len(to_judge_by)} to judge by, each needs 2: take more identities, raise on_top.max_images, "
            "or set on_top.held_out=0 to judge by none"
        )
    if counts[to_learn_from].max() == 1:
        raise ValueError(
            f"each of the {len(to_learn_from)} identities to learn from has a single image: what is "
            "compared with the mean of its class must have other images in it"
        )
    learned, held_back = (
        np.flatnonzero(np.isin(labels, identities[part])) for part in (to_learn_from, to_judge_by)
    )
    return learned, _thinned(held_back, labels[held_back])


def _within(counts: NDArray[np.int64], identities: NDArray[np.int64], max_images: int) -> NDArray[np.int64]:
    """The first of the identities, as many as have ``max_images`` images together."""
    return identities[np.cumsum(counts[identities]) <= max_images]

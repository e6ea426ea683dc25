"""Face images, and the pairs of them that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_tools.erc import pair_quality
from eval_tools.scores import BoolArray, FloatArray, IntArray, check_genuine, check_scores
from eval_tools.test_sets.embeddings import ChunkedEmbeddings, Flip, pair_similarity, unit_embeddings
from eval_tools.test_sets.images import RGBImage, selected


@dataclass(frozen=True, eq=False)
class VerificationSet:
    """N face images and P pairs of them.

    Attributes:
        images: ``images[i]`` is RGB uint8 [H, W, 3], decoded when asked for; ``ValueError`` if it cannot be.
        pairs: int64 [P, 2], positions in ``images``; with folds, one fold after the other.
        is_genuine: bool [P], whether a pair shows one person; both kinds are there.
        identities: int64 [N], who is on each image; None if not known.
        names: [N], of the images: file relative to the set's folder, record key, or (by default) position.
        folds: equal shares of the pairs that k-fold accuracy is taken over; None for a set without folds.
        notes: what was excluded or is unusual, one sentence each.

    Raises:
        ValueError: parts that do not fit each other, or no genuine or no impostor pair.
    """

    images: Sequence[RGBImage]
    pairs: IntArray
    is_genuine: BoolArray
    identities: IntArray | None = None
    names: Sequence[str] = ()
    folds: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.images)
        _check_pairs(self.pairs, len(self.is_genuine), size)
        names = self.names if len(self.names) else [str(index) for index in range(size)]
        if len(names) != size:
            raise ValueError(f"names must be one for each of the {size} images, got {len(names)}")
        object.__setattr__(self, "names", names)
        if not len(self.pairs):
            raise ValueError("there are no pairs: error rates need genuine and impostor pairs")
        object.__setattr__(self, "is_genuine", check_genuine(self.is_genuine))
        if self.folds is not None and not 2 <= self.folds <= len(self.pairs):
            raise ValueError(f"folds must be from 2 to the {len(self.pairs)} pairs, got {self.folds}")
        if self.identities is not None:
            self._check_identities(self.identities)

    def _check_identities(self, identities: IntArray) -> None:
        if identities.shape != (len(self.images),):
            raise ValueError(
                f"identities must have shape ({len(self.images)},), one for each image, "
                f"got {identities.shape}"
            )
        wrong = np.flatnonzero(
            (identities[self.pairs[:, 0]] == identities[self.pairs[:, 1]]) != self.is_genuine
        )
        if wrong.size:
            first, second = self.pairs[wrong[0]]
            kind = "genuine" if self.is_genuine[wrong[0]] else "impostor"
            raise ValueError(
                f"the identities contradict {wrong.size} pairs; the first is pair {wrong[0]}, {kind}, of "
                f"{self.names[first]} ({identities[first]}) and {self.names[second]} ({identities[second]})"
            )

    @property
    def pair_identities(self) -> IntArray | None:
        """Identities [P, 2] of the two images of each pair, None if not known."""
        return None if self.identities is None else self.identities[self.pairs]

    def similarity(self, embeddings: ArrayLike | ChunkedEmbeddings, flip: Flip = "sum") -> FloatArray:
        """Cosine similarity [P] of the pairs, as float64.

        Args:
            embeddings: [N, V, D], V views of each image: the upright one, then its mirror image; or an object
                that gives them in chunks.
            flip: "sum" of the views (arcface_torch); "concat" of the views at unit length (CR-FIQA); "none"
                takes the upright view alone.

        Raises:
            ValueError: another shape or ``flip``, or an embedding is zero or not finite.
        """
        return pair_similarity(unit_embeddings(embeddings, flip, self.names), self.pairs)

    def pair_quality(
        self, quality: ArrayLike, how: Literal["min", "max", "mean", "product"] = "min"
    ) -> FloatArray:
        """Quality [P] of the pairs from those [N] of the images, see :func:`eval_tools.erc.pair_quality`.

        Raises:
            ValueError: not one quality for each image, one is not finite, or ``how`` is unknown.
        """
        values = check_scores("quality", quality, len(self.images))
        return pair_quality(values[self.pairs[:, 0]], values[self.pairs[:, 1]], how)

    def without_images(self, indices: Iterable[int]) -> VerificationSet:
        """This set without some images and the pairs that need them, which a note counts.

        The other images keep their order and are numbered anew.

        Raises:
            ValueError: there is no such image, or no genuine or no impostor pair is left.
        """
        dropped = np.unique(np.fromiter(indices, np.int64))
        if not dropped.size:
            return self
        if dropped[0] < 0 or dropped[-1] >= len(self.images):
            raise ValueError(f"images to leave out must be from 0 to {len(self.images) - 1}, got {dropped}")
        keep_images = np.ones(len(self.images), np.bool_)
        keep_images[dropped] = False
        keep_pairs = keep_images[self.pairs[:, 0]] & keep_images[self.pairs[:, 1]]
        first = self.names[int(dropped[0])]
        note = (
            f"{dropped.size} of {len(self.images)} images (the first: {first}) and the "
            f"{np.count_nonzero(~keep_pairs)} of {len(self.pairs)} pairs that need them were excluded."
        )
        return select(self, keep_images, keep_pairs, note)


def select(
    test_set: VerificationSet, keep_images: BoolArray, keep_pairs: BoolArray, note: str
) -> VerificationSet:
    """The images [N] and pairs [P] to keep of a set, the images numbered anew; ``note`` is added.

    Folds become equal shares of the pairs that are left.

    Raises:
        ValueError: no genuine or no impostor pair is left.
    """
    kept = np.flatnonzero(keep_images)
    renumbered = np.cumsum(keep_images) - 1
    pairs = renumbered[test_set.pairs[keep_pairs]]
    try:
        return replace(
            test_set,
            images=selected(test_set.images, kept),
            pairs=pairs,
            is_genuine=test_set.is_genuine[keep_pairs],
            identities=None if test_set.identities is None else test_set.identities[kept],
            names=[test_set.names[index] for index in kept.tolist()],
            folds=folds_of(len(pairs), test_set.folds),
            notes=(*test_set.notes, note),
        )
    except ValueError as error:
        raise ValueError(f"{note.removesuffix('.')}: {error}") from error


def folds_of(n_pairs: int, folds: int | None) -> int | None:
    """``folds``, or None where there are too few pairs for them."""
    return folds if folds is not None and n_pairs >= folds else None


def _check_pairs(pairs: NDArray[np.int64], n_pairs: int, n_images: int) -> None:
    if pairs.shape != (n_pairs, 2):
        raise ValueError(f"pairs must be [{n_pairs}, 2] to fit is_genuine, got {pairs.shape}")
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < n_images):
        raise ValueError(f"pairs must index {n_images} images, got {pairs.min()} .. {pairs.max()}")

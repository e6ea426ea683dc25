"""Test sets behind one interface: images, pairs of them, and which pairs are genuine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from igfiqa_head.io.verification_bin import VerificationBin, read_verification_bin


@dataclass(frozen=True)
class VerificationSet:
    """Face images and the pairs of them that are compared.

    Attributes:
        images: ``images[i]`` is RGB uint8 [H, W, 3]; decoded when asked for.
        pairs: int [P, 2], positions in ``images``; for 10-fold accuracy, in the order of the folds.
        is_genuine: bool [P].

    Raises:
        ValueError: pairs and labels that do not fit each other or the images.
    """

    images: Sequence[npt.NDArray[np.uint8]]
    pairs: npt.NDArray[np.int64]
    is_genuine: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.pairs.shape != (len(self.is_genuine), 2):
            raise ValueError(
                f"pairs must be [{len(self.is_genuine)}, 2] to fit is_genuine, got {self.pairs.shape}"
            )
        if self.pairs.size and not (self.pairs.min() >= 0 and self.pairs.max() < len(self.images)):
            raise ValueError(
                f"pairs must index {len(self.images)} images, got {self.pairs.min()} .. {self.pairs.max()}"
            )


@dataclass(frozen=True)
class _BinImages(Sequence):
    content: VerificationBin = field(repr=False)

    def __len__(self) -> int:
        return len(self.content.images)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.content.decode(index)


def read_bin_set(path: Path) -> VerificationSet:
    """A test set from insightface's ``.bin`` file.

    Raises:
        ValueError: not such a file.
    """
    content = read_verification_bin(path)
    pairs = np.arange(2 * len(content.is_genuine)).reshape(-1, 2)
    return VerificationSet(_BinImages(content), pairs, content.is_genuine)


def balanced_pairs(
    identities: npt.NDArray[np.int64], rng: np.random.Generator, folds: int = 10
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """All genuine pairs of a set, and as many random impostor pairs, in folds of equal shares like LFW's.

    Args:
        identities: [N] identity of each image.
        rng: chooses the impostor pairs and the folds.
        folds: the number of genuine pairs is cut to a multiple of it.

    Returns:
        (pairs [P, 2], is_genuine [P]).

    Raises:
        ValueError: fewer genuine or impostor pairs than folds.
    """
    first, second = np.triu_indices(len(identities), k=1)
    same = identities[first] == identities[second]
    count = min(same.sum(), (~same).sum()) // folds
    if count == 0:
        raise ValueError(
            f"{len(identities)} images give {same.sum()} genuine and {(~same).sum()} impostor pairs, "
            f"fewer than {folds} folds need"
        )
    chosen = [rng.choice(np.flatnonzero(kind), (folds, count), replace=False) for kind in (same, ~same)]
    order = np.concatenate(chosen, axis=1).ravel()
    return np.stack([first[order], second[order]], axis=1), same[order]

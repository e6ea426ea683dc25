"""Error-versus-reject curves over images: SER-FIQ's protocol (arXiv 2003.09373)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_tools.curve import ErrorRejectionCurve, lowest_errors, with_warnings
from eval_tools.scores import (
    BoolArray,
    HighestScores,
    IntArray,
    allowed_false_matches,
    check_identities,
    check_scores,
    normalised,
    pair_blocks,
    threshold_at_fmr,
)


def image_rejection_curve(
    embeddings: ArrayLike, identities: ArrayLike, quality: ArrayLike, *, fmr: float = 1e-3, block: int = 512
) -> ErrorRejectionCurve:
    """Error-versus-reject curve over images: discard images, compare all pairs of the rest (``image``).

    The threshold is the lowest whose FMR on the surviving pairs does not exceed the target. The last point is
    the last quality that leaves genuine and impostor pairs. Memory is O(block N + fmr N^2).

    Args:
        embeddings: [N, D]; normalised here.
        identities: [N], any labels; equal labels make a genuine pair.
        quality: [N], of each image; higher is better.
        fmr: target false match rate, in (0, 1).
        block: images compared with all better ones at a time.

    Raises:
        ValueError: lengths differ, a value is NaN or infinite, an embedding is zero, or genuine or impostor
            pairs are missing.

    Warns:
        UnresolvedFMRWarning: the impostor pairs cannot resolve the target FMR.
    """
    unit = normalised(embeddings)
    labels, n_genuine, n_impostor = check_identities(identities, len(unit))
    scores = check_scores("quality", quality, len(unit))
    images = _GrowingSet(fmr, n_genuine, n_impostor)
    best_first = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[best_first]) != 0, True)
    points = []
    for start, similarity, same in pair_blocks(unit[best_first], labels[best_first], block):
        for image, (scores_row, same_row) in enumerate(zip(similarity, same, strict=True), start):
            images.add(scores_row[:image], same_row[:image])
            if last_of_tie[image] and images.n_genuine and images.n_impostor:
                points.append(images.measure())
    n_images, n_errors, genuine, impostor, threshold, n_false_match = map(
        np.array, zip(*reversed(points), strict=True)
    )
    return with_warnings(
        ErrorRejectionCurve(
            protocol="image",
            error_type="fnmr",
            target_fmr=fmr,
            discard=1.0 - n_images / len(unit),
            n_discarded=len(unit) - n_images,
            n_discardable=len(unit),
            n_errors=n_errors,
            n_genuine=genuine,
            n_impostor=impostor,
            threshold=threshold,
            effective_fmr=n_false_match / impostor,
            best_errors=lowest_errors(n_errors[0], n_genuine, images.errors_by_image(threshold[0])),
        )
    )


class _GrowingSet:
    """All pairs of a set of images that grows from the highest quality down.

    Growing needs the highest impostor scores only, since the allowed false matches never become fewer.
    """

    def __init__(self, fmr: float, n_genuine: int, n_impostor: int) -> None:
        self._fmr = fmr
        self._highest = HighestScores(allowed_false_matches(fmr, n_impostor) + 1)
        self._genuine = np.empty(n_genuine)
        self._images = np.empty((2, n_genuine), dtype=np.int64)
        self.size = self.n_genuine = self.n_impostor = 0

    def add(self, similarity: NDArray[np.floating], is_genuine: BoolArray) -> None:
        """Add one image, given its comparisons [size] with the images so far."""
        partners = np.flatnonzero(is_genuine)
        stop = self.n_genuine + partners.size
        self._genuine[self.n_genuine : stop] = similarity[partners]
        self._images[0, self.n_genuine : stop] = self.size
        self._images[1, self.n_genuine : stop] = partners
        self._highest.add(similarity[~is_genuine])
        self.n_genuine = stop
        self.size += 1
        self.n_impostor += similarity.size - partners.size

    def measure(self) -> tuple[int, int, int, int, float, int]:
        """Images, false non-matches, genuine pairs, impostor pairs, threshold and false matches."""
        threshold, n_false_match = threshold_at_fmr(
            self._highest.values, self._fmr, n_impostor=self.n_impostor
        )
        n_errors = int(np.count_nonzero(self._genuine[: self.n_genuine] < threshold))
        return self.size, n_errors, self.n_genuine, self.n_impostor, threshold, n_false_match

    def errors_by_image(self, threshold: float) -> IntArray:
        """False non-matches that each image takes part in, in descending order."""
        wrong = self._images[:, self._genuine < threshold]
        return np.sort(np.bincount(wrong.ravel(), minlength=self.size))[::-1]

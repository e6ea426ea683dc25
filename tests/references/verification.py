"""Face verification by counting, in float64: ten folds, operating points and ROC, one Python loop each."""

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[Any]

THRESHOLDS = tuple(k * 0.01 for k in range(400))


def unit_row(row: Numbers) -> list[float]:
    norm = math.sqrt(sum(float(x) ** 2 for x in row))
    return [float(x) / norm for x in row]


def squared_distances(embeddings: Sequence[Numbers]) -> list[float]:
    """Pair i is rows 2i and 2i + 1."""
    rows = [unit_row(row) for row in embeddings]
    return [
        sum((x - y) ** 2 for x, y in zip(rows[k], rows[k + 1], strict=True)) for k in range(0, len(rows), 2)
    ]


def fold_slices(count: int, folds: int) -> list[range]:
    """Consecutive folds; the first `count % folds` of them hold one pair more."""
    slices, start = [], 0
    for fold in range(folds):
        stop = start + count // folds + (1 if fold < count % folds else 0)
        slices.append(range(start, stop))
        start = stop
    return slices


def accuracy(
    distances: Sequence[float], is_genuine: Sequence[bool], threshold: float, indices: Sequence[int]
) -> float:
    right = sum(1 for i in indices if (distances[i] < threshold) == bool(is_genuine[i]))
    return right / len(indices)


def fold_accuracies(
    distances: Sequence[float], is_genuine: Sequence[bool], folds: int = 10
) -> tuple[list[float], list[float]]:
    """Accuracy of each fold at the first best threshold of the other folds, and these thresholds."""
    accuracies, chosen = [], []
    for test in fold_slices(len(distances), folds):
        train = [i for i in range(len(distances)) if i not in test]
        best, best_accuracy = math.nan, -1.0
        for threshold in THRESHOLDS:
            value = accuracy(distances, is_genuine, threshold, train)
            if value > best_accuracy:
                best, best_accuracy = threshold, value
        accuracies.append(accuracy(distances, is_genuine, best, test))
        chosen.append(best)
    return accuracies, chosen


def eer(fmr: Sequence[float], tar: Sequence[float]) -> float:
    """Where the straight lines through ascending ROC points meet FMR = 1 - TAR, by bisection."""
    low, high = 0.0, 1.0  # share of the way along the lines, whose gap FMR - FNMR never falls
    for _ in range(60):
        middle = (low + high) / 2
        at, part = divmod(middle * (len(fmr) - 1), 1)
        i, j = int(at), min(int(at) + 1, len(fmr) - 1)
        x = fmr[i] + part * (fmr[j] - fmr[i])
        y = tar[i] + part * (tar[j] - tar[i])
        low, high = (middle, high) if x < 1 - y else (low, middle)
    return x


def tar_at_fmr(similarity: Sequence[float], is_genuine: Sequence[bool], fmr: float) -> float:
    """Largest share of genuine pairs accepted by any threshold whose FMR is not above the target."""
    genuine = [float(s) for s, same in zip(similarity, is_genuine, strict=True) if same]
    impostor = [float(s) for s, same in zip(similarity, is_genuine, strict=True) if not same]
    best = 0.0
    for s in (*genuine, *impostor):
        for t in (s, math.nextafter(s, math.inf)):
            if sum(1 for value in impostor if value >= t) / len(impostor) <= fmr:
                best = max(best, sum(1 for value in genuine if value >= t) / len(genuine))
    return best


def all_pairs(embeddings: Sequence[Numbers], identities: Sequence[int]) -> tuple[list[float], list[bool]]:
    """Cosine of every unordered pair of different rows, and whether the two share an identity."""
    rows = [unit_row(row) for row in embeddings]
    similarity, same = [], []
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            similarity.append(sum(x * y for x, y in zip(rows[i], rows[j], strict=True)))
            same.append(identities[i] == identities[j])
    return similarity, same

"""IJB templates by dictionaries and loops, in float64: one image, one medium, one template at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One image of a template: its two views, and what the metadata say of it."""

    template: int
    medium: int
    detector_score: float
    views: Sequence[Sequence[float]]


def scaled(vector: Sequence[float], factor: float) -> list[float]:
    return [factor * float(x) for x in vector]


def unit(vector: Sequence[float]) -> list[float]:
    return scaled(vector, 1 / math.sqrt(sum(float(x) * float(x) for x in vector)))


def mean(vectors: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def image_feature(row: Row, flip: str, use_detector_score: bool, keep_norm: bool) -> list[float]:
    if flip == "concat":
        feature = [x for view in row.views for x in unit(view)]
    elif flip == "sum":
        feature = [sum(column) for column in zip(*row.views, strict=True)]
    else:
        feature = list(row.views[0])
    if not keep_norm:
        feature = unit(feature)
    return scaled(feature, row.detector_score) if use_detector_score else feature


def template_features(
    rows: Sequence[Row], flip: str, use_detector_score: bool, keep_norm: bool
) -> dict[int, list[float]]:
    """Template -> the unit vector along the sum over its media of the mean image feature of each."""
    media: dict[int, dict[int, list[list[float]]]] = {}
    for row in rows:
        feature = image_feature(row, flip, use_detector_score, keep_norm)
        media.setdefault(row.template, {}).setdefault(row.medium, []).append(feature)
    features = {}
    for template, by_medium in media.items():
        means = [mean(images) for images in by_medium.values()]
        features[template] = unit([sum(column) for column in zip(*means, strict=True)])
    return features


def scores(features: dict[int, list[float]], pairs: Sequence[tuple[int, int]]) -> list[float]:
    return [sum(x * y for x, y in zip(features[a], features[b], strict=True)) for a, b in pairs]


def pair_quality(
    rows: Sequence[Row], quality: Sequence[float], pairs: Sequence[tuple[int, int]], how: str
) -> list[float]:
    """The lower one of the two templates' qualities."""
    images: dict[int, list[float]] = {}
    for row, value in zip(rows, quality, strict=True):
        images.setdefault(row.template, []).append(float(value))
    summary = {"min": min, "max": max, "mean": lambda values: sum(values) / len(values)}[how]
    return [min(summary(images[a]), summary(images[b])) for a, b in pairs]


def tar(similarity: Sequence[float], is_genuine: Sequence[bool], fmr: float) -> float:
    """Share of genuine pairs above all impostors but the highest few that the FMR allows."""
    impostor = sorted((s for s, same in zip(similarity, is_genuine, strict=True) if not same), reverse=True)
    genuine = [s for s, same in zip(similarity, is_genuine, strict=True) if same]
    allowed = max(k for k in range(len(impostor)) if k / len(impostor) <= fmr)
    return sum(1 for s in genuine if s > impostor[allowed]) / len(genuine)

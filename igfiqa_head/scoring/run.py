"""Scoring the faces of sources in batches, while the next ones are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from igfiqa_head.ahead import ahead
from igfiqa_head.runtime import QualityModel
from igfiqa_head.scoring.crops import CropFile
from igfiqa_head.scoring.finding import Crop, FaceFinder
from igfiqa_head.scoring.sources import Source, Unread
from igfiqa_head.scoring.table import ScoredFace, scored

BATCH = 64
AHEAD = 64
"""Pictures that are read before they are needed; only their crops are kept."""


def score_sources(
    sources: Sequence[Source | Unread],
    model: QualityModel,
    finder: FaceFinder,
    *,
    crops: CropFile | None = None,
    progress: Callable[[int], object] = lambda pictures: None,
) -> list[ScoredFace]:
    """Every face of the sources with its quality, and everything that has none, in the order of reading.

    Args:
        sources: see :func:`igfiqa_head.scoring.sources.open_sources`.
        model: gives the qualities, and the percentages if it is calibrated.
        finder: finds the faces.
        crops: keeps the faces for a sheet.
        progress: is called with the number of pictures that were done since the last call.

    Raises:
        ValueError: as :meth:`FaceFinder.find`, or the model does not run.
    """
    rows: list[ScoredFace] = []
    waiting: list[tuple[ScoredFace, Crop]] = []
    for found in ahead(finder.find(sources), AHEAD):
        for row, crop in found:
            rows.append(row)
            if crop is None:
                continue
            waiting.append((row, crop))
            if crops is not None:
                row.crop = crops.add(crop)
            if len(waiting) == BATCH:
                _score(waiting, model)
                waiting.clear()
        progress(1)
    _score(waiting, model)
    return rows


def _score(waiting: Sequence[tuple[ScoredFace, Crop]], model: QualityModel) -> None:
    if not waiting:
        return
    qualities = model.score(np.stack([crop for _, crop in waiting])).tolist()
    for (row, _), quality in zip(waiting, qualities, strict=True):
        if not math.isfinite(quality):
            row.problem = f"the model gives it the quality {quality}"
            continue
        row.quality = quality
        if model.calibration is not None:
            row.percent = float(model.percent(quality))


def mark_accepted(rows: Iterable[ScoredFace], least: float, is_percent: bool = False) -> None:
    """Set ``accepted`` of every scored face: whether its quality, or percentage, is at least ``least``."""
    for row in scored(rows):
        value = row.percent if is_percent else row.quality
        row.accepted = value is not None and value >= least


def best_of_tracks(rows: Iterable[ScoredFace], top: int) -> list[ScoredFace]:
    """All rows, but of each track of a video only the ``top`` frames of the highest quality.

    Raises:
        ValueError: ``top`` is below 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    rows = list(rows)
    tracks: dict[tuple[str, int | None], list[ScoredFace]] = {}
    for row in scored(rows):
        if row.is_in_video:
            tracks.setdefault((row.source, row.face), []).append(row)
    left_out = {id(row) for track in tracks.values() for row in sorted(track, key=_worst_last)[top:]}
    return [row for row in rows if id(row) not in left_out]


def best_per_folder(rows: Iterable[ScoredFace]) -> list[ScoredFace]:
    """The face of the highest quality of each folder, of equal ones the first; folders as they come."""
    best: dict[str, ScoredFace] = {}
    for row in scored(rows):
        if _worst_last(row) < _worst_last(best.setdefault(row.folder, row)):
            best[row.folder] = row
    return list(best.values())


def _worst_last(row: ScoredFace) -> float:
    return math.inf if row.quality is None else -row.quality

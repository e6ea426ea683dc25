"""What ``igfiqa score`` says at its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from igfiqa_head.scoring.table import ScoredFace, scored
from igfiqa_head.text import printable

SHOWN = 5
"""Faces at either end, if there are more than twice as many."""

SHOWN_PROBLEMS = 20

_SEVERAL, _MANY, _ROUNDING = 8, 20, 1e-5
_PERCENT = "% of the reference below"


def summary(rows: Sequence[ScoredFace]) -> str:
    """The distribution of the qualities, and the faces at its ends."""
    faces = sorted(scored(rows), key=lambda row: row.quality or 0.0, reverse=True)
    lines = [_totals(faces)]
    if len(faces) > 1:
        lines.append(_distribution([face.quality or 0.0 for face in faces]))
    if len(faces) >= _SEVERAL and _is_constant(faces[-1].quality or 0.0, faces[0].quality or 0.0):
        lines.append("all faces have the same quality: unless they are one picture, the model ranks nothing")
    if any(face.accepted is not None for face in faces):
        n_below = sum(not face.accepted for face in faces)
        lines.append(f"below --min-quality: {n_below:,} ({100 * n_below / len(faces):.1f} %)")
    if faces:
        lines.append(_heading(faces[0].percent is not None))
    if len(faces) <= 2 * SHOWN:
        lines += map(_face_line, faces)
    else:
        lines += [*map(_face_line, faces[:SHOWN]), "  ...", *map(_face_line, faces[-SHOWN:])]
    return "\n".join(lines)


def _totals(faces: Sequence[ScoredFace]) -> str:
    """How many faces there are, a track of a video being one, and in how many images and frames."""
    images = {face.source for face in faces if not face.is_in_video}
    frames = {(face.source, face.frame) for face in faces if face.is_in_video}
    videos = {source for source, _ in frames}
    people = {(face.source, face.face) for face in faces}
    places = [count_of(len(images), "image")] if images or not frames else []
    if frames:
        places.append(f"{count_of(len(frames), 'frame')} of {count_of(len(videos), 'video')}")
    return f"{count_of(len(people), 'face')} in {' and '.join(places)}"


def _is_constant(low: float, high: float) -> bool:
    """Whether the two differ by the rounding of a network only."""
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def problems(rows: Sequence[ScoredFace], *, are_in_file: bool) -> str:
    """What was not scored and why, the first few of many; empty if there is nothing."""
    found = [row for row in rows if row.problem is not None]
    if not found:
        return ""
    lines = [f"not scored: {len(found):,}"]
    lines += [f"  {printable(row.name)}: {printable(row.problem or '')}" for row in found[:SHOWN_PROBLEMS]]
    if len(found) > SHOWN_PROBLEMS:
        where = "the table lists them" if are_in_file else "--output FILE lists them"
        lines.append(f"  and {len(found) - SHOWN_PROBLEMS:,} more; {where}")
    return "\n".join(lines)


def count_of(number: int, thing: str) -> str:
    """``1 face``, ``2 faces``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _distribution(qualities: Sequence[float]) -> str:
    low, median, high = np.percentile(qualities, (5, 50, 95))
    ends = f"lowest {min(qualities):.4g}, highest {max(qualities):.4g}"
    middle = f", 90 % of the faces between {low:.4g} and {high:.4g}" if len(qualities) >= _MANY else ""
    return f"quality: {ends}, median {median:.4g}{middle}"


def _heading(has_percents: bool) -> str:
    return f"  {'quality':>10}{f'  {_PERCENT}' if has_percents else ''}  file"


def _face_line(face: ScoredFace) -> str:
    percent = "" if face.percent is None else f"  {face.percent:{len(_PERCENT)}.1f}"
    mark = "  below" if face.accepted is False else ""
    return f"  {face.quality:>10.4g}{percent}  {printable(face.name)}{mark}"

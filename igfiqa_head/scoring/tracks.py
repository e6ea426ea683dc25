"""Which faces of successive video frames are the same person's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def overlaps(boxes: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union [N, M] of boxes [N, 4] and [M, 4], each left, top, right, bottom.

    A box without an area overlaps nothing.
    """
    first = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    second = np.asarray(others, np.float64).reshape(1, -1, 4)
    corner = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = corner.clip(0).prod(axis=-1)
    areas = [(part[..., 2:] - part[..., :2]).clip(0).prod(axis=-1) for part in (first, second)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@dataclass
class _Track:
    number: int
    box: NDArray[np.float64]
    last_seen: int


class FaceTracker:
    """Follows faces by the overlap of their boxes, the largest overlap first.

    Enough for one shot of a camera; a cut or a quick movement begins a new track.

    Args:
        least_overlap: intersection over union from which on two boxes can be one face.
        patience: frames without the face after which its track ends.
    """

    def __init__(self, *, least_overlap: float = 0.3, patience: int = 5) -> None:
        self._least_overlap = least_overlap
        self._patience = patience
        self._tracks: list[_Track] = []
        self._n_tracks = 0
        self._n_frames = 0

    def follow(self, boxes: ArrayLike) -> list[int]:
        """Track numbers [N], from 0, of the faces [N, 4] of the next frame."""
        faces = np.asarray(boxes, np.float64).reshape(-1, 4)
        self._tracks = [track for track in self._tracks if self._n_frames - track.last_seen <= self._patience]
        matched = self._matches(faces)
        for index, box in enumerate(faces):
            if index not in matched:
                matched[index] = _Track(self._n_tracks, box, self._n_frames)
                self._tracks.append(matched[index])
                self._n_tracks += 1
            matched[index].box, matched[index].last_seen = box, self._n_frames
        self._n_frames += 1
        return [matched[index].number for index in range(len(faces))]

    def _matches(self, faces: NDArray[np.float64]) -> dict[int, _Track]:
        """Position of a face -> its track."""
        overlap = overlaps([track.box for track in self._tracks], faces)
        matched: dict[int, _Track] = {}
        taken: set[int] = set()
        for place in np.argsort(-overlap, axis=None, kind="stable"):
            track, face = divmod(int(place), len(faces))
            if overlap[track, face] < self._least_overlap:
                break
            if track not in taken and face not in matched:
                matched[face] = self._tracks[track]
                taken.add(track)
        return matched

"""From pictures to faces as the model takes them: found and aligned, or aligned already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.faces import FaceDetector
from igfiqa_head.scoring.sources import Picture, Source, Unread, one_line
from igfiqa_head.scoring.table import ScoredFace
from igfiqa_head.scoring.tracks import FaceTracker

Crop: TypeAlias = NDArray[np.uint8]
Found: TypeAlias = list[tuple[ScoredFace, Crop | None]]
"""Faces that have no quality yet, and their aligned BGR crops; or a problem without a crop."""


class FaceFinder:
    """Takes images of the model's size for aligned faces, and looks for faces in all others.

    Args:
        size: (height, width) of the model's input.
        detector: finds the faces of photographs; its ``face_size`` must be the model's. None if all images
            are aligned.
        tolerant: without a detector, list images of another size as problems. Otherwise the first image of
            all ends the search if it has another size: most probably all are photographs.
    """

    def __init__(
        self, size: tuple[int, int], detector: FaceDetector | None = None, *, tolerant: bool = False
    ) -> None:
        self.size = size
        self.detector = detector
        self._is_tolerant = tolerant
        self._checks_next = detector is None and not tolerant

    def find(self, sources: Sequence[Source | Unread]) -> Iterator[Found]:
        """What each picture of the sources gives, one after the other; a frame without faces gives nothing.

        Raises:
            ValueError: the first image is not aligned, and there is neither a detector nor tolerance.
        """
        for source in sources:
            if isinstance(source, Unread):
                yield _problem(source)
            elif source.is_video:
                yield from self._find_in_video(source)
            else:
                yield from map(self._find_in_image, self._pictures(source))

    def _pictures(self, source: Source) -> Iterator[Picture | Unread]:
        for picture in source.pictures():
            if self._checks_next and isinstance(picture, Picture):
                self._check_first(picture)
                self._checks_next = False
            yield picture

    def _check_first(self, picture: Picture) -> None:
        if picture.bgr.shape[:2] != self.size:
            raise ValueError(
                f"{picture.source}: {self._misfit(picture)}. To find the faces of photographs, give an "
                "insightface pack (--pack); if the images are aligned, say so (--aligned)"
            )

    def _misfit(self, picture: Picture) -> str:
        height, width = picture.bgr.shape[:2]
        return f"{width} x {height} pixels are no aligned face of {self.size[1]} x {self.size[0]}"

    def _find_in_image(self, picture: Picture | Unread) -> Found:
        if isinstance(picture, Unread):
            return _problem(picture)
        try:
            found = self._faces(picture)
        except ValueError as error:
            return _problem(Unread(picture.source, one_line(error)))
        return [*found] or _problem(Unread(picture.source, "no face was found"))

    def _find_in_video(self, source: Source) -> Iterator[Found]:
        tracker = FaceTracker()
        is_empty = True
        for picture in self._pictures(source):
            found = self._find_in_frame(picture, tracker)
            is_empty = is_empty and not found
            yield found
            if self.detector is None and isinstance(picture, Picture) and found[0][0].problem:
                return  # all frames are of this size
        if is_empty:
            yield _problem(Unread(source.name, "no face was found in any of its frames"))

    def _find_in_frame(self, picture: Picture | Unread, tracker: FaceTracker) -> Found:
        """The faces of a frame, numbered by their tracks."""
        if isinstance(picture, Unread):
            return _problem(picture)
        try:
            found = self._faces(picture)
        except ValueError as error:
            return _problem(Unread(picture.source, one_line(error), picture.frame))
        whole = np.array([0, 0, *self.size[::-1]], np.float32)
        boxes = [whole if face.box is None else face.box for face, _ in found]
        for (face, _), track in zip(found, tracker.follow(boxes), strict=True):
            face.face, face.is_in_video = track, True
        return [*found]

    def _faces(self, picture: Picture) -> list[tuple[ScoredFace, Crop]]:
        """The faces of a picture; ``ValueError`` if it cannot be searched."""
        source, folder, frame = picture.source, picture.folder, picture.frame
        if picture.bgr.shape[:2] == self.size:
            return [(ScoredFace(source, folder, frame, face=0), picture.bgr)]
        if self.detector is None:
            hint = "" if self._is_tolerant else "; --pack finds the faces of photographs"
            raise ValueError(self._misfit(picture) + hint)
        return [
            (ScoredFace(source, folder, frame, number, face.box, face.detection_score), face.aligned)
            for number, face in enumerate(self.detector.find(picture.bgr))
        ]


def _problem(unread: Unread) -> Found:
    return [(ScoredFace(unread.source, frame=unread.frame, problem=unread.reason), None)]

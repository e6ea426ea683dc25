"""From uploaded files to scored faces."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.images import MAX_PHOTO_PIXELS, decode_image, encode_image
from igfiqa_head.io.regular_files import read_regular
from igfiqa_head.runtime import QualityModel

if TYPE_CHECKING:
    from igfiqa_head.faces import Face

MAX_FACES = 500
"""From so many faces on, the page takes no further file."""


class Detector(Protocol):
    """What finds faces, such as :class:`igfiqa_head.faces.FaceDetector`."""

    def find(self, image: NDArray[np.uint8]) -> list[Face]:
        """Faces of a BGR uint8 image [H, W, 3], aligned to the size that the quality model takes."""


@dataclass(frozen=True)
class ScoredFace:
    """One face on the page.

    Attributes:
        name: the file it came from, with a number if the file has several.
        picture: the aligned crop as a ``data:`` URL.
        score: quality, higher is better.
        percent: the same from 0 to 100, or None where the model has no calibration.
    """

    name: str
    picture: str = field(repr=False)
    score: float
    percent: float | None


@dataclass(frozen=True)
class Results:
    """What is on the page: the faces, best first, and (file name, reason) of what has no score."""

    faces: tuple[ScoredFace, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()

    def kept(self, threshold: float) -> int:
        """How many faces have at least this score; they are the first so many."""
        return sum(face.score >= threshold for face in self.faces)


def add_photographs(
    results: Results, paths: Iterable[str | Path], model: QualityModel, detector: Detector | None = None
) -> Results:
    """Score the faces of more files; what cannot be scored joins the problems.

    An image of the very size that the model takes is an aligned crop, any other one a photograph.
    """
    crops: list[tuple[str, NDArray[np.uint8]]] = []
    problems = list(results.problems)
    for path in map(Path, paths):
        try:
            if len(results.faces) + len(crops) >= MAX_FACES:
                raise ValueError(f"the page is full ({MAX_FACES} faces): start over, or use `igfiqa score`")
            crops += _crops(path, model.network.image_size, detector)
        except (ValueError, OSError) as error:
            problems.append((path.name, str(error)))
    faces = list(results.faces)
    for (name, crop), score in zip(crops, model.score([crop for _, crop in crops]).tolist(), strict=True):
        if math.isfinite(score):
            faces.append(ScoredFace(name, _data_url(crop), score, percent_of(score, model)))
        else:
            problems.append((name, f"the model gives it a score of {score}"))
    return Results(tuple(sorted(faces, key=lambda face: -face.score)), tuple(problems))


def percent_of(score: float, model: QualityModel) -> float | None:
    """The score from 0 to 100, or None where the model has no calibration."""
    return None if model.calibration is None else float(model.percent(score))


def slider_range(scores: Sequence[float]) -> tuple[float, float, float]:
    """(lowest, highest, step) of a slider from a threshold that keeps every score to one that keeps none.

    The step is a power of ten, about a hundredth of the range of the scores; (0, 1, 0.01) without scores.
    """
    if not scores:
        return 0.0, 1.0, 0.01
    low, high = min(scores), max(scores)
    exponent = math.floor(math.log10((high - low or abs(high) or 1.0) / 100))
    step = 10.0**exponent
    return (
        round(math.floor(low / step) * step, -exponent),
        round((math.floor(high / step) + 1) * step, -exponent),
        round(step, -exponent),
    )


def _crops(
    path: Path, size: tuple[int, int], detector: Detector | None
) -> list[tuple[str, NDArray[np.uint8]]]:
    """(name, BGR aligned crop) of every face in a file."""
    image = np.ascontiguousarray(decode_image(read_regular(path), max_pixels=MAX_PHOTO_PIXELS)[..., ::-1])
    if image.shape[:2] == size:
        return [(path.name, image)]
    if detector is None:
        raise ValueError(
            f"{image.shape[1]} × {image.shape[0]} pixels, not an aligned crop of {size[1]} × {size[0]}; to "
            "have faces found in photographs, start the page with an insightface pack"
        )
    found = detector.find(image)
    if not found:
        raise ValueError("no face was found in it")
    if len(found) == 1:
        return [(path.name, found[0].aligned)]
    return [(f"{path.name} ({number})", face.aligned) for number, face in enumerate(found, 1)]


def _data_url(crop: NDArray[np.uint8]) -> str:
    jpeg = encode_image(np.ascontiguousarray(crop[..., ::-1]), quality=90)
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"

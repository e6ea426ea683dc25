"""The results: one row for each face, and for whatever could not be scored."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.calibration import short_decimals
from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.io.csv_lines import csv_line

TABLE_SUFFIXES = (".csv", ".json")
COLUMNS = ("source", "face", "frame", "x1", "y1", "x2", "y2", "detection_score", "quality")


@dataclass(eq=False)
class ScoredFace:
    """A face and its quality, or something that has none.

    Attributes:
        source, folder, frame: see :class:`igfiqa_head.scoring.sources.Picture`.
        face: which face of an image, or which track of a video, from 0; None if there is no face.
        box: float32 [4], left, top, right, bottom; None for an aligned image.
        detection_score: of the detector; None for an aligned image.
        quality: higher is better; None if there is a problem.
        percent: of a calibrated model.
        accepted: whether the quality reaches what was asked for.
        problem: why there is no quality.
        crop: number in a :class:`~igfiqa_head.scoring.crops.CropFile`.
        is_in_video: ``face`` is a track.
    """

    source: str
    folder: str = ""
    frame: int | None = None
    face: int | None = None
    box: NDArray[np.float32] | None = None
    detection_score: float | None = None
    quality: float | None = None
    percent: float | None = None
    accepted: bool | None = None
    problem: str | None = None
    crop: int | None = None
    is_in_video: bool = False

    @property
    def name(self) -> str:
        """The source, and what of it."""
        frame = "" if self.frame is None else f", frame {self.frame}"
        face = f", face {self.face}" if self.face is not None and self.box is not None else ""
        return f"{self.source}{frame}{face}"

    def record(self) -> dict[str, Any]:
        """Column -> value, None where there is none."""
        sides = [None] * 4 if self.box is None else [round(float(side), 2) for side in self.box]
        score, percent = self.detection_score, self.percent
        return {
            "folder": self.folder,
            "source": self.source,
            "face": self.face,
            "frame": self.frame,
            **dict(zip(("x1", "y1", "x2", "y2"), sides, strict=True)),
            "detection_score": None if score is None else round(score, 4),
            "quality": None if self.quality is None else short_decimals([self.quality])[0],
            "percent": None if percent is None else round(percent, 2),
            "accepted": self.accepted,
            "problem": self.problem,
        }


def scored(rows: Iterable[ScoredFace]) -> list[ScoredFace]:
    """The rows with a quality."""
    return [row for row in rows if row.quality is not None]


def check_table_path(path: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` unless :func:`write_table` knows the suffix."""
    if Path(path).suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(f"tables are written as .csv or .json, got {os.fspath(path)!r}")


def write_table(
    rows: Sequence[ScoredFace], path: str | os.PathLike[str], *, columns: Sequence[str] = COLUMNS
) -> None:
    """Write some columns of rows as CSV (RFC 4180) or as JSON, a list of objects, by the suffix.

    Absent values are empty cells in CSV and null in JSON, flags are true and false in both. In CSV an
    apostrophe precedes names that a spreadsheet would take for formulas.

    Raises:
        ValueError: another suffix.
        OSError: the file cannot be written.
    """
    check_table_path(path)
    records = [{name: record[name] for name in columns} for record in (row.record() for row in rows)]
    with atomic_path(path) as temporary:
        if Path(path).suffix.lower() == ".json":
            temporary.write_text(json.dumps(records, indent=1) + "\n", encoding="ascii")
            return
        # Names of files are bytes: what is no UTF-8 in them is written back as it was.
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.writelines(f"{csv_line(line)}\r\n" for line in (columns, *(r.values() for r in records)))

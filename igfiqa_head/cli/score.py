"""``igfiqa score``: the quality of faces in whatever holds them."""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from collections.abc import Sequence
from os.path import expanduser
from pathlib import Path

import numpy as np
from tqdm import tqdm

from igfiqa_head.calibration import Calibration
from igfiqa_head.cli.arguments import add_pack
from igfiqa_head.cli.showing import problems, summary
from igfiqa_head.command_line import Commands, add_onnxruntime, command
from igfiqa_head.faces import FaceDetector
from igfiqa_head.figure_files import SUFFIXES
from igfiqa_head.io.atomic import check_writable
from igfiqa_head.io.image_files import OTHERS, counted
from igfiqa_head.io.images import MAX_PHOTO_PIXELS
from igfiqa_head.runtime import QualityModel
from igfiqa_head.scoring.crops import CropFile, CropsOnDisk
from igfiqa_head.scoring.finding import FaceFinder
from igfiqa_head.scoring.run import best_of_tracks, best_per_folder, mark_accepted, score_sources
from igfiqa_head.scoring.sources import Source, Unread, open_sources
from igfiqa_head.scoring.table import COLUMNS, ScoredFace, check_table_path, write_table
from igfiqa_head.text import integer, number, tell

SHEET_ROWS = 10
_MOST_MEGAPIXELS = 10**6

DETAILS = """\
INPUT is an image, a folder with its sub-folders, a video, a .rec file (its .idx beside
it) or a verification set (.bin); any number of them. JPEG, PNG, BMP and WebP are read;
pictures of other formats in a folder are listed, other files counted. Links within a
folder are followed; those that lead out of it are listed (--follow-links takes them).
Images of the very size that the model takes are aligned faces and are scored as they
are. In photographs of any other size --pack finds the faces, and each of them is
scored. Of a video every face is followed from frame to frame, and its best frames are
reported.

  igfiqa score people --model quality.onnx --output scores.csv --sheet sheet.png
  igfiqa score photos clip.mp4 --model quality.onnx --pack buffalo_l --min-quality 20%
  igfiqa score train.rec --model quality.onnx --best-per-folder best.csv

What cannot be scored is listed. Exit status: 0 if everything was scored, 1 if something
could not be, 2 if nothing was done because of a wrong argument."""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "score", run, "Score faces in images, folders and videos.", DETAILS)
    parser.add_argument(
        "inputs", nargs="+", type=expanduser, metavar="INPUT", help="image, folder, video, .rec or .bin"
    )
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="follow the links that lead out of a folder, too: for your own folders of links, since those in "
        "the folder of somebody else may lead to your own pictures",
    )
    parser.add_argument(
        "--model", required=True, type=expanduser, metavar="FILE", help="quality model (ONNX)"
    )
    _add_faces(parser)
    _add_outputs(parser)
    add_onnxruntime(parser)


def _add_faces(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_mutually_exclusive_group()
    add_pack(kind)
    kind.add_argument(
        "--aligned", action="store_true", help="all images are aligned faces; list those of another size"
    )
    parser.add_argument(
        "--detection-threshold", type=number, default=0.5, metavar="SCORE", help="of faces in photographs"
    )
    parser.add_argument(
        "--search-size",
        type=integer,
        metavar="PIXELS",
        help="side to which photographs are fitted for the search, a multiple of 32; a larger one finds "
        "smaller faces (insightface's choice if not given)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=number,
        default=MAX_PHOTO_PIXELS // 10**6,
        metavar="N",
        help="size of the largest photograph to read; each megapixel takes about 6 MB of memory",
    )
    parser.add_argument(
        "--every", type=integer, default=5, metavar="N", help="take every N-th frame of videos"
    )
    parser.add_argument(
        "--top", type=integer, default=1, metavar="K", help="frames to report of each face of a video"
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=expanduser,
        metavar="FILE",
        help="table of all faces and of what was not scored, .csv or .json",
    )
    parser.add_argument(
        "--best-per-folder",
        type=expanduser,
        metavar="FILE",
        help="table of the best face of each folder (of .rec files: of each label), .csv or .json",
    )
    parser.add_argument(
        "--sheet",
        type=expanduser,
        metavar="FILE",
        help="contact sheet of the faces from low to high quality, .png or .pdf",
    )
    parser.add_argument(
        "--min-quality",
        metavar="X",
        help="mark the faces below, in the tables by the column accepted: a quality, or a percentage such "
        "as 60%% of a calibrated model",
    )
    parser.add_argument(
        "--calibration",
        type=expanduser,
        metavar="FILE",
        help="what the qualities mean, from igfiqa-eval calibrate, in place of what the model says itself",
    )


def run(options: argparse.Namespace) -> int:
    _check_outputs(options)
    model = QualityModel(
        options.model, providers=options.providers, threads=options.threads, check_channels=False
    )
    if options.calibration:
        model.calibration = Calibration.load(options.calibration)
    least = _least_quality(options.min_quality, model)
    finder = _finder(options, model)
    passed_over: list[str] = []
    max_pixels = int(options.max_megapixels * 10**6)
    sources = open_sources(
        options.inputs,
        every=options.every,
        max_pixels=max_pixels,
        follow_links=options.follow_links,
        pass_over=passed_over.append,
    )
    with CropFile() as crops:
        rows = _score(sources, model, finder, crops if options.sheet else None)
        rows = best_of_tracks(rows, options.top)
        if least is not None:
            mark_accepted(rows, *least)
            _warn_if_none_is_accepted(rows, options.min_quality, model)
        written = _write(options, rows, model, crops)
    print(summary(rows))
    if passed_over:
        tell(counted(OTHERS, passed_over))
    for path in written:
        tell(f"wrote {path}")
    listed = problems(rows, are_in_file=options.output is not None)
    if listed:
        print(listed, file=sys.stderr)
    return 1 if listed else 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise before the work rather than after it."""
    if not 0 < options.max_megapixels < _MOST_MEGAPIXELS:
        raise ValueError(
            f"--max-megapixels must be above 0 and below {_MOST_MEGAPIXELS}, got {options.max_megapixels:g}"
        )
    if options.top < 1:
        raise ValueError(f"--top must be at least 1, got {options.top}")
    tables = [path for path in (options.output, options.best_per_folder) if path]
    for path in tables:
        check_table_path(path)
    if options.sheet and Path(options.sheet).suffix.lower() not in SUFFIXES:
        raise ValueError(f"sheets are written as .png or .pdf, got {options.sheet!r}")
    for path in filter(None, (*tables, options.sheet)):
        check_writable(path)
    if len(set(map(os.path.realpath, tables))) < len(tables):
        raise ValueError(f"--output and --best-per-folder are the same file {options.output}")


def _least_quality(text: str | None, model: QualityModel) -> tuple[float, bool] | None:
    """(value, whether it is a percentage) of --min-quality."""
    if text is None:
        return None
    is_percent = text.endswith("%")
    try:
        # In float32, as the qualities are: one that was read in a table must equal it.
        value = float(np.float32(number(text.removesuffix("%"))))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (is_percent and not 0 <= value <= 100):
        raise ValueError(f"--min-quality must be a number, or a percentage from 0% to 100%, got {text!r}")
    if is_percent and model.calibration is None:
        raise ValueError(
            f"--min-quality {text} needs a calibrated model, and {model.network.path} is not: give a "
            "quality, or --calibration FILE from igfiqa-eval calibrate"
        )
    return value, is_percent


def _warn_if_none_is_accepted(rows: Sequence[ScoredFace], asked: str, model: QualityModel) -> None:
    """Tell where the qualities lie: 30 may have been meant as a percentage."""
    values = [row.quality for row in rows if row.quality is not None]
    if not values or any(row.accepted for row in rows):
        return
    if asked.endswith("%"):
        percents = [row.percent for row in rows if row.percent is not None]
        found = f"the best is at {max(percents):.3g} %"
    else:
        found = f"the qualities of this model lie from {min(values):.4g} to {max(values):.4g}"
        if model.calibration is None:
            found += "; a percentage such as 30% needs a calibrated model, see igfiqa-eval calibrate"
        else:
            found += ". For a percentage of the reference set write it with %, as in --min-quality 30%"
    warnings.warn(f"no face reaches --min-quality {asked}: {found}", stacklevel=2)


def _finder(options: argparse.Namespace, model: QualityModel) -> FaceFinder:
    height, width = model.network.image_size
    detector = None
    if options.pack is not None:
        if height != width:
            raise ValueError(f"{options.model} takes {width} x {height}: only square faces can be aligned")
        detector = FaceDetector(
            options.pack,
            face_size=height,
            threshold=options.detection_threshold,
            search_size=options.search_size,
            providers=options.providers,
            threads=options.threads,
        )
    return FaceFinder((height, width), detector, tolerant=options.aligned)


def _score(
    sources: Sequence[Source | Unread], model: QualityModel, finder: FaceFinder, crops: CropFile | None
) -> list[ScoredFace]:
    count = sum(source.count for source in sources if isinstance(source, Source))
    with tqdm(total=count, unit="image", disable=None, leave=False) as bar:
        return score_sources(sources, model, finder, crops=crops, progress=bar.update)


def _write(
    options: argparse.Namespace, rows: Sequence[ScoredFace], model: QualityModel, crops: CropFile
) -> list[str]:
    """Write what was asked for; the paths."""
    percent = ["percent"] if model.calibration is not None else []
    accepted = ["accepted"] if options.min_quality is not None else []
    columns = [*COLUMNS, *percent, *accepted]
    if options.output:
        write_table(rows, options.output, columns=[*columns, "problem"])
    if options.best_per_folder:
        write_table(best_per_folder(rows), options.best_per_folder, columns=["folder", *columns])
    shown = [(row.crop, row.quality) for row in rows if row.crop is not None and row.quality is not None]
    if shown:
        from igfiqa_head.quality_sheet import plot_quality_sheet  # half a second, of matplotlib

        numbers, qualities = zip(*shown, strict=True)
        plot_quality_sheet(CropsOnDisk(crops, numbers), qualities, options.sheet, rows=SHEET_ROWS)
    return [path for path in (options.output, options.best_per_folder, shown and options.sheet) if path]

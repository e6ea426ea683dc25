"""``igfiqa-eval calibrate``: from a score to 0-100 and to an expected error rate."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from eval_tools.calibration import calibrate, check_knots
from eval_tools.cli.one_method import add_one_method, scored_method
from eval_tools.tables import MARKS
from igfiqa_head.command_line import Commands, command, user_path
from igfiqa_head.io.atomic import check_writable
from igfiqa_head.text import integer, tell

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

DETAILS = """\
Learns from a reference set what the scores of a quality method mean: the percentage of
the reference's images that score lower (0-100) and, with a recogniser, the false
non-match rate to expect of a comparison whose worse face has that score. The JSON file
is what an ONNX export embeds.

  igfiqa-eval calibrate reference.bin --quality quality.onnx \\
      --recogniser w600k_r50.onnx --fmr 1e-3 --output calibration.json"""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "calibrate", run, "Learn what quality scores mean.", DETAILS)
    add_one_method(parser)
    parser.add_argument("--knots", type=integer, default=101, metavar="K", help="longest table of the file")
    parser.add_argument(
        "--output", type=user_path, default=Path("calibration.json"), metavar="FILE", help="file to write"
    )


def run(options: argparse.Namespace) -> None:
    check_knots(options.knots)
    check_writable(options.output)
    scored = scored_method(options)
    calibration = calibrate(
        scored.scores, scored.pairs, method=scored.method, reference=scored.reference, knots=options.knots
    )
    calibration.save(options.output)
    tell(f"{scored.method} on {scored.scores.size:,} images of {scored.reference}:")
    resolved, marked = scored.pairs is None or scored.pairs.point.resolved, False
    for percentile in PERCENTILES:
        score = np.percentile(scored.scores, percentile)
        line = f"  score {score:<10.4g} -> {float(calibration.percent(score)):5.1f}"
        if calibration.fnmr is not None:
            rate = float(calibration.expected_fnmr(score))
            mark = "" if resolved and rate > 0 else MARKS["unresolved"]
            marked |= bool(mark)
            line += f", expected FNMR {rate:.4f}{mark}"
        print(line)
    if marked:
        print(f"{MARKS['unresolved']} no error among these pairs, or an FMR that is not resolved")
    tell(f"wrote {options.output}")

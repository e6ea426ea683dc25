"""``igfiqa-eval threshold``: which score to ask for."""

from __future__ import annotations

import argparse

from eval_tools.cli.one_method import ScoredMethod, add_one_method, scored_method
from eval_tools.quality_threshold import (
    QualityThreshold,
    Survivors,
    check_share,
    quality_threshold_for_discard,
    quality_threshold_for_fnmr,
)
from eval_tools.tables import MARKS
from igfiqa_head.command_line import Commands, command, user_path
from igfiqa_head.io.atomic import check_writable
from igfiqa_head.text import number, tell

_UNRESOLVED = MARKS["unresolved"]

DETAILS = """\
The lowest score that brings the false non-match rate of the remaining comparisons down
to a wanted rate (--fnmr, needs a recogniser), or the highest that turns away no more than
a wanted share of the images (--discard) or genuine pairs (--discard-pairs). Measured on a
reference set; the table shows what other scores would do.

  igfiqa-eval threshold reference.bin --quality quality.onnx --discard 0.05
  igfiqa-eval threshold reference.bin --quality quality.onnx \\
      --recogniser w600k_r50.onnx --fmr 1e-3 --fnmr 0.01 --output threshold.json"""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "threshold", run, "Find the score to ask for.", DETAILS)
    add_one_method(parser)
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--fnmr", type=number, metavar="RATE", help="wanted false non-match rate")
    goal.add_argument("--discard", type=number, metavar="SHARE", help="wanted share of images")
    goal.add_argument("--discard-pairs", type=number, metavar="SHARE", help="wanted share of genuine pairs")
    parser.add_argument("--output", type=user_path, metavar="FILE", help="also write it as JSON")


def run(options: argparse.Namespace) -> None:
    if options.discard is None and options.recogniser is None:
        raise ValueError("error rates and pairs need a --recogniser; without one, ask for --discard SHARE")
    for name in ("fnmr", "discard", "discard_pairs"):
        if getattr(options, name) is not None:
            check_share(f"--{name.replace('_', '-')}", getattr(options, name))
    if options.output is not None:
        check_writable(options.output)
    found = _threshold(options, scored_method(options))
    table = _table(found)
    print(table)
    if _UNRESOLVED in table:
        print(f"{_UNRESOLVED} no error among the pairs left, or an FMR that is not resolved")
    tell(found.statement)
    if options.output is not None:
        found.save(options.output)
        tell(f"wrote {options.output}")


def _threshold(options: argparse.Namespace, scored: ScoredMethod) -> QualityThreshold:
    method, reference = scored.method, scored.reference
    if options.fnmr is not None and scored.pairs is not None:
        return quality_threshold_for_fnmr(
            scored.scores, scored.pairs, options.fnmr, method=method, reference=reference
        )
    images, of_pairs = options.discard, options.discard_pairs
    return quality_threshold_for_discard(
        scored.scores,
        of_pairs if images is None else images,
        scored.pairs,
        of="genuine pairs" if images is None else "images",
        method=method,
        reference=reference,
    )


def _table(found: QualityThreshold) -> str:
    lines = [
        f"{'percentile':>10}  {'score':>10}  {'images discarded':>16}  {'pairs discarded':>15}  {'FNMR':>7}"
    ]
    resolved = found.point is None or found.point.resolved
    rows = [*((f"{percentile}", row) for percentile, row in found.table.items()), ("chosen", found.kept)]
    return "\n".join([*lines, *(_line(name, row, resolved) for name, row in rows)])


def _line(name: str, row: Survivors, resolved: bool) -> str:
    pairs = "-" if row.pair_discard is None else f"{100 * row.pair_discard:.1f} %"
    mark = "" if resolved and row.fnmr_resolved else _UNRESOLVED
    fnmr = "-" if row.fnmr is None else f"{row.fnmr:.4f}{mark}"
    images = f"{100 * row.image_discard:.1f} %"
    return f"{name:>10}  {row.score:>10.4g}  {images:>16}  {pairs:>15}  {fnmr:>7}"

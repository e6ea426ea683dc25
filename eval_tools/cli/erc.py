"""``igfiqa-eval erc``: curves of pairs that were scored elsewhere."""

from __future__ import annotations

import argparse

from eval_tools.cli import arguments
from eval_tools.cli.arguments import add_curves, add_on_bad, add_output, named
from eval_tools.cli.showing import description, show_and_write
from eval_tools.compare import compare_scored_pairs
from eval_tools.outputs import results_folder
from eval_tools.precomputed import read_scored_pairs
from igfiqa_head.command_line import Commands, command

DETAILS = """\
For scores computed elsewhere: no images and no models are needed. A file holds one pair
per row: similarity (or distance), is_genuine (1 or 0) and a column for each quality
method, its pair quality NAME or NAME_a and NAME_b of the two faces. With identity_a and
identity_b, confidence bands and significance resample people, else pairs. In .npz files
the columns are arrays. Columns that look like row numbers, labels or text are not ranked
and named below the tables; --quality takes the columns it names and no other.

  igfiqa-eval erc scores.csv --fmr 1e-3 --protocol fixed crfiqa fixed-all"""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "erc", run, "Draw error-versus-reject curves of scored pairs.", DETAILS)
    parser.add_argument(
        "pairs", nargs="+", metavar="[NAME=]FILE", help=".csv, .tsv or .npz: a set of pairs each"
    )
    parser.add_argument(
        "--quality",
        nargs="+",
        metavar="NAME",
        help="columns to rank (NAME, or NAME_a and NAME_b); all if not given",
    )
    add_on_bad(parser)
    add_curves(parser)
    add_output(parser, "erc_results")


def run(options: argparse.Namespace) -> None:
    settings = arguments.settings(options)
    pairs = named(
        options.pairs,
        lambda path: read_scored_pairs(
            path, quality=options.quality, pair_quality=settings.pair_quality, on_bad=settings.on_bad
        ),
    )
    how = description(options, settings)
    with results_folder(options.output, how, overwrite=options.overwrite):
        comparison = compare_scored_pairs(pairs, settings, description=how)
        show_and_write(comparison, options)

"""``igfiqa-eval compare``: quality methods x recognisers x test sets."""

from __future__ import annotations

import argparse

from eval_tools.cli import arguments
from eval_tools.cli.arguments import (
    add_curves,
    add_flip,
    add_output,
    add_quality,
    add_recogniser,
    add_running,
    add_test_sets,
)
from eval_tools.cli.showing import description, show_and_write
from eval_tools.compare import compare
from eval_tools.outputs import results_folder
from igfiqa_head.command_line import Commands, command

DETAILS = """\
Judges every quality method with every recogniser on every test set by its
error-versus-reject curves: how the false non-match rate falls when the comparisons of
lowest quality are discarded. Smaller areas are better. Use a recogniser with which none
of the quality methods was trained (a cross-model comparison).

  igfiqa-eval compare lfw.bin xqlfw=data/xqlfw --recogniser arcface=w600k_r50.onnx \\
      --quality igfiqa=quality.onnx norm sharpness random

A file of scores must hold one for every image of every set, by name. Its column quality is
taken, or the one that FILE:COLUMN names, as in ofiq=ofiq.csv:UnifiedQualityScore.scalar."""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "compare", run, "Compare face image quality methods.", DETAILS)
    add_test_sets(parser)
    add_recogniser(parser)
    add_quality(parser)
    add_flip(parser)
    add_curves(parser)
    add_running(parser)
    add_output(parser, "erc_results")


def run(options: argparse.Namespace) -> None:
    settings = arguments.settings(options)
    sets, recognisers = arguments.test_sets(options), arguments.recognisers(options)
    qualities = arguments.qualities(options)
    cache, how = arguments.cache_folder(options), description(options, settings)
    with results_folder(options.output, how, overwrite=options.overwrite):
        comparison = compare(sets, recognisers, qualities, settings, cache=cache, description=how)
        show_and_write(comparison, options)

"""``igfiqa-eval verify``: how well recognisers verify."""

from __future__ import annotations

import argparse

from eval_tools.cli.arguments import (
    add_flip,
    add_fmrs,
    add_output,
    add_recogniser,
    add_running,
    add_test_sets,
    cache_folder,
    recognisers,
    test_sets,
)
from eval_tools.cli.showing import description, show_and_write
from eval_tools.compare import compare
from eval_tools.measure import Settings
from eval_tools.outputs import results_folder
from igfiqa_head.command_line import Commands, command

DETAILS = """\
10-fold accuracy by arcface_torch's protocol (for sets that have folds), equal error rate
and the true accept rate (TAR) at each false match rate, with DET curves and histograms.

  igfiqa-eval verify lfw.bin cfp_fp.bin --recogniser w600k_r50.onnx"""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "verify", run, "Measure how well recognisers verify.", DETAILS)
    add_test_sets(parser)
    add_recogniser(parser)
    add_flip(parser)
    add_fmrs(parser)
    add_running(parser)
    add_output(parser, "verification_results")


def run(options: argparse.Namespace) -> None:
    settings = Settings(fmrs=tuple(dict.fromkeys(options.fmr)), flip=options.flip, on_bad=options.on_bad)
    sets, models = test_sets(options), recognisers(options)
    cache, how = cache_folder(options), description(options, settings)
    with results_folder(options.output, how, overwrite=options.overwrite):
        comparison = compare(sets, models, {}, settings, cache=cache, description=how)
        show_and_write(comparison, options)

"""``igfiqa-eval ijb``: the 1:1 protocol of IJB-B and IJB-C."""

from __future__ import annotations

import argparse
from dataclasses import replace

from eval_tools.cli import arguments
from eval_tools.cli.arguments import (
    add_curves,
    add_on_bad,
    add_output,
    add_quality,
    add_recogniser,
    add_running,
    named,
)
from eval_tools.cli.showing import description, show_and_write
from eval_tools.compare import compare
from eval_tools.ijb import ARCFACE_TORCH, CRFIQA, TAR_FMRS, read_ijb
from eval_tools.outputs import results_folder
from igfiqa_head.command_line import Commands, command

STYLES = {"arcface_torch": ARCFACE_TORCH, "crfiqa": CRFIQA}

DETAILS = """\
Folders in insightface's layout: loose_crop/*.jpg and the three files of meta/. Faces are
aligned by their landmarks, the images of a template are joined, and templates are
compared: true accept rate (TAR) at false match rates from 1e-6 to 0.1 and, with quality
methods, error-versus-reject curves, where a template is as good as its worst image.
IJB-C takes its time (469,375 images); an interrupted run goes on.

  igfiqa-eval ijb data/IJBC --recogniser w600k_r50.onnx --quality quality.onnx norm"""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "ijb", run, "Run the 1:1 protocol of IJB-B and IJB-C.", DETAILS)
    parser.add_argument("test_sets", nargs="+", metavar="[NAME=]FOLDER", help="IJB-B or IJB-C")
    add_on_bad(parser)
    add_recogniser(parser)
    add_quality(parser, required=False)
    parser.add_argument(
        "--style",
        choices=STYLES,
        default="arcface_torch",
        help="of templates: sum with the mirror image, times the detector's score (arcface_torch), or the "
        "mirror image side by side and no detector score (crfiqa)",
    )
    parser.add_argument(
        "--far",
        nargs="+",
        type=float,
        default=[],
        help="false match rates of the TAR table; if not given, 1e-6 to 0.1, as far as the impostor pairs "
        "resolve them",
    )
    add_curves(parser, ("min", "max", "mean"))
    add_running(parser)
    add_output(parser, "ijb_results")


def run(options: argparse.Namespace) -> None:
    style = STYLES[options.style]
    chosen = arguments.settings(options)
    far = tuple(dict.fromkeys(options.far))
    settings = replace(chosen, flip=style.flip, tar_fmrs=far, default_tar_fmrs=TAR_FMRS)
    sets = named(options.test_sets, lambda root: read_ijb(root, on_bad=options.on_bad, options=style))
    recognisers, qualities = arguments.recognisers(options), arguments.qualities(options)
    cache = arguments.cache_folder(options)
    how = description(options, settings) | {"template style": options.style}
    with results_folder(options.output, how, overwrite=options.overwrite):
        comparison = compare(sets, recognisers, qualities, settings, cache=cache, description=how)
        show_and_write(comparison, options)

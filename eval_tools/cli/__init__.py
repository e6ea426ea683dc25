"""The command ``igfiqa-eval``; each sub-command is a module of this package."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from functools import partial

from eval_tools.cli import calibrate, compare, erc, ijb, report, threshold, verify

COMMANDS = (verify, erc, ijb, compare, report, calibrate, threshold)

DESCRIPTION = """\
Judge face recognition and face image quality: verification, error-versus-reject
curves under named protocols, IJB-B/C, cross-model comparisons and reports.

Higher quality is better and higher similarity is more alike, everywhere."""

EPILOG = """\
examples:
  How good is a recogniser?
    igfiqa-eval verify lfw.bin cfp_fp.bin --recogniser w600k_r50.onnx
  Which quality method helps it most?
    igfiqa-eval compare lfw.bin --recogniser w600k_r50.onnx \\
        --quality quality.onnx norm sharpness random --output results
  Other people's scores, no images needed:
    igfiqa-eval erc scores.csv
  A page to send around:
    igfiqa-eval report results

`igfiqa-eval COMMAND --help` explains each command; docs/erc.md the protocols."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 on bad input, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="igfiqa-eval",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=30),
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_parser(commands)
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _one_line
        try:
            options.run(options)
        except (ValueError, OSError) as error:
            print(f"igfiqa-eval: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("igfiqa-eval: interrupted; the same command goes on where it stopped", file=sys.stderr)
            return 130
    return 0


def _one_line(message, category, filename, lineno, file=None, line=None) -> None:  # type: ignore[no-untyped-def]
    print(f"igfiqa-eval: warning: {message}", file=sys.stderr)

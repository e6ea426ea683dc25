"""The command ``igfiqa-eval``; each sub-command is a module of this package."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial

from igfiqa_head.text import printable

COMMANDS = ("verify", "erc", "ijb", "compare", "report", "calibrate", "threshold")

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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without "±" must not cost the results
    try:
        return _run(arguments)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # nor may the interpreter write at its end
            return 0
        print(f"igfiqa-eval: error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("igfiqa-eval: interrupted; what is in the cache is not computed again", file=sys.stderr)
        return 130


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="igfiqa-eval",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=30),
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:  # imported here so that an interruption of the imports ends like any other
        importlib.import_module(f"eval_tools.cli.{name}").add_parser(commands)
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _one_line
        options.run(options)
        sys.stdout.flush()
    return 0


def _one_line(message, category, filename, lineno, file=None, line=None) -> None:  # type: ignore[no-untyped-def]
    print(f"igfiqa-eval: warning: {printable(str(message))}", file=sys.stderr)

"""The command ``igfiqa``; each sub-command is a module of this package."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from functools import partial

from igfiqa_head.cli import demo, install, score
from igfiqa_head.command_line import show_any_name
from igfiqa_head.text import printable

COMMANDS = (score, install, demo)

DESCRIPTION = """\
How good are these face images? Scores faces in images, folders, videos and
training sets with a quality model; higher is better, everywhere."""

EPILOG = """\
examples:
  Score aligned faces, look at them sorted:
    igfiqa score people --model quality.onnx --output scores.csv --sheet sheet.png
  Find the faces of photographs first:
    igfiqa score photos --model quality.onnx --pack buffalo_l --output scores.csv
  Give every face of insightface a quality:
    igfiqa install buffalo_l quality.onnx
  Try it in the browser:
    igfiqa demo quality.onnx --pack buffalo_l

A quality model comes from training (python train.py ...) or from an export
(python -m trainer.export ...). `igfiqa COMMAND --help` explains each command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 if ``score`` could not score everything, 2 on bad input, 130 if interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="igfiqa",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=30),
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_parser(commands)
    show_any_name()
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _one_line
        try:
            status: int = options.run(options)
        except (ValueError, OSError) as error:
            print(f"igfiqa: error: {printable(str(error))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("igfiqa: interrupted", file=sys.stderr)
            return 130
    return status


def _one_line(message, category, filename, lineno, file=None, line=None) -> None:  # type: ignore[no-untyped-def]
    print(f"igfiqa: warning: {printable(str(message))}", file=sys.stderr)

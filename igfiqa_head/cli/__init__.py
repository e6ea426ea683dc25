"""The command ``igfiqa``; each sub-command is a module of this package."""

from __future__ import annotations

from collections.abc import Sequence

from igfiqa_head.command_line import run_command

COMMANDS = tuple(f"igfiqa_head.cli.{name}" for name in ("score", "install", "demo", "cache"))

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
  See what is kept of faces between runs, and remove it:
    igfiqa cache info
    igfiqa cache clear

A quality model comes from training (python train.py ...) or from an export
(python -m trainer.export ...). `igfiqa COMMAND --help` explains each command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 if ``score`` could not score everything, 2 on bad input, 130 if interrupted.
    """
    return run_command("igfiqa", COMMANDS, arguments, description=DESCRIPTION, epilog=EPILOG)

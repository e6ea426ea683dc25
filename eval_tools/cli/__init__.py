"""The command ``igfiqa-eval``; each sub-command is a module of this package."""

from __future__ import annotations

from collections.abc import Sequence

from igfiqa_head.command_line import run_command

COMMANDS = tuple(
    f"eval_tools.cli.{name}"
    for name in ("verify", "erc", "ijb", "compare", "report", "calibrate", "threshold")
)

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
    return run_command(
        "igfiqa-eval",
        COMMANDS,
        arguments,
        description=DESCRIPTION,
        epilog=EPILOG,
        interrupted="interrupted; what is in the cache is not computed again",
    )

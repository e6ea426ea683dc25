"""How the sub-commands of ``igfiqa`` and ``igfiqa-eval`` are declared."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def show_any_name() -> None:
    """Have names of files that are no UTF-8 printed with escapes; they would end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], object], summary: str, details: str
) -> argparse.ArgumentParser:
    """A sub-command whose ``--help`` shows ``details`` as they are, and every default."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary}\n\n{details}", formatter_class=_HelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Details as they are, and defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)

"""The common part of the commands ``igfiqa`` and ``igfiqa-eval``: sub-commands, arguments and endings."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from igfiqa_head import __version__
from igfiqa_head.text import integer, printable, tell

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"

UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
_REPORT = (
    "this is a fault of the program, or of a plugin named in the lines above: please report it, with these "
    "lines, to the issue tracker of either"
)
# How libraries in C++, whose errors have no base in common with MemoryError, speak of memory.
_NO_MEMORY = re.compile(
    r"bad.alloc|(allocate|not enough|insufficient) memory|out ?of ?memory|ALLOC_FAILED", re.IGNORECASE
)


def run_command(
    program: str,
    modules: Sequence[str],
    arguments: Sequence[str] | None,
    *,
    description: str,
    epilog: str,
    interrupted: str = "interrupted",
) -> int:
    """The exit status of one command of a program, see :func:`exit_status`.

    Args:
        program: its name.
        modules: one for each command; its ``add_parser`` declares the command, and what that sets as ``run``
            takes the options and returns the exit status, or None for success.
        arguments: None for those of the command line.
        description, epilog: what ``--help`` shows around the commands.
        interrupted: what is said after Ctrl-C.
    """

    def run() -> int | None:
        parser = Parser(
            prog=program,
            description=description,
            epilog=epilog,
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=30),
        )
        parser.add_argument("--version", action="version", version=f"igfiqa-head {__version__}")
        commands = parser.add_subparsers(metavar="COMMAND", required=True)
        for name in modules:  # imported here so that an interruption of the imports ends like any other
            importlib.import_module(name).add_parser(commands)
        _silence_opencv()
        options = parser.parse_args(arguments)
        status: int | None = options.run(options)
        return status

    return exit_status(run, f"{program}: ", interrupted=interrupted)


def _silence_opencv() -> None:
    """What OpenCV logs of a damaged image would stand beside our own line."""
    import cv2  # the commands have loaded it by now

    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4, 5
    set_level(0)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are printable, and which gives no option a list where it takes one value."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for argument in sys.argv[1:] if args is None else args:
            if "\0" in argument or argument.endswith("=--"):  # the latter is an empty list before Python 3.13
                self.error(f"the argument {argument!r} holds no usable value")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def exit_status(
    run: Callable[[], int | None],
    prefix: str = "",
    *,
    failure: int = 2,
    interrupted: str = "interrupted",
    less_memory: str = "give it less at a time",
) -> int:
    """The exit status of a program.

    Errors and warnings become lines on stderr that begin with ``prefix``. What a terminal cannot show is
    written as escape codes. A reader that has seen enough, such as ``head``, ends the program with success.

    Args:
        run: the program.
        prefix: what the lines on stderr begin with.
        failure: the status for bad input.
        interrupted: what is said after Ctrl-C.
        less_memory: what is advised where the memory is not enough.

    Returns:
        That of ``run``, ``failure`` for bad input or too little memory, 130 if interrupted, or
        :data:`UNEXPECTED` for a fault of the program, which is shown with its traceback.
    """
    for stream in (sys.stdout, sys.stderr):  # "±" or a file name that is no UTF-8 must not cost the results
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _tell(f"{prefix}warning: {message}")
        try:
            status = run() or 0
            sys.stdout.flush()
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # nor may the interpreter write at its end
            return 0
        except KeyboardInterrupt:
            _tell(f"{prefix}{interrupted}")
            return 130
        except (ValueError, OSError) as error:
            _tell(f"{prefix}error: {error}")
            return failure
        except Exception as error:
            if not _is_of_memory(error):
                _tell_of_fault(error, prefix)
                return UNEXPECTED
            reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
            _tell(f"{prefix}error: not enough memory{reason}: {less_memory}")
            return failure
    return status


def _is_of_memory(error: Exception) -> bool:
    named = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or _NO_MEMORY.search(named) is not None


def _tell_of_fault(error: Exception, prefix: str) -> None:
    for line in "".join(traceback.format_exception(error)).splitlines():
        _tell(line)
    _tell(f"{prefix}error: {_REPORT}")


def _tell(line: str) -> None:
    tell(line, sys.stderr)


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], object], summary: str, details: str
) -> Parser:
    """A sub-command whose ``--help`` shows ``details`` as they are, and every default."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary}\n\n{details}", formatter_class=_HelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Details as they are, and defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, []):
            return action.help
        text = super()._get_help_string(action)
        if text is None or not isinstance(action.default, list):
            return text
        return text.replace("%(default)s", " ".join(map(str, action.default)))


def user_path(text: str) -> Path:
    """The type of arguments that are paths: no shell expands the ``~`` of ``--output=~/results``."""
    return Path(os.path.expanduser(text))


def add_onnxruntime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=integer, help="threads of onnxruntime; all cores if not given")
    parser.add_argument(
        "--providers",
        nargs="+",
        metavar="NAME",
        help="of onnxruntime, in order of preference, such as CUDA CPU; CUDA where it is there if not given",
    )

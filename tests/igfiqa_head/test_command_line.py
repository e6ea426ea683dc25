"""The one beginning and the one end of both commands."""

from __future__ import annotations

import argparse
import importlib
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import eval_tools.cli
import igfiqa_head.cli
from igfiqa_head.command_line import UNEXPECTED, exit_status, user_path

MAINS = {"igfiqa": igfiqa_head.cli.main, "igfiqa-eval": eval_tools.cli.main}


@pytest.mark.parametrize("name", MAINS)
def test_the_version_is_told(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        MAINS[name](["--version"])
    assert capsys.readouterr().out == f"igfiqa-head {igfiqa_head.__version__}\n"


@pytest.mark.parametrize(("package", "library"), [("igfiqa_head", "matplotlib"), ("eval_tools", "sklearn")])
def test_help_does_not_wait_for_slow_libraries(package: str, library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from {package}.cli import main; main(['--help'])"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def raises(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ValueError("two\nlines\x1b[2J"), 2, "me: error: two\\nlines\\x1b[2J\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "me: error: [Errno 2] No such file: 'x'\n"),
        (KeyboardInterrupt(), 130, "me: interrupted\n"),
        (BrokenPipeError(), 0, ""),
        (MemoryError(), 2, "me: error: not enough memory: give it less at a time\n"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory\nframe #0"),
            2,
            "me: error: not enough memory (DefaultCPUAllocator: can't allocate memory): "
            "give it less at a time\n",
        ),
    ],
)
def test_a_program_ends_with_one_line_and_its_exit_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    told: str,
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # a broken pipe replaces it
    assert exit_status(raises(error), "me: ") == status
    assert capsys.readouterr().err == told


def test_a_fault_of_the_program_shows_itself_and_asks_to_be_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_status(raises(KeyError("a name\x1b[2J")), "me: ") == UNEXPECTED == 70
    first, *_, error, advice = capsys.readouterr().err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert error == r"KeyError: 'a name\x1b[2J'"
    assert advice.startswith("me: error: this is a fault of the program")
    assert "please report it" in advice


def test_the_traceback_of_a_fault_holds_no_escape_codes(capsys: pytest.CaptureFixture[str]) -> None:
    exit_status(raises(RuntimeError("\x1b[2Jerased")))
    assert "RuntimeError: \\x1b[2Jerased\n" in capsys.readouterr().err


def test_an_argument_that_nobody_knows_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        MAINS["igfiqa"](["install", "pack", "model.onnx", "\x1b[2J"])
    assert r"unrecognized arguments: \x1b[2J" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "command"), [("igfiqa", "score"), ("igfiqa-eval", "report")])
@pytest.mark.parametrize(("argument", "shown"), [("a\0b", r"'a\x00b'"), ("--output=--", "'--output=--'")])
def test_an_argument_that_no_command_can_use_is_refused(
    name: str, command: str, argument: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        MAINS[name]([command, argument])
    *_, line = capsys.readouterr().err.splitlines()
    assert line.endswith(f"the argument {shown} holds no usable value")


def test_success_and_other_statuses_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        warnings.warn("mind\nthis", stacklevel=1)
        return 1

    assert exit_status(run, "me: ") == 1
    assert capsys.readouterr().err == "me: warning: mind\\nthis\n"
    assert exit_status(lambda: None) == 0
    assert exit_status(raises(ValueError("bad")), failure=1) == 1


def test_a_terminal_without_a_character_costs_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert exit_status(lambda: print("99.8 ± 0.1")) == 0
    assert stream.buffer.getvalue() == b"99.8 \\xb1 0.1\n"  # type: ignore[attr-defined]


def test_the_home_folder_of_a_path_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/results") == tmp_path / "results"
    assert user_path("results/~") == Path("results/~")


def test_every_path_option_of_every_command_finds_the_home_folder() -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    for module in (*igfiqa_head.cli.COMMANDS, *eval_tools.cli.COMMANDS):
        importlib.import_module(module).add_parser(commands)
    plain = [
        f"{name} {action.dest}"
        for name, parser in commands.choices.items()
        for action in parser._actions
        if action.type is Path
    ]
    assert not plain, f"type=user_path expands ~, type=Path does not: {plain}"

"""Whatever stands on a command line, the end is one line that says what is wrong, or a result."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eval_tools.cli
import igfiqa_head.cli
import igfiqa_head.demo
import igfiqa_head.export
import train
import trainer.export
import trainer.sources
from igfiqa_head.io.images import encode_image
from tests.eval_tools.faces import SIZE, write_pair_set
from tests.igfiqa_head.cli.inputs import aligned
from tests.onnx_models import write_model
from tests.packs import make_pack

Run: TypeAlias = Callable[[str, list[str]], None]

MAINS = {"igfiqa": igfiqa_head.cli, "igfiqa-eval": eval_tools.cli}
VALUES = (
    *("", "--", "=", "-1", "1e-320", "1e308", "nan", "1_0", "9" * 25),
    *("a\nb\x1b[2J\u202e", "人" * 90, "x/" * 3000, "~nobody/\udcff", "a\0b"),
)
BASES = {
    "score": "{one} --model {quality} --threads 1",
    "install": "{pack} {quality}",
    "demo": "{quality}",
    "cache": "info {one}",
    "verify": "{bin} --recogniser {recogniser} --fmr 0.1 --no-cache",
    "erc": "{csv} --bootstrap 0 --fmr 0.1",
    "ijb": "{one} --recogniser {recogniser}",
    "compare": "{bin} --recogniser {recogniser} --quality norm --fmr 0.1 --bootstrap 0 --no-cache",
    "report": "{one}",
    "calibrate": "{bin} --quality {quality} --no-cache",
    "threshold": "{bin} --quality {quality} --discard 0.1 --no-cache",
}


def parsers(program: str) -> dict[str, argparse.ArgumentParser]:
    commands = argparse.ArgumentParser().add_subparsers()
    for module in MAINS[program].COMMANDS:
        importlib.import_module(module).add_parser(commands)
    return commands.choices


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Those that take a value."""
    return [of.option_strings[0] for of in parser._actions if of.option_strings and of.nargs != 0]


COMMANDS = [(program, name) for program in MAINS for name in parsers(program)]
OPTIONS = [(*of, option) for of in COMMANDS for option in options_of(parsers(of[0])[of[1]])]


def stop_before_the_work(*_: object, **__: object) -> NoReturn:
    raise ValueError("the work begins")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "one").mkdir()
    (folder / "one" / "face.png").write_bytes(encode_image(aligned(0), ".png"))
    (folder / "pairs.csv").write_text(
        "similarity,is_genuine,q\n" + "".join(f"{i / 40},{int(i > 15)},{i % 7}\n" for i in range(40))
    )
    write_pair_set(folder / "pairs.bin", n_pairs=20)
    return {
        "one": folder / "one",
        "csv": folder / "pairs.csv",
        "bin": folder / "pairs.bin",
        "quality": write_model(folder / "quality.onnx", {"quality": 1}, size=SIZE),
        "recogniser": write_model(folder / "recogniser.onnx", size=SIZE),
        "pack": make_pack(folder),
    }


@pytest.fixture
def ends_in_one_line(
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs ``(program, arguments)``, which stops before anything is written or served."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eval_tools.cli.showing.write_outputs", stop_before_the_work)
    monkeypatch.setattr(igfiqa_head.demo, "launch", stop_before_the_work)

    def run(program: str, arguments: list[str]) -> None:
        status = _status(program, arguments)
        said = capsys.readouterr()
        last = said.err.splitlines()[-1:]
        assert status in (0, 1, 2), said.err
        assert status == 0 or "error: " in last[0] or "not scored" in said.err
        assert not {"\x1b", "\u202e", "\0"} & set(said.out + said.err)

    return run


def _status(program: str, arguments: list[str]) -> int | str | None:
    main = {"train": train.main, "export": trainer.export.main} | {n: m.main for n, m in MAINS.items()}
    try:
        return main[program](arguments)
    except SystemExit as stop:  # of the parser
        return stop.code


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_every_option(program: str, command: str, inputs: dict[str, Path], ends_in_one_line: Run) -> None:
    base = BASES[command].format(**inputs).split()
    for option in options_of(parsers(program)[command]):
        for value in VALUES:
            ends_in_one_line(program, [command, *base, f"{option}={value}"])


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_every_input(program: str, command: str, inputs: dict[str, Path], ends_in_one_line: Run) -> None:
    base = BASES[command].format(**inputs).split()
    for value in VALUES:
        for position in range(2 if command == "install" else 1):
            ends_in_one_line(program, [command, *base[:position], value, *base[position + 1 :]])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(option=st.sampled_from(OPTIONS), value=st.text() | st.integers().map(str) | st.floats().map(str))
def test_any_option_and_text(
    option: tuple[str, str, str],
    value: str,
    inputs: dict[str, Path],
    ends_in_one_line: Run,
) -> None:
    program, command, name = option
    ends_in_one_line(program, [command, *BASES[command].format(**inputs).split(), f"{name}={value}"])


EXPORT = ("kind", "output", "quality-head", "network", "plugin", "images", "calibration", "licence")


@pytest.mark.parametrize("option", EXPORT)
def test_every_option_of_an_export(
    option: str, monkeypatch: pytest.MonkeyPatch, ends_in_one_line: Run
) -> None:
    source = SimpleNamespace(
        backbone=None, regressor=None, files=["model.pt"], images=None, metadata=dict, method="",
        recipe={"network": "r50", "embedding_size": 512},
    )  # fmt: skip
    monkeypatch.setattr(trainer.sources, "open_source", lambda *_, **__: source)
    crops = np.zeros((8, 112, 112, 3), np.uint8)
    monkeypatch.setattr("trainer.crops.rendered_crops", lambda count: crops)
    monkeypatch.setattr(igfiqa_head.export, "export_onnx", stop_before_the_work)
    for value in VALUES:
        ends_in_one_line("export", ["model.pt", "--kind=embedding", f"--{option}={value}"])


def test_the_source_of_an_export_and_the_recipe_of_a_training(
    ends_in_one_line: Run,
) -> None:
    for value in VALUES:
        ends_in_one_line("export", [value])
        ends_in_one_line("train", [value])

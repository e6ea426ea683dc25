"""The command ``igfiqa`` as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from igfiqa_head.cli import main
from tests.igfiqa_head.cli.inputs import CALIBRATION, rows, score, write_aligned
from tests.onnx_models import write_model
from tests.packs import make_pack

ROOT = Path(__file__).resolve().parents[3]


def test_module_can_be_run(here: Path) -> None:
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "igfiqa_head.cli", "score", "nowhere", "--model", "quality.onnx"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr == "igfiqa: error: there is no file or folder 'nowhere'\n"


def test_aligned_faces_need_neither_torch_nor_onnx_nor_insightface(here: Path) -> None:
    write_aligned(here / "people", 2)
    script = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'insightface', 'gradio'): sys.modules[name] = None\n"
        "from igfiqa_head.cli import main\n"
        "sys.exit(main('score people --model quality.onnx --output scores.csv'.split()))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert len(rows("scores.csv")) == 2


def test_install_puts_the_model_where_insightface_does_not_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = make_pack(tmp_path)
    model = write_model(tmp_path / "quality.onnx", {"quality": 1}, size=112)
    assert main(["install", str(pack), str(model)]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    installed = Path(first.removeprefix("installed "))
    assert [line.split()[0] for line in others] == ["attach(app),", "it"]
    assert "is not calibrated (igfiqa-eval calibrate): face.quality_percent stays None" in others[1]
    assert installed.read_bytes() == model.read_bytes()
    assert installed.parent != pack
    assert installed.is_relative_to(pack)


def test_the_installation_of_a_calibrated_model_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = {"calibration": CALIBRATION.to_json()}
    model = write_model(tmp_path / "quality.onnx", {"quality": 1}, size=112, metadata=metadata)
    assert main(["install", str(make_pack(tmp_path)), str(model)]) == 0
    printed = capsys.readouterr().out
    assert "\nattach(app), from igfiqa_head.insightface, now finds it" in printed
    assert "calibrated" not in printed


def test_the_home_folder_is_found_behind_an_equals_sign(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell expands the ~ of --output=~/scores.csv."""
    write_aligned(here / "people", 2)
    monkeypatch.setenv("HOME", str(here))
    outputs = ["--output=~/scores.csv", "--sheet=~/sheet.png", "--best-per-folder=~/best.csv"]
    assert main(["score", "~/people", "--model=~/quality.onnx", *outputs]) == 0
    assert all((here / name).exists() for name in ("scores.csv", "sheet.png", "best.csv"))


@pytest.mark.parametrize("command", [["install", "nopack", "quality.onnx"], ["demo", "nowhere.onnx"]])
def test_other_commands_give_one_line_too(
    here: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("igfiqa: error: ")


def test_warnings_are_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_aligned(here / "people", 2)
    assert score("people", "--min-quality", "1e9") == 0
    assert capsys.readouterr().err.count("igfiqa: warning: ") == 1


@pytest.mark.parametrize("command", [[], ["score"], ["install"], ["demo"]])
def test_help_teaches(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    printed = capsys.readouterr().out
    assert f"\n  igfiqa {command[0]} " in printed if command else "examples:" in printed

"""The house rules that tools can check are part of the test command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "ruff lint": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": [sys.executable, "-m", "mypy"],
    "import rules": ["lint-imports"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_tool_is_content(name: str) -> None:
    command = list(COMMANDS[name])
    beside_python = Path(sys.executable).with_name(command[0])
    command[0] = str(beside_python) if beside_python.exists() else shutil.which(command[0]) or command[0]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_recipes_import_only_easydict() -> None:
    for recipe in (ROOT / "recipes").glob("*.py"):
        imports = [line for line in recipe.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert imports == ["from easydict import EasyDict as edict"], recipe.name

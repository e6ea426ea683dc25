"""What is installed is complete: every file of the shipped packages, and nothing of the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("igfiqa_head", "eval_tools")


def _files(root: Path) -> set[str]:
    found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(root)) for path in found}


def test_the_build_holds_every_file_of_the_shipped_packages(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(SHIPPED)
    for package in SHIPPED:
        assert _files(tmp_path / package) == _files(ROOT / package)

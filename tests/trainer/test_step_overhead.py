"""The benchmark of a step's overhead, at a tiny size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = TESTS.parent / "benchmarks/step_overhead.py"
TINY = ["--network", "tiny", f"plugins={[str(TESTS / 'tiny_plugin.py')]}", "embedding_size=16"]
SIZES = ["--classes", "60", "--batch", "4", "--pairs", "8", "--threads", "1"]


def test_the_benchmark_of_overhead_runs_and_fails_above_its_limit() -> None:
    command = [sys.executable, SCRIPT, *TINY, *SIZES, "--limit", "0.1"]
    result = subprocess.run(command, capture_output=True, text=True)
    lines = result.stdout.splitlines()
    missed = [line.split(":")[0] for line in lines if line.endswith("at most 0.1: missed")]
    assert missed == ["split", "mirror"], result.stderr
    assert lines[-1].endswith("= 84 x")
    assert result.returncode == 1

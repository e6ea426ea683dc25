"""What a process frees stays its own, so that the next step need not ask for it again."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
import numpy as np
from trainer.freed_memory import keep_freed_memory

def resident_megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

if "keep" in sys.argv:
    keep_freed_memory()
before = resident_megabytes()
activation = np.ones(100_000_000, np.uint8)
del activation
print(resident_megabytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_memory_is_kept() -> None:
    def left_after(*arguments: str) -> float:
        command = [sys.executable, "-c", SCRIPT, *arguments]
        return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)

    assert left_after() < 10
    assert left_after("keep") > 90

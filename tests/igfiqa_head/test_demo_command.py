"""``igfiqa demo`` as a process of its own: what it leaves when it is killed goes at its next start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.demo_files import make_demo_folder

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, temporary: Path) -> tuple[subprocess.Popen[str], str]:
    """The running command, and where its page is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    command = [sys.executable, "-m", "igfiqa_head.cli", "demo", folder / "quality.onnx", "--no-browser"]
    process = subprocess.Popen(
        [*command, "--port", port],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert port in process.stdout.readline()
    return process, f"http://127.0.0.1:{port}/gradio_api/upload"


@pytest.mark.slow
def test_a_killed_demo_is_cleaned_up_after_and_a_closed_terminal_leaves_nothing(tmp_path: Path) -> None:
    folder, temporary = make_demo_folder(tmp_path), tmp_path / "temporary"
    temporary.mkdir()
    face = (folder / "crop_0.png").read_bytes()
    process, upload = start(folder, temporary)
    httpx.post(upload, files={"files": ("face.png", face)}, timeout=30)
    process.kill()
    process.wait(20)
    assert len(list(temporary.rglob("face.png"))) == 1
    process, upload = start(folder, temporary)
    assert not list(temporary.rglob("face.png"))
    httpx.post(upload, files={"files": ("face.png", face)}, timeout=30)
    assert len(list(temporary.rglob("face.png"))) == 1
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 0
    assert list(temporary.iterdir()) == []

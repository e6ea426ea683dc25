"""The folder of the page's uploads: gone with the process, or at the next start; nothing else goes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from igfiqa_head.demo.private_folder import private_folder, remove_older

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and locks of POSIX")

HOLDER = """
import sys, time
from igfiqa_head.demo.private_folder import private_folder
with private_folder() as folder:
    (folder / "face.png").write_bytes(b"a face")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def start(temporary: Path, *before: str) -> subprocess.Popen[str]:
    """A process that holds a folder with a face."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", HOLDER],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    assert Path(process.stdout.readline().strip(), "face.png").is_file()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_goes_when_the_process_is_ended(temporary: Path, number: int) -> None:
    process = start(temporary)
    process.send_signal(number)
    process.wait(20)
    assert list(temporary.iterdir()) == []


def test_it_stays_after_sigkill_and_goes_at_the_next_start(temporary: Path) -> None:
    process = start(temporary)
    process.kill()
    process.wait(20)
    assert len(list(temporary.rglob("face.png"))) == 1
    with private_folder() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_what_is_in_use_or_not_ours_stays(temporary: Path) -> None:
    process = start(temporary)
    used = {path.name for path in temporary.iterdir()}
    (temporary / "igfiqa-demo-holiday").mkdir()
    (temporary / "igfiqa-demo-holiday" / "beach.jpg").write_bytes(b"a beach")
    outside = temporary / "outside"
    outside.mkdir()
    (outside / "igfiqa-demo.lock").touch()
    (temporary / "igfiqa-demo-link").symlink_to(outside)
    with private_folder() as folder:
        kept = {path.name for path in temporary.iterdir()}
    assert kept == used | {"igfiqa-demo-holiday", "outside", "igfiqa-demo-link", folder.name}
    assert (outside / "igfiqa-demo.lock").exists()
    process.kill()
    process.wait(20)


def test_a_second_signal_does_not_stop_the_cleaning_up(temporary: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        end_in_haste()
    assert list(temporary.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def end_in_haste() -> None:
    with private_folder():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so(temporary: Path) -> None:
    process = start(temporary, "nohup")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    process.wait(20)
    assert list(temporary.iterdir()) == []


def test_only_this_user_can_read_it(temporary: Path) -> None:
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_uploads_that_nobody_asked_for_are_removed(temporary: Path) -> None:
    with private_folder() as folder:
        for name, age in (("old", 3700), ("new", 10)):
            (folder / name).mkdir()
            (folder / name / "face.png").touch()
            os.utime(folder / name / "face.png", (0, time.time() - age))
        os.utime(folder / "igfiqa-demo.lock", (0, 0))
        remove_older(folder, 3600)
        left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert left == {"igfiqa-demo.lock", "new/face.png"}

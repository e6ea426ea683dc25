from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from igfiqa_head.io.folder_lock import LOCK_FILE, locked

pytestmark = pytest.mark.skipif(os.name != "posix", reason="nothing is locked elsewhere")

HOLD = """
import sys
from igfiqa_head.io.folder_lock import locked
with locked(sys.argv[1], "igfiqa-eval compare"):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_refused_at_once_and_told_who_was_first(tmp_path: Path) -> None:
    with _holder(tmp_path) as holder:
        who = rf"process {holder.pid} on {socket.gethostname()} since 20.* UTC \(igfiqa-eval compare\)"
        with pytest.raises(ValueError, match=f"is being written to by {who}: wait"), locked(tmp_path, "x"):
            pass
        holder.communicate("")
    with locked(tmp_path, "x"):
        pass
    assert not os.listdir(tmp_path)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with _holder(tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK_FILE).exists()
    with locked(tmp_path, "x"):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK_FILE).read_text()
    assert not os.listdir(tmp_path)


def test_one_process_takes_a_folder_once(tmp_path: Path) -> None:
    with locked(tmp_path, "first"), pytest.raises(ValueError, match="first"), locked(tmp_path, "second"):
        pass
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "pipe", "folder"])
def test_a_strangers_file_in_the_place_of_the_lock_is_neither_written_nor_waited_for(
    tmp_path: Path, kind: str
) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.write_text("precious")
    folder.mkdir()
    lock = folder / LOCK_FILE
    make = {
        "link": lambda: lock.symlink_to(precious),
        "dangling": lambda: lock.symlink_to(tmp_path / "new"),
        "hard link": lambda: os.link(precious, lock),
        "pipe": lambda: os.mkfifo(lock),
        "folder": lock.mkdir,
    }
    make[kind]()
    with (
        pytest.raises(ValueError, match=r"folder cannot be locked: remove .igfiqa.lock"),
        locked(folder, "x"),
    ):
        pass
    assert precious.read_text() == "precious"
    assert not (tmp_path / "new").exists()


def test_a_file_system_without_locks_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="cannot be locked .No locks available"), locked(tmp_path, "x"):
        pass


FORK_AND_HOLD = """
import os, sys, time
from igfiqa_head.io.folder_lock import locked
with locked(sys.argv[1], "train.py"):
    if os.fork() == 0:  # a worker, as those that load images
        time.sleep(30)
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_workers_that_outlive_a_killed_process_do_not_hold_its_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORK_AND_HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait()
        with locked(tmp_path, "x"):
            pass
        os.killpg(process.pid, signal.SIGKILL)

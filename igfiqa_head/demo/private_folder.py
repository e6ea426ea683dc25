"""A folder for photographs that goes with the process, however that ends."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PREFIX = "igfiqa-demo-"
_LOCK = "igfiqa-demo.lock"
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new temporary folder that only this user can read, removed when the block ends.

    SIGTERM (``kill``, ``docker stop``) and SIGHUP (a closed terminal) end the block as Ctrl-C does, by
    ``KeyboardInterrupt``. After SIGKILL the folder stays, and the next call removes it.
    """
    _remove_leftovers()
    with _interrupted_once():
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            with _locked(folder):
                yield folder
        finally:
            shutil.rmtree(folder)


def remove_older(folder: Path, seconds: float) -> None:
    """Remove the files in a private folder, and below, that were written longer ago."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it may be scored just now
            if path.is_file() and path.name != _LOCK and path.stat().st_mtime < time.time() - seconds:
                path.unlink()


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """The first of the signals raises ``KeyboardInterrupt``; more of them cannot stop the cleaning up.

    Those that are ignored stay so, as SIGHUP does under ``nohup``. Python gives signals to the main thread.
    """
    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in _SIGNALS if is_main and signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(*_: Any) -> NoReturn:
        for number in taken:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Tell that the folder is in use, by a file that is locked before it has its name."""
    if fcntl is None:
        yield
        return
    with open(folder / "new", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.rename(file.name, folder / _LOCK)
        yield


def _remove_leftovers() -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        if fcntl is not None and _is_abandoned(lock):
            shutil.rmtree(lock.parent, ignore_errors=True)


def _is_abandoned(lock: Path) -> bool:
    """Whether the folder is one of this user, and the process that made it is gone."""
    try:
        folder = lock.parent.lstat()
        if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.geteuid():
            return False
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

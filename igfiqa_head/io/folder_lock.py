"""A folder to which one process writes at a time."""

from __future__ import annotations

import os
import socket
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".igfiqa.lock"
_HELD: set[int] = set()  # descriptors of this process


@contextmanager
def locked(folder: str | os.PathLike[str], who: str) -> Iterator[None]:
    """Hold a folder against other processes, on this and, where its file system allows it, other machines.

    The operating system holds the lock and frees it when the process ends, whatever ends it. Meanwhile the
    folder has a hidden file that tells who holds it. No process may lock a folder twice.

    Args:
        folder: one that exists and can be written to.
        who: the command, without secrets: other processes show it.

    Raises:
        ValueError: another process holds it, or it cannot be locked.
    """
    if fcntl is None:
        yield
        return
    path = Path(folder) / LOCK_FILE
    descriptor = _take(path)
    _HELD.add(descriptor)
    try:
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        text = f"process {os.getpid()} on {socket.gethostname()} since {since} ({who})"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("utf-8", "backslashreplace"), 0)
        yield
    finally:
        with suppress(OSError):  # the folder may be gone
            path.unlink()
        _HELD.remove(descriptor)
        os.close(descriptor)


def _forget() -> None:
    """Leave the locks to the parent: a worker that outlives it for a moment must not hold them."""
    while _HELD:
        os.close(_HELD.pop())


if fcntl is not None:
    os.register_at_fork(after_in_child=_forget)


def _take(path: Path) -> int:
    """The descriptor of the lock file, locked."""
    while True:
        descriptor = _open(path)
        try:
            _lock(descriptor, path)
            if _is_at(path, descriptor):
                return descriptor
        except ValueError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who held it has removed it after we had opened it


def _open(path: Path) -> int:
    try:
        # Not waiting for the other end, if a stranger's folder has a pipe here.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink() or path.is_dir():
            raise _not_ours(path) from error
        raise ValueError(f"{path.parent} cannot be locked: {path.name}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _not_ours(path)
    return descriptor


def _not_ours(path: Path) -> ValueError:
    return ValueError(f"{path.parent} cannot be locked: remove {path.name}, which is no file of ours")


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 1000, 0).decode("utf-8", "replace") or "another process"
        raise ValueError(
            f"{path.parent} is being written to by {holder}: wait for its end, or name another folder"
        ) from error
    except OSError as error:  # a file system without locks
        warnings.warn(
            f"{path.parent} cannot be locked ({error.strerror}): let no other process write to it",
            stacklevel=4,
        )


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False

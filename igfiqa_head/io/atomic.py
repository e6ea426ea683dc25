"""Writing a file so that readers see the old one or the new one, never half of it."""

from __future__ import annotations

import glob
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes ``path`` when the block ends without an error.

    The temporary file lies in the same folder (a rename is atomic within one file system only), keeps
    the suffix (some writers choose their format by it) and is removed if the block raises. Contents are
    flushed to the disk before the rename, so a crash cannot leave an empty file under the final name.
    A symbolic link is followed: its target is replaced, the link stays. Nobody but this user can read a file
    that is ``private``.

    Raises:
        OSError: the folder does not exist, or the file cannot be written; it names ``path``.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(6)}{target.suffix}")
    try:
        if private:  # before there is anything to read in it
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (temporary, str(temporary)):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor does it need to be
        _flush(target.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before the work what :func:`atomic_path` would find out after it.

    Raises:
        ValueError: ``path`` is a folder or a device, or its folder does not exist or cannot be written to.
    """
    target, shown = Path(os.path.realpath(path)), os.fspath(path)
    if target.is_dir():
        raise ValueError(f"{shown} cannot be written: it is a folder, expected the name of a file")
    if target.exists() and not target.is_file():
        raise ValueError(f"{shown} cannot be written: it is no ordinary file")
    if not target.parent.is_dir():
        raise ValueError(f"{shown} cannot be written: there is no folder {Path(shown).parent}")
    _try_to_write(target.parent)


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder for files, if it does not exist, or find out before the work that there can be none.

    Raises:
        ValueError: it cannot be made or written to.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {os.fspath(folder)} cannot be made: {error.strerror}") from error
    _try_to_write(folder)


def _try_to_write(folder: str | os.PathLike[str]) -> None:
    """Write, since permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"the folder {os.fspath(folder)} cannot be written to: {error.strerror}") from error


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what writers of ``path`` left behind that were killed; nobody must be writing to it now."""
    target = Path(os.path.realpath(path))
    for temporary in target.parent.glob(f".{glob.escape(target.stem)}.*{glob.escape(target.suffix)}"):
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

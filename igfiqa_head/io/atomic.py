"""Writing a file so that readers see the old one or the new one, never half of it."""

from __future__ import annotations

import glob
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary file to write to; it becomes ``path`` when the block ends without an error.

    The temporary file lies in the same folder (a rename is atomic within one file system only), keeps
    the suffix (some writers choose their format by it) and is removed if the block raises. Contents are
    flushed to the disk before the rename, so a crash cannot leave an empty file under the final name.
    The permissions are those of the file that is replaced, else those of any new file. A symbolic link is
    replaced, not followed.

    Raises:
        OSError: the folder does not exist, or the file cannot be written; it names ``path``.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(6)}{target.suffix}")
    try:
        _create(temporary, _mode(target))
        yield temporary
        _flush(temporary)
        replace(temporary, target)
        flush_folder(target.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # A full disk is told of without a name.
        if isinstance(error, OSError) and error.filename in (None, temporary, str(temporary)):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def replace(source: Path, target: Path) -> None:
    """Rename a file to one in the same file system, whose permissions it takes over if there is one."""
    mode = _mode(target)
    if mode not in (None, _mode(source)):
        source.chmod(mode)
    os.replace(source, target)


def flush_folder(folder: Path) -> None:
    """Let the renames in a folder survive a crash of the machine."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor does it need to be
        _flush(folder)


def _mode(path: Path) -> int | None:
    """The permissions of an ordinary file, None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_mode & 0o777 if stat.S_ISREG(status.st_mode) else None


def _create(path: Path, mode: int | None) -> None:
    """Make an empty file that nobody else made, and that nobody else can read if they should not."""
    mode = 0o666 if mode is None else mode | stat.S_IWUSR
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before the work what :func:`atomic_path` would find out after it.

    Raises:
        ValueError: ``path`` is a folder or a device, or its folder does not exist or cannot be written to.
    """
    target, shown = Path(path), os.fspath(path)
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


def make_subfolder(folder: str | os.PathLike[str]) -> None:
    """Make a folder in one that others may have made, if it does not exist; a link to a folder is none.

    Raises:
        ValueError: it cannot be made, or is a link, through which files elsewhere would be replaced.
    """
    if os.path.islink(folder):
        raise ValueError(
            f"{os.fspath(folder)} is a link, expected a folder: remove it, or name another place"
        )
    make_folder(folder)


def _try_to_write(folder: str | os.PathLike[str]) -> None:
    """Write, since permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"the folder {os.fspath(folder)} cannot be written to: {error.strerror}") from error


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what writers of ``path`` left behind that were killed; nobody must be writing to it now."""
    target = Path(path)
    token = "[0-9a-f]" * 12
    for temporary in target.parent.glob(f".{glob.escape(target.stem)}.{token}{glob.escape(target.suffix)}"):
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

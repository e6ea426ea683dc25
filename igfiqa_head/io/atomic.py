"""Writing a file so that readers see the old one or the new one, never half of it."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes ``path`` when the block ends without an error.

    The temporary file lies in the same folder (a rename is atomic within one file system only), keeps
    the suffix (some writers choose their format by it) and is removed if the block raises. Contents are
    flushed to the disk before the rename, so a crash cannot leave an empty file under the final name.
    A symbolic link is followed: its target is replaced, the link stays.

    Raises:
        OSError: the folder does not exist, or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(6)}{target.suffix}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor does it need to be
        _flush(target.parent)


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

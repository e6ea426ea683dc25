"""Folders that keep what was computed from faces: this user's alone, of limited age and size.

Embeddings and decoded images are biometric data. Such a folder has mode 0700 and its files 0600. It is marked
as a cache (https://bford.info/cachedir/), so that backups can pass it over. What was not used for
``IGFIQA_CACHE_DAYS`` is removed when the folder is opened, and so is what was not used for longest, as far as
the folder exceeds ``IGFIQA_CACHE_GB``. Files are known as ours by their names; no other is ever touched.
"""

from __future__ import annotations

import math
import os
import re
import stat
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.text import environment_number

MAX_GB = 10.0
MAX_DAYS = 90.0

_GB, _DAY = 1e9, 24 * 3600.0
_STARTED = time.time()
_OWN_NAME = re.compile(r"\.?([0-9a-f]{64}|decoded-[0-9a-f]{16})(\.[0-9a-f]+)?\.(f32|npy|json|lock)")
_TAG = "CACHEDIR.TAG"
_TAG_TEXT = """\
Signature: 8a477f597d28d172789f06886806bc55
# What igfiqa computed from face images, see https://bford.info/cachedir/; `igfiqa cache clear` removes it.
"""


@dataclass(frozen=True)
class Entry:
    """Files of one result.

    Attributes:
        paths: of the files, as text, since there may be many.
        size: their bytes.
        used: when the result was last used, in seconds since 1970.
    """

    paths: list[str]
    size: int
    used: float

    def remove(self) -> None:
        """Remove the files; those that are gone are no error."""
        for path in self.paths:
            with suppress(FileNotFoundError):
                os.unlink(path)


def default_folder() -> Path | None:
    """``igfiqa`` in the user's cache folder (XDG base directory specification), None without a home."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return caches / "igfiqa" if caches.is_absolute() else None


def limits() -> tuple[float, float]:
    """(GB, days since the last use) that a cache may reach.

    Raises:
        ValueError: the environment says something else than numbers from 0 on.
    """
    size = environment_number("IGFIQA_CACHE_GB", MAX_GB, 0, math.inf)
    return size, environment_number("IGFIQA_CACHE_DAYS", MAX_DAYS, 0, math.inf)


def open_folder(folder: Path, *, limit_size: bool = True) -> None:
    """Make a cache, if it does not exist, make it private, and remove what is beyond the limits.

    What was used within the last day, or since this program was started, stays, as it may still be read. A
    folder with other files, or one for all users such as /dev/shm, keeps its permissions: only ours in it are
    made private.

    Args:
        folder: its path.
        limit_size: False for one that the user asked for as large as it is.

    Raises:
        ValueError: the limits are no numbers.
        OSError: the folder cannot be made or read, or a file in it cannot be removed.
    """
    max_gb, max_days = limits()
    folder.mkdir(0o700, parents=True, exist_ok=True)
    if _is_wholly_ours(folder):
        _mark(folder)
        _make_private(folder, folder.stat())
    files = list(_own_files(folder))
    for _, path, status in files:
        _make_private(path, status)
    size, now = 0, time.time()
    for entry in sorted(_grouped(files), key=lambda entry: -entry.used):
        size += entry.size
        is_old = now - entry.used > max_days * _DAY
        is_beyond = limit_size and size > max_gb * _GB
        if (is_old or is_beyond) and entry.used < min(now - _DAY, _STARTED):
            entry.remove()


def entries(folder: Path) -> list[Entry]:
    """What a cache holds; links and the files of others are no part of it.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    return _grouped(_own_files(folder))


def clear(folder: Path) -> list[Entry]:
    """Remove everything that a cache holds; what it was.

    Raises:
        OSError: there is no such folder, or it cannot be read or written to.
    """
    removed = entries(folder)
    for entry in removed:
        entry.remove()
    return removed


def mark_used(path: Path) -> None:
    """Note that a file was used now; times of reading are kept on few file systems."""
    with suppress(OSError):
        os.utime(path)


_OwnFile = tuple[str, str, os.stat_result]


def _own_files(folder: Path) -> Iterator[_OwnFile]:
    """(name of the result, path, status) of each file."""
    with os.scandir(folder) as files:
        for file in files:
            name = _OWN_NAME.fullmatch(file.name)
            if name and file.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # another process may have removed it
                    yield name[1], file.path, file.stat(follow_symlinks=False)


def _grouped(files: Iterable[_OwnFile]) -> list[Entry]:
    results: dict[str, list[_OwnFile]] = defaultdict(list)
    for file in files:
        results[file[0]].append(file)
    return [
        Entry(
            [path for _, path, _ in parts],
            sum(status.st_size for *_, status in parts),
            max(status.st_mtime for *_, status in parts),
        )
        for parts in results.values()
    ]


def _is_wholly_ours(folder: Path) -> bool:
    is_for_all = folder.stat().st_mode & stat.S_ISVTX
    return not is_for_all and all(name == _TAG or _OWN_NAME.fullmatch(name) for name in os.listdir(folder))


def _mark(folder: Path) -> None:
    if not (folder / _TAG).exists():
        with atomic_path(folder / _TAG) as temporary:
            temporary.write_text(_TAG_TEXT)


def _make_private(path: str | Path, status: os.stat_result) -> None:
    """Take from others what an earlier version let them read; what is another user's stays as it is."""
    if status.st_mode & 0o077:
        with suppress(PermissionError):
            os.chmod(path, status.st_mode & 0o700)

"""Opening regular files and nothing else: a pipe is waited for, and a device need not end."""

from __future__ import annotations

import errno
import os
import stat

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)  # it changes nothing for a regular file


def regular(path: str, flags: int) -> int:
    """The descriptor of a file that is no pipe, socket or device, as the ``opener`` of :func:`open`.

    What was opened is looked at, and not the path, which may be another file a moment later.

    Raises:
        OSError: it is one of these, or cannot be opened.
    """
    descriptor = os.open(path, flags | _WITHOUT_WAITING)
    kind = _KINDS.get(stat.S_IFMT(os.fstat(descriptor).st_mode))
    if kind is not None:
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is {kind}, expected a regular file", path)
    return descriptor


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The content of a file; ``OSError`` as for :func:`regular`."""
    with open(path, "rb", opener=regular) as file:
        return file.read()

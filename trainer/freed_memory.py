"""Memory that a process frees and needs again in every step."""

from __future__ import annotations

import ctypes
import sys

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc serve all sizes from memory that the process had before, as PyTorch does on a GPU.

    By default it gives large activations back to the system, which has to clear the pages anew in each step.
    It stays so for the whole process. Elsewhere than on glibc this does nothing.
    https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)

"""A limit on torch's threads, for work that is too small to be shared among them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import torch  # noqa: F401  its thread pool must have been loaded to be found
from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[object]:
    """Within the block, what the calling thread does with torch stays in that thread.

    Threads of a pool that wait for each other do so at full speed, which takes the cores from everything
    else: on two busy cores a face is degraded ten times as fast without them. Unlike
    ``torch.set_num_threads`` this does not concern other threads.
    """
    return _thread_pools().limit(limits=1, user_api="openmp")


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()

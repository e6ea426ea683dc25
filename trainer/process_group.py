"""Joining the processes that torchrun has started, and what their loss looks like."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from igfiqa_head.ranks import ALONE, Ranks
from trainer.stopping import Stopped

# How the transports speak of a rank that is gone or silent. They raise plain RuntimeErrors.
_LOST = re.compile(r"gloo|nccl|connection|timed out|timeout", re.IGNORECASE)
_POLL_SECONDS = 0.02
_SHARE_OF_STORE = 0.8  # of the timeout: what it says of those that are missing should come before our own


class RankLostError(ConnectionError):
    """Another process of the training has ended or does not answer."""


@contextmanager
def training_processes(device: torch.device, timeout: float) -> Iterator[Ranks]:
    """The place of this process among those that torchrun started; alone without torchrun.

    What torchrun tells is in the environment: ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT``.

    Args:
        device: where this process computes: decides between NCCL and Gloo.
        timeout: seconds to wait for the others before giving up.

    Raises:
        ValueError: the device cannot be used by several processes.
        RankLostError: the processes do not find each other; or, later, in place of the transport's error.
    """
    if world_size() == 1:
        yield ALONE
        return
    if device.type not in ("cuda", "cpu"):
        raise ValueError(
            f"{world_size()} processes were started, which train on CUDA or CPU, got device {device}: set "
            "device=cpu"
        )
    backend = "nccl" if device.type == "cuda" else "gloo"
    _join(device, backend, timeout)
    is_done = False
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), dist.group.WORLD)
        is_done = True
    except Stopped:  # all of them stop in the same step
        is_done = True
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not _LOST.search(str(error)):
            raise
        raise RankLostError(
            f"another process of the training is gone, or did not answer within {timeout:.0f} s "
            f"(rank_timeout): its own message tells why. Go on with resume=True. ({_reason(error)})"
        ) from error
    finally:
        # After an error, NCCL would wait here for ranks that wait for this one; its end tells them.
        if is_done or backend == "gloo":
            dist.destroy_process_group()


def world_size() -> int:
    """How many processes torchrun has started, on all machines; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int | None:
    """Which of the processes on this machine this one is; None without torchrun."""
    number = os.environ.get("LOCAL_RANK")
    return None if number is None else int(number)


def _join(device: torch.device, backend: str, timeout: float) -> None:
    """Connect the processes, or give up after ``timeout`` seconds, whatever they wait for.

    A thread of its own tries: Gloo takes five times the limit it is given to connect, the store up to twice.
    """
    joined: Future[None] = Future()

    def join() -> None:
        try:
            _connect(device, backend, timeout)
            joined.set_result(None)
        except Exception as error:
            joined.set_exception(error)

    threading.Thread(target=join, daemon=True).start()
    try:
        joined.result(timeout)
    except (RuntimeError, FutureTimeoutError) as error:
        reason = str(error) or "one of them does not answer"
        raise RankLostError(
            f"the {world_size()} processes of the training did not come together within {timeout:.0f} s "
            f"(rank_timeout): {reason}"
        ) from error


def _connect(device: torch.device, backend: str, timeout: float) -> None:
    """As ``env://`` does, but apart from what earlier processes have left in the store that torchrun keeps.

    After a restart, processes would be sent to the addresses of those that were killed. Nor must they find
    NCCL's word of a failure there, which it leaves outside of any prefix, for others to write down what they
    were doing and end.
    """
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "0")
    limit = timedelta(seconds=timeout)
    store, rank, size = next(dist.rendezvous("env://", timeout=_SHARE_OF_STORE * limit))
    fresh = dist.PrefixStore(agree_on_name(store, rank, size, _SHARE_OF_STORE * timeout), store)
    # Told of its GPU, NCCL connects now. Else it would do so at the first exchange, and wait without a limit.
    gpu = device if device.type == "cuda" else None
    dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=limit, device_id=gpu)


def agree_on_name(store: dist.Store, rank: int, size: int, timeout: float) -> str:
    """A name for this start of ``size`` processes that no earlier one in the same store has had.

    Each process leaves a number that it has just drawn, and the first one answers it with the name until all
    have confirmed. So numbers, answers and confirmations of processes that are gone do no harm. torchrun's
    own count of restarts is not the same on all machines.

    Raises:
        RuntimeError: not all of them came within ``timeout`` seconds.
    """
    if rank > 0:
        number = secrets.token_hex(16)
        store.set(f"number of {rank}", number)
        name = store.get(f"name for {number}").decode()
        store.set(f"{name} confirmed by {rank}", "")
        return name
    name, deadline = secrets.token_hex(16), time.monotonic() + timeout
    missing = set(range(1, size))
    while missing:
        for other in missing:
            if store.check([f"number of {other}"]):
                store.set(f"name for {store.get(f'number of {other}').decode()}", name)
        missing = {other for other in missing if not store.check([f"{name} confirmed by {other}"])}
        if missing and time.monotonic() > deadline:
            raise RuntimeError(f"timed out waiting for ranks {sorted(missing)}")
        time.sleep(_POLL_SECONDS if missing else 0)
    return name


def _reason(error: Exception) -> str:
    """The transport's words, without the C++ calls that led to them."""
    words = str(error).partition("Exception raised from")[0].split()
    return " ".join(words) or type(error).__name__

"""Joining the processes that torchrun has started, and what their loss looks like."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from igfiqa_head.ranks import ALONE, Ranks

# How the transports speak of a rank that is gone or silent. They raise plain RuntimeErrors.
_LOST = re.compile(r"gloo|nccl|connection|timed out|timeout", re.IGNORECASE)


class RankLostError(ConnectionError):
    """Another process of the training has ended or does not answer."""


@contextmanager
def training_processes(
    device: torch.device, timeout: float, environment: Mapping[str, str] = os.environ
) -> Iterator[Ranks]:
    """The place of this process among those that torchrun started; alone without torchrun.

    Args:
        device: where this process computes: decides between NCCL and Gloo.
        timeout: seconds to wait for the others before giving up.
        environment: with torchrun's ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT``.

    Raises:
        ValueError: the device cannot be used by several processes.
        RankLostError: raised in place of the transport's error when another process is gone.
    """
    size = world_size(environment)
    if size == 1:
        yield ALONE
        return
    if device.type not in ("cuda", "cpu"):
        raise ValueError(
            f"{size} processes were started, which train on CUDA or CPU, got device {device}: set device=cpu"
        )
    try:
        _join(device, timedelta(seconds=timeout), environment)
        yield Ranks(dist.get_rank(), dist.get_world_size(), dist.group.WORLD)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not _LOST.search(str(error)):
            raise
        raise RankLostError(
            f"another process of the training is gone, or did not answer within {timeout:.0f} s "
            f"(rank_timeout): its own message tells why. Go on with resume=True. ({_first_line(error)})"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(device: torch.device, timeout: timedelta, environment: Mapping[str, str]) -> None:
    """As ``env://`` does, but apart from what earlier attempts have left in the store that torchrun keeps.

    After a restart on a fixed port, processes would be sent to the addresses of those that were killed.
    """
    store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore(f"attempt {attempt}", store),
        rank=rank,
        world_size=size,
        timeout=timeout,
    )


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes torchrun has started, on all machines; 1 without torchrun."""
    return int(environment.get("WORLD_SIZE", "1"))


def local_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """Which of the processes on this machine this one is; None without torchrun."""
    number = environment.get("LOCAL_RANK")
    return None if number is None else int(number)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

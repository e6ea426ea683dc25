"""Tests on several ranks: processes that talk by Gloo, forked from one that has imported torch already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from igfiqa_head.ranks import ALONE, Ranks

_TIMEOUT = 120
_CONTEXT = multiprocessing.get_context("forkserver")
# Optimisers import torch._dynamo, and DistributedDataParallel the other, which takes seconds in each process.
_CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "torch.distributed.fsdp", "trainer.run", "train", "tests.gloo"]
)


def on_ranks(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """``[function(ranks, *arguments)]`` of each rank; results are tensors and plain values."""
    port = free_port()
    with ThreadPoolExecutor(size) as pool:
        return list(
            pool.map(lambda rank: _result(_start(rank, size, port, function, arguments)), range(size))
        )


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def start(function: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """A process that runs ``function``."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def _start(rank: int, size: int, port: int, function: Callable[..., Any], arguments: Any) -> Connection:
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    start(_run, theirs, rank, size, port, function, arguments)
    theirs.close()
    return ours


def _result(connection: Connection) -> Any:
    if not connection.poll(_TIMEOUT):
        raise TimeoutError("a rank has not answered")
    error, result = torch.load(BytesIO(connection.recv_bytes()), weights_only=True)
    if error is not None:
        raise AssertionError(error)
    return result


def _send(answers: Connection, answer: Any) -> None:
    """As bytes: to share the memory of tensors, torch would need this process to live on."""
    buffer = BytesIO()
    torch.save(answer, buffer)
    answers.send_bytes(buffer.getvalue())


def _run(
    answers: Connection, rank: int, size: int, port: int, function: Callable[..., Any], arguments: Any
) -> None:
    torch.set_num_threads(1)
    ranks = ALONE
    try:
        if size > 1:
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            dist.init_process_group(
                "gloo", rank=rank, world_size=size, timeout=timedelta(seconds=_TIMEOUT / 2)
            )
            dist.barrier()  # a rank that has nothing to exchange must not be gone before all have met it
            ranks = Ranks(rank, size, dist.group.WORLD)
        _send(answers, (None, function(ranks, *arguments)))
    except Exception:
        _send(answers, (traceback.format_exc(), None))
    finally:
        with contextlib.suppress(Exception):
            dist.destroy_process_group()

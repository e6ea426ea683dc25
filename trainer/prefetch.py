"""Faces decoded ahead of time, by processes that write them to where the trainer reads them.

Batches lie in a few slots of shared memory that are used over and over: to send each one as memory of its own
would cost as much time, for its pages, as decoding what is in it. Each process is told by a pipe which slot
to fill and does so in turn. So what is asked for and what comes are in one order, and at either end of the
pipe it is noticed when the other one dies.

What the trainer does for a batch finds nothing in the caches, so it should be little: the queues and threads
of PyTorch's DataLoader cost nearly four times as much.
"""

from __future__ import annotations

import atexit
import gc
import signal
import struct
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, multiprocessing

from igfiqa_head.draws import keyed_uniforms

FLIP_STREAM = 2  # keeps the flips apart from the degradations, which have the same keys
UPRIGHT = -1
_BATCHES_AHEAD = 2  # per worker
_BAD_IMAGE, _BAD_CODE = b"i", b"c"

# This process's ends of the pipes to all workers. A worker that is forked inherits them, and were it to keep
# one open, the worker at its other end would not notice that the trainer has closed it.
_OUR_ENDS: weakref.WeakSet[Connection] = weakref.WeakSet()


class Draw(NamedTuple):
    """Positions in the data set, and the epoch that their flips are drawn for, or ``UPRIGHT``."""

    indices: NDArray[np.int64]
    epoch: int = UPRIGHT


class Faces(NamedTuple):
    """A batch on the host, all of it overwritten once the next one is asked for.

    Attributes:
        images: RGB uint8 [N, H, W, 3].
        labels: int64 [N].
        indices: int64 [N], positions in the data set.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class _Task(NamedTuple):
    """The first ``size`` indices of a slot are to be read."""

    slot: int
    size: int
    epoch: int


_PACKED_TASK = struct.Struct("<3q")


class _Reader:
    """Reads images into the slots, when the answer is wanted; ``dataset`` and ``seed`` as in Prefetcher."""

    def __init__(self, dataset: Any, slots: list[Faces], seed: int) -> None:
        self._dataset, self._slots, self._seed = dataset, slots, seed
        self._asked: deque[_Task] = deque()

    def ask(self, task: _Task) -> None:
        self._asked.append(task)

    def answer(self) -> None:
        self.read(self._asked.popleft())

    def read(self, task: _Task) -> None:
        faces, labels, indices = (part[: task.size].numpy() for part in self._slots[task.slot])
        flipped = np.zeros(task.size, bool)
        if task.epoch != UPRIGHT:
            flipped = keyed_uniforms(self._seed, FLIP_STREAM, task.epoch, indices, count=1)[:, 0] < 0.5
        shape = faces.shape[1:]
        for row, (index, is_flipped) in enumerate(zip(indices.tolist(), flipped.tolist(), strict=True)):
            try:
                image, labels[row] = self._dataset[index]
            except OSError as error:
                raise ValueError(f"image {index} cannot be read: {error}") from error
            if image.shape != shape or image.dtype != np.uint8:
                raise ValueError(
                    f"image {index} is {image.dtype} {list(image.shape)}, the first one uint8 {list(shape)}: "
                    "align all faces to one size"
                )
            faces[row] = cv2.flip(image, 1) if is_flipped else image  # straight into the slot is slower


class _Worker:
    """The same by a process of its own, which begins as soon as it is asked."""

    def __init__(self, reader: _Reader) -> None:
        self._pipe, their_end = multiprocessing.Pipe()
        _OUR_ENDS.add(self._pipe)
        _close_pipes_at_exit()
        self._process = multiprocessing.Process(target=_work, args=(reader, their_end), daemon=True)
        self._process.start()
        their_end.close()

    def ask(self, task: _Task) -> None:
        with suppress(ConnectionError):  # the answer will tell
            self._pipe.send_bytes(_PACKED_TASK.pack(*task))

    def answer(self) -> None:
        try:
            failure = self._pipe.recv_bytes()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            code = self._process.exitcode
            advice = (
                "was it killed for want of memory? Lower num_workers"
                if code == -signal.SIGKILL
                else "num_workers=0 reads the images without such processes"
            )
            raise ChildProcessError(
                f"a process that loads images died (exit code {code}): {advice}"
            ) from error
        if failure:
            text = failure[1:].decode("utf-8", "surrogatepass")
            raise ValueError(text) if failure.startswith(_BAD_IMAGE) else RuntimeError(text)


@cache
def _close_pipes_at_exit() -> None:
    """Before multiprocessing ends the workers that still run by SIGTERM, which they ignore, and waits."""
    atexit.register(_close_pipes)


def _close_pipes() -> None:
    for end in list(_OUR_ENDS):
        end.close()


def _work(reader: _Reader, pipe: Connection) -> None:
    """What a worker does until the trainer closes the pipe, or is gone."""
    _close_pipes()  # those inherited
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes; the trainer's last step needs it
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    gc.freeze()  # to go through what the trainer has made takes time, and memory that was shared until then
    with suppress(EOFError, ConnectionError):
        while True:
            task = _Task(*_PACKED_TASK.unpack(pipe.recv_bytes()))
            pipe.send_bytes(_failure(reader, task))


def _failure(reader: _Reader, task: _Task) -> bytes:
    """Nothing, or the kind of what went wrong and its text, which may name files that are no UTF-8."""
    try:
        reader.read(task)
    except ValueError as error:
        return _BAD_IMAGE + str(error).encode("utf-8", "surrogatepass")
    except Exception as error:
        text = f"the data set fails: {type(error).__name__}: {error}; num_workers=0 shows where"
        return _BAD_CODE + text.encode("utf-8", "surrogatepass")
    return b""


class Prefetcher:
    """Reads the faces of a data set in any order, by ``num_workers`` processes that live as long as it does.

    Nothing but the draws decides what comes: not the number of workers, and no generator.

    Args:
        dataset: ``dataset[i] -> (RGB uint8 [H, W, 3], label)``; all images of one size.
        batch_size: images of the largest draw.
        seed: of the horizontal flips (p = 0.5).
        num_workers: 0 reads in this process.

    Raises:
        ValueError: the first image cannot be read, or there is too little shared memory.
    """

    def __init__(self, dataset: Any, batch_size: int, *, seed: int, num_workers: int) -> None:
        self._batch_size, self._ahead = batch_size, num_workers * _BATCHES_AHEAD
        num_slots = self._ahead + 1  # one that is being used
        shape = (num_slots, batch_size)
        images = torch.empty((*shape, *dataset[0][0].shape), dtype=torch.uint8)
        labels, indices = torch.empty(shape, dtype=torch.int64), torch.empty(shape, dtype=torch.int64)
        if num_workers:
            _share(images, labels, indices)
        self._indices = indices.numpy()
        self._slots = [Faces(*parts) for parts in zip(images, labels, indices, strict=True)]
        reader = _Reader(dataset, self._slots, seed)
        workers = [_Worker(reader) for _ in range(num_workers)]
        self._readers: Sequence[_Reader | _Worker] = workers or [reader]
        self._asked: deque[tuple[_Reader | _Worker, _Task]] = deque()

    def read(self, draws: Iterable[Draw]) -> Iterator[Faces]:
        """The faces of each draw. It ends what an earlier call began.

        Raises:
            ValueError: an image cannot be read.
            RuntimeError: the data set raises anything else in a worker.
            ChildProcessError: a worker died.
        """
        self._forget()
        asked = self._asked = deque()
        numbered = enumerate(draws)
        while self._asked is asked:
            for number, draw in islice(numbered, self._ahead + 1 - len(asked)):
                asked.append(self._ask(number, draw))
            if not asked:
                return
            reader, task = asked.popleft()
            reader.answer()
            slot = self._slots[task.slot]
            is_full = task.size == self._batch_size
            yield slot if is_full else Faces(*(part[: task.size] for part in slot))

    def _ask(self, number: int, draw: Draw) -> tuple[_Reader | _Worker, _Task]:
        task = _Task(number % len(self._slots), len(draw.indices), draw.epoch)
        self._indices[task.slot, : task.size] = draw.indices
        reader = self._readers[number % len(self._readers)]
        reader.ask(task)
        return reader, task

    def _forget(self) -> None:
        """Take the answers that nobody waits for any more."""
        while self._asked:
            reader, _ = self._asked.popleft()
            with suppress(ValueError, RuntimeError):
                reader.answer()


def _share(*slots: Tensor) -> None:
    try:
        for tensor in slots:
            tensor.share_memory_()
    except RuntimeError as error:
        raise ValueError(
            f"{slots[0].nbytes / 2**20:.0f} MiB of memory to share with the loader's workers cannot be had "
            f"({error}): lower num_workers or batch_size, or give the container more (docker run --shm-size)"
        ) from error

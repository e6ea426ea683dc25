"""Faces decoded ahead of time, by processes that write them to where the trainer reads them.

Batches lie in a few slots of shared memory that are used over and over. To send each batch as a tensor of its
own, as PyTorch does, would take fresh memory for it: its pages cost as much time as decoding what is in it.
"""

from __future__ import annotations

import gc
import signal
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from igfiqa_head.draws import keyed_uniforms

FLIP_STREAM = 2  # keeps the flips apart from the degradations, which have the same keys
_BATCHES_AHEAD = 2  # per worker


class Draw(NamedTuple):
    """Positions in the data set, and the epoch that their flips are drawn for; None leaves them upright."""

    indices: NDArray[np.int64]
    epoch: int | None = None


class Faces(NamedTuple):
    """A batch on the host; ``images`` is overwritten once the next one is asked for.

    Attributes:
        images: RGB uint8 [N, H, W, 3].
        labels: int64 [N].
        indices: int64 [N], positions in the data set.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class _Task(NamedTuple):
    slot: int
    draw: Draw


class _Tasks:
    """What the workers are told to read, and into which slot; the DataLoader asks for it in this process."""

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self.draws: Iterable[Draw] = ()
        self.free: deque[int] = deque()

    def __iter__(self) -> Iterator[_Task]:
        self.free = deque(range(self._num_slots))
        for draw in self.draws:
            yield _Task(self.free.popleft(), draw)


class _IntoSlots(Dataset):
    """Carries out tasks, within the workers."""

    def __init__(self, dataset: Any, slots: Tensor, seed: int) -> None:
        self._dataset, self._slots, self._seed = dataset, slots, seed

    def __getitem__(self, task: _Task) -> tuple[_Task, NDArray[np.int64]]:
        indices, epoch = task.draw
        flipped = np.zeros(len(indices), bool)
        if epoch is not None:
            flipped = keyed_uniforms(self._seed, FLIP_STREAM, epoch, indices, count=1)[:, 0] < 0.5
        faces, labels = self._slots[task.slot].numpy(), np.empty(len(indices), np.int64)
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
        return task, labels


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
        num_slots = num_workers * _BATCHES_AHEAD + 1  # one that is being used, the others ahead of it
        self._slots = torch.empty((num_slots, batch_size, *dataset[0][0].shape), dtype=torch.uint8)
        if num_workers:
            _share(self._slots)
        self._tasks = _Tasks(num_slots)
        self._loader = DataLoader(
            _IntoSlots(dataset, self._slots, seed),
            batch_size=None,
            sampler=self._tasks,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            prefetch_factor=_BATCHES_AHEAD if num_workers else None,
            persistent_workers=num_workers > 0,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # else each pass would advance the global one, and resuming not
        )
        # Garbage collection of a cycle ends the threads that talk to the workers before the workers, which
        # PyTorch then waits for 5 seconds. So this object may be part of a cycle, but its loader is not.
        weakref.finalize(self, _let_go, self._loader).atexit = False

    def read(self, draws: Iterable[Draw]) -> Iterator[Faces]:
        """The faces of each draw, which must not refer to this object. It ends what an earlier call began.

        Raises:
            ValueError: an image cannot be read.
            ChildProcessError: a worker died.
        """
        self._tasks.draws = draws
        with _errors_of_workers_in_one_line():
            for (slot, (indices, _)), labels in self._loader:
                images = self._slots[slot, : len(indices)]
                yield Faces(images, torch.from_numpy(labels), torch.from_numpy(indices))
                self._tasks.free.append(slot)


def _share(slots: Tensor) -> None:
    try:
        slots.share_memory_()
    except RuntimeError as error:
        raise ValueError(
            f"{slots.nbytes / 2**20:.0f} MiB of memory to share with the loader's workers cannot be had "
            f"({error}): lower num_workers or batch_size, or give the container more (docker run --shm-size)"
        ) from error


def _let_go(loader: DataLoader) -> None:
    """What is wanted is that the reference to the loader ends."""


def _as_it_is(result: Any) -> Any:
    """PyTorch's own conversion would make tensors of the small arrays, which take longer to send."""
    return result


def _start_worker(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; the trainer still needs its workers for the last step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # to go through what the trainer has made takes time, and memory that was shared until then


@contextmanager
def _errors_of_workers_in_one_line() -> Iterator[None]:
    """torch puts a worker's whole traceback into the message; its last line is what was meant."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        if not message.startswith("Caught "):
            raise
        # Its frames refer to the workers and are part of a cycle, see Prefetcher.
        error.__traceback__ = None
        raise ValueError(message.strip().splitlines()[-1].partition(": ")[2]) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ChildProcessError(
            f"a process that loads images died ({error}): was it killed for want of memory? Lower num_workers"
        ) from error

"""From a data set of uint8 faces to batches on the device, in an order that only (seed, epoch) decides."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from igfiqa_head.draws import keyed_uniforms
from igfiqa_head.sub_batches import Batch

FLIP_STREAM = 2  # keeps the flips apart from the degradations, which have the same keys
ORDER_STREAM = 4


class _Samples(NamedTuple):
    images: Tensor  # uint8 [N, H, W, 3]
    labels: Tensor
    indices: Tensor


class _Indexed(Dataset):
    """The data set with each sample's position beside it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, int]:
        image, label = self.dataset[index]
        return image, label, index


def _collate(samples: list[tuple[np.ndarray, int, int]]) -> _Samples:
    images, labels, indices = zip(*samples, strict=True)
    return _Samples(torch.from_numpy(np.stack(images)), torch.tensor(labels), torch.tensor(indices))


class _EpochOrder:
    """Batches of one epoch's shuffled indices, from any batch on; the incomplete last one is dropped."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch = self.first_batch = 0

    def __len__(self) -> int:
        return self.size // self.batch_size - self.first_batch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, ORDER_STREAM, self.epoch]).permutation(self.size)
        for batch in range(self.first_batch, self.size // self.batch_size):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


def to_network_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 RGB [N, H, W, 3] -> float32 [N, 3, H, W] in [-1, 1] on the device."""
    pixels = images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def _leave_interrupts_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; the trainer still needs its workers for the last step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _errors_of_workers_in_one_line() -> Iterator[None]:
    """torch puts a worker's whole traceback into the message; its last line is what was meant."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        if not message.startswith("Caught "):
            raise
        raise ValueError(message.strip().splitlines()[-1].partition(": ")[2]) from error


class Loader:
    """Shuffled, flipped batches of a data set.

    Args:
        dataset: ``dataset[i] -> (RGB uint8 [H, W, 3], label)``.
        batch_size: images drawn per batch.
        seed: of the order and of the horizontal flips (p = 0.5).
        num_workers: loader processes; 0 loads in this one.
        device: where the batches go.

    Raises:
        ValueError: the data set does not fill one batch.
    """

    def __init__(
        self, dataset: Any, batch_size: int, *, seed: int, num_workers: int, device: torch.device
    ) -> None:
        if len(dataset) < batch_size:
            raise ValueError(
                f"the data set has {len(dataset)} images, fewer than the {batch_size} that one step draws: "
                "lower batch_size"
            )
        self.seed, self.device = seed, device
        self.batches_per_epoch = len(dataset) // batch_size
        self.batches_of_all = math.ceil(len(dataset) / batch_size)
        self._dataset, self._batch_size, self._num_workers = _Indexed(dataset), batch_size, num_workers
        self._order = _EpochOrder(len(dataset), batch_size, seed)
        self._loader = self._open(batch_sampler=self._order, persistent_workers=num_workers > 0)

    def _open(self, **settings: Any) -> DataLoader:
        return DataLoader(
            self._dataset,
            collate_fn=_collate,
            num_workers=self._num_workers,
            worker_init_fn=_leave_interrupts_to_the_trainer,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else each pass would advance the global one, and resuming not
            **settings,
        )

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch``, from number ``first`` on.

        Raises:
            ValueError: an image cannot be read.
        """
        self._order.epoch, self._order.first_batch = epoch, first
        with _errors_of_workers_in_one_line():
            for samples in self._loader:
                yield self._on_device(samples, epoch)

    def every_image(self) -> Iterator[Batch]:
        """Each image once, upright and in the data set's order, in ``batches_of_all`` batches.

        Raises:
            ValueError: an image cannot be read.
        """
        with _errors_of_workers_in_one_line():
            for samples in self._open(batch_size=self._batch_size):
                images = to_network_input(samples.images, self.device)
                yield Batch(images, samples.labels.to(self.device), samples.indices, epoch=0)

    def _on_device(self, samples: _Samples, epoch: int) -> Batch:
        images = to_network_input(samples.images, self.device)
        draws = keyed_uniforms(self.seed, FLIP_STREAM, epoch, samples.indices.numpy(), count=1)
        flipped = torch.from_numpy(draws[:, 0] < 0.5).to(self.device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        labels = samples.labels.to(self.device, non_blocking=True)
        return Batch(images, labels, samples.indices, epoch)

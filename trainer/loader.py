"""From a data set of uint8 faces to batches on the device, in an order that only (seed, epoch) decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor

from igfiqa_head.sub_batches import Batch
from igfiqa_head.transfer import sent
from trainer.prefetch import Draw, Faces, Prefetcher
from trainer.sampler import ShardedOrder, share_of


def to_network_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 RGB [N, H, W, 3] -> float32 [N, 3, H, W] in [-1, 1] on the device."""
    pixels = sent(images, device).permute(0, 3, 1, 2)
    # Tensor cores want the channels last, as they come; on a CPU that is not faster for all networks.
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    return pixels.to(torch.float32, memory_format=layout).div_(127.5).sub_(1)


class Loader:
    """Shuffled, flipped batches of a data set; on several ranks each has its share of every step.

    Args:
        dataset: ``dataset[i] -> (RGB uint8 [H, W, 3], label)``; all images of one size.
        batch_size: images drawn per batch, by this rank.
        seed: of the order and of the horizontal flips (p = 0.5).
        num_workers: loader processes; 0 loads in this one.
        device: where the batches go.
        rank, world_size: which share of how many is this one's, see :class:`~trainer.sampler.ShardedOrder`.

    Attributes:
        batches_per_epoch: the same on every rank.
        batches_of_all: of :meth:`every_image`, on this rank.

    Raises:
        ValueError: the data set does not fill one batch of each rank, or its first image cannot be read.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        seed: int,
        num_workers: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._order = ShardedOrder(len(dataset), batch_size, seed, rank, world_size)
        self._share = share_of(len(dataset), rank, world_size)
        self.dataset, self._batch_size, self.device = dataset, batch_size, device
        self.batches_per_epoch = self._order.steps
        self.batches_of_all = math.ceil(len(self._share) / batch_size)
        self._prefetcher = Prefetcher(dataset, batch_size, seed=seed, num_workers=num_workers)
        self._stream: Iterator[Faces] = iter(())
        self._next: int | None = None  # number of the stream's next batch, counted through all epochs

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch``, from number ``first`` on. It ends what an earlier call has not finished.

        Raises:
            ValueError: an image cannot be read.
            ChildProcessError: a worker died.
        """
        for faces in self.faces(epoch, first):
            yield self._on_device(faces, epoch)

    def faces(self, epoch: int, first: int = 0) -> Iterator[Faces]:
        """The same as :meth:`batches`, as bytes on the host: what the workers made."""
        steps = self.batches_per_epoch
        begin, end = epoch * steps + first, (epoch + 1) * steps
        if self._next != begin:
            self._next, self._stream = begin, self._prefetcher.read(self._draws(begin))
        for number in range(begin, end):
            if self._next != number:  # a later call has taken over
                return
            self._next = None  # if there is an error, the stream ends with it
            faces = next(self._stream)
            self._next = number + 1
            yield faces

    def _draws(self, begin: int) -> Iterator[Draw]:
        """From batch ``begin`` of all epochs on, without end, so that workers do not wait for an epoch."""
        for number in count(begin):
            epoch, step = divmod(number, self.batches_per_epoch)
            yield Draw(self._order.batch(epoch, step), epoch)

    def every_image(self) -> Iterator[Batch]:
        """Each image once over all ranks, upright and in the data set's order.

        Raises:
            ValueError: an image cannot be read.
            ChildProcessError: a worker died.
        """
        share, at_once = self._share, self._batch_size
        draws = (Draw(share[start : start + at_once]) for start in range(0, len(share), at_once))
        self._next = None
        for faces in self._prefetcher.read(draws):
            yield self._on_device(faces, epoch=0)

    def _on_device(self, faces: Faces, epoch: int) -> Batch:
        images = to_network_input(faces.images, self.device)
        labels = sent(faces.labels.clone(), self.device)
        return Batch(images, labels, faces.indices.clone(), epoch)

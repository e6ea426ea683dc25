"""The processes that train together: which of them this one is, what it holds, and what they exchange.

Images are spread over the ranks and so are the classes. Every rank passes its own images through its copy of
the backbone, all embeddings are gathered, and each rank compares them with the prototypes that it holds. From
then on all ranks compute the same numbers, of which each differentiates what it contributed itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together. Without arguments it is alone.

    Every rank calls the same methods in the same order, with tensors of equal shape.

    Args:
        rank: number of this process.
        size: how many there are.
        group: their process group; None takes torch's default group where there are several.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    def __post_init__(self) -> None:
        if self.size > 1 and self.group is None:
            object.__setattr__(self, "group", dist.group.WORLD)

    def __deepcopy__(self, memo: object) -> Ranks:
        """The same: a copy of a module, such as an export makes, belongs to the same processes."""
        return self

    def classes(self, num_classes: int) -> range:
        """The classes whose prototypes and statistics this rank holds; arcface_torch divides them alike.

        Raises:
            ValueError: there are fewer classes than ranks.
        """
        if num_classes < self.size:
            raise ValueError(
                f"{num_classes} classes cannot be spread over {self.size} processes: start fewer processes"
            )
        share, more = divmod(num_classes, self.size)
        start = share * self.rank + min(self.rank, more)
        return range(start, start + share + (self.rank < more))

    def own_rows(self, gathered: Tensor) -> Tensor:
        """What this rank gave to :meth:`gather`."""
        count = len(gathered) // self.size
        return gathered[self.rank * count : (self.rank + 1) * count]

    def parts(self, x: Tensor) -> list[Tensor]:
        """``x`` of each rank; the gradient flows into this rank's own."""
        if self.size == 1:
            return [x]
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, x.detach().contiguous(), group=self.group)
        parts[self.rank] = x
        return parts

    def gather(self, x: Tensor) -> Tensor:
        """The rows of ``x`` [B, ...] of all ranks, [size * B, ...]; the gradient flows into this rank's own.

        That is the derivative where every rank makes the same of what was gathered.
        """
        return x if self.size == 1 else torch.cat(self.parts(x))

    def gather_for_shards(self, x: Tensor) -> Tensor:
        """The same, where each rank makes its own part of a whole: the gradients of all ranks are summed."""
        return x if self.size == 1 else _GatherForShards.apply(x, self)

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all ranks, equal on each to the last bit; the gradient is that of the own term."""
        return x if self.size == 1 else torch.stack(self.parts(x)).sum(dim=0)

    @torch.no_grad()
    def total(self, x: Tensor) -> Tensor:
        """The sum over all ranks of large tensors, without gradient; ``x`` is overwritten."""
        if self.size > 1:
            dist.all_reduce(x, group=self.group)
        return x

    def any(self, condition: bool) -> bool:
        """Whether ``condition`` holds on some rank."""
        return condition if self.size == 1 else bool(self.sum(self.tensor(int(condition))) > 0)

    def texts(self, text: str) -> list[str]:
        """``text`` of each rank."""
        content = text.encode()
        lengths = [int(length) for length in self.parts(self.tensor(len(content)))]
        padded = self.tensor(list(content.ljust(max(lengths))))
        return [
            bytes(part.tolist())[:length].decode()
            for part, length in zip(self.parts(padded), lengths, strict=True)
        ]

    def tensor(self, content: int | list[int]) -> Tensor:
        """Integers on the device where this group communicates."""
        on_gpu = self.size > 1 and dist.get_backend(self.group) == dist.Backend.NCCL
        return torch.tensor(content, device="cuda" if on_gpu else "cpu")

    def counted_once_each(self, x: Tensor) -> Tensor:
        """``x``, with a gradient that is right after the mean over ranks that DistributedDataParallel takes.

        A rank's own images get their whole gradient on that rank, and the others none: of a loss that all
        ranks share, the mean over ranks would leave a fraction.
        """
        return x if self.size == 1 else _TimesInBackward.apply(x, self.size)

    def averaged(self, parameter: Tensor) -> Tensor:
        """``parameter``, which all ranks have alike, with the mean of their gradients as its gradient.

        Averaging once more, as DistributedDataParallel does, changes nothing.
        """
        return parameter if self.size == 1 else _MeanInBackward.apply(parameter, self)


ALONE = Ranks()


class _GatherForShards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_gathered: Tensor) -> tuple[Tensor | None, ...]:
        total = by_gathered.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.ranks.group)
        return ctx.ranks.own_rows(total), None


class _TimesInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, by_x: Tensor) -> tuple[Tensor | None, ...]:
        return by_x * ctx.factor, None


class _MeanInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_x: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.ranks.sum(by_x) / ctx.ranks.size, None

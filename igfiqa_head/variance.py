"""Which classes are diverse enough to teach quality: the running intra-class variance and its weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from igfiqa_head.similarity import checked_labels

_ROUNDING = 1e-3  # of cosines, far more than there can be
_OVERWRITTEN = (
    "the running variance v of this rank's classes was overwritten from outside. DistributedDataParallel "
    "does so with the buffers of a module that it wraps: leave the quality head out of it, which averages "
    "its gradient by itself, or pass broadcast_buffers=False"
)


def momentum_at(epoch: float, num_epoch: int, start: float = 0.9, end: float = 1.0) -> float:
    """The momentum alpha of Eq. 8 in (0-based, possibly fractional) ``epoch`` of ``num_epoch``.

    It rises linearly from ``start`` and would reach ``end`` at the end of the last epoch.

    Raises:
        ValueError: ``epoch`` is outside [0, num_epoch).
    """
    if not 0 <= epoch < num_epoch:
        raise ValueError(f"epoch must lie in [0, num_epoch = {num_epoch}), got {epoch}")
    return start + (end - start) * epoch / num_epoch


def _accumulator_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64


class IntraClassVariance(nn.Module):
    """One running estimate v of 1 - CCS per class (Eq. 8) and the sample weights made from it (Eq. 9).

    With prototypes spread over ranks, v is spread the same way: this module holds the classes
    [class_start, class_start + num_local) and every rank calls each method with the same global labels.

    Args:
        num_classes: C, over all ranks.
        class_start: first class held here.
        num_local: how many classes are held here; default: all from ``class_start`` on.
        group: process group over which the classes are spread; None for one process.
        only_seen: take mean and standard deviation over the classes updated at least once. The attribute of
            this name may be changed at any time.

    On several ranks, nothing else may write to v: with the v of another rank, as DistributedDataParallel puts
    it into all modules that it wraps, :meth:`update` ends in a ``RuntimeError``.

    Buffers:
        variance: float32 [num_local], 1.0 at first.
        seen: bool [num_local].

    Source: https://arxiv.org/abs/2403.08256, Eq. 7-9. The sign follows the paper: images that are all
    alike have high CCS, low v and a weight towards 0.
    """

    variance: Tensor
    seen: Tensor
    _ddp_params_and_buffers_to_ignore = ("variance", "seen")  # read by torch's DistributedDataParallel

    def __init__(
        self,
        num_classes: int,
        *,
        class_start: int = 0,
        num_local: int | None = None,
        group: dist.ProcessGroup | None = None,
        only_seen: bool = False,
    ) -> None:
        super().__init__()
        num_local = num_classes - class_start if num_local is None else num_local
        if num_local < 0 or not 0 <= class_start <= num_classes - num_local:
            raise ValueError(
                f"classes {class_start} .. {class_start + num_local} do not lie inside 0 .. {num_classes}"
            )
        self.num_classes = num_classes
        self.class_start = class_start
        self.group = group
        self.only_seen = only_seen
        self.register_buffer("variance", torch.ones(num_local))
        self.register_buffer("seen", torch.zeros(num_local, dtype=torch.bool))
        self._left: Tensor | None = None
        self.register_load_state_dict_post_hook(_remember_loaded)

    @torch.no_grad()
    def update(self, labels: Tensor, ccs: Tensor, momentum: float) -> None:
        """Eq. 8: v <- momentum * v + (1 - momentum) * mean(1 - CCS), once for each class in ``labels``.

        The mean makes the result independent of the order of the samples. ``momentum=0`` replaces v: the
        value that it starts from has no say then, so classes that were never updated do not count any more
        (``only_seen``).

        Args:
            labels: [B] global class indices.
            ccs: [B] cosines, any float type. Those that are not finite, of a step that will not be taken, are
                left out.
            momentum: alpha in [0, 1].

        Raises:
            ValueError: labels out of range, a momentum outside [0, 1], or shapes that differ.
            RuntimeError: on several ranks, something else has written to v.
        """
        self._refuse_foreign_values()
        labels = checked_labels(labels, self.num_classes)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        if ccs.shape != labels.shape:
            raise ValueError(f"ccs must be [{len(labels)}] like the labels, got shape {tuple(ccs.shape)}")
        finite = ccs.isfinite()
        distance = torch.where(finite, 1 - ccs.to(_accumulator_dtype(ccs.device)), 0)
        # Sums of all classes held here: to find those of the batch first, a GPU would have to be waited for.
        sums = distance.new_zeros(2, len(self.variance) + 1)
        sums.index_add_(1, self._rows(labels), torch.stack([distance, finite.to(distance.dtype)]))
        total, count = sums[:, :-1]
        blended = momentum * self.variance + (1 - momentum) * total / count.clamp_min(1)
        self.variance.copy_(torch.where(count > 0, blended, self.variance))
        self.seen |= count > 0
        self.only_seen |= momentum == 0
        self._remember()

    @torch.no_grad()
    def weights(self, labels: Tensor, mean_and_std: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Eq. 9: 1 + clip((v_y - mean(v)) / (std(v) + 1e-6), -1, 0) for each label's class y.

        Args:
            labels: [B] global class indices.
            mean_and_std: of v as it is now, where the caller has them already.

        Returns:
            float32 [B] in [0, 1].
        """
        labels = checked_labels(labels, self.num_classes)
        mean, std = self.mean_and_std() if mean_and_std is None else mean_and_std
        weights = 1 + ((self.variance.to(mean.dtype) - mean) / (std + 1e-6)).clamp(-1, 0)
        own = F.pad(weights, (0, 1))[self._rows(labels)]
        return self._sum_over_ranks(own).to(self.variance.dtype)

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Mean and population standard deviation of v over all classes of all ranks (scalars).

        Two passes in float64: with v near 1, E[v^2] - E[v]^2 would cancel.
        """
        v = self.variance.to(_accumulator_dtype(self.variance.device))
        counted = self.seen if self.only_seen else torch.ones_like(self.seen)
        # In one message: what a sum over ranks takes is the waiting for each other.
        sums = torch.stack([counted.sum().to(v.dtype), torch.where(counted, v, 0).sum()])
        count, total = self._sum_over_ranks(sums)
        count = count.clamp_min(1)
        mean = total / count
        squares = torch.where(counted, v - mean, 0).square().sum()
        return mean, (self._sum_over_ranks(squares) / count).sqrt()

    def _remember(self) -> None:
        """Keep a copy of v on several ranks, where others than this module are tempted to write to it."""
        self._left = None if self.group is None else self.variance.clone()

    def _refuse_foreign_values(self) -> None:
        left = self._left
        if left is None or (left.device, left.dtype) != (self.variance.device, self.variance.dtype):
            return
        is_same = (left == self.variance).all()
        if is_same.is_cuda:  # without waiting for the device
            torch._assert_async(is_same, _OVERWRITTEN)
        elif not is_same:
            raise RuntimeError(_OVERWRITTEN)

    def _rows(self, labels: Tensor) -> Tensor:
        """Where each label's class is among those held here; one place after the last if it is not."""
        rows, held = labels - self.class_start, len(self.variance)
        return torch.where((rows >= 0) & (rows < held), rows, held)

    def _sum_over_ranks(self, x: Tensor) -> Tensor:
        if self.group is not None:
            dist.all_reduce(x, group=self.group)
        return x


def _remember_loaded(module: Any, _: object) -> None:
    """A hook that has a name, unlike a lambda, can be pickled with the module."""
    v = module.variance
    if not ((v > -_ROUNDING) & (v < 2 + _ROUNDING)).all():
        raise ValueError(
            f"variance must lie in [0, 2] as means of 1 - CCS do, got {v.min():g} to {v.max():g}"
        )
    module._remember()

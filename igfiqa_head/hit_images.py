"""Degrading those images of a batch that the draws hit, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from igfiqa_head.transfer import sent

Kind = tuple[Tensor, Callable[..., Tensor], Sequence[Tensor]]
"""Which images are hit, bool [B]; the degradation; and what it takes beside them, each [B]. On the CPU."""


def degrade_hit(images: Tensor, kinds: Iterable[Kind]) -> Tensor:
    """A copy of ``images`` [B, ...] with one kind of degradation after the other applied to what it hits."""
    images = images.clone()
    for hit, degrade_rows, arguments in kinds:
        rows = hit.nonzero().squeeze(1)
        if len(rows):
            target = sent(rows, images.device)
            images[target] = degrade_rows(images[target], *(a[rows] for a in arguments))
    return images


def between(limits: tuple[float, float], u: Tensor) -> Tensor:
    """Uniform in ``limits`` for ``u`` uniform in [0, 1)."""
    low, high = limits
    return low + (high - low) * u


def sent_like(x: Tensor, images: Tensor) -> Tensor:
    """``x``, from the CPU, in the type and on the device of ``images``."""
    return sent(x.to(images.dtype), images.device)

"""The mixed precision of a recipe: the same wherever its backbone is called."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def mixed_precision(device: torch.device, half: torch.dtype | None) -> AbstractContextManager[object]:
    """A context in which a backbone computes in ``half``; None leaves full precision.

    Without it a backbone in half precision takes PyTorch's choice for the device: float16 on a GPU, whose
    range a network that was trained in bfloat16 may exceed.
    """
    return nullcontext() if half is None else torch.autocast(device.type, dtype=half)

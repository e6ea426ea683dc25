"""From the host to a GPU without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``; what was asked of a GPU before need not be done.

    A copy from memory that is not pinned waits for it.
    https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
    """
    if device.type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)

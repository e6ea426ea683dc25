"""A witness of what torch does: how large the tensors are that it makes, and by which operations."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class MadeTensors(TorchDispatchMode):
    """Within the block, forward and backward, notes every operation and every tensor with memory of its own.

    Attributes:
        sizes: number of values of each such tensor.
        operations: names, such as "mm".
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.operations: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        self.operations.append(func.overloadpacket.__name__)
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in known:
                self.sizes.append(x.untyped_storage().nbytes() // x.element_size())
        return result

"""What a margin is: the one interface of all margin-based softmax losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor


class MarginOutput(NamedTuple):
    """What a margin makes of the cosines.

    Attributes:
        target: [B] cosines to the own class with the margin applied.
        negatives: maps the cosines [B, K] of any K classes to those used for the other classes; None leaves
            them. Elementwise, not in place, with a derivative; what else it uses, such as a number for each
            sample, counts as constant. Called for one chunk of classes after the other, also in backward.
        regulariser: scalar that is added to the loss, or None.
    """

    target: Tensor
    negatives: Callable[[Tensor], Tensor] | None = None
    regulariser: Tensor | None = None


class Margin(Protocol):
    """Called with the target cosines [B], the embedding norms [B] and the labels [B]."""

    def __call__(self, target: Tensor, norms: Tensor, labels: Tensor) -> MarginOutput: ...

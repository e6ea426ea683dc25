"""Cosines to the class prototypes, one chunk of classes after the other: memory does not grow with C."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Values in the largest temporary: 16 MiB in float32. Larger ones leave the processor's caches, much smaller
# ones make matrix products too short.
CHUNK_VALUES = 2**22
_EPS = 1e-12  # of torch's normalize: a prototype of length 0 has the cosine 0 to everything


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, widened to float32 if narrower: similarity statistics are never kept in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def inverse_lengths(prototypes: Tensor) -> Tensor:
    """[C]: 1 / |W_j|, with the bound on small lengths that torch's normalize has."""
    return torch.linalg.vector_norm(prototypes, dim=1).clamp_min_(_EPS).reciprocal_()


class Chunk(NamedTuple):
    """K classes and their cosines to a batch.

    Attributes:
        classes: where they are among all prototypes, a slice or indices [K].
        own: [B, 1] column of each sample's own class; where that is in another chunk, any column.
        own_is_here: [B, 1] whether it is in this one.
        prototypes: [K, D], un-normalised.
        inverse_lengths: [K], 1 / |W_j|.
        cosines: [B, K] in [-1, 1], float32 or wider; may be changed in place, and the next chunk does so.
    """

    classes: slice | Tensor
    own: Tensor
    own_is_here: Tensor
    prototypes: Tensor
    inverse_lengths: Tensor
    cosines: Tensor

    def own_values(self, values: Tensor) -> Tensor:
        """[B]: each sample's value of ``values`` [B, K] at its own class, 0 where that is elsewhere."""
        return (values.gather(1, self.own) * self.own_is_here).squeeze(1)

    def fill_own(self, values: Tensor, fill: float) -> Tensor:
        """``values`` [B, K] with ``fill`` at each sample's own class, in place."""
        # Without nonzero(), which would make a GPU wait in every chunk.
        kept = values.gather(1, self.own).masked_fill_(self.own_is_here, fill)
        return values.scatter_(1, self.own, kept)


def chunk_size(unit_embeddings: Tensor) -> int:
    """How many classes a chunk has at most."""
    return max(1, CHUNK_VALUES // max(unit_embeddings.shape))


def cosine_chunks(
    unit_embeddings: Tensor, prototypes: Tensor, own: Tensor, classes: Tensor | None = None
) -> Iterator[Chunk]:
    """The cosines of a batch to all prototypes, or to some, in chunks of at most ``CHUNK_VALUES`` values.

    Neither normalised prototypes nor all cosines exist at any time. Nothing is recorded for autograd.

    Args:
        unit_embeddings: [B, D] of length 1, float32 or wider.
        prototypes: [C, D], un-normalised, of any float type.
        own: [B] position of each sample's own class among the classes; outside of them where it is missing,
            as on a rank that holds other classes.
        classes: [K] indices of the prototypes to use; None for all.
    """
    count = len(prototypes) if classes is None else len(classes)
    size = chunk_size(unit_embeddings)
    # One buffer for all chunks: allocators do not reliably reuse what the last chunk gave back.
    buffer = unit_embeddings.new_empty(len(unit_embeddings) * min(size, count))
    for start in range(0, count, size):
        stop = min(start + size, count)
        rows = slice(start, stop) if classes is None else classes[start:stop]
        part = at_least_float32(prototypes[rows])
        inverse = inverse_lengths(part)
        with torch.autocast(part.device.type, enabled=False):
            cosines = buffer[: len(unit_embeddings) * len(part)].view(len(unit_embeddings), len(part))
            torch.mm(unit_embeddings, part.T, out=cosines).mul_(inverse).clamp_(-1, 1)
        column = own[:, None] - start
        is_here = (column >= 0) & (column < stop - start)
        yield Chunk(rows, column.clamp(0, stop - start - 1), is_here, part, inverse, cosines)

r"""A softmax over class prototypes with a margin on the own class, in memory that does not grow with C.

With unit embeddings x_i, unit prototypes w_j = W_j / |W_j|, c_ij = x_i . w_j, the own class y and its cosine
with margin t_i, the loss of a sample is

    -log( e^(s t_i) / (e^(s t_i) + sum_{j != y} e^(s n(c_ij))) )  =  -log sigmoid(s t_i - L_i),
    L_i = log sum_{j != y} e^(s n(c_ij)),

where n is the identity or what a margin makes of the other classes' cosines. t_i takes B numbers and plain
autograd. L_i is made from chunks of classes, and backward makes each chunk again instead of keeping it: four
matrix products rather than three, but never a matrix [B, C]: beside the gradient of W there are three
buffers of at most CHUNK_VALUES values (and copies of that size where n or a choice of classes asks for
them), whatever C is. With g_i the derivative of the loss by L_i, that
by c_ij, j != y, is G_ij = g_i s e^(s n(c_ij) - L_i) n'(c_ij), and

    by x_i:  sum_j G_ij w_j,      by W_j:  (sum_i G_ij x_i - w_j sum_i G_ij c_ij) / |W_j|.

With prototypes spread over ranks, the own cosine is the sum of the ranks' own cosines, L the log-sum-exp of
their L, and the nearest cosine the largest of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from igfiqa_head.class_chunks import Chunk, at_least_float32, chunk_size, cosine_chunks, inverse_lengths

Transform = Callable[[Tensor], Tensor]


def own_cosines(unit_embeddings: Tensor, prototypes: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample's cosine to its own class [B], and the prototypes, to be handed to :func:`other_classes`.

    Through them backward gets the gradient of all prototypes here and adds that of B rows to it in place,
    instead of spreading these over a second matrix [C, D].

    Args:
        unit_embeddings: [B, D] of length 1, float32 or wider.
        prototypes: [C, D], un-normalised.
        own: [B] row of the own class; outside of the rows where it is missing: cosine 0.
    """
    cosines, prototypes = _OwnCosines.apply(unit_embeddings, prototypes, own)
    return cosines, prototypes


class OtherClasses(NamedTuple):
    """What the classes other than the own one are to each sample of a batch.

    Attributes:
        log_sum_exp: [B], L; -inf if there is no other class.
        nearest: [B], the largest cosine before n, without gradient: NNCCS if all classes took part.
    """

    log_sum_exp: Tensor
    nearest: Tensor


def other_classes(
    unit_embeddings: Tensor,
    prototypes: Tensor,
    own: Tensor,
    *,
    scale: float,
    negatives: Transform | None = None,
    classes: Tensor | None = None,
) -> OtherClasses:
    """L and the nearest cosine of each sample over all classes but its own, in one sweep over the prototypes.

    Args:
        unit_embeddings: [B, D] of length 1, float32 or wider.
        prototypes: [C, D], un-normalised.
        own: [B] position of the own class among ``classes``; outside of them where it is missing.
        scale: s.
        negatives: n, see :class:`igfiqa_head.margin.MarginOutput`; None leaves the cosines.
        classes: [K] rows of the prototypes that take part, each once; None for all.
    """
    return OtherClasses(*_OtherClasses.apply(unit_embeddings, prototypes, own, scale, negatives, classes))


class _OwnCosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, prototypes: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        here = ((own >= 0) & (own < len(prototypes)))[:, None]
        rows = own.where(here.squeeze(1), 0)
        part = at_least_float32(prototypes[rows])
        inverse = here * inverse_lengths(part)[:, None]
        unit_part = part * inverse
        cosines = (x * unit_part).sum(dim=1, keepdim=True).clamp_(-1, 1)
        ctx.save_for_backward(x, unit_part, inverse, cosines, rows)
        return cosines.squeeze(1), prototypes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_cosines: Tensor, by_prototypes: Tensor) -> tuple[Tensor | None, ...]:
        x, unit_part, inverse, cosines, rows = ctx.saved_tensors
        by_cosines = by_cosines[:, None]
        by_part = by_cosines * inverse * (x - cosines * unit_part)
        # In place, as nothing else holds this gradient: it was made for here by other_classes.
        by_prototypes.index_add_(0, rows, by_part.to(by_prototypes.dtype))
        return by_cosines * unit_part, by_prototypes, None


class _OtherClasses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        prototypes: Tensor,
        own: Tensor,
        scale: float,
        negatives: Transform | None,
        classes: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        nearest = [x.new_full((len(x),), -torch.inf)]
        log_sum_exp = [*nearest]
        for chunk in cosine_chunks(x, prototypes, own, classes):
            logits = chunk.cosines if negatives is None else negatives(chunk.cosines)
            nearest.append(chunk.fill_own(chunk.cosines, -torch.inf).amax(dim=1))
            log_sum_exp.append(_log_sum_exp_(chunk.fill_own(logits, -torch.inf).mul_(scale)))
        total = torch.stack(log_sum_exp).logsumexp(dim=0)
        largest = torch.stack(nearest).amax(dim=0)
        ctx.save_for_backward(x, prototypes, own, classes, total)
        ctx.scale, ctx.negatives = scale, negatives
        ctx.mark_non_differentiable(largest)
        return total, largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, prototypes, own, classes, total = ctx.saved_tensors
        by_x = torch.zeros_like(x)
        by_prototypes = torch.empty_like(prototypes) if classes is None else torch.zeros_like(prototypes)
        # What is the same for a whole sample, s g_i, is left to the small matrices [B, D].
        factor = ctx.scale * by_total
        scaled_x = factor[:, None] * x
        size = min(chunk_size(x), len(prototypes))
        for_share, for_part = x.new_empty(size * len(x)), x.new_empty(size, x.shape[1])
        with torch.autocast(x.device.type, enabled=False):
            for chunk in cosine_chunks(x, prototypes, own, classes):
                share = _share(chunk, total, ctx.scale, ctx.negatives, for_share).mul_(chunk.inverse_lengths)
                by_x.addmm_(share, chunk.prototypes)
                radial = chunk.cosines.mul_(share).T.mv(factor).mul_(chunk.inverse_lengths)
                by_part = torch.mm(share.T, scaled_x, out=for_part[: len(radial)])
                by_part.addcmul_(chunk.prototypes, radial[:, None], value=-1)
                by_prototypes[chunk.classes] = by_part.to(prototypes.dtype)
        return by_x.mul_(factor[:, None]), by_prototypes, None, None, None, None


def _share(chunk: Chunk, total: Tensor, scale: float, negatives: Transform | None, buffer: Tensor) -> Tensor:
    """[B, K]: e^(s n(c) - L) n'(c), and 0 for the own class; made in ``buffer`` where n is the identity."""
    out = buffer[: chunk.cosines.numel()].view_as(chunk.cosines)
    if negatives is None:
        return chunk.fill_own(torch.add(-total[:, None], chunk.cosines, alpha=scale, out=out).exp_(), 0)
    with torch.enable_grad():
        cosines = chunk.cosines.detach().requires_grad_()
        logits = negatives(cosines)
    torch.add(-total[:, None], logits.detach(), alpha=scale, out=out)
    return torch.autograd.grad(logits, cosines, chunk.fill_own(out.exp_(), 0))[0]


def _log_sum_exp_(logits: Tensor) -> Tensor:
    """[B], over the rows of ``logits``, which it overwrites; torch's own makes a copy."""
    largest = logits.amax(dim=1, keepdim=True).clamp_min_(torch.finfo(logits.dtype).min)  # never -inf
    return logits.sub_(largest).exp_().sum(dim=1).log_().add_(largest.squeeze(1))

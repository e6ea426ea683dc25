"""A quality head on several ranks, in a loop of somebody else: what is wrong there is impossible or loud."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from igfiqa_head import IGFIQAHead
from igfiqa_head.quality_head import QualityHead
from igfiqa_head.ranks import ALONE, Ranks
from plugins.classifiers.partial_fc import PartialFC
from plugins.margins.arcface import ArcFace
from plugins.quality_heads.cr_fiqa import CRFIQAHead
from tests.gloo import on_ranks

C, D, B, STEPS = 10, 8, 6, 4
HEADS = {"ig_fiqa": IGFIQAHead, "cr_fiqa": CRFIQAHead}


def faces(step: int) -> tuple[Tensor, Tensor]:
    """The batch of all ranks: embeddings near the direction of their class, some classes tighter."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(C, (B,), generator=generator)
    noise = torch.randn(B, D, generator=generator, dtype=torch.float64) * (1 + labels[:, None]) / C
    return torch.eye(C, D, dtype=torch.float64)[labels] + noise, labels


def trained(ranks: Ranks, name: str, wrapped: str) -> dict[str, Any]:
    """Losses, R and v of a loop that knows nothing of several ranks but how to take its share of a batch."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    classifier = PartialFC(D, C, ArcFace(0.2), ranks=ranks)
    head: QualityHead = HEADS[name](D, C, ranks=ranks)
    called: nn.Module = DistributedDataParallel(head) if ranks.size > 1 and wrapped == "head" else head
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
    losses = []
    for step in range(STEPS):
        embeddings, labels = map(ranks.own_rows, faces(step))
        loss = called(embeddings, labels, classifier, epoch=step / 2).loss  # some classes stay unseen
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(ranks.sum(loss.detach()) / ranks.size)
    v = head.variance.variance if isinstance(head, IGFIQAHead) else torch.ones(0)
    return {"losses": torch.stack(losses), "R": head.regressor.weight.detach(), "v": v}


@pytest.mark.parametrize("name", ["ig_fiqa", "cr_fiqa"])
@pytest.mark.parametrize("wrapped", ["nothing", "head"])
@pytest.mark.parametrize("size", [2, 3])
def test_a_head_alone_or_in_distributed_data_parallel_learns_as_on_one_process(
    size: int, wrapped: str, name: str
) -> None:
    """Of 10 classes, three ranks hold different numbers."""
    (alone,) = on_ranks(1, trained, name, wrapped)
    several = on_ranks(size, trained, name, wrapped)
    for found in several:
        torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-6, atol=0)
        torch.testing.assert_close(found["R"], alone["R"], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(torch.cat([found["v"] for found in several]), alone["v"])


def overwritten(ranks: Ranks) -> str:
    """The error of a head that is wrapped together with a backbone, whose pass makes the buffers equal."""
    head = IGFIQAHead(D, C, ranks=ranks)
    both = DistributedDataParallel(nn.ModuleDict({"backbone": nn.Linear(D, D), "head": head}))
    try:
        for _ in range(2):
            both._sync_buffers()
            head.variance.update(torch.arange(C), torch.linspace(0, 1, C), 0.5)
    except RuntimeError as error:
        return str(error)
    return ""


def test_v_that_is_overwritten_with_that_of_another_rank_is_told() -> None:
    assert "leave the quality head out of it" in on_ranks(2, overwritten)[1]


def restored(ranks: Ranks) -> list[float]:
    """v after loading a state, and one more step."""
    held = ranks.classes(C)
    head = IGFIQAHead(D, C, ranks=ranks)
    for value in (0.5, 0.7):
        state = {"variance": torch.full((len(held),), value), "seen": torch.ones(len(held)) > 0}
        head.variance.load_state_dict(state)
        head.variance.update(torch.tensor([0, C - 1]), torch.ones(2), 1.0)
    return head.variance.variance.tolist()


def test_v_from_a_checkpoint_is_not_taken_for_overwritten() -> None:
    assert np.concatenate(on_ranks(2, restored)) == pytest.approx([0.7] * C)


def refused(ranks: Ranks) -> str:
    try:
        DistributedDataParallel(PartialFC(D, C, ArcFace(0.2), ranks=ranks))
    except RuntimeError as error:
        return str(error)
    return ""


def test_shards_of_prototypes_cannot_be_made_equal_by_distributed_data_parallel() -> None:
    assert all("any parameter that requires a gradient" in message for message in on_ranks(2, refused))


def copied(ranks: Ranks) -> list[float]:
    regressor = IGFIQAHead(D, C, ranks=ranks).regressor
    x = torch.randn(B, D)
    return (copy.deepcopy(regressor)(x) - regressor(x)).tolist()


def test_r_can_be_copied_by_an_export() -> None:
    assert on_ranks(2, copied) == [[0] * B] * 2


def told(ranks: Ranks) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        IGFIQAHead(D, C)
        IGFIQAHead(D, C, ranks=ranks)
    return [str(warning.message) for warning in found]


def test_a_head_that_does_not_know_of_the_other_processes_says_so() -> None:
    for messages in on_ranks(2, told):
        assert len(messages) == 1
        assert "one of 2" in messages[0]
    assert told(ALONE) == []

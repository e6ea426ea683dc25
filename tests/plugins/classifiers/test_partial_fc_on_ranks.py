"""Classifier and quality heads fed with the same embeddings on several ranks and on one: the same numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import plugins.margins  # noqa: F401  registers the margins
from igfiqa_head import IGFIQAHead, class_center_similarities
from igfiqa_head.margin import Margin, MarginOutput
from igfiqa_head.quality_head import QualityHead
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.registry import MARGINS
from plugins.classifiers.partial_fc import PartialFC
from plugins.quality_heads.cr_fiqa import CRFIQAHead
from tests.gloo import on_ranks
from tests.made_tensors import MadeTensors

BATCH, DIMENSIONS, STEPS = 12, 5, 2
SIZES = (2, 4)


class EverythingUsed:
    """A margin that takes norms and labels into account, changes the negatives and adds a regulariser."""

    def __call__(self, target: Tensor, norms: Tensor, labels: Tensor) -> MarginOutput:
        hardness = (norms.detach() / norms.detach().max() + labels % 2)[:, None]
        return MarginOutput(
            target - 0.05 * norms, lambda cosines: cosines * (1 + hardness * cosines), norms.square().mean()
        )


class Case(NamedTuple):
    """A setting, and what kind of batches is seen in it."""

    num_classes: int = 13
    sample_rate: float = 1.0
    margin: str = "arcface"
    threshold: float = 0.0
    head: str = "ig_fiqa"
    batches: str = "any"

    def __str__(self) -> str:
        return "-".join(map(str, self))


HEADS: dict[str, Callable[..., QualityHead]] = {
    "ig_fiqa": IGFIQAHead,
    "ig_fiqa seen": lambda *args, **kwargs: IGFIQAHead(*args, variance_init="seen", **kwargs),
    "cr_fiqa": CRFIQAHead,
}
RATES = (1.0, 0.3, 0.0)
MARGIN_NAMES = (*MARGINS, "everything used")
SPECIAL = ("one class", "last class", "far classes", "duplicates", "all negative")
CASES = [
    *itertools.starmap(Case, itertools.product([13], RATES, MARGIN_NAMES, [0.0, 0.2])),
    *itertools.starmap(Case, itertools.product([4, 31], RATES, MARGIN_NAMES[-1:])),  # 2 and 4 divide 4 alone
    *(Case(31, rate, head=head) for rate in RATES for head in ("ig_fiqa seen", "cr_fiqa")),
    *(Case(13, rate, batches=name) for rate in RATES for name in SPECIAL),
]


def prototypes(case: Case) -> Tensor:
    """[C, DIMENSIONS], of all ranks."""
    generator = torch.Generator().manual_seed(case.num_classes)
    drawn = torch.randn(case.num_classes, DIMENSIONS, generator=generator, dtype=torch.float64)
    return 0.2 * (drawn.abs() if case.batches == "all negative" else drawn)


def batch(case: Case, step: int) -> tuple[Tensor, Tensor]:
    """Embeddings and labels of all ranks."""
    generator = torch.Generator().manual_seed(step)
    embeddings = 3 * torch.randn(BATCH, DIMENSIONS, generator=generator, dtype=torch.float64)
    labels = torch.randint(case.num_classes, (BATCH,), generator=generator)
    last = case.num_classes - 1
    if case.batches == "all negative":
        embeddings = -embeddings.abs()
    elif case.batches == "one class":
        labels.zero_()
    elif case.batches == "last class":
        labels.fill_(last)
    elif case.batches == "far classes":  # each rank has images of classes that another one holds
        labels = torch.where(torch.arange(BATCH) < BATCH // 2, last, 0)
    elif case.batches == "duplicates":
        embeddings, labels = embeddings[:2].repeat(BATCH // 2, 1), labels[:2].repeat(BATCH // 2)
    return embeddings, labels


def margin_of(case: Case) -> Margin:
    return EverythingUsed() if case.margin == "everything used" else MARGINS.get(case.margin)()


def classifier_of(case: Case, ranks: Ranks) -> PartialFC:
    module = PartialFC(
        DIMENSIONS,
        case.num_classes,
        margin_of(case),
        scale=16.0,
        sample_rate=case.sample_rate,
        interclass_filtering_threshold=case.threshold,
        ranks=ranks,
    ).double()
    with torch.no_grad():
        module.weight.copy_(prototypes(case)[module.classes.start : module.classes.stop])
    return module


def head_of(case: Case, ranks: Ranks) -> QualityHead:
    torch.manual_seed(1)
    return HEADS[case.head](DIMENSIONS, case.num_classes, ranks=ranks).double()


def trained(ranks: Ranks, case: Case) -> list[dict[str, Any]]:
    """What each of a few steps finds; W is moved after each."""
    module, head = classifier_of(case, ranks), head_of(case, ranks)
    steps = []
    for step in range(STEPS):
        embeddings, labels = (ranks.own_rows(x).clone() for x in batch(case, step))
        loss = module(embeddings.requires_grad_(), labels, step=step)
        ccs, nnccs = module.class_center_similarities(embeddings, labels)
        output = head(embeddings, labels, module, epoch=step)
        for parameter in (*module.parameters(), *head.parameters()):
            parameter.grad = None
        (loss + head.loss_weight * output.loss).backward()
        found = {"loss": loss, "quality_loss": output.loss, "ccs": ccs, "nnccs": nnccs}
        found |= {"by_embeddings": embeddings.grad, "by_prototypes": module.weight.grad}
        found |= {f"by_{name}": x.grad for name, x in head.regressor.named_parameters()}
        found |= {"weights": head.class_weights(), "weight_mean": output.statistics.get("weight_mean", loss)}
        found |= {name: x for name, x in head.named_buffers() if x.is_floating_point()}
        steps.append({name: x.detach().clone() for name, x in found.items()})
        with torch.no_grad():
            module.weight -= 0.01 * module.weight.grad
    return steps


def all_trained(ranks: Ranks, cases: list[Case]) -> list[list[dict[str, Any]]]:
    return [trained(ranks, case) for case in cases]


@cache
def found_on(size: int) -> list[list[list[dict[str, Any]]]]:
    """Of each rank and case the steps, in as few processes as can be."""
    return on_ranks(size, all_trained, CASES)


# How the ranks' findings make those of one process.
HELD_BY_CLASS = ("by_prototypes", "variance.variance")
OF_OWN_IMAGES = ("ccs", "nnccs")
MEANS = ("quality_loss", "weight_mean", "by_weight", "by_bias")


def put_together(ranks: list[dict[str, Any]]) -> dict[str, Any]:
    whole = dict(ranks[0])
    for name in whole:
        values = [found[name] for found in ranks]
        if name in HELD_BY_CLASS or name in OF_OWN_IMAGES:
            whole[name] = torch.cat(values)
        elif name in MEANS:
            whole[name] = torch.stack(values).mean(dim=0)
        elif name == "by_embeddings":  # DistributedDataParallel takes the mean of what they lead to
            whole[name] = torch.cat(values) / len(ranks)
        else:
            assert all(torch.equal(value, values[0]) for value in values), name
    return whole


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: str(CASES[number]))
def test_any_number_of_ranks_finds_the_same(number: int, size: int) -> None:
    one = trained(ALONE, CASES[number])
    many = [put_together([rank[number][step] for rank in found_on(size)]) for step in range(STEPS)]
    for expected, got in zip(one, many, strict=True):
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            assert value.isfinite().all(), name
            torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-11, msg=lambda m: f"{name}: {m}")  # noqa: B023


def test_the_cases_are_what_they_are_called() -> None:
    """Conflicts are filtered, negatives sampled, and cosines negative where that is to be tested."""

    def of(**settings: Any) -> dict[str, Any]:
        return trained(ALONE, Case(31, **settings))[0]

    assert of()["loss"] != of(threshold=0.2)["loss"]
    assert of()["loss"] > of(sample_rate=0.3)["loss"] > of(sample_rate=0.0)["loss"] > 0
    assert of(batches="one class", sample_rate=0.0)["loss"] == 0
    assert of(batches="all negative")["nnccs"].max() < 0
    assert of()["weights"].min() < 1
    for rank in range(2):
        held = Ranks(rank, 2).classes(31)
        labels = Ranks(rank, 2).own_rows(batch(Case(31, batches="far classes"), 0)[1])
        assert not any(label in held for label in labels.tolist())


def remembering(ranks: Ranks) -> dict[str, list[Any]]:
    """Whether similarities took a matrix product, and what they were, in several situations."""
    case = Case()
    module = classifier_of(case, ranks)
    embeddings, labels = (ranks.own_rows(x).clone() for x in batch(case, 0))
    found: dict[str, list[Any]] = {}

    def ask(name: str, embeddings: Tensor, labels: Tensor) -> None:
        with MadeTensors() as made:
            ccs, nnccs = module.class_center_similarities(embeddings, labels)
        found[name] = ["mm" in made.operations, ccs.clone(), nnccs.clone()]
        found[name] += [embeddings.clone(), labels.clone(), module.weight.detach().clone()]

    def after_a_loss(name: str, change: Callable[[], object]) -> None:
        module(embeddings, labels)
        change()
        ask(name, embeddings, labels)

    after_a_loss("the same", lambda: None)
    ask("the same again", embeddings.detach(), labels)
    ask("equal embeddings", embeddings.clone(), labels)
    ask("equal labels", embeddings, labels.clone())
    after_a_loss("changed embeddings", lambda: embeddings.add_(0.5))
    after_a_loss("changed labels", lambda: labels.add_(1).remainder_(case.num_classes))
    after_a_loss("changed prototypes", lambda: torch.nn.init.normal_(module.weight))
    after_a_loss("loaded prototypes", lambda: module.load_state_dict({"weight": module.weight + 0.1}))
    module(embeddings, labels).backward()
    torch.optim.SGD(module.parameters(), lr=0.1, fused=True).step()
    ask("a step of a fused optimiser", embeddings, labels)
    with torch.inference_mode():
        inferred = embeddings * 2
        module(inferred, labels)
        ask("inference mode", inferred, labels)
        inferred.neg_()
        ask("changed in inference mode", inferred, labels)
    return found


@cache
def remembering_on(size: int) -> list[dict[str, list[Any]]]:
    return on_ranks(size, remembering)


@pytest.mark.parametrize("size", [1, *SIZES])
def test_similarities_are_remembered_for_the_same_tensors_only(size: int) -> None:
    known = {"the same", "the same again"}
    for rank in remembering_on(size):
        assert {name for name, (took_a_product, *_) in rank.items() if not took_a_product} == known
        assert len(rank) == 11


@pytest.mark.parametrize("size", [1, *SIZES])
def test_similarities_are_those_of_the_moment_whether_remembered_or_not(size: int) -> None:
    ranks = remembering_on(size)
    for name in ranks[0]:
        ccs, nnccs, embeddings, labels = (torch.cat([rank[name][i] for rank in ranks]) for i in (1, 2, 3, 4))
        whole = torch.cat([rank[name][5] for rank in ranks])
        torch.testing.assert_close((ccs, nnccs), class_center_similarities(embeddings, whole, labels))

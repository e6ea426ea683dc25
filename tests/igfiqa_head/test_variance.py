"""The running intra-class variance (Eq. 8), its weights (Eq. 9) and the momentum schedule."""

import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from igfiqa_head import IntraClassVariance, class_center_similarities, momentum_at
from tests.references import method

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def steps(b: int, c: int, count: int, dtype: torch.dtype = torch.float32) -> list[tuple[Any, Any, float]]:
    """A few steps of (labels, CCS, momentum)."""
    generator = torch.Generator().manual_seed(b * 1000 + c)
    return [
        (
            torch.randint(c, (b,), generator=generator),
            (2 * torch.rand(b, generator=generator) - 1).to(dtype),
            momentum_at(step, count),
        )
        for step in range(count)
    ]


@pytest.mark.parametrize("only_seen", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "c"), list(itertools.product((1, 8, 50), (1, 2, 30))))
def test_updates_and_weights_match_the_loops(b: int, c: int, dtype: torch.dtype, only_seen: bool) -> None:
    module = IntraClassVariance(c, only_seen=only_seen)
    expected, seen = np.ones(c), np.zeros(c, dtype=bool)
    for labels, ccs, momentum in steps(b, c, 6, dtype):
        module.update(labels, ccs, momentum)
        expected = method.update_variance(expected, labels.tolist(), ccs.double().tolist(), momentum)
        seen[labels] = True
        np.testing.assert_allclose(module.variance, expected, rtol=1e-6)
        weights = module.weights(labels)
        own = method.variance_weights(
            module.variance.tolist(), labels.tolist(), seen.tolist() if only_seen else None
        )
        assert weights.shape == (b,)
        np.testing.assert_allclose(weights, own, rtol=0, atol=1e-6)
    assert module.variance.dtype == weights.dtype == torch.float32
    assert module.seen.tolist() == seen.tolist()


def test_an_update_is_the_formula_on_numbers_worked_by_hand() -> None:
    module = IntraClassVariance(3)
    module.update(torch.tensor([2, 0, 2]), torch.tensor([0.5, -1.0, 0.9]), 0.9)
    torch.testing.assert_close(module.variance, torch.tensor([1.1, 1.0, 0.93]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_of_the_samples_does_not_change_a_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (60,), generator=generator)
    ccs = (2 * torch.rand(60, generator=generator) - 1).to(dtype)
    results = []
    for order in [torch.arange(60), *(torch.randperm(60, generator=generator) for _ in range(30))]:
        module = IntraClassVariance(5)
        module.update(labels[order], ccs[order], 0.9)
        results.append(module.variance.clone())
    assert all(torch.equal(result, results[0]) for result in results)
    assert results[0][4] == 1


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_repeating_every_sample_changes_nothing(momentum: float) -> None:
    once, thrice = IntraClassVariance(6), IntraClassVariance(6)
    labels, ccs, _ = steps(5, 6, 1)[0]
    once.update(labels, ccs, momentum)
    thrice.update(labels.repeat(3), ccs.repeat(3), momentum)
    torch.testing.assert_close(once.variance, thrice.variance, rtol=1e-7, atol=0)
    assert (once.variance == 1).all() == (momentum == 1)


def test_an_empty_batch_updates_nothing() -> None:
    module = IntraClassVariance(3)
    module.update(torch.zeros(0, dtype=torch.long), torch.zeros(0), 0.9)
    assert module.variance.tolist() == [1, 1, 1]
    assert module.weights(torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_statistics_survive_cancellation_near_one() -> None:
    """std is 3e-7 at a mean of 1: E[v^2] - E[v]^2 keeps three digits in float64 and none in float32."""
    module = IntraClassVariance(4096)
    ulps = torch.arange(4096, dtype=torch.float64) % 17
    module.variance.copy_(1 - ulps * 2.0**-24)
    mean, std = module.mean_and_std()
    exact = ulps.numpy() * 2.0**-24
    assert 1 - mean.item() == pytest.approx(exact.mean(), rel=1e-8)
    assert std.item() == pytest.approx(exact.std(), rel=1e-8)
    weights = module.weights(torch.arange(17))
    expected = method.variance_weights(module.variance.tolist(), range(17))
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert 0 < weights.min() < 1  # the 1e-6 beside std counts here


@pytest.mark.parametrize("value", [1.0, 0.3, 0.1, 1e-3])
@pytest.mark.parametrize("only_seen", [False, True])
def test_equal_classes_weigh_one(value: float, only_seen: bool) -> None:
    module = IntraClassVariance(1001, only_seen=only_seen)
    module.variance.fill_(value)
    torch.testing.assert_close(module.weights(torch.arange(1001)), torch.ones(1001))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 2, width=32), min_size=1, max_size=20))
def test_weights_lie_in_the_unit_interval_and_rise_with_variance(values: list[float]) -> None:
    module = IntraClassVariance(len(values))
    module.variance.copy_(torch.tensor(values))
    weights = module.weights(module.variance.argsort())
    assert weights.min() >= 0
    assert weights.max() == 1  # some class is not below the mean
    assert (weights.diff() >= 0).all()


def test_only_seen_leaves_out_the_classes_at_their_initial_value() -> None:
    labels, ccs = torch.arange(4), torch.tensor([0.9, 0.8, 0.7, 0.6])
    everyone, seen = IntraClassVariance(100), IntraClassVariance(100, only_seen=True)
    for module in (everyone, seen):
        module.update(labels, ccs, 0.5)
    assert everyone.weights(labels).tolist() == [0, 0, 0, 0]
    spread = math.sqrt(0.0125)  # of 0.1, 0.2, 0.3, 0.4 around 0.25, and half of that for v
    expected = torch.tensor([0.0, 1 - 0.05 / spread, 1.0, 1.0])
    torch.testing.assert_close(seen.weights(labels), expected, rtol=0, atol=2e-5)
    everyone.update(labels, ccs, 0.0)  # replaces v, so that nothing of the initial values is left
    torch.testing.assert_close(everyone.weights(labels), expected, rtol=0, atol=2e-5)
    assert IntraClassVariance(5, only_seen=True).weights(torch.arange(5)).tolist() == [1] * 5


def test_near_duplicate_classes_are_silenced_and_diverse_ones_are_not() -> None:
    """Pins the sign of Eq. 8-9; averaging CCS instead of 1 - CCS would silence the diverse classes."""
    generator = torch.Generator().manual_seed(0)
    c, d, near_duplicates = 40, 32, 8
    prototypes = torch.nn.functional.normalize(torch.randn(c, d, generator=generator))
    spread = torch.where(torch.arange(c) < near_duplicates, 0.02, 0.15)
    module = IntraClassVariance(c)
    for step in range(100):
        labels = torch.randint(c, (64,), generator=generator)
        noise = torch.randn(64, d, generator=generator) * spread[labels, None]
        ccs, _ = class_center_similarities(prototypes[labels] + noise, prototypes, labels)
        module.update(labels, ccs, momentum_at(step // 50, 2))
    weights = module.weights(torch.arange(c))
    assert (weights[:near_duplicates] == 0).all()
    assert (weights[near_duplicates:] > 0.8).all()
    assert (weights == 1).float().mean() > 0.4


def test_v_tells_the_intra_class_variance_of_eq_6() -> None:
    """With W along the centre mu of unit vectors, v = 1 - |mu| and var = 1 - |mu|^2 = v (2 - v)."""
    generator = torch.Generator().manual_seed(0)
    for spread in (0.05, 0.2, 1.0):
        faces = torch.randn(500, 16, generator=generator, dtype=torch.float64) * spread
        faces[:, 0] += 1
        faces = torch.nn.functional.normalize(faces)
        centre = faces.mean(0)
        variance = (faces - centre).square().sum(1).mean().item()
        module = IntraClassVariance(2)
        labels = torch.zeros(500, dtype=torch.long)
        ccs, _ = class_center_similarities(faces, torch.stack([centre, -centre]), labels)
        module.update(labels, ccs, 0.0)
        v = module.variance[0].item()
        assert v * (2 - v) == pytest.approx(variance, rel=1e-5)


def test_v_is_saved_and_never_a_parameter() -> None:
    module = IntraClassVariance(3)
    module.update(torch.tensor([1]), torch.tensor([0.5]), 0.0)
    assert not list(module.parameters())
    assert set(module.state_dict()) == {"variance", "seen"}
    resumed = IntraClassVariance(3)
    resumed.load_state_dict(module.state_dict())
    assert resumed.variance.tolist() == [1, 0.5, 1]
    assert resumed.seen.tolist() == [False, True, False]


def test_v_can_be_pickled_as_spawned_processes_do() -> None:
    variance = IntraClassVariance(3)
    variance.update(torch.tensor([1]), torch.tensor([0.4]), momentum=0.5)
    copy = pickle.loads(pickle.dumps(variance))
    assert torch.equal(copy.variance, variance.variance)
    copy.load_state_dict(variance.state_dict())


def test_no_gradient_flows_through_v() -> None:
    module = IntraClassVariance(3)
    ccs = torch.tensor([0.5, 0.1], requires_grad=True)
    module.update(torch.tensor([0, 1]), ccs, 0.5)
    assert not module.variance.requires_grad
    assert not module.weights(torch.tensor([0, 1])).requires_grad


@pytest.mark.parametrize(
    ("labels", "momentum", "message"),
    [
        (torch.tensor([0, 3]), 0.9, r"\[0, 3\).*0 .. 3"),
        (torch.tensor([-1, 2]), 0.9, r"\[0, 3\).*-1 .. 2"),
        (torch.tensor([0.0, 1.0]), 0.9, "integers"),
        (torch.tensor([[0], [1]]), 0.9, r"\(2, 1\)"),
        (torch.tensor([0, 1]), 1.1, r"\[0, 1\], got 1.1"),
        (torch.tensor([0, 1]), -0.1, r"\[0, 1\], got -0.1"),
        (torch.tensor([0, 1]), math.nan, r"\[0, 1\], got nan"),
    ],
)
def test_bad_updates_are_refused(labels: torch.Tensor, momentum: float, message: str) -> None:
    module = IntraClassVariance(3)
    with pytest.raises(ValueError, match=message):
        module.update(labels, torch.zeros(2), momentum)
    assert module.variance.tolist() == [1, 1, 1]


def test_weights_take_the_mean_and_std_they_are_given() -> None:
    module = IntraClassVariance(3)
    module.variance.copy_(torch.tensor([0.1, 0.5, 0.9]))
    labels = torch.tensor([2, 1, 0])
    assert torch.equal(module.weights(labels, module.mean_and_std()), module.weights(labels))
    given = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    torch.testing.assert_close(module.weights(labels, given), torch.tensor([1, 0.5, 0]), rtol=0, atol=1e-5)


def test_bad_labels_are_refused_by_weights() -> None:
    with pytest.raises(ValueError, match=r"got 3 \.\. 3"):
        IntraClassVariance(3).weights(torch.tensor([3]))


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1)])
def test_ccs_that_do_not_fit_the_labels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"ccs must be \[4\]"):
        IntraClassVariance(3).update(torch.tensor([0, 1, 1, 0]), torch.zeros(shape), 0.9)


def test_byte_labels_are_indices() -> None:
    module = IntraClassVariance(3)
    module.variance.copy_(torch.tensor([0.1, 0.5, 0.9]))
    labels = torch.tensor([2, 1, 1])
    torch.testing.assert_close(module.weights(labels.byte()), module.weights(labels))


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, 11), (8, 3), (11, None), (0, -1)])
def test_shards_outside_the_classes_are_refused(start: int, count: int | None) -> None:
    with pytest.raises(ValueError, match=r"inside 0 \.\. 10"):
        IntraClassVariance(10, class_start=start, num_local=count)


def test_a_shard_ignores_the_classes_of_others() -> None:
    shard = IntraClassVariance(10, class_start=4, num_local=3)
    shard.update(torch.tensor([3, 4, 6, 7]), torch.zeros(4), 0.0)
    shard.update(torch.tensor([3, 4, 7]), torch.tensor([0.5, 0.25, 0.5]), 0.0)
    assert shard.variance.tolist() == [0.75, 1, 1]
    assert shard.seen.tolist() == [True, False, True]
    assert IntraClassVariance(10, class_start=4).variance.shape == (6,)


def _run_shard(rank: int, folder: str, sizes: list[int]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(sizes))
    results = []
    for only_seen in (False, True):
        module = IntraClassVariance(
            sum(sizes),
            class_start=sum(sizes[:rank]),
            num_local=sizes[rank],
            group=dist.group.WORLD,
            only_seen=only_seen,
        )
        for labels, ccs, momentum in steps(12, sum(sizes), 4):
            module.update(labels, ccs, momentum)
            results.append((module.variance.clone(), module.weights(labels), *module.mean_and_std()))
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_shards_on_two_processes_equal_one_process(tmp_path: Path) -> None:
    sizes = [16, 15]
    mp.spawn(_run_shard, args=(str(tmp_path), sizes), nprocs=2)
    ranks = [iter(torch.load(tmp_path / f"rank{rank}.pt")) for rank in range(2)]
    for only_seen in (False, True):
        whole = IntraClassVariance(sum(sizes), only_seen=only_seen)
        for labels, ccs, momentum in steps(12, sum(sizes), 4):
            whole.update(labels, ccs, momentum)
            shards = [next(results) for results in ranks]
            assert torch.equal(torch.cat([shard[0] for shard in shards]), whole.variance)
            for _, weights, mean, std in shards:
                torch.testing.assert_close(weights, whole.weights(labels), rtol=0, atol=1e-6)
                torch.testing.assert_close((mean, std), whole.mean_and_std(), rtol=1e-12, atol=0)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
def test_momentum_rises_from_start_and_never_exceeds_end(
    data: st.DataObject, num_epoch: int, start: float, width: float
) -> None:
    end = start + width * (1 - start)
    position = data.draw(st.one_of(st.integers(0, num_epoch - 1), st.floats(0, num_epoch, exclude_max=True)))
    alpha = momentum_at(position, num_epoch, start, end)
    assert start <= alpha <= end
    assert alpha == pytest.approx(method.momentum_at(position, num_epoch, start, end))
    assert momentum_at(0, num_epoch, start, end) == start


def test_momentum_of_the_paper() -> None:
    assert [momentum_at(epoch, 20) for epoch in (0, 10, 19)] == pytest.approx([0.9, 0.95, 0.995])
    assert momentum_at(0.5, 20) == pytest.approx(0.9025)
    assert momentum_at(3, 20, start=0.99, end=0.99) == 0.99


@pytest.mark.parametrize(("epoch", "num_epoch"), [(-1, 20), (20, 20), (20.5, 20), (0, 0), (math.nan, 20)])
def test_momentum_outside_the_training_is_refused(epoch: float, num_epoch: int) -> None:
    with pytest.raises(ValueError, match=rf"num_epoch = {num_epoch}\), got {epoch}"):
        momentum_at(epoch, num_epoch)

"""Outputs equal those of arcface_torch's networks with the same contents.

The golden values were computed in float64 by arcface_torch's own modules (insightface,
recognition/arcface_torch/backbones), filled by ``filling.fill`` and fed ``filling.images``: the first three
features of the second image and the mean magnitude of all features. In the transformers the cast to
float32 inside attention, which is there for mixed precision, was taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from plugins.backbones import get_model
from plugins.backbones.iresnet import _stage
from plugins.backbones.vit import NUM_HEADS, Attention
from tests.plugins.backbones.filling import fill, images
from trainer.objective import frozen_running_statistics

EVAL = {
    "r18": ([-0.898151111561, -1.39344160777, 3.01635931869], 0.74489717589),
    "mbf": ([0.158715349328, -0.109871179787, -0.0161215009977], 0.182486357627),
    "mbf_large": ([-0.0461156008147, -0.11314767246, -0.516442887563], 0.470533447482),
    "vit_t": ([0.426094090479, -0.915159860681, -0.37823874421], 0.488521660735),
}
TRAIN = {
    "r18": ([-0.227734939915, 0.00238735829436, 1.29511504986], 0.879818039296),
    "mbf": ([0.0264685154982, -0.81072287969, 0.205527738642], 0.873365442039),
}


def check(embeddings: torch.Tensor, golden: tuple[list[float], float]) -> None:
    features, magnitude = golden
    assert embeddings[1, :3].tolist() == pytest.approx(features, rel=1e-7)
    assert embeddings.abs().mean().item() == pytest.approx(magnitude, rel=1e-8)


@pytest.mark.parametrize("name", EVAL)
def test_eval_mode_equals_upstream(name: str) -> None:
    model = get_model(name).double().eval()
    fill(model)
    with torch.no_grad():
        check(model(images(2)), EVAL[name])


@pytest.mark.parametrize("name", TRAIN)
def test_training_mode_equals_upstream(name: str) -> None:
    model = get_model(name).double()
    fill(model)
    with torch.no_grad():
        check(model(images(4)), TRAIN[name])


def test_float32_is_close_to_float64() -> None:
    model = get_model("r18").eval()
    fill(model)
    with torch.no_grad():
        single, double = model(images(1).float()), model.double()(images(1))
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


def test_attention_equals_its_definition() -> None:
    width, tokens = 32, 5
    attention = Attention(width).double()
    fill(attention)
    x = images(1)[0, :2, :tokens, :width]
    q, k, v = F.linear(x, attention.qkv.weight).split(width, dim=-1)
    heads = []
    for head in range(NUM_HEADS):
        part = slice(head * width // NUM_HEADS, (head + 1) * width // NUM_HEADS)
        weights = (q[..., part] @ k[..., part].mT / (width / NUM_HEADS) ** 0.5).softmax(dim=-1)
        heads.append(weights @ v[..., part])
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, dim=-1)))


class OtherNorm(nn.modules.batchnorm._BatchNorm):
    """As nn.SyncBatchNorm is: neither of the usual classes."""

    def _check_input_dim(self, x: torch.Tensor) -> None: ...


def with_other_norms(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        is_norm = isinstance(child, nn.BatchNorm2d)
        setattr(module, name, OtherNorm(child.num_features) if is_norm else with_other_norms(child))
    return module


@pytest.mark.parametrize("only_batch", [False, True])
@pytest.mark.parametrize("change", [lambda blocks: blocks, with_other_norms])
def test_recomputing_activations_changes_nothing(
    change: Callable[[nn.Module], nn.Module], only_batch: bool
) -> None:
    """Output, gradients and running statistics equal those of blocks that keep their activations.

    Also where the first computation left the running statistics alone.
    """
    kept, recomputed = (change(_stage(8, 16, count=5, segment=segment)).double() for segment in (0, 2))
    fill(kept)
    fill(recomputed)
    x = images(3)[:, :, :16, :16].repeat(1, 3, 1, 1)[:, :8]
    outputs = []
    for blocks in (kept, recomputed):
        with frozen_running_statistics(blocks) if only_batch else nullcontext():
            outputs.append(blocks(x))
    for output in outputs:
        output.pow(3).sum().backward()
    assert torch.equal(*outputs)
    for (name, a), (_, b) in zip(kept.named_parameters(), recomputed.named_parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    state = recomputed.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in kept.state_dict().items())
    norms = [m for m in recomputed.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert {(m.momentum, m.track_running_stats) for m in norms} == {(0.1, True)}
    assert {int(m.num_batches_tracked) for m in norms} == {int(not only_batch)}

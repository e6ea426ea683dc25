"""What vision transformers do in training only: masking and drop path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from igfiqa_head.registry import BACKBONES
from plugins.backbones.vit import NUM_TOKENS, TransformerBlock, VisionTransformer

VITS = [name for name in BACKBONES if name.startswith("vit_")]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(**options: float) -> VisionTransformer:
    return VisionTransformer(16, 3, num_features=8, **options)  # type: ignore[arg-type]


def visible_tokens(model: VisionTransformer, images: torch.Tensor) -> int:
    counts: list[int] = []
    handle = model.blocks[0].register_forward_hook(lambda _, inputs, __: counts.append(inputs[0].shape[1]))
    model(images)
    handle.remove()
    return counts[0]


@pytest.mark.parametrize(("ratio", "visible"), [(0.0, 144), (0.05, 136), (0.1, 129), (0.5, 72)])
def test_a_share_of_the_tokens_is_masked_in_training_only(ratio: float, visible: int) -> None:
    model = small(mask_ratio=ratio)
    images = torch.rand(2, 3, 112, 112)
    assert visible_tokens(model, images) == visible
    assert visible_tokens(model.eval(), images) == NUM_TOKENS


def test_masked_tokens_are_the_learnt_token_and_the_others_stay_in_place() -> None:
    model = small(mask_ratio=0.25, drop_path=0.0)
    model.blocks = torch.nn.ModuleList()  # leaves the order of the tokens as the only thing that can change
    images = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        whole = model.eval().trunk(images)
        masked = model.train().trunk(images)
    is_masked = (masked == model.mask_token).all(dim=-1)
    assert is_masked.sum(dim=1).tolist() == [36, 36]
    assert not torch.equal(is_masked[0], is_masked[1])
    torch.testing.assert_close(masked[~is_masked], whole[~is_masked])


def test_every_token_is_masked_equally_often() -> None:
    model = small(mask_ratio=0.25)
    model.blocks = torch.nn.ModuleList()
    with torch.no_grad():
        masked = model.trunk(torch.rand(1, 3, 112, 112).expand(400, -1, -1, -1))
    share = (masked == model.mask_token).all(dim=-1).float().mean(dim=0)
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / 400) ** 0.5


def test_drop_path_keeps_the_expected_value() -> None:
    block = TransformerBlock(16, drop_path=0.25).double()
    dropped = block._drop_path(torch.ones(4000, 2, 3, dtype=torch.float64))
    per_sample = dropped[:, 0, 0]
    assert set(per_sample.tolist()) == {0.0, 1 / 0.75}
    assert torch.equal(dropped, per_sample[:, None, None].expand_as(dropped))
    assert per_sample.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(block.eval()._drop_path(dropped), dropped)


@pytest.mark.parametrize("name", VITS)
def test_drop_path_rises_linearly_and_names_say_the_settings(name: str) -> None:
    with torch.device("meta"):
        model = BACKBONES.get(name)()
    rates = torch.tensor([block.drop_path for block in model.blocks], device="cpu")
    last = 0.05 if "dp005" in name else 0.1
    torch.testing.assert_close(rates, torch.linspace(0, last, len(rates)))
    mask_ratios = {"mask0": 0.0, "mask_0": 0.0, "mask_005": 0.05, "vit_h": 0.0}
    named = [ratio for suffix, ratio in mask_ratios.items() if name.endswith(suffix)]
    assert model.mask_ratio == (named[0] if named else 0.1)
    assert model.mask_token.requires_grad == (model.mask_ratio > 0)


def test_recomputing_activations_changes_nothing() -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(1)
        model = VisionTransformer(16, 3, num_features=8, drop_path=0.5, recompute=recompute)
        torch.manual_seed(2)
        model(torch.rand(4, 3, 112, 112)).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_initial_weights() -> None:
    model = VisionTransformer(64, 2)
    for weight in (model.pos_embed, model.blocks[0].attn.qkv.weight, model.feature[0].weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.mask_token.std().item() == pytest.approx(0.02, rel=0.4)
    assert model.blocks[1].mlp.fc1.bias.eq(0).all()

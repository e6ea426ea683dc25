"""Networks of timm as backbones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from plugins.backbones import get_model
from plugins.backbones.timm_models import TimmBackbone
from trainer.build import with_sync_bn

SPATIAL = [
    "mobilenetv3_small_050",
    "lcnet_050",
    "mobilenetv4_conv_small",
    "resnet10t",
    "resnet18",
    "convnext_atto",
    "efficientnet_b0",
    "repvgg_a0",
    "ghostnet_050",
    "swin_tiny_patch4_window7_224",  # channels last
    "test_mambaout",  # channels last
]
POOLED = ["vit_tiny_patch16_224", "mixer_s32_224", "deit_tiny_distilled_patch16_224", "convmixer_768_32"]


def build(name: str, **options: float) -> TimmBackbone:
    model = get_model(f"timm:{name}", **options)  # type: ignore[arg-type]
    assert isinstance(model, TimmBackbone)
    return model


@pytest.mark.parametrize("name", SPATIAL + POOLED)
def test_embeddings_and_gradients(name: str) -> None:
    model = build(name, num_features=24)
    embeddings = model(torch.rand(2, 3, 112, 112))
    embeddings.square().sum().backward()
    assert embeddings.shape == (2, 24)
    assert model.training
    assert (model.layout is None) == (name in POOLED)
    missing = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


@pytest.mark.parametrize("name", SPATIAL)
def test_small_maps_keep_their_layout(name: str) -> None:
    """Moving the content of the map moves the embedding; an average would not notice."""
    model = build(name, num_features=24).eval()
    with torch.no_grad():
        features = model.trunk(torch.rand(1, 3, 112, 112))
        mirrored = model.head(features.flip(3))
        original = model.head(features)
    assert features.shape[1] == model.model.num_features
    assert max(features.shape[2:]) <= 7
    assert (original - mirrored).norm() > 0.01 * original.norm()


def test_tokens_are_pooled() -> None:
    model = build("test_vit", num_features=24).eval()
    with torch.no_grad():
        assert model.trunk(torch.rand(2, 3, 112, 112)).shape == (2, model.model.num_features)


def test_the_classifier_is_removed() -> None:
    model = build("mobilenetv3_small_050")
    assert isinstance(model.model.conv_head, nn.Identity)
    assert not [key for key in model.state_dict() if "classifier" in key or "conv_head" in key]


def test_building_leaves_no_trace() -> None:
    """No gradients, and running statistics as timm set them."""
    model = build("resnet10t")
    assert all(p.grad is None for p in model.parameters())
    assert all(v.eq(0).all() for key, v in model.state_dict().items() if key.endswith("running_mean"))


def test_meta_device() -> None:
    with torch.device("meta"):
        model = build("resnet18")
        assert model(torch.empty(2, 3, 112, 112)).shape == (2, 512)


@pytest.mark.parametrize("name", ["maxvit_tiny_tf_224", "efficientformer_l1", "coat_tiny"])
def test_networks_that_cannot_take_this_size(name: str) -> None:
    with pytest.raises(ValueError, match=f"timm network '{name}' cannot embed 112 x 112 images"):
        build(name)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18"])
def test_synchronised_normalisation_changes_nothing_else(name: str) -> None:
    """timm joins normalisations with activations. The network can still be copied, as an export does."""
    plain = build(name, num_features=24).eval()
    synchronised = with_sync_bn(copy.deepcopy(plain)).eval()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronised.modules())
    assert plain.state_dict().keys() == synchronised.state_dict().keys()
    x = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(synchronised)(x), plain(x))

"""What holds for every backbone: the registry, the input contract, precision, determinism."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from igfiqa_head.registry import BACKBONES
from plugins.backbones import get_model

SMALL = ["r18", "mbf", "vit_t", "timm:test_resnet", "timm:test_vit"]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def multiply_accumulates(model: nn.Module, images: torch.Tensor) -> int:
    """MACs of the convolutions and linear layers in one forward pass."""
    counts: list[int] = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        outputs_per_filter = output.numel() // module.weight.shape[0]
        counts.append(outputs_per_filter * module.weight.numel())

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(images)
    return sum(counts)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "r2060" else n for n in BACKBONES]
)
def test_every_backbone_gives_embeddings_and_gradients(name: str) -> None:
    with torch.device("meta"):
        model = get_model(name, num_features=100)
        embeddings = model(torch.empty(2, 3, 112, 112))
    embeddings.sum().backward()
    assert embeddings.shape == (2, 100)
    assert embeddings.dtype == torch.float32
    missing = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


@pytest.mark.parametrize("name", SMALL)
def test_small_backbones_learn(name: str) -> None:
    model = get_model(name, num_features=32)
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the first step frees the residual branches that start at zero
        embeddings = model(images)
        (embeddings * torch.randn_like(embeddings)).sum().backward()
        optimizer.step()
    assert torch.isfinite(embeddings).all()
    unchanged = {key for key, p in model.named_parameters() if torch.equal(before[key], p)}
    assert unchanged == {key for key, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(
    ("name", "gmac"), [("r18", 2.61), ("r50", 6.31), ("r100", 12.09), ("mbf", 0.4375), ("vit_t", 1.3775)]
)
def test_multiply_accumulates(name: str, gmac: float) -> None:
    # Published for the convolutional networks. vit_t by hand, without the attention products:
    # 144 * (243 * 256 + 12 * 12 * 256^2) + 144 * 256 * 256 + 256 * 512.
    with torch.device("meta"):
        count = multiply_accumulates(get_model(name).eval(), torch.empty(1, 3, 112, 112))
    assert count / 1e9 == pytest.approx(gmac, rel=1e-3)


@pytest.mark.parametrize("name", SMALL)
def test_same_seed_same_network_and_eval_is_deterministic(name: str) -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(1)
        models.append(get_model(name, num_features=16, dropout=0.5).eval())
    images = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        outputs = [models[0](images), models[0](images), models[1](images)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("name", SMALL)
def test_eval_treats_each_image_on_its_own(name: str) -> None:
    model = get_model(name, num_features=16).eval()
    images = torch.rand(3, 3, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_training_updates_running_statistics_once(name: str) -> None:
    model = get_model(name, num_features=16)
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert all(norm.num_batches_tracked == 0 for norm in norms)  # building a network must not count
    model(torch.rand(2, 3, 112, 112)).sum().backward()
    assert all(norm.num_batches_tracked == 1 for norm in norms)
    last = norms[-1].running_mean.clone()
    model.eval()(torch.rand(2, 3, 112, 112))
    assert torch.equal(norms[-1].running_mean, last)


@pytest.mark.parametrize("name", SMALL)
def test_state_dict_round_trip(name: str) -> None:
    source, target = (get_model(name, num_features=16).eval() for _ in range(2))
    images = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        assert not torch.equal(source(images), target(images))
        target.load_state_dict(source.state_dict())
        assert torch.equal(source(images), target(images))


@pytest.mark.parametrize("name", SMALL)
def test_fp16_stays_close_and_returns_float32(name: str) -> None:
    model = get_model(name, num_features=64, fp16=True).eval()
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        half = model(images)
        model.fp16 = False
        full = model(images)
    error = ((half - full).norm() / full.norm()).item()
    assert half.dtype == torch.float32
    assert 0 < error < 0.05


@pytest.mark.parametrize("name", SMALL)
def test_fp16_trains_float32_parameters(name: str) -> None:
    model = get_model(name, num_features=16, fp16=True)
    model(torch.rand(2, 3, 112, 112)).square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", SMALL)
def test_full_precision_ignores_a_surrounding_autocast(name: str) -> None:
    model = get_model(name, num_features=16).eval()
    images = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        expected = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model(images), expected)


@pytest.mark.parametrize("name", SMALL)
def test_dropout_acts_in_training_only(name: str) -> None:
    model = get_model(name, num_features=16, dropout=0.5)
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p == 0.5]
    assert len(dropouts) == 1
    seen: list[torch.Tensor] = []
    dropouts[0].register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))
    model(torch.rand(2, 3, 112, 112))
    model.eval()(torch.rand(2, 3, 112, 112))
    assert seen[1].eq(0).float().mean() > 0.4
    assert torch.equal(seen[2], seen[3])


def test_the_last_norm_keeps_its_weight_at_one() -> None:
    for name in ("r18", "timm:test_resnet"):
        last = [m for m in get_model(name).modules() if isinstance(m, nn.BatchNorm1d)][-1]
        assert not last.weight.requires_grad
        assert last.weight.eq(1).all()
        assert last.bias.requires_grad


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r51", r"unknown backbone 'r51'.*'r50'"),
        ("R50", r"unknown backbone 'R50'"),
        ("", r"unknown backbone ''"),
        ("timm:resnet19", r"unknown timm network 'resnet19'.*'timm:resnet18'"),
        ("timm:", r"unknown timm network ''"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_model(name)


@pytest.mark.parametrize("options", [{"num_features": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_values_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be .* received"):
        get_model("mbf", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 112, 112), (1, 112, 112, 3), (1, 3, 96, 112), (1, 1, 112, 112)])
def test_wrong_image_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes images \[B, 3, 112, 112\], received"):
        get_model("timm:test_vit")(torch.zeros(shape))


def test_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"received torch\.uint8"):
        get_model("timm:test_vit")(torch.zeros(1, 3, 112, 112, dtype=torch.uint8))


def test_timm_is_imported_only_when_asked_for() -> None:
    code = (
        "import sys; from plugins.backbones import get_model; get_model('mbf'); print('timm' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"

"""Fine-tuning: what it starts from, what that is worth, and what a user sees when something is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from easydict import EasyDict
from torch import nn

import train
from igfiqa_head.registry import CLASSIFIERS
from igfiqa_head.runtime import FaceNetwork
from plugins.backbones import get_model
from tests.trainer.conftest import RECIPE, TINY_PLUGIN
from tests.trainer.test_loop import assert_same, everything, interrupt_after, make
from trainer.evaluation import embed
from trainer.loop import Trainer
from trainer.recipe import load_recipe
from trainer.run import run
from trainer.stopping import Stopped

Recipe = Callable[..., EasyDict]
ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a recogniser that has learned something, of 20 identities."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.py").write_text(RECIPE)
    overrides = [
        "quality_head=None", "num_epoch=20", "synthetic.num_identities=20", "batch_size=24", "scale=16",
        "optimizer=adamw", "synthetic.images_per_identity=12", "margin_list=1,0.1,0", "val_targets=",
    ]  # fmt: skip
    assert train.main([str(folder / "tiny.py"), f"output={folder / 'run'}", *overrides]) == 0
    return folder / "run"


@pytest.fixture
def finetune(trained: Path, tmp_path: Path) -> Recipe:
    """``finetune("key=value", ...)``: the shipped recipe on a few other rendered identities."""

    def load(*overrides: str) -> EasyDict:
        small = [
            f"backbone_weights={trained}", f"plugins={TINY_PLUGIN}", f"output={tmp_path / 'run'}", "seed=7",
            "rec=synthetic", "synthetic.num_identities=15", "synthetic.images_per_identity=11", "device=cpu",
            "batch_size=16", "num_workers=0", "scale=16", "margin_list=1,0.1,0",
        ]  # fmt: skip
        return load_recipe(ROOT / "recipes/finetune.py", [*small, *overrides])

    return load


def recognition_loss(trainer: Trainer) -> float:
    """Of all images, in evaluation mode."""
    trainer._set_training(False)
    with torch.no_grad():
        losses = [
            trainer.classifier(trainer.backbone(batch.images), batch.labels)
            for batch in trainer.loader.batches(0)
        ]
    return float(torch.stack(losses).mean())


def test_the_network_is_that_of_the_weights_with_the_recipes_settings(
    finetune: Recipe, trained: Path
) -> None:
    config = finetune("dropout=0.3", "fp16=True")
    trainer = make(config)
    assert (config.network, config.embedding_size) == ("tiny", 16)
    saved = torch.load(trained / "model.pt", weights_only=True)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in trainer.backbone.state_dict().items())
    assert [m.p for m in trainer.backbone.modules() if isinstance(m, nn.Dropout)] == [0.3]
    assert trainer.classifier.weight.shape == (15, 16)

    state = get_model("vit_t", num_features=24).state_dict()
    path = trained.parent / "vit.pt"
    torch.save(state, path)
    config = finetune(f"backbone_weights={path}", "fp16=True")
    backbone = make(config).backbone
    assert (config.network, config.embedding_size, backbone.fp16) == ("vit_t", 24, True)


def test_class_means_start_at_a_much_lower_loss(finetune: Recipe) -> None:
    """The identities are none of those that the backbone was trained on."""
    started, at_random = make(finetune()), make(finetune("prototype_init=random"))
    started.first_pass()
    assert recognition_loss(started) < 0.6 * recognition_loss(at_random)


def test_v_starts_at_one_minus_ccs_of_all_images(finetune: Recipe) -> None:
    trainer = make(finetune())
    trainer.first_pass()
    faces = [trainer.loader.dataset[i] for i in range(165)]
    embeddings, _ = embed(trainer.backbone, None, [face for face, _ in faces], CPU)
    labels = torch.tensor([label for _, label in faces])
    ccs, _ = trainer.classifier.class_center_similarities(torch.from_numpy(embeddings[:, 0]), labels)  # type: ignore[operator]
    expected = torch.stack([1 - ccs[labels == c].mean() for c in range(15)])
    head = trainer.quality_head
    assert head is not None
    torch.testing.assert_close(head.variance.variance, expected)
    assert expected.max() < 0.6
    # With "ones" the first classes drawn have v far below those still waiting, and no weight.
    assert (head.class_weights() == 0).float().mean() < 0.3


@pytest.mark.parametrize("stop_at", [1, 12])
def test_resuming_equals_an_uninterrupted_run(finetune: Recipe, tmp_path: Path, stop_at: int) -> None:
    whole = make(finetune("num_epoch=2", f"output={tmp_path / 'whole'}"))
    whole.fit()
    first = make(finetune("num_epoch=2"))
    interrupt_after(first, stop_at)
    with pytest.raises(Stopped):
        first.fit()
    second = make(finetune("num_epoch=2"))
    second.resume()
    second.fit()
    assert second.position.global_step == 20
    assert_same(everything(whole), everything(second))


def test_a_whole_run(finetune: Recipe, trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "secret"))
    overrides = [f"backbone_weights={folder}", "num_epoch=1", "val_targets=synthetic", "frequent=1"]
    config = finetune(*overrides, "synthetic.test_identities=5", "synthetic.test_images_per_identity=5")
    metrics = run(config)
    assert metrics["erc"]["synthetic"]["auc"] >= 0
    log = (Path(config.output) / "training.log").read_text()
    assert f"starting from the weights of {folder}" in log
    assert "first pass: 15 classes with images, mean CCS 0." in log
    recipe = json.loads((Path(config.output) / "recipe.json").read_text())["recipe"]
    assert (recipe["network"], recipe["embedding_size"]) == ("tiny", 16)
    metadata = FaceNetwork(Path(config.output) / "quality.onnx").metadata
    assert "secret" not in json.dumps(metadata)
    # and it is itself a start
    assert make(finetune(f"backbone_weights={config.output}")).backbone is not None


class TestErrors:
    """Each mistake gives one line and starts no training."""

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("backbone_weights=None", "backbone_weights is missing: set backbone_weights=PATH"),
            ("backbone_weights={tmp}/nothing.pt", "there is no run folder or checkpoint"),
            ("backbone_weights={tmp}/empty", "empty is no run folder, it has no recipe.json"),
            ("backbone_weights={tmp}/r.onnx", "is an ONNX file, .*recipes/on_top.py gives a quality head"),
            ("backbone_weights={tmp}/list.pt", "holds a list, expected a dict of states"),
            ("backbone_weights={tmp}/bytes.pt", "cannot be read as a checkpoint"),
            ("backbone_weights={tmp}/head.pt", "holds a quality head without a backbone"),
            ("backbone_weights={tmp}/shapes.pt", "closest is r18, but of another shape: conv1.weight"),
            ("backbone_weights={tmp}/nan.pt", "holds NaN or infinity in conv1.weight: its training diverged"),
            ("backbone_weights={tmp}/good.pt network=r34", "good.pt does not fit r34: it lacks"),
            (
                "backbone_weights={tmp}/good.pt embedding_size=512",
                "says embedding_size=512, but .* has 8",
            ),
            ("network=r50", "the recipe says network='r50', but .* has 'tiny': set network=None"),
            ("plugins=", "trained with plugins, which are code: .* plugins=.*tiny_plugin.py to a recipe"),
            ("prototype_init=mean", "'prototype_init' accepts one of 'random', 'class_means'"),
            ("lr_factor.backbone=-1", "'lr_factor.backbone' accepts a number >= 0"),
            ("lr_factor.bacbone=1", "Did you mean 'lr_factor.backbone'"),
        ],
    )
    def test_one_line(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
    ) -> None:
        broken_files(tmp_path)
        arguments = [
            f"backbone_weights={trained}", f"plugins={TINY_PLUGIN}", "rec=synthetic",
            "synthetic.num_identities=3", "synthetic.images_per_identity=4", "batch_size=4", "num_workers=0",
            f"output={tmp_path / 'run'}", *override.format(tmp=tmp_path).split(),
        ]  # fmt: skip
        assert train.main([str(ROOT / "recipes/finetune.py"), *arguments]) == 1
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
        assert re.search(message, line), line
        assert not (tmp_path / "run" / "checkpoint_gpu_0.pt").exists()

    def test_a_classifier_without_a_place_to_start_from(
        self, finetune: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Plain(nn.Module):
            def __init__(self, *_: object, **__: object) -> None:
                super().__init__()

            def forward(self, embeddings: object, labels: object, *, step: int) -> None: ...

            def class_center_similarities(self, embeddings: object, labels: object) -> None: ...

        monkeypatch.setitem(CLASSIFIERS._entries, "plain", Plain)
        with pytest.raises(ValueError, match=r"needs a classifier with start_from.*'plain' has not"):
            make(finetune("classifier=plain"))

    def test_embeddings_that_are_not_finite(self, finetune: Recipe) -> None:
        trainer = make(finetune())
        with torch.no_grad():
            list(trainer.backbone.parameters())[-1].fill_(torch.inf)
        with pytest.raises(ValueError, match="the embedding of image 0 is not finite"):
            trainer.fit()


def broken_files(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "r.onnx").write_bytes(b"onnx")
    (folder / "bytes.pt").write_bytes(b"no checkpoint" * 99)
    state = get_model("r18", num_features=8).state_dict()
    contents: dict[str, object] = {
        "list": [1, 2],
        "head": {"regressor.weight": torch.zeros(1, 8), "regressor.bias": torch.zeros(1)},
        "good": state,
        "shapes": state | {"conv1.weight": torch.zeros(64, 3, 7, 7)},
        "nan": state | {"conv1.weight": torch.full((64, 3, 3, 3), torch.nan)},
    }
    for name, content in contents.items():
        torch.save(content, folder / f"{name}.pt")

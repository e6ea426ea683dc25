"""The recogniser that a recipe names: an ONNX file, a checkpoint, a run, timm's, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trainer.recognisers
from igfiqa_head.recogniser_graph import RecogniserGraph
from plugins.backbones import get_model
from tests.plugins.backbones.filling import fill
from tests.recognisers import faces, write_recogniser
from tests.trainer.conftest import TINY_PLUGIN
from trainer.recognisers import PretrainedTimm, recogniser_file

timm = pytest.importorskip("timm")
NETWORK, FEATURES = "timm:test_resnet", 24


def images(count: int = 3) -> Tensor:
    return torch.from_numpy(faces(count).transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1


def backbone() -> nn.Module:
    network = get_model(NETWORK, num_features=FEATURES)
    fill(network)
    return network.eval()


def timm_folder(path: Path, name: str = "test_resnet", **options: object) -> nn.Module:
    """A network in the layout of the Hugging Face hub, written by timm itself."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=FEATURES, **options).eval()
    timm.models.save_for_hf(network, path, safe_serialization=True)
    return network


@torch.no_grad()
def assert_embeds_as(path: Path, network: nn.Module, x: Tensor) -> None:
    expected = network(x).numpy()
    got = RecogniserGraph(path).embed(faces(len(x)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() > 1e-3  # it tells faces apart


class TestFiles:
    def test_an_onnx_file_is_taken_as_it_is(self, tmp_path: Path) -> None:
        path = write_recogniser(tmp_path / "r.ONNX")
        output = tmp_path / "output"
        output.mkdir()
        assert recogniser_file(str(path), output, images()) == path
        assert not list(output.iterdir())

    @pytest.mark.parametrize("name", ["none.onnx", "folder.onnx"])
    def test_an_onnx_file_that_is_missing(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder.onnx").mkdir()
        with pytest.raises(ValueError, match=rf"^recognizer='.*{name}': there is no such file$"):
            recogniser_file(str(tmp_path / name), tmp_path, images())

    @pytest.mark.parametrize("name", ["none.pt", "none", "w600k_r50"])
    def test_nothing_of_that_name(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(
            ValueError, match=rf"^recognizer='.*{name}' does not exist: expected an ONNX file,"
        ):
            recogniser_file(str(tmp_path / name), tmp_path, images())

    def test_a_folder_that_is_neither_a_run_nor_a_pack(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"is no insightface pack with a recogniser: it holds no .onnx file"
        ):
            recogniser_file(str(tmp_path), tmp_path, images())

    @pytest.mark.parametrize("spec", ["~/.insightface/models/my_pack", "my_pack"])
    def test_an_insightface_pack(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        pack = tmp_path / ".insightface/models/my_pack"
        pack.mkdir(parents=True)
        path = write_recogniser(pack / "recogniser.onnx")
        assert recogniser_file(spec, tmp_path, images()) == path

    def test_a_pack_that_contradicts_its_recogniser(self, tmp_path: Path) -> None:
        write_recogniser(tmp_path / "r.onnx")
        task = {"file": "r.onnx", "preprocessing": {"mean": 0, "std": 1}}
        manifest = {"manifest_version": 2, "tasks": {"recognition": task}}
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(
            ValueError, match=r"states mean and std \(0.0, 1.0\) for r.onnx, whose graph says"
        ):
            recogniser_file(str(tmp_path), tmp_path, images())

    def test_a_file_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no network")
        with pytest.raises(ValueError, match=r"notes.txt"):
            recogniser_file(str(tmp_path / "notes.txt"), tmp_path, images())
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


class TestTrainedHere:
    def test_a_checkpoint_always_gives_the_same_bytes(self, tmp_path: Path) -> None:
        torch.save(backbone().state_dict(), tmp_path / "model.pt")
        files = []
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            # Another image or output folder must not change the file: what is cached goes by its hash.
            x = images(3 if folder == "a" else 4)
            files.append(recogniser_file(str(tmp_path / "model.pt"), tmp_path / folder, x, network=NETWORK))
        assert files[0] == tmp_path / "a" / "recogniser.onnx"
        assert files[0].read_bytes() == files[1].read_bytes()
        assert_embeds_as(files[0], backbone(), images())

    def test_a_run_and_the_plugins_it_needs(self, a_run: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"trained with plugins, which are code"):
            recogniser_file(str(a_run), tmp_path, images())
        # Which network it is of is written there; a recipe's default does not matter.
        path = recogniser_file(str(a_run), tmp_path, images(), network="r50", plugins=[str(TINY_PLUGIN)])
        network = get_model("tiny", num_features=16).eval()
        network.load_state_dict(torch.load(a_run / "model.pt", weights_only=True))
        assert_embeds_as(path, network, images())


class TestTimm:
    @pytest.mark.parametrize("mean", [0.5, (0.485, 0.456, 0.406)])
    def test_a_folder(self, tmp_path: Path, mean: float | tuple[float, ...]) -> None:
        mean = mean if isinstance(mean, tuple) else (mean,) * 3
        network = timm_folder(
            tmp_path / "net", pretrained_cfg_overlay={"mean": mean, "std": (0.2, 0.25, 0.3)}
        )
        path = recogniser_file(f"timm:local-dir:{tmp_path / 'net'}", tmp_path, images())
        pixels = (images() + 1) / 2
        x = (pixels - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).reshape(3, 1, 1)
        assert_embeds_as(path, network, x)
        assert RecogniserGraph(path).embedding_size == FEATURES

    @pytest.mark.parametrize(
        ("name", "options"),
        [("test_vit3", {}), ("test_resnet", {"in_chans": 1})],
        ids=["160 x 160 only", "gray"],
    )
    def test_other_images(self, tmp_path: Path, name: str, options: dict[str, int]) -> None:
        timm_folder(tmp_path / "net", name, **options)
        # Some versions of timm build the network for gray images, others for colour and then find no weights.
        told = "does not take colour images of 112 x 112: |cannot be loaded with pretrained weights: "
        with pytest.raises(ValueError, match=rf"^timm:local-dir:.* ({told})"):
            recogniser_file(f"timm:local-dir:{tmp_path / 'net'}", tmp_path, images())

    def test_no_code_of_a_folder_is_run(self, tmp_path: Path) -> None:
        """timm before 1.0.26 unpickled what it found there."""

        class Code:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "ran",)

        timm_folder(tmp_path / "net")
        (tmp_path / "net" / "model.safetensors").unlink()
        torch.save({"weight": Code()}, tmp_path / "net" / "pytorch_model.bin")
        with pytest.raises(
            ValueError, match=r"^timm:local-dir:.* cannot be loaded with pretrained weights: "
        ):
            recogniser_file(f"timm:local-dir:{tmp_path / 'net'}", tmp_path, images())
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("name", ["no_such_network", "", "local-dir:/nowhere", "elsewhere:a/b"])
    def test_unknown_names(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(
            ValueError, match=rf"^timm:{name} cannot be loaded with pretrained weights: \w.*FOLDER$"
        ):
            recogniser_file(f"timm:{name}", tmp_path, images())

    @pytest.mark.parametrize("name", ["test_resnet", "hf_hub:someone/some_face_network"])
    def test_no_network(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        with pytest.raises(
            ValueError, match=rf"^timm:{name} cannot be loaded .* Without a network, download"
        ):
            recogniser_file(f"timm:{name}", tmp_path, images())

    def test_classifiers_by_name_lose_their_last_layer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **options: create(name, **options))
        assert PretrainedTimm("test_resnet")(images(1)).shape == (1, 96)


def test_a_network_that_torch_cannot_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1)[:, :8]
            return flat if float(flat.sum()) > 0 else -flat

    monkeypatch.setattr(trainer.recognisers, "_trained", lambda *_: Branching())
    (tmp_path / "model.pt").touch()
    with pytest.raises(ValueError, match=r"^torch cannot export recognizer='.*model.pt' to ONNX: "):
        recogniser_file(str(tmp_path / "model.pt"), tmp_path, images())
    assert not (tmp_path / "recogniser.onnx").exists()

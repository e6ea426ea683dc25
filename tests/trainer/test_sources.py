"""Trained networks from runs, arcface_torch's checkpoints and CR-FIQA's; what does not fit is named."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from igfiqa_head.io.written_files import LIST_FILE
from igfiqa_head.registry import BACKBONES
from plugins.backbones import get_model
from tests.plugins.backbones.filling import fill
from tests.trainer.conftest import TINY_PLUGIN
from trainer.sources import SourceError, open_source

FACTS = Path(__file__).resolve().parents[3] / "shared" / "facts" / "crfiqa_state_dicts.json"
NETWORK, FEATURES = "timm:test_resnet", 24

State = dict[str, Tensor]


def state_of(network: str = NETWORK, size: int = FEATURES) -> State:
    backbone = get_model(network, num_features=size)
    fill(backbone)
    return backbone.state_dict()


def head_state(prefix: str, size: int = FEATURES) -> State:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(1, size, generator=generator)
    return {f"{prefix}.weight": weight, f"{prefix}.bias": torch.tensor([0.25])}


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def equal_states(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def a_run(a_run: Path) -> Path:
    """Without its list of files, which would tell of each change before anything else does."""
    (a_run / LIST_FILE).unlink()
    return a_run


class TestRuns:
    def test_networks_and_metadata(self, a_run: Path) -> None:
        source = open_source(a_run, plugins=[str(TINY_PLUGIN)])
        head = torch.load(a_run / "quality_head.pt", weights_only=True)
        assert equal_states(source.backbone.state_dict(), torch.load(a_run / "model.pt", weights_only=True))
        assert source.regressor is not None
        assert torch.equal(source.regressor.weight, head["regressor.weight"])
        assert not source.backbone.training
        assert source.images == "synthetic"
        metadata = source.metadata()
        assert metadata["method"] == "ig_fiqa"
        assert metadata["version"] == "0.1.0"
        hashes = [sha256(a_run / "model.pt"), sha256(a_run / "quality_head.pt")]
        assert metadata["source_sha256"].split() == hashes
        recipe = json.loads(metadata["recipe"])
        assert recipe["network"] == "tiny"
        assert recipe["ig_fiqa"]["loss_weight"] == 10.0
        assert not {"output", "rec", "backbone_weights", "plugins", "notes"} & set(recipe)
        assert not any(key.startswith("wandb") for key in recipe)
        assert str(a_run.parents[1]) not in metadata["recipe"]

    def test_code_is_imported_only_if_it_was_named(self, a_run: Path, tmp_path: Path) -> None:
        plugin, trace = tmp_path / "evil.py", tmp_path / "trace"
        plugin.write_text(f"open({str(trace)!r}, 'w').close()")
        document = json.loads((a_run / "recipe.json").read_text())
        document["recipe"]["plugins"].append(str(plugin))
        (a_run / "recipe.json").write_text(json.dumps(document))
        with pytest.raises(SourceError, match=r"plugins, which are code.*--plugin .*evil.py$"):
            open_source(a_run, plugins=[str(TINY_PLUGIN)])
        assert not trace.exists()
        open_source(a_run, plugins=[str(TINY_PLUGIN), str(plugin)])
        assert trace.exists()

    def test_another_head(self, a_run: Path, tmp_path: Path) -> None:
        head = save(tmp_path / "qs.pth", head_state("qs", 16))
        source = open_source(a_run, quality_head=head, plugins=[str(TINY_PLUGIN)])
        assert source.method == "cr_fiqa"
        assert source.regressor is not None
        assert torch.equal(source.regressor.weight, head_state("qs", 16)["qs.weight"])
        assert source.metadata()["source_sha256"].split()[1] == sha256(head)

    def test_without_a_head(self, a_run: Path) -> None:
        (a_run / "quality_head.pt").unlink()
        source = open_source(a_run, plugins=[str(TINY_PLUGIN)])
        assert source.regressor is None
        assert source.method == "none"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda run: (run / "recipe.json").unlink(), "is no run folder, it has no recipe.json"),
            (lambda run: (run / "model.pt").unlink(), "has no model.pt: this run has not finished an epoch"),
            (lambda run: (run / "recipe.json").write_text("{"), "recipe.json is not what a run writes"),
            (lambda run: (run / "recipe.json").write_text("[" * 99_999), "is not what a run writes"),
            (lambda run: (run / "recipe.json").write_bytes(b"\xff\xfe\x00"), "is not what a run writes"),
            (lambda run: (run / "recipe.json").write_text('{"recipe": {"network": 3}}'), "KeyError"),
            (lambda run: set_recipe(run, network=3), "'network' must be a text, got 3"),
            (lambda run: set_recipe(run, network=None), "'network' must be a text, got None"),
            (lambda run: set_recipe(run, embedding_size=-1), "'embedding_size' must be an integer >= 1"),
            (lambda run: set_recipe(run, plugins="os"), "'plugins' must be a list of modules"),
            (lambda run: set_recipe(run, embedding_size=10**14), "which is more than 2147483647"),
            (
                lambda run: set_recipe(run, embedding_size=10**9),
                "model.pt does not fit tiny: of another shape",
            ),
            (lambda run: set_recipe(run, embedding_size=17), "model.pt does not fit tiny: of another shape"),
            (lambda run: set_recipe(run, network="r51"), "unknown backbone 'r51'"),
            (lambda run: shutil.copy(run / "model.pt", run / "quality_head.pt"), "holds no quality head"),
        ],
    )
    def test_damage(self, a_run: Path, change: Any, message: str) -> None:
        change(a_run)
        with pytest.raises(ValueError, match=message) as caught:
            open_source(a_run, plugins=[str(TINY_PLUGIN)])
        assert "\n" not in str(caught.value)

    def test_the_network_of_a_run_is_not_a_matter_of_choice(self, a_run: Path) -> None:
        with pytest.raises(SourceError, match="recipe.json names the network: leave out --network r50"):
            open_source(a_run, network="r50")


def set_recipe(run: Path, **values: Any) -> None:
    document = json.loads((run / "recipe.json").read_text())
    document["recipe"].update(values)
    (run / "recipe.json").write_text(json.dumps(document))


class TestCheckpoints:
    @pytest.mark.parametrize("layout", ["model.pt", "checkpoint_gpu_0.pt", "parallel"])
    def test_arcface_torch(self, tmp_path: Path, layout: str) -> None:
        state = state_of()
        content: Any = state
        if layout == "checkpoint_gpu_0.pt":
            content = {"epoch": 3, "state_dict_backbone": state, "state_dict_softmax_fc": {}}
        if layout == "parallel":
            content = {f"module.{name}": tensor for name, tensor in state.items()}
        path = save(tmp_path / "model.pt", content)
        head = save(
            tmp_path / "quality_head.pt", head_state("regressor") | {"variance.variance": torch.ones(9)}
        )
        source = open_source(path, quality_head=head, network=NETWORK)
        assert equal_states(source.backbone.state_dict(), state)
        assert source.method == "ig_fiqa"
        assert source.metadata()["source_sha256"].split() == [sha256(path), sha256(head)]
        assert json.loads(source.metadata()["recipe"]) == {"network": NETWORK, "embedding_size": FEATURES}
        assert open_source(path, network=NETWORK).regressor is None

    def test_our_own_checkpoint_brings_its_head(self, a_run: Path) -> None:
        path = a_run / "checkpoint_gpu_0.pt"
        source = open_source(path, network="tiny", plugins=[str(TINY_PLUGIN)])
        whole = open_source(a_run, plugins=[str(TINY_PLUGIN)])
        assert source.method == "ig_fiqa"
        assert source.regressor is not None
        assert whole.regressor is not None
        assert equal_states(source.backbone.state_dict(), whole.backbone.state_dict())
        assert equal_states(source.regressor.state_dict(), whole.regressor.state_dict())

    @pytest.mark.parametrize(
        ("name", "size"),
        [("r18", 512), ("r18", 32), ("r34", 32), ("r50", 32), ("mbf", 512), ("mbf_large", 32), ("vit_t", 32)],
    )
    def test_networks_are_found_by_their_names_and_shapes(self, tmp_path: Path, name: str, size: int) -> None:
        path = save(tmp_path / "model.pt", get_model(name, num_features=size).state_dict())
        assert open_source(path).recipe == {"network": name, "embedding_size": size}

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["r100", "r200"])
    def test_large_networks_are_found(self, tmp_path: Path, name: str) -> None:
        path = save(tmp_path / "model.pt", get_model(name).state_dict())
        assert open_source(path).recipe["network"] == name

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda s: s.pop("fc.bias"),
                "no registered network; the closest is r18, but it lacks fc.bias. Name",
            ),
            (lambda s: s.update(extra=torch.zeros(24)), "closest is r18, but it has also extra. Name"),
            (
                lambda s: s.update({"conv1.weight": torch.zeros(64, 3, 7, 7)}),
                r"of another shape: conv1.weight \(\[64, 3, 7, 7\] instead of \[64, 3, 3, 3\]\)",
            ),
            (
                lambda s: s["fc.weight"].fill_(torch.nan),
                "NaN or infinity in fc.weight: its training diverged",
            ),
            (lambda s: s.update({"bn1.weight": 3}), "its bn1.weight hold no tensors"),
            (lambda s: [s.pop(key) for key in list(s)], "it is empty"),
        ],
    )
    def test_what_differs_is_named(self, tmp_path: Path, change: Any, message: str) -> None:
        state = state_of("r18")
        change(state)
        with pytest.raises(SourceError, match=message) as caught:
            open_source(save(tmp_path / "model.pt", state))
        assert "\n" not in str(caught.value)
        assert "model.pt" in str(caught.value)

    def test_the_wrong_network(self, tmp_path: Path) -> None:
        path = save(tmp_path / "model.pt", state_of())
        with pytest.raises(
            SourceError, match="does not fit r18: it lacks conv1.weight, .* and 153 more; it has"
        ):
            open_source(path, network="r18")
        with pytest.raises(ValueError, match="unknown backbone 'r19'. Did you mean"):
            open_source(path, network="r19")

    @pytest.mark.parametrize(
        ("head", "message"),
        [
            (head_state("regressor", 512), r"weight \(\[1, 512\] instead of \[1, 24\]\)"),
            (
                {"weight": torch.zeros(1, 24)},
                "holds no quality head: it has weight; expected regressor.weight",
            ),
            ({"qs.weight": torch.zeros(1, 24)}, "holds no quality head: it has qs.weight; expected"),
            (head_state("qs") | {"qs.bias": torch.zeros(2)}, r"bias \(\[2\] instead of \[1\]\)"),
            (head_state("qs") | {"qs.bias": torch.tensor([torch.inf])}, "NaN or infinity in bias"),
        ],
    )
    def test_the_wrong_head(self, tmp_path: Path, head: State, message: str) -> None:
        path, head_path = save(tmp_path / "model.pt", state_of()), save(tmp_path / "head.pt", head)
        with pytest.raises(SourceError, match=f"head.pt.*{message}"):
            open_source(path, quality_head=head_path, network=NETWORK)

    @pytest.mark.parametrize("prefix", ["regressor", "qs"])
    def test_a_head_is_no_source(self, tmp_path: Path, prefix: str) -> None:
        path = save(tmp_path / "quality_head.pt", head_state(prefix))
        with pytest.raises(SourceError, match="a quality head without a backbone: name a file"):
            open_source(path)

    def test_code_in_a_file_is_not_run(self, tmp_path: Path) -> None:
        trace = tmp_path / "trace"

        class Evil:
            def __reduce__(self) -> Any:
                return open, (str(trace), "w")

        state = state_of()
        for path, options in [
            (save(tmp_path / "model.pt", state | {"evil": Evil()}), {}),
            (
                save(tmp_path / "good.pt", state),
                {"quality_head": save(tmp_path / "head.pt", {"evil": Evil()})},
            ),
        ]:
            with pytest.raises(
                ValueError, match="holds more than tensors and plain values; nothing in it was run"
            ):
                open_source(path, network=NETWORK, **options)
        assert not trace.exists()

    def test_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "model.pt").write_bytes(b"no checkpoint" * 99)
        with pytest.raises(ValueError, match="model.pt cannot be read as a checkpoint"):
            open_source(tmp_path / "model.pt")
        save(tmp_path / "cut.pt", state_of())
        (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:5000])
        with pytest.raises(ValueError, match="it is damaged, cut short, or no file of torch.save"):
            open_source(tmp_path / "cut.pt")
        with pytest.raises(SourceError, match="there is no run folder or checkpoint .*nothing.pt"):
            open_source(tmp_path / "nothing.pt")


class TestAsOthersSaveThem:
    """The same weights, whatever was around the network or the state dict when they were saved."""

    @pytest.mark.parametrize("network", [None, "r18"])
    @pytest.mark.parametrize(
        "prefix",
        [
            "_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "model.",
            "backbone._orig_mod.", "module.model.backbone.",
        ],
    )  # fmt: skip
    def test_prefixes_of_wrappers(self, tmp_path: Path, prefix: str, network: str | None) -> None:
        state = state_of("r18")
        self.check(tmp_path, {prefix + name: tensor for name, tensor in state.items()}, state, network)

    def test_parts_that_were_compiled_alone(self, tmp_path: Path) -> None:
        state = state_of("r18")
        named = {n.replace("layer1.0.", "layer1.0._orig_mod."): t for n, t in state.items()}
        assert named != state
        self.check(tmp_path, named, state)

    @pytest.mark.parametrize("kept", [0, 3])
    def test_without_counters_of_batches(self, tmp_path: Path, kept: int) -> None:
        state = state_of("r18")
        counters = [name for name in state if name.endswith("num_batches_tracked")]
        left_out = set(counters[kept:])
        expected = {n: torch.tensor(0) if n in left_out else t for n, t in state.items()}
        self.check(tmp_path, {n: t for n, t in state.items() if n not in left_out}, expected)

    @pytest.mark.parametrize(
        "keys",
        [
            "state_dict", "model", "backbone", "state_dict_backbone", "model_state_dict",
            "state_dict backbone",
        ],
    )  # fmt: skip
    def test_wrapped_beside_other_things(self, tmp_path: Path, keys: str) -> None:
        state = state_of("r18")
        content: Any = {f"module.{name}": tensor for name, tensor in state.items()}
        for key in reversed(keys.split()):
            content = {"epoch": 3, key: content, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
        self.check(tmp_path, content, state)

    @pytest.mark.parametrize("network", [None, "r18"])
    @pytest.mark.parametrize(
        ("prefix", "beside"),
        [
            ("model.backbone.", {"model.head.weight": torch.zeros(10, FEATURES)}),
            ("backbone.", {"head.kernel": torch.zeros(FEATURES, 10)}),
            ("net.", {"criterion.weight": torch.zeros(10, FEATURES)}),
            ("module.", {"n_averaged": torch.tensor(5)}),
        ],
    )
    def test_the_one_network_beside_other_tensors(
        self, tmp_path: Path, log_lines: list[str], prefix: str, beside: State, network: str | None
    ) -> None:
        state = state_of("r18")
        content = {prefix + name: tensor for name, tensor in state.items()}
        for whole in (content | beside, {"state_dict": beside | content, "epoch": 3}):
            self.check(tmp_path, whole, state, network)
        below, left_out = prefix.removeprefix("model."), next(iter(beside)).removeprefix("model.")
        assert log_lines[0].endswith(f"model.pt: what is under {below} is r18; left out: {left_out}")

    @pytest.mark.parametrize("key", ["ema", "ema_state_dict", "weights", "student"])
    def test_under_a_key_of_any_name(self, tmp_path: Path, key: str) -> None:
        state = state_of("r18")
        self.check(tmp_path, {key: state, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}}, state)

    @pytest.mark.parametrize("keys", ["teacher student", "teacher. student."])
    def test_of_two_networks_none_is_chosen(self, tmp_path: Path, keys: str) -> None:
        first, second = keys.split()
        state = state_of("r18")
        content: Any = {first: state, second: state}
        if first.endswith("."):
            content = {prefix + name: x for prefix in content for name, x in state.items()}
        with pytest.raises(
            SourceError, match=rf"holds several networks \({first}, {second}\): save the state"
        ):
            open_source(save(tmp_path / "model.pt", content))

    def test_names_of_no_network_are_not_compared_with_one(self, tmp_path: Path) -> None:
        names = ("trunk.stem.weight", "trunk.fc.weight", "head.weight")
        path = save(tmp_path / "model.pt", {name: torch.zeros(3, 3) for name in names})
        with pytest.raises(
            SourceError, match="shares no name with any, as its names begin with trunk, head."
        ) as e:
            open_source(path)
        assert "closest" not in str(e.value)

    @staticmethod
    def check(folder: Path, content: Any, state: State, network: str | None = None) -> None:
        source = open_source(save(folder / "model.pt", content), network=network)
        assert source.recipe == {"network": "r18", "embedding_size": FEATURES}
        assert equal_states(source.backbone.state_dict(), state)

    def test_a_network_whose_own_names_begin_so(self, tmp_path: Path) -> None:
        state = {f"model.{name}": t for name, t in state_of("r18").items()}

        class Own(torch.nn.Module):
            def __init__(self, **options: Any) -> None:
                super().__init__()
                self.model = get_model("r18", **options)

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return self.model(images)  # type: ignore[no-any-return]

        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(BACKBONES._entries, "own", lambda **options: Own(**options))
            source = open_source(save(tmp_path / "model.pt", state), network="own")
        assert equal_states(source.backbone.state_dict(), state)

    def test_crfiqas_layer_and_heads_are_found_in_them(self, tmp_path: Path) -> None:
        state = state_of("r18") | head_state("qs")
        content = {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}}
        source = open_source(save(tmp_path / "model.pt", content))
        assert source.regressor is not None
        assert torch.equal(source.regressor.weight, state["qs.weight"])
        own = {f"module.{name}": tensor for name, tensor in head_state("regressor").items()}
        head = save(tmp_path / "head.pt", {"state_dict": own})
        source = open_source(save(tmp_path / "plain.pt", state_of("r18")), quality_head=head)
        assert source.regressor is not None
        assert torch.equal(source.regressor.weight, own["module.regressor.weight"])

    def test_several_networks_are_not_chosen_among(self, tmp_path: Path) -> None:
        path = save(tmp_path / "model.pt", {"model": state_of(), "backbone": state_of("r18")})
        with pytest.raises(
            SourceError, match="holds several networks .*model, backbone.*: save the state dict"
        ):
            open_source(path)

    def test_torchscript_and_whole_networks_are_not_run(self, tmp_path: Path) -> None:
        network = torch.nn.Linear(3, 2)
        torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3)), tmp_path / "script.pt")
        save(tmp_path / "whole.pt", network)
        (tmp_path / "old.pt").write_bytes(pickle.dumps({"weights": network}))
        messages = []
        for name in ("script.pt", "whole.pt", "old.pt"):
            with pytest.raises(ValueError, match="nothing in it was run|whose code is not run") as caught:
                open_source(tmp_path / name)
            messages.append(str(caught.value))
        assert "script.pt is a TorchScript file" in messages[0]
        assert "Of a whole network, save its state_dict()" in messages[1]
        assert not any("weights_only" in message or "\n" in message for message in messages)


class TestCRFIQA:
    def test_its_quality_layer_and_trained_normalisation_are_kept(self, tmp_path: Path) -> None:
        state = state_of("r18", 512) | head_state("qs", 512)
        assert state["features.weight"].std() > 0.1  # arcface_torch leaves it at 1
        self.check(save(tmp_path / "181952backbone.pth", state), state, "r18")

    @pytest.mark.parametrize(
        "depth", [18, 50, pytest.param(34, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)]
    )
    def test_the_listed_names_and_shapes(self, tmp_path: Path, depth: int) -> None:
        if not FACTS.is_file():
            pytest.skip("the listing of CR-FIQA's names is not at hand")
        shapes = json.loads(FACTS.read_text(encoding="utf-8"))[f"iresnet{depth}"]
        generator = torch.Generator().manual_seed(depth)
        state = {
            name: torch.tensor(7) if name.endswith("tracked") else torch.rand(shape, generator=generator)
            for name, shape in shapes.items()
        }
        self.check(save(tmp_path / "181952backbone.pth", state), state, f"r{depth}")

    @staticmethod
    def check(path: Path, state: State, network: str) -> None:
        source = open_source(path)
        assert source.method == "cr_fiqa"
        assert source.recipe == {"network": network, "embedding_size": 512}
        found = source.backbone.state_dict()
        assert equal_states(found, {name: state[name] for name in state if not name.startswith("qs.")})
        assert source.regressor is not None
        assert torch.equal(source.regressor.weight, state["qs.weight"])
        assert torch.equal(source.regressor.bias, state["qs.bias"])
        assert source.metadata()["source_sha256"] == sha256(path)

    def test_the_variant_with_attention_is_refused(self, tmp_path: Path) -> None:
        state = (
            {"layer1.0.se_block.fc1.weight": torch.zeros(4, 64)}
            | state_of("r18", 512)
            | head_state("qs", 512)
        )
        path = save(tmp_path / "backbone.pth", state)
        with pytest.raises(SourceError, match="closest is r18, but it has also layer1.0.se_block.fc1.weight"):
            open_source(path)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    state = get_model("mbf", num_features=8).state_dict()
    first = next(iter(state))
    torch.save(state | {first: state[first].to(dtype)}, tmp_path / "mbf.pt")
    with pytest.raises(ValueError, match=rf"holds {first} \({str(dtype)[6:]}\), expected floating-point"):
        open_source(tmp_path / "mbf.pt")
    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.pt")
    assert open_source(tmp_path / "half.pt").recipe["network"] == "mbf"


@pytest.mark.parametrize("rows", [torch.zeros(10**9, 0), torch.zeros(50_000)])
@pytest.mark.parametrize("network", ["mbf", None])
def test_no_network_is_built_that_the_file_has_not_the_weights_of(
    tmp_path: Path, network: str | None, rows: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes name an embedding size, and its layer has many thousand times as many weights."""
    built = []

    def note(tensor: Tensor, *_: float, **__: float) -> Tensor:
        built.append(tensor.device.type)
        return tensor

    monkeypatch.setattr(torch.nn.init, "normal_", note)
    torch.save({"conv.weight": torch.zeros(2, 2), "last.bias": rows}, tmp_path / "small.pt")
    with pytest.raises(ValueError, match="does not fit mbf|of no registered network"):
        open_source(tmp_path / "small.pt", network=network)
    assert set(built) <= {"meta"}


@pytest.mark.parametrize("wrapped", [False, True])
def test_names_and_dicts_within_each_other_without_end(tmp_path: Path, wrapped: bool) -> None:
    content: Any = {"module." * 5000 + "weight": torch.zeros(2)}
    if wrapped:
        for _ in range(200):
            content = {"model": content}
    torch.save(content, tmp_path / "deep.pt")
    with pytest.raises(ValueError, match="of no registered network|holds several networks"):
        open_source(tmp_path / "deep.pt")

"""Recipes: arcface_torch's form, checked; every shipped one loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from easydict import EasyDict

from trainer import schema
from trainer.recipe import BASE, RecipeError, changed_keys, did_you_mean, load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(p for p in (ROOT / "recipes").glob("*.py") if p != BASE)
REQUIRED = {"on_top": ("recognizer=r50.onnx", "rec=faces")}
HEADER = "from easydict import EasyDict as edict\nconfig = edict()\nconfig.rec = 'x'\nconfig.num_epoch = 20\n"


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(body: str = "", header: str = HEADER) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(header + body)
        return path

    return write


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipe_loads(path: Path) -> None:
    config = load_recipe(path, REQUIRED.get(path.stem, ()))
    assert config.output == f"work_dirs/{path.stem}"


def test_all_recipes_of_the_paper_are_shipped() -> None:
    names = {path.stem for path in RECIPES}
    assert names >= {
        "quickstart",
        "ms1mv2_r100_igfiqa",
        "casia_r50_igfiqa",
        "casia_r50_igfiqa_noaug",
        "casia_r50_crfiqa",
        "ms1mv2_r100_crfiqa",
    }


def test_paper_settings() -> None:
    large = load_recipe(ROOT / "recipes/ms1mv2_r100_igfiqa.py")
    assert (large.network, large.num_classes, large.num_image) == ("r100", 85742, 5822653)
    assert (large.num_epoch, list(large.lr_decay_epochs), large.batch_size * 8) == (20, [10, 16], 1024)
    small = load_recipe(ROOT / "recipes/casia_r50_igfiqa.py")
    assert (small.num_epoch, list(small.lr_decay_epochs), small.ig_fiqa.degradation_p) == (36, [20, 28], 0.3)
    assert load_recipe(ROOT / "recipes/casia_r50_igfiqa_noaug.py").ig_fiqa.degradation_p == 0
    assert load_recipe(ROOT / "recipes/casia_r50_crfiqa.py").quality_head == "cr_fiqa"


def test_base_and_schema_have_the_same_keys() -> None:
    config = load_recipe(RECIPES[0])
    assert set(config) == set(schema.KEYS) | set(schema.BLOCKS)
    for block, keys in schema.BLOCKS.items():
        assert set(config[block]) == set(keys)


def test_upstream_config_loads_unchanged(write) -> None:  # type: ignore[no-untyped-def]
    # The keys and values seen in arcface_torch's own files, odd ones included.
    path = write(
        """
config.margin_list = (1.0, 0.0, 0.4)
config.network = "vit_t_dp005_mask0"
config.resume = False
config.output = None
config.embedding_size = 512
config.sample_rate = 0
config.interclass_filtering_threshold = 0
config.fp16 = True
config.batch_size = 128
config.optimizer = "adamw"
config.lr = 0.001
config.weight_decay = 0.1
config.verbose = 2000
config.dali = True
config.dali_aug = True
config.gradient_acc = 12
config.num_classes = 30 * 10000
config.num_image = 100000
config.warmup_epoch = config.num_epoch // 10
config.val_targets = []
config.save_all_states = True
config.using_wandb = False
config.wandb_key = "XXXX"
config.wandb_entity = "entity"
config.wandb_project = "project"
config.wandb_log_all = True
config.wandb_resume = False
config.save_artifacts = False
config.suffix_run_name = None
"""
    )
    config = load_recipe(path)
    assert (config.sample_rate, config.warmup_epoch, config.num_classes) == (0, 2, 300000)
    assert load_recipe(path, ["warmup_epoch=-1"]).warmup_epoch == -1


def test_the_base_is_not_changed_by_a_recipe(write) -> None:  # type: ignore[no-untyped-def]
    load_recipe(write("config.lr = 7.0\nconfig.ig_fiqa = edict(loss_weight=3.0)\n"))
    other = load_recipe(RECIPES[0])
    assert other.lr != 7.0
    assert other.ig_fiqa.loss_weight == 10.0


def test_a_block_is_merged_key_by_key(write) -> None:  # type: ignore[no-untyped-def]
    block = load_recipe(write("config.ig_fiqa = edict(loss_weight=3)\n"), ["ig_fiqa.beta=0.1"]).ig_fiqa
    assert (block.loss_weight, block.beta, block.sub_batch) == (3, 0.1, "split")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("lr=2e-3", "lr", 0.002),
        ("network=timm:lcnet_050", "network", "timm:lcnet_050"),
        ("rec=2024", "rec", "2024"),
        ("rec='a b'", "rec", "a b"),
        ("output=None", "output", "work_dirs/mine"),
        ("resume=True", "resume", True),
        ("val_targets=lfw,cfp_fp", "val_targets", ["lfw", "cfp_fp"]),
        ("val_targets=lfw", "val_targets", ["lfw"]),
        ("val_targets=", "val_targets", []),
        ("val_targets=['lfw']", "val_targets", ["lfw"]),
        ("lr_decay_epochs=3,5", "lr_decay_epochs", (3, 5)),
        ("lr_decay_epochs=3", "lr_decay_epochs", [3]),
        ("margin_list=1,0,0.35", "margin_list", (1, 0, 0.35)),
        ("quality_head=None", "quality_head", None),
        ("plugins=a.b,c.py", "plugins", ["a.b", "c.py"]),
    ],
)
def test_override(write, override: str, key: str, value: object) -> None:  # type: ignore[no-untyped-def]
    assert load_recipe(write(), [override])[key] == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batchsize=3", "Did you mean 'batch_size'"),
        ("ig_fiqa.lossweight=3", "Did you mean 'ig_fiqa.loss_weight'"),
        ("igfiqa.beta=3", "Did you mean 'ig_fiqa'"),
        (
            "cosface.margin=0.3",
            "unknown recipe key 'cosface'. A block has the name that a key such as margin",
        ),
        ("lr=fast", "'lr' accepts a number > 0; got 'fast'"),
        ("lr=nan", "'lr' accepts"),
        ("batch_size=0", "an integer >= 1; got 0"),
        ("batch_size=1.5", "an integer >= 1; got 1.5"),
        ("batch_size=True", "an integer >= 1; got True"),
        ("fp16=1", "True or False; got 1"),
        ("resume=true", "True, False or 'auto'; got 'true'"),
        ("optimizer=adam", "one of 'sgd', 'adamw'; got 'adam'"),
        ("margin_list=(1,0.5)", "ArcFace"),
        ("margin_list=(1,0.3,0.2)", "ArcFace"),
        ("sample_rate=1.5", "a number in [0, 1]"),
        ("warmup_epoch=21", "must not exceed num_epoch (20)"),
        ("lr_schedule=step", "needs lr_decay_epochs"),
        ("ig_fiqa.sub_batch=both", "'split', 'mirror'; got 'both'"),
        ("ig_fiqa.rescale=(0.5,0.2)", "low <= high"),
        ("ig_fiqa=3", "a block of keys"),
        ("ig_fiqa.beta.x=1", "unknown recipe key 'ig_fiqa.beta.x'. Did you mean 'ig_fiqa.beta'?"),
        ("lr", "looks like key=value"),
        ("num_classes=1", "an integer >= 2"),
        ("rec=None", "'rec' is required: set it to a folder with train.rec and train.idx, a folder of"),
    ],
)
def test_bad_override(write, override: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(write(), [override])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("x = 1\n", "must define"),
        ("config = 3\n", "must define"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError"),
        ("config = (\n", "SyntaxError"),
        (
            "from easydict import EasyDict as edict\nconfig = edict()\nconfig.num_epoch = 1\n",
            "'rec' is required",
        ),
        (
            "from easydict import EasyDict as edict\nconfig = edict()\nconfig.rec = 'x'\n",
            "'num_epoch' is required",
        ),
        (HEADER + "config.bacth_size = 3\n", "Did you mean 'batch_size'"),
    ],
)
def test_bad_recipe_file(write, header: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(write(header=header))


def test_a_key_in_capitals_finds_its_like() -> None:
    assert did_you_mean("LR", ["lr", "seed"]) == " Did you mean 'lr'?"


def test_missing_recipe_names_the_closest() -> None:
    with pytest.raises(RecipeError, match=r"does not exist\. Did you mean .*quickstart\.py"):
        load_recipe(ROOT / "recipes/quickstrat.py")


@pytest.mark.parametrize("name", ["quickstart", "quikstart", "recipe/quickstart", "quickstart.py"])
def test_a_recipe_without_folder_or_suffix_is_looked_for_among_those_shipped(name: str) -> None:
    with pytest.raises(
        RecipeError, match=r"does not exist\. Did you mean '.*recipes/quickstart\.py'\?"
    ) as caught:
        load_recipe(name)
    assert "setup.py" not in str(caught.value)
    with pytest.raises(RecipeError, match=r"Known: .*recipes/quickstart\.py") as caught:
        load_recipe("qqqqqqq")
    assert "train.py" not in str(caught.value)


def test_a_folder_is_told_from_a_recipe_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("config = {}")
    (tmp_path / "script.py").write_text("print()")
    with pytest.raises(RecipeError, match=r"is a folder, expected a recipe's file.*mine\.py") as error:
        load_recipe(tmp_path)
    assert "script.py" not in str(error.value)


def test_what_all_recipes_rest_on_is_not_proposed_as_one() -> None:
    with pytest.raises(RecipeError, match="Known: ") as caught:
        load_recipe(ROOT / "recipes/qqqqqqq.py")
    assert "base.py" not in str(caught.value)


class TestPlaces:
    def test_a_plugin_lies_beside_the_recipe_or_where_the_command_is_run(
        self, write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # type: ignore[no-untyped-def]
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        path = write("config.plugins = ['plug.py', 'package.module']\n")
        with pytest.raises(
            RecipeError, match="plugin file 'plug.py' does not exist: looked for .* and .*"
        ) as caught:
            load_recipe(path)
        assert str(tmp_path / "plug.py") in str(caught.value)
        assert str(here / "plug.py") in str(caught.value)
        (here / "plug.py").touch()
        assert load_recipe(path).plugins == ["plug.py", "package.module"]
        (tmp_path / "beside").mkdir()
        beside = tmp_path / "beside" / "recipe.py"
        beside.write_text(path.read_text())
        (tmp_path / "beside" / "plug.py").touch()
        assert load_recipe(beside).plugins == [str(tmp_path / "beside" / "plug.py"), "package.module"]
        assert load_recipe(beside, ["plugins=plug.py"]).plugins == ["plug.py"]

    def test_a_tilde_is_the_home_folder_in_every_path(
        self, write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # type: ignore[no-untyped-def]
        monkeypatch.setenv("HOME", str(tmp_path))
        keys = ["rec", "decoded_cache", "recognizer", "backbone_weights", "output", "on_top.cache"]
        lines = [f"config.{key} = '~/x'\n" for key in keys if "." not in key]
        in_file = load_recipe(write("".join(lines) + "config.on_top = edict(cache='~/x')\n"))
        given = load_recipe(write(), [*(f"{key}=~/x" for key in keys), "plugins=~/x.py"])
        for config in (in_file, given):
            assert {config[key] for key in keys if "." not in key} == {str(tmp_path / "x")}
            assert config.on_top.cache == str(tmp_path / "x")
        assert given.plugins == [str(tmp_path / "x.py")]
        assert load_recipe(write(), ["rec=a~b"]).rec == "a~b"


@pytest.mark.parametrize("kind", ["quality_head", "margin", "classifier", "dataset"])
def test_what_comes_from_outside_brings_its_block(write, kind: str) -> None:  # type: ignore[no-untyped-def]
    path = write(f"config.{kind} = 'mine'\nconfig.mine = edict(depth=3)\n")
    assert load_recipe(path, ["mine.depth=4"]).mine == EasyDict(depth=4)


def test_plain_dict_serves_as_config(write) -> None:  # type: ignore[no-untyped-def]
    assert load_recipe(write(header="config = {'rec': 'x', 'num_epoch': 1}\n")).rec == "x"


def test_changed_keys_are_those_that_differ_from_the_base(write) -> None:  # type: ignore[no-untyped-def]
    path = write("config.lr = 0.1\nconfig.cr_fiqa = edict(beta=0.25)\n")
    assert changed_keys(load_recipe(path, ["network=r18", "ig_fiqa.beta=0.5"])) == [
        "rec", "network", "num_epoch", "output", "cr_fiqa.beta",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["[]", "norm,norm", "norm,eyes", "[['norm']]", "3"])
def test_a_list_of_some_names_each_once(write, value: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        RecipeError, match="'on_top.reads' accepts a list of some of 'embedding', 'norm', 'maps'"
    ):
        load_recipe(write(), [f"on_top.reads={value}"])

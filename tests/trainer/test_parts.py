"""What a recipe asks of registered classes: names, settings and shapes, checked before any data is read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from easydict import EasyDict
from torch import Tensor, nn
from torch.cuda import OutOfMemoryError

import train
from igfiqa_head.margin import MarginOutput
from igfiqa_head.quality_head import QualityHead
from igfiqa_head.ranks import ALONE
from igfiqa_head.registry import BACKBONES, CLASSIFIERS, DATASETS, MARGINS, QUALITY_HEADS, Registry
from plugins.backbones import get_model
from plugins.classifiers.partial_fc import PartialFC
from plugins.datasets.synthetic import SyntheticFaces
from plugins.margins.cosface import CosFace
from tests.trainer.conftest import TINY_PLUGIN
from trainer import build, build_data, build_parts
from trainer.parts import build_part
from trainer.recipe import BASE, load_recipe
from trainer.run import run

Recipe = Callable[..., EasyDict]
Register = Callable[[Registry, str, Any], None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    return lambda registry, name, entry: monkeypatch.setitem(registry._entries, name, entry)


class Margin:
    """A margin from outside."""

    def __init__(self, slope: float = 0.1, kind: str = "flat", steep: bool = False, count: int = 2) -> None:
        if not 0 <= slope <= 1:
            raise ValueError(f"slope must lie in [0, 1], got {slope}")
        self.slope = slope

    def __call__(self, target: Any, norms: Any, labels: Any) -> MarginOutput:
        return MarginOutput(target - self.slope)


class Head(QualityHead):
    """A quality head from outside that wants to know nothing of the run."""

    loss_weight = 1.0

    def __init__(self, embedding_size: int, num_classes: int, depth: int = 1) -> None:
        super().__init__(embedding_size, num_classes)
        self.depth = depth


class WholeHead(Head):
    def forward(self, embeddings: Any, labels: Any, classifier: Any, *, epoch: float) -> Any: ...


class Classifier(PartialFC):
    def __init__(self, *arguments: Any, warmth: float = 1.0, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.warmth = warmth


class Faces(SyntheticFaces):
    def __init__(self, root: str, people: int = 6) -> None:
        super().__init__(people, 8)


def test_a_block_reaches_the_class_it_is_named_after(tiny_recipe: Recipe, register: Register) -> None:
    for registry, name, entry in (
        (MARGINS, "m", Margin), (QUALITY_HEADS, "h", WholeHead),
        (CLASSIFIERS, "c", Classifier), (DATASETS, "d", Faces),
    ):  # fmt: skip
        register(registry, name, entry)
    config = tiny_recipe(
        "m.slope=0.3", "margin=m", "h.depth=4", "quality_head=h", "c.warmth=2", "classifier=c", "d.people=7",
        "dataset=d", "rec=anything",
    )  # fmt: skip
    build_parts.check_parts(config)
    classifier = build_parts.build_classifier(config, 7)
    assert (classifier.margin.slope, classifier.warmth, classifier.scale) == (0.3, 2, 64.0)
    assert build_parts.build_quality_head(config, 7).depth == 4  # type: ignore[union-attr]
    assert build_data.build_train_set(config).num_classes == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            "margin=cosface cosface.margn=0.3",
            "unknown recipe key 'cosface.margn'. Did you mean 'cosface.margin'",
        ),
        (
            "cosface.margn=0.3 margin=cosface",
            "unknown recipe key 'cosface.margn'. Did you mean 'cosface.margin'",
        ),
        (
            "margin=cosface cosface.margin=3",
            r"'cosface' .* with cosface.margin=3: .* lies in \[0, 2\], got 3",
        ),
        ("margin=cosface cosface.margin=abc", "'cosface.margin' accepts a number; got 'abc'"),
        ("margin=cosface cosface.margin=True", "'cosface.margin' accepts a number; got True"),
        (
            "margin=arcface arcface.straight_through=1",
            "'arcface.straight_through' accepts True or False; got 1",
        ),
        ("margin=cosfase", "unknown margin 'cosfase'. Did you mean 'cosface'"),
        ("margin=m m.slpe=1", "unknown recipe key 'm.slpe'. Did you mean 'm.slope'"),
        ("margin=m m.qqq=1", "unknown recipe key 'm.qqq'. Known: m.slope, m.kind, m.steep, m.count"),
        (
            "margin=m m.slope=2",
            r"margin 'm' \(Margin in .*test_parts.py\) cannot be built with m.slope=2: slope",
        ),
        ("margin=m m.count=1.5", "'m.count' accepts an integer; got 1.5"),
        ("margin=m m.kind=3", "'m.kind' accepts a text; got 3"),
        ("quality_head=h h.dept=3", "unknown recipe key 'h.dept'. Did you mean 'h.depth'"),
        ("quality_head=h h.depth=deep", "'h.depth' accepts an integer; got 'deep'"),
        (
            "classifier=partial_fc partial_fc.scale=3",
            "partial_fc.scale is given by the run: set the recipe's own key scale",
        ),
        ("dataset=d d.peple=3", "unknown recipe key 'd.peple'. Did you mean 'd.people'"),
        ("ig_fiqa.loss_wieght=3", "Did you mean 'ig_fiqa.loss_weight'"),
    ],
)
def test_a_setting_that_a_class_does_not_take_is_one_line(
    recipe_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], register: Register,
    overrides: str, message: str,
) -> None:  # fmt: skip
    for registry, name, entry in ((MARGINS, "m", Margin), (QUALITY_HEADS, "h", Head), (DATASETS, "d", Faces)):
        register(registry, name, entry)
    given = [f"output={tmp_path / 'run'}", "rec=never_looked_at", *overrides.split()]
    assert train.main([str(recipe_path), *given]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()


class NotCallable:
    def __init__(self, slope: float = 0.1) -> None: ...


class TooFewArguments:
    def __call__(self, cosine: Any) -> Any: ...


class ReturnsATensor:
    def __call__(self, target: Any, norms: Any, labels: Any) -> Any:
        return target


class NeedsASetting:
    def __init__(self, slope: float) -> None: ...


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            NotCallable,
            r"margin 'mine' \(NotCallable in .*test_parts.py\) lacks what every margin has: __call__\(t",
        ),
        (TooFewArguments, r"\(TooFewArguments in .*\) cannot be called with \(target \[B\], norms"),
        (ReturnsATensor, r"\(ReturnsATensor in .*\) returns a Tensor; expected .*MarginOutput"),
        (NeedsASetting, r"\(NeedsASetting in .*\) needs mine.slope: set it in the recipe"),
    ],
)
def test_a_margin_of_another_shape_is_told_of_with_what_is_expected(
    tiny_recipe: Recipe, register: Register, entry: type, message: str
) -> None:
    register(MARGINS, "mine", entry)
    with pytest.raises(ValueError, match=message):
        run(tiny_recipe("margin=mine", "rec=never_looked_at"))


def test_heads_classifiers_and_data_sets_of_another_shape(tiny_recipe: Recipe, register: Register) -> None:
    class NoHead:
        def __init__(self, embedding_size: int, num_classes: int) -> None: ...

    class NoArguments:
        def __init__(self) -> None: ...

    register(QUALITY_HEADS, "mine", NoHead)
    with pytest.raises(
        ValueError, match=r"NoHead .* lacks what every quality head has: forward\(.*; split\("
    ):
        build.build_quality_head(tiny_recipe("quality_head=mine"), 6)
    register(QUALITY_HEADS, "mine", Head)  # without a forward of its own
    with pytest.raises(
        ValueError, match=r"\(Head in .* lacks what every quality head has: forward\(embeddings"
    ):
        build.build_quality_head(tiny_recipe("quality_head=mine"), 6)

    class NoEpoch(Head):
        def forward(self, embeddings: Any, labels: Any) -> Any: ...

    register(QUALITY_HEADS, "mine", NoEpoch)
    with pytest.raises(
        ValueError, match=r"NoEpoch in .*\) cannot be called with \(embeddings .*, \*, epoch\)"
    ):
        build.build_quality_head(tiny_recipe("quality_head=mine"), 6)
    register(QUALITY_HEADS, "mine", NoArguments)
    with pytest.raises(
        ValueError, match=r"quality head 'mine' \(.*NoArguments in .*\) must take 2 arguments"
    ):
        build_parts.check_parts(tiny_recipe("quality_head=mine"))
    register(DATASETS, "mine", lambda root: [])
    with pytest.raises(
        ValueError, match=r"lacks what every data set has: labels, int64 \[N\]; num_classes, int"
    ):
        build_data.build_train_set(tiny_recipe("dataset=mine"))


def test_a_backbone_that_does_not_take_what_all_do(register: Register) -> None:
    register(BACKBONES, "mine", lambda num_features: None)
    with pytest.raises(
        ValueError, match="backbone 'mine' .* must take the arguments dropout, fp16, num_features"
    ):
        get_model("mine")
    register(BACKBONES, "mine", lambda **_: None)
    with pytest.raises(ValueError, match="lacks what every backbone has: forward"):
        get_model("mine")


def test_what_makes_nothing_cannot_be_registered(tiny_recipe: Recipe, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("from igfiqa_head.registry import MARGINS\nMARGINS.register('mine')(object())\n")
    with pytest.raises(ValueError, match=r"margin 'mine' is registered for <object .*: expected a class, or"):
        run(tiny_recipe("margin=mine", f"plugins={TINY_PLUGIN},{plugin}", "rec=never_looked_at"))
    assert "mine" not in MARGINS


class Backbone(nn.Module):
    """A backbone from outside that draws where it should not, and gives what it is told to."""

    def __init__(self, dropout: float, fp16: bool, num_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, num_features)

    def forward(self, images: Tensor) -> Any:
        torch.rand(1)
        return self.made(self.layer, images)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda layer, x: layer(x),
            r"num_features\]: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
        ),
        (lambda layer, x: x.nothing, r"AttributeError: 'Tensor' object has no attribute 'nothing'"),
        (lambda layer, x: x.mean(dim=(2, 3)), r"of 2 images and num_features=16 it makes \[2, 3\]"),
        (lambda layer, x: (layer(x.mean(dim=(2, 3))),), r"num_features=16 it makes tuple"),
    ],
)
def test_a_backbone_of_another_shape_is_told_of_before_the_training(
    tiny_recipe: Recipe, register: Register, made: Any, message: str
) -> None:
    register(BACKBONES, "mine", type("Mine", (Backbone,), {"made": staticmethod(made)}))
    recipe = tiny_recipe("network=mine")
    with pytest.raises(
        ValueError, match=rf"backbone 'mine' \(Mine in .*test_parts.py\) .*{message}"
    ) as caught:
        run(recipe)
    assert "\n" not in str(caught.value)
    assert not list(Path(recipe.output).iterdir())


def test_trying_a_backbone_draws_nothing(tiny_recipe: Recipe, register: Register) -> None:
    made = staticmethod(lambda layer, x: layer(x.mean(dim=(2, 3))))
    register(BACKBONES, "mine", type("Mine", (Backbone,), {"made": made}))
    config = tiny_recipe("network=mine")
    before = torch.get_rng_state()
    build_parts.try_backbone(config, build.build_backbone(config), torch.device("cpu"), None)
    backbone = build.build_backbone(config)
    torch.set_rng_state(before)
    build.build_backbone(config)
    assert torch.equal(build.build_backbone(config).layer.weight, backbone.layer.weight)  # type: ignore[arg-type, union-attr]


def test_a_class_is_given_what_its_signature_names_of_the_run(
    tiny_recipe: Recipe, register: Register
) -> None:
    asked: dict[str, Any] = {}

    class Curious(WholeHead):
        def __init__(self, embedding_size: int, num_classes: int, *, num_epoch: int, ranks: Any) -> None:
            asked.update(num_epoch=num_epoch, ranks=ranks)
            super().__init__(embedding_size, num_classes)

    register(QUALITY_HEADS, "curious", Curious)
    build.build_quality_head(tiny_recipe("quality_head=curious", "num_epoch=7"), 6)
    assert asked == {"num_epoch": 7, "ranks": ALONE}
    assert build.build_quality_head(tiny_recipe("num_epoch=7"), 6).num_epoch == 7  # type: ignore[union-attr]


def test_settings_of_classes_that_say_nothing_of_them_pass(register: Register) -> None:
    register(MARGINS, "loose", lambda **settings: CosFace(settings["margin"]))
    assert build_part(MARGINS, "loose", settings={"margin": 0.3}).margin == 0.3


@pytest.mark.parametrize("name", ["ig_fiqa", "cr_fiqa"])
def test_a_heads_block_in_the_base_is_its_signature(name: str) -> None:
    parameters = inspect.signature(QUALITY_HEADS.get(name)).parameters
    of_run = {"embedding_size", "num_classes", "num_epoch", "seed", "ranks"}
    defaults = {key: p.default for key, p in parameters.items() if key not in of_run}
    assert load_recipe(BASE, ["rec=x", "num_epoch=1"])[name] == defaults


@pytest.mark.parametrize(
    "overrides", ["batch_size=2", "batch_size=2 ig_fiqa.sub_batch=mirror", "batch_size=1 quality_head=None"]
)
def test_one_image_at_a_time_is_refused_where_statistics_are_taken(
    tiny_recipe: Recipe, overrides: str
) -> None:
    size = int(overrides.split()[0].partition("=")[2])
    given = [*overrides.split(), "network=timm:test_resnet", "num_epoch=1", "val_targets="]
    with pytest.raises(
        ValueError, match=f"batch_size={size} passes one image .* set batch_size={2 * size} or"
    ):
        run(tiny_recipe(*given))
    assert run(tiny_recipe(*given, f"batch_size={2 * size}")) is not None
    assert run(tiny_recipe(*given, "network=tiny_group_norm", "overwrite=True")) is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            "embedding_size=100000000000000",
            "'embedding_size' accepts an integer >= 1, or None; got 100000000000000, which is more",
        ),
        ("device=meta", "device 'meta' cannot be used here: expected auto, cpu, cuda"),
        ("seed=99999999999999999999", "'seed' accepts an integer in"),
        ("rank_timeout=1e300", "'rank_timeout' accepts a number in"),
        ("dropout=1.0", r"dropout must be in \[0, 1\), received 1.0"),
        ("lr=1e999", "'lr' accepts a number > 0; got inf"),
    ],
)
def test_values_that_torch_would_answer(tiny_recipe: Recipe, overrides: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        run(tiny_recipe(*overrides.split()))
    assert "\n" not in str(caught.value)


def test_more_prototypes_than_the_memory_holds(tiny_recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="100000000000000 prototypes of 16 cannot be built"):
        build.build_classifier(tiny_recipe(), 10**14)


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 728. TiB"), OutOfMemoryError("CUDA out of m")]
)
def test_want_of_memory_is_one_line(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr("trainer.run.run", fails)
    assert train.main([str(recipe_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line
        == f"error: not enough memory ({error}): lower batch_size, or see what else the recipe makes large"
    )


def test_a_plugin_that_fails_is_one_line(tiny_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_dependency\n")
    with pytest.raises(ValueError, match="plugin .*broken.py' failed: ModuleNotFoundError: No module named"):
        run(tiny_recipe(f"plugins={tmp_path / 'broken.py'}"))

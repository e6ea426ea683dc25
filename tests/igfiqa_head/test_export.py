"""Every kind of ONNX file equals torch, in onnxruntime and within insightface, or is not written."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from igfiqa_head.calibration import Calibration, PercentScale
from igfiqa_head.export import ExportError, export_onnx, rename_nodes
from igfiqa_head.kinds import OUTPUTS
from igfiqa_head.quality_head import QualityHead, QualityRegressor
from igfiqa_head.runtime import INPUT_CONTRACT, QualityModel
from plugins.backbones import get_model
from plugins.datasets.synthetic import SyntheticFaces
from tests.onnx_models import write_identity
from tests.packs import make_pack, open_pack, picture
from tests.plugins.backbones.filling import fill

ROOT = Path(__file__).resolve().parents[2]
FEATURES = 48
FAST = "timm:test_resnet"
NETWORKS = [FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in ("r18", "mbf", "vit_t"))]
KINDS = list(OUTPUTS)


@functools.cache
def crops() -> NDArray[np.uint8]:
    """RGB uint8 [6, 112, 112, 3]."""
    return SyntheticFaces(6, 1, split="test", low_variance_share=0).render()


def network_input(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


@functools.cache
def networks(name: str) -> tuple[nn.Module, QualityHead]:
    backbone, head = get_model(name, num_features=FEATURES), QualityHead(FEATURES, 2)
    fill(backbone)
    fill(head)
    return backbone.eval(), head


@torch.no_grad()
def torch_says(name: str, kind: str, images: Tensor) -> dict[str, NDArray[np.float32]]:
    """The outputs of a kind by its definition."""
    backbone, head = networks(name)
    embedding = backbone(images)
    quality = head.regressor(embedding)[:, None]
    if kind == "fused":
        fused = embedding / embedding.norm(dim=1, keepdim=True) * torch.log1p(torch.exp(quality))
        return {"embedding": fused.numpy()}
    return {name: {"embedding": embedding, "quality": quality}[name].numpy() for name in OUTPUTS[kind]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """``exported(network, kind)`` is the path of a file, made once."""
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(name: str, kind: str) -> Path:
        path = folder / name.replace(":", "_") / f"{kind}.onnx"
        path.parent.mkdir(exist_ok=True)
        error = export_onnx(*networks(name), path, kind=kind, images=network_input(crops()))
        assert 0 <= error < 1e-4
        return path

    return export


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
class TestEveryKind:
    def test_onnxruntime_equals_torch_at_any_batch_size(self, exported, name: str, kind: str) -> None:  # type: ignore[no-untyped-def]
        session = onnxruntime.InferenceSession(exported(name, kind), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        assert (given.name, given.type, given.shape[1:]) == ("input", "tensor(float)", [3, 112, 112])
        assert tuple(output.name for output in session.get_outputs()) == OUTPUTS[kind]
        for count in (1, 3, 5):
            images = network_input(crops()[-count:])
            got = dict(zip(OUTPUTS[kind], session.run(None, {"input": images.numpy()}), strict=True))
            for output, want in torch_says(name, kind, images).items():
                assert got[output].shape == (count, 1 if output == "quality" else FEATURES)
                np.testing.assert_allclose(got[output], want, atol=1e-4 * np.abs(want).max())

    def test_graph_is_simple_complete_and_private(self, exported, name: str, kind: str) -> None:  # type: ignore[no-untyped-def]
        path = exported(name, kind)
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        assert not any(onnx.external_data_helper.uses_external_data(t) for t in model.graph.initializer)
        shaped = {value.name for value in (*model.graph.value_info, *model.graph.output)}
        assert {output for node in model.graph.node for output in node.output if output} <= shaped
        assert not {node.op_type for node in model.graph.node} & {"Identity", "Dropout", "Constant"}
        assert str(ROOT).encode() not in path.read_bytes()

    def test_insightface_gives_every_face_what_torch_says_of_its_crop(  # type: ignore[no-untyped-def]
        self, exported, name: str, kind: str, tmp_path: Path
    ) -> None:
        norm_crop = pytest.importorskip("insightface").utils.face_align.norm_crop
        from igfiqa_head.insightface import attach

        pack = make_pack(tmp_path, recogniser=None)
        is_recogniser = "quality" not in OUTPUTS[kind]
        if is_recogniser:
            shutil.copy(exported(name, kind), pack / "recogniser.onnx")
        app = open_pack(pack)
        if not is_recogniser:
            attach(app, exported(name, kind))
        faces = app.get(picture())
        assert len(faces) == 2
        aligned = np.stack([norm_crop(picture(), face.kps) for face in faces])
        want = torch_says(name, kind, network_input(aligned[..., ::-1]))
        if "quality" in want:
            found = [face.quality for face in faces]
            np.testing.assert_allclose(found, want["quality"][:, 0], rtol=1e-3, atol=1e-4)
        if "embedding" in want:
            embeddings = np.stack([face.embedding for face in faces])
            atol = 1e-4 * np.abs(want["embedding"]).max()
            np.testing.assert_allclose(embeddings, want["embedding"], atol=atol)


@pytest.mark.parametrize("name", NETWORKS)
def test_insightface_loads_a_fused_file_as_a_recogniser(exported, name: str) -> None:  # type: ignore[no-untyped-def]
    from insightface.app.common import Face
    from insightface.model_zoo import get_model as open_model

    model = open_model(str(exported(name, "fused")), providers=["CPUExecutionProvider"])
    assert type(model).__name__ == "ArcFaceONNX"
    assert (model.taskname, model.input_size) == ("recognition", (112, 112))
    assert (model.input_mean, model.input_std) == (127.5, 127.5)
    rows = model.get_feat(list(crops()[..., ::-1]))
    plain = torch_says(name, "both", network_input(crops()))
    softplus = F.softplus(torch.from_numpy(plain["quality"][:, 0])).numpy()
    for row, embedding, norm in zip(rows, plain["embedding"], softplus, strict=True):
        face = Face(embedding=row)
        np.testing.assert_allclose(face.normed_embedding, embedding / np.linalg.norm(embedding), atol=1e-5)
        np.testing.assert_allclose(face.embedding_norm, norm, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_insightface_does_not_take_the_graph_for_one_that_normalises(exported, kind: str) -> None:  # type: ignore[no-untyped-def]
    nodes = onnx.load(exported(FAST, kind)).graph.node
    assert all(node.name for node in nodes)
    assert not any(node.name.startswith(("Sub", "_minus", "Mul", "_mul")) for node in nodes)


def test_names_that_mean_normalisation_to_insightface_are_changed(tmp_path: Path) -> None:
    from insightface.model_zoo import get_model as open_model

    path = write_identity(tmp_path / "m.onnx", ["N", 3, 112, 112])
    proto = onnx.load(path)
    first = proto.graph.node[0]
    second = onnx.helper.make_node("Identity", ["in_0"], ["unused"], name="_mulscalar0")
    first.name = "Sub_12"
    proto.graph.node.append(second)
    onnx.save(proto, path)
    assert open_model(str(path), providers=["CPUExecutionProvider"]).input_std == 1.0  # the trap
    rename_nodes(proto)
    onnx.save(proto, path)
    assert open_model(str(path), providers=["CPUExecutionProvider"]).input_std == 127.5


def test_metadata(tmp_path: Path) -> None:
    calibration = Calibration("ig_fiqa", "faces", PercentScale(10, (0.0, 1.0), (0.0, 100.0)))
    given = {"method": "ig_fiqa", "calibration": calibration.to_json(), "kind": "mine", "licence": "CC0 ☺"}
    path = tmp_path / "q.onnx"
    export_onnx(*networks(FAST), path, kind="both", images=network_input(crops()), metadata=given)
    model = QualityModel(path)
    assert model.network.metadata == given | {"kind": "both", "input": INPUT_CONTRACT}
    assert model.calibration == calibration
    quality, embedding = model.score_and_embed(crops()[..., ::-1])
    want = torch_says(FAST, "both", network_input(crops()))
    np.testing.assert_allclose(quality, want["quality"][:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embedding, want["embedding"], atol=1e-4 * np.abs(want["embedding"]).max())


def test_old_onnxruntimes_can_read_the_file(exported) -> None:  # type: ignore[no-untyped-def]
    model = onnx.load(exported(FAST, "fused"))
    assert model.ir_version <= 8
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]


class Tiny(nn.Module):
    """images -> embeddings of 4, with whatever goes wrong."""

    def __init__(self, *, wrong: str = "") -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 28 * 28, 4)
        self.norm = nn.BatchNorm1d(4)
        self.wrong = wrong
        self.fp16 = wrong == "half"

    def forward(self, images: Tensor) -> Tensor:
        rows = self.norm(self.linear(F.avg_pool2d(images, 4).flatten(1)))
        if self.wrong == "untraceable" and not torch.compiler.is_exporting():
            rows = rows * 1.01
        if self.wrong == "nan":
            rows = rows / torch.zeros_like(rows)
        if self.wrong == "branch" and float(rows.sum()) > 0:
            rows = -rows
        if self.fp16:
            rows = rows.bfloat16().float()
        return rows


def export_tiny(path: Path, wrong: str = "", **options) -> float:  # type: ignore[no-untyped-def]
    backbone = options.pop("backbone", None) or Tiny(wrong=wrong)
    settings = {"kind": "both", "images": network_input(crops())} | options
    return export_onnx(backbone, QualityRegressor(4), path, **settings)


def test_prelu_of_maps_becomes_what_onnxruntime_runs_fast_and_means_the_same(tmp_path: Path) -> None:
    layers = [nn.Conv2d(3, 5, 28, 28), nn.PReLU(5), nn.Flatten(), nn.Linear(80, 6), nn.PReLU(6), nn.PReLU()]
    backbone = nn.Sequential(*layers)
    with torch.no_grad():
        layers[1].weight.copy_(torch.tensor([-0.5, 0.0, 0.3, 1.0, 2.0]))  # type: ignore[union-attr, operator]
        layers[4].weight.uniform_(-1, 1)  # type: ignore[union-attr, operator]
    path = tmp_path / "e.onnx"
    assert export_onnx(backbone, None, path, kind="embedding", images=network_input(crops())) < 1e-5
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    assert nodes.count("Conv") == 3
    assert nodes.count("PRelu") == 2
    assert [type(layer) for layer in backbone] == [type(layer) for layer in layers]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("untraceable", "the exported both model differs from torch by .*e-0[23] .allowed 1e-04."),
        ("nan", "the network gives NaN or infinity"),
        ("branch", r"torch cannot make an ONNX model of this network: .+\Z"),
    ],
)
def test_a_file_that_fails_is_not_left_and_an_earlier_one_is(
    tmp_path: Path, wrong: str, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_tiny(tmp_path / "q.onnx", wrong)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "q.onnx").write_bytes(b"earlier")
    with pytest.raises(ExportError, match=message):
        export_tiny(tmp_path / "q.onnx", wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert (tmp_path / "q.onnx").read_bytes() == b"earlier"


def test_training_in_half_precision_leaves_no_trace(tmp_path: Path) -> None:
    backbone = Tiny(wrong="half")
    assert export_tiny(tmp_path / "q.onnx", backbone=backbone) < 1e-5
    assert backbone.fp16
    assert "Cast" not in {node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node}


def test_a_network_in_training_is_exported_in_evaluation_mode_and_left_as_it_was(tmp_path: Path) -> None:
    backbone = Tiny()
    backbone.linear.eval()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    export_tiny(tmp_path / "q.onnx", backbone=backbone)
    assert (backbone.training, backbone.linear.training, backbone.norm.training) == (True, False, True)
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    backbone.eval()
    alone = backbone(network_input(crops()[:1])).detach().numpy()
    session = onnxruntime.InferenceSession(tmp_path / "q.onnx", providers=["CPUExecutionProvider"])
    got = session.run(["embedding"], {"input": network_input(crops()[:1]).numpy()})[0]
    np.testing.assert_allclose(got, alone, rtol=1e-4, atol=1e-5)


def test_a_first_face_of_quality_zero_is_no_reason_to_fail(tmp_path: Path) -> None:
    backbone, head = networks(FAST)
    images = network_input(crops())
    shifted = QualityRegressor(FEATURES)
    with torch.no_grad():
        shifted.weight.copy_(head.regressor.weight * 100)
        shifted.bias.copy_(-(backbone(images[:1]) @ shifted.weight.T)[0])
        assert abs(float(shifted(backbone(images[:1])))) < 1e-4
    assert export_onnx(backbone, shifted, tmp_path / "q.onnx", images=images) < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "quallity"}, "kind must be one of 'quality', 'embedding', 'both', 'fused', got 'quallity'"),
        ({"images": torch.zeros(2, 3, 112, 112)}, r"N >= 3, 3, H, W\], got shape \(2, 3, 112, 112\)"),
        ({"images": torch.zeros(3, 112, 112)}, r"got shape \(3, 112, 112\)"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export_tiny(tmp_path / "q.onnx", **options)


@pytest.mark.parametrize("kind", ["quality", "both", "fused"])
def test_kinds_with_a_quality_need_a_head(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=f"kind '{kind}' needs a quality head"):
        export_onnx(Tiny(), None, tmp_path / "q.onnx", kind=kind, images=network_input(crops()))


def test_weights_beyond_what_one_file_holds(tmp_path: Path) -> None:
    with torch.device("meta"):
        backbone = nn.Linear(1, 2**29)
    with pytest.raises(ValueError, match="the weights have 4.0 GiB, one ONNX file can hold 2"):
        export_onnx(backbone, None, tmp_path / "e.onnx", kind="embedding", images=network_input(crops()))
    assert list(tmp_path.iterdir()) == []

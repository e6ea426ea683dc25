"""What is read in a recogniser's graph, and files with a regressor inside, against NumPy in float64."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from igfiqa_head.export import ExportError
from igfiqa_head.insightface import attach
from igfiqa_head.recogniser_graph import RAW_INPUT, Layer, RecogniserGraph
from igfiqa_head.runtime import INPUT_CONTRACT, FaceNetwork, QualityModel
from tests.onnx_models import write_identity, write_model
from tests.packs import FACES, make_pack, open_pack, picture, write_detector
from tests.recognisers import CHANNELS, FORMS, WIDTH, Form, activations, faces, features, write_recogniser

ROOT = Path(__file__).resolve().parents[2]
MOBILEFACENET = ROOT.parent / "shared" / "models" / "mobilefacenet_fr.onnx"
GROUPS = ["embedding", "norm", "maps"]
READS = [GROUPS, ["embedding"], ["norm"], ["maps"], ["embedding", "maps"]]


def regressor(inputs: int, hidden: Sequence[int] = ()) -> list[Layer]:
    generator = np.random.default_rng(3)
    sizes = [inputs, *hidden, 1]
    return [
        Layer(
            generator.normal(scale=a**-0.5, size=(a, b)).astype(np.float32),
            generator.normal(size=b).astype(np.float32),
        )
        for a, b in pairwise(sizes)
    ]


def regress(rows: NDArray[np.float64], layers: Sequence[Layer]) -> NDArray[np.float64]:
    for number, layer in enumerate(layers):
        rows = np.maximum(rows, 0) if number else rows
        rows = rows @ layer.weight.astype(np.float64) + layer.bias
    return rows[:, 0]


def quality_file(
    recogniser: RecogniserGraph,
    path: Path,
    *,
    kind: str = "both",
    reads: Sequence[str] = tuple(GROUPS),
    hidden: Sequence[int] = (),
    form: Form = FORMS["plain"],
    shift: float = 0.0,
) -> Path:
    """Written by comparing with NumPy; ``shift`` is how much NumPy is made to say otherwise."""
    columns = recogniser.columns(reads)
    layers = regressor(len(columns), hidden)
    quality = regress(features(faces(5), form)[:, columns], layers) + shift
    error = recogniser.write_quality(
        path,
        kind=kind,
        layers=layers,
        reads=reads,
        images=faces(5),
        quality=quality.astype(np.float32),
        metadata={"method": "test"},
    )
    assert 0 <= error < 1e-4
    return path


def expected_quality(
    recogniser: RecogniserGraph,
    count: int,
    *,
    reads: Sequence[str] = tuple(GROUPS),
    hidden: Sequence[int] = (),
    form: Form = FORMS["plain"],
) -> NDArray[np.float64]:
    columns = recogniser.columns(reads)
    return regress(features(faces(count, seed=1), form)[:, columns], regressor(len(columns), hidden))


@pytest.fixture
def recogniser(tmp_path: Path) -> RecogniserGraph:
    return RecogniserGraph(write_recogniser(tmp_path / "recogniser.onnx"))


class TestReading:
    @pytest.mark.parametrize("name", FORMS)
    def test_features_are_those_of_numpy(self, tmp_path: Path, name: str) -> None:
        form = FORMS[name]
        recogniser = RecogniserGraph(write_recogniser(tmp_path / "r.onnx", form))
        recogniser.write_features(tmp_path / "features.onnx")
        network = FaceNetwork(tmp_path / "features.onnx", threads=1)
        expected = features(faces(5), form)
        assert recogniser.num_features == expected.shape[1]
        assert list(recogniser.maps.values()) == [*([3] if form.keeps_faces else []), *CHANNELS]
        rows = network.run(faces(5))["features"]
        first_std = expected.shape[1] - sum(recogniser.maps.values())
        for part, tolerance in ((slice(first_std), 2e-5), (slice(first_std, None), 1e-3)):
            tolerance = 2e-2 if form.half else tolerance
            np.testing.assert_allclose(rows[:, part], expected[:, part], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(
            recogniser.embed(faces(5)), rows[:, :WIDTH], rtol=0, atol=1e-3 if form.half else 1e-5
        )
        onnx.checker.check_model(str(tmp_path / "features.onnx"), full_check=True)

    def test_columns_are_those_of_the_groups(self, recogniser: RecogniserGraph) -> None:
        everything = np.arange(WIDTH + 1 + 2 * sum(CHANNELS))
        parts = dict(zip(GROUPS, np.split(everything, [WIDTH, WIDTH + 1]), strict=True))
        for reads in READS:
            np.testing.assert_array_equal(
                recogniser.columns(reads[::-1]), np.concatenate([parts[name] for name in reads])
            )

    def test_the_same_recogniser_gives_the_same_bytes(
        self, recogniser: RecogniserGraph, tmp_path: Path
    ) -> None:
        again = RecogniserGraph(recogniser.network.path)
        recogniser.write_features(tmp_path / "a.onnx")
        again.write_features(tmp_path / "b.onnx")
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()

    def test_a_network_without_maps_still_has_an_embedding(self, tmp_path: Path) -> None:
        recogniser = RecogniserGraph(write_model(tmp_path / "r.onnx", size=112))
        assert set(recogniser.maps.values()) == {3}  # the weighted pixels themselves
        path = tmp_path / "tall.onnx"
        _without_maps(path)
        recogniser = RecogniserGraph(path)
        assert recogniser.maps == {}
        assert recogniser.num_features == 4
        recogniser.write_features(tmp_path / "features.onnx")
        rows = FaceNetwork(tmp_path / "features.onnx").run(faces(3))["features"]
        np.testing.assert_allclose(rows[:, 3], np.linalg.norm(rows[:, :3], axis=1), rtol=1e-6)
        with pytest.raises(ValueError, match=r"tall.onnx gives embedding, norm, none of which .* got maps$"):
            recogniser.columns(["maps"])


def _without_maps(path: Path) -> None:
    """Faces -> [N, 3] in one step."""
    nodes = [
        onnx.helper.make_node("ReduceMean", ["input", "axes"], ["embedding"], keepdims=0),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "means",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["N", 3, 112, 112])],
        [onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


class TestWriting:
    @pytest.mark.parametrize("name", [name for name in FORMS if not FORMS[name].half])
    def test_a_file_of_kind_both(self, tmp_path: Path, name: str) -> None:
        form = FORMS[name]
        recogniser = RecogniserGraph(write_recogniser(tmp_path / "r.onnx", form))
        path = quality_file(recogniser, tmp_path / "both.onnx", form=form)
        for file in tmp_path.glob("r.onnx*"):  # no weights are left behind
            file.rename(file.with_name(f"moved_{file.name}"))
        model = QualityModel(path, threads=1)
        assert model.embeds
        quality, embeddings = model.score_and_embed(faces(6, seed=1)[..., ::-1])
        np.testing.assert_allclose(quality, expected_quality(recogniser, 6, form=form), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(embeddings, recogniser.embed(faces(6, seed=1)), rtol=0, atol=1e-5)
        assert (model.network.mean, model.network.std) == (recogniser.network.mean, recogniser.network.std)
        proto = onnx.load(path)
        onnx.checker.check_model(proto, full_check=True)
        assert [value.name for value in proto.graph.input] == ["input"]
        contract = RAW_INPUT if form.normalises else INPUT_CONTRACT
        assert model.network.metadata == {"method": "test", "kind": "both", "input": contract}

    @pytest.mark.parametrize("hidden", [(), (7,), (9, 4)])
    @pytest.mark.parametrize("reads", READS, ids="+".join)
    def test_every_regressor(
        self, recogniser: RecogniserGraph, tmp_path: Path, reads: list[str], hidden: tuple[int, ...]
    ) -> None:
        path = quality_file(recogniser, tmp_path / "q.onnx", kind="quality", reads=reads, hidden=hidden)
        model = QualityModel(path, threads=1)
        assert not model.embeds
        assert list(model.network.output_shapes) == ["quality"]
        np.testing.assert_allclose(
            model.score_rgb(faces(4, seed=1)),
            expected_quality(recogniser, 4, reads=reads, hidden=hidden),
            rtol=1e-4,
            atol=1e-4,
        )

    @pytest.mark.parametrize(("name", "faces_type"), [("half", "float16"), ("half inside", "float32")])
    def test_half_precision(self, tmp_path: Path, name: str, faces_type: str) -> None:
        recogniser = RecogniserGraph(write_recogniser(tmp_path / "r.onnx", FORMS[name]))
        layers = regressor(recogniser.num_features)
        quality = regress(features(faces(5), FORMS[name]), layers)
        recogniser.write_quality(
            tmp_path / "both.onnx",
            kind="both",
            layers=layers,
            reads=GROUPS,
            images=faces(5),
            quality=quality.astype(np.float32),
            metadata={},
        )
        model = QualityModel(tmp_path / "both.onnx")
        assert model.network.metadata["input"] == INPUT_CONTRACT.replace("float32", faces_type)
        got, embeddings = model.score_and_embed(faces(5)[..., ::-1])
        np.testing.assert_allclose(got, quality, atol=1e-2 * np.abs(quality).max())
        np.testing.assert_allclose(embeddings, recogniser.embed(faces(5)), rtol=0, atol=1e-3)

    @pytest.mark.parametrize("shift", [0.01, np.nan, np.inf])
    def test_a_file_that_says_something_else_is_not_written(
        self, recogniser: RecogniserGraph, tmp_path: Path, shift: float
    ) -> None:
        path = quality_file(recogniser, tmp_path / "both.onnx")
        before = path.read_bytes()
        files = sorted(tmp_path.iterdir())
        with pytest.raises(ExportError, match=r"differs by .* it was not written"):
            quality_file(recogniser, path, shift=shift)
        with pytest.raises(ExportError, match="differs by"):
            quality_file(recogniser, tmp_path / "new.onnx", kind="quality", shift=shift)
        assert path.read_bytes() == before
        assert sorted(tmp_path.iterdir()) == files

    def test_a_damaged_layer_is_noticed(self, recogniser: RecogniserGraph, tmp_path: Path) -> None:
        layers = regressor(recogniser.num_features, (5,))
        quality = regress(features(faces(5)), layers).astype(np.float32)
        layers[1].weight[3] += 0.5
        options = {"layers": layers, "reads": GROUPS, "images": faces(5), "quality": quality, "metadata": {}}
        with pytest.raises(ExportError, match="differs by"):
            recogniser.write_quality(tmp_path / "q.onnx", kind="quality", **options)
        assert [file.name for file in tmp_path.iterdir()] == ["recogniser.onnx"]

    def test_what_does_not_fit_is_named(self, recogniser: RecogniserGraph, tmp_path: Path) -> None:
        def write(layers: list[Layer], quality: int, images: int = 3, reads: Sequence[str] = GROUPS) -> None:
            recogniser.write_quality(
                tmp_path / "q.onnx",
                kind="both",
                layers=layers,
                reads=reads,
                images=faces(images),
                quality=np.zeros(quality, np.float32),
                metadata={},
            )

        right = regressor(recogniser.num_features)
        with pytest.raises(ValueError, match=r"from 61 features to 1 quality, got \[60, 1\]"):
            write(regressor(60), 3)
        with pytest.raises(ValueError, match=r"to 1 quality, got none"):
            write([], 3)
        with pytest.raises(ValueError, match=r"one quality for each image, got \(2,\) for 3"):
            write(right, 2)
        with pytest.raises(ValueError, match=r"one quality for each image, got \(0,\) for 0"):
            write(right, 0, 0)
        with pytest.raises(ValueError, match=r"none of which is to be read: got sharpness"):
            write(right, 3, reads=["sharpness"])
        assert [file.name for file in tmp_path.iterdir()] == ["recogniser.onnx"]


class TestWithinInsightface:
    @pytest.mark.filterwarnings("ignore::FutureWarning:insightface")
    @pytest.mark.parametrize("name", ["plain", "mxnet", "axes 4"])
    def test_both_stands_in_for_the_recogniser_of_a_pack(self, tmp_path: Path, name: str) -> None:
        pytest.importorskip("insightface")
        pack = make_pack(tmp_path)
        path = write_recogniser(pack / "w600k_r50.onnx", FORMS[name])
        app = open_pack(pack)
        theirs = np.stack([face.embedding for face in app.get(picture())])
        recogniser = RecogniserGraph(path)
        hook = attach(app, quality_file(recogniser, tmp_path / "both.onnx", form=FORMS[name]))
        found = app.get(picture())
        assert "recognition" not in app.models
        assert hook.recogniser is not None
        assert len(found) == len(FACES)
        np.testing.assert_allclose([face.embedding for face in found], theirs, rtol=0, atol=1e-5)
        assert len({round(face.quality, 4) for face in found}) == len(FACES)

    @pytest.mark.parametrize(("name", "mean"), [("plain", 127.5), ("mxnet", 0.0)])
    def test_it_normalises_the_faces_of_our_files_as_it_did_before(
        self, tmp_path: Path, name: str, mean: float
    ) -> None:
        form = FORMS[name]
        arcface = pytest.importorskip("insightface.model_zoo.arcface_onnx")
        recogniser = RecogniserGraph(write_recogniser(tmp_path / "r.onnx", form))
        path = quality_file(recogniser, tmp_path / "q.onnx", kind="quality", form=form)
        theirs = arcface.ArcFaceONNX(str(path))
        assert theirs.input_mean == mean == recogniser.network.mean
        image = faces(1, seed=1)[0][..., ::-1]
        np.testing.assert_allclose(
            theirs.get_feat(image)[0], expected_quality(recogniser, 1, form=form), rtol=1e-4, atol=1e-4
        )


class TestOtherFiles:
    @pytest.mark.parametrize(
        ("outputs", "size", "reason"),
        [
            ({"embedding": 8, "other": 8}, 112, r"no recogniser: its outputs are .* other \['N', 8\]"),
            ({"quality": 1}, 112, r"no recogniser: its outputs are quality \['N', 1\]; expected one"),
            ({"embedding": 8}, 128, r"takes faces of 128 x 128, expected 112 x 112"),
        ],
    )
    def test_networks_of_faces_but_no_recogniser(
        self, tmp_path: Path, outputs: dict[str, int], size: int, reason: str
    ) -> None:
        with pytest.raises(ValueError, match=reason):
            RecogniserGraph(write_model(tmp_path / "m.onnx", outputs, size=size))

    def test_landmarks_are_no_embedding(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "m.onnx", {"points": 10}, size=112)
        model = onnx.load(path)
        model.graph.node[-1].output[0] = "flat"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 5, 2]), "shape"))
        model.graph.node.append(onnx.helper.make_node("Reshape", ["flat", "shape"], ["points"]))
        model.graph.output[0].CopyFrom(onnx.ValueInfoProto(name="points"))
        onnx.save(model, path)
        with pytest.raises(ValueError, match=r"no recogniser: its outputs are points \['N', 5, 2\]"):
            RecogniserGraph(path)

    def test_a_detector(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not a network of single faces"):
            RecogniserGraph(write_detector(tmp_path / "d.onnx", FACES))

    def test_gray_faces(self, tmp_path: Path) -> None:
        path = write_identity(tmp_path / "m.onnx", ["N", 1, 112, 112])
        with pytest.raises(ValueError, match=r"expected one input of faces, float \[N, 3, H, W\]"):
            RecogniserGraph(path)

    @pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
    def test_damaged_files(self, recogniser: RecogniserGraph, keep: float) -> None:
        path = recogniser.network.path
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
        with pytest.raises(ValueError, match=r"recogniser.onnx"):
            RecogniserGraph(path)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="cannot be read: No such file"):
            RecogniserGraph(tmp_path / "none.onnx")

    def test_weights_that_are_gone(self, tmp_path: Path) -> None:
        path = write_recogniser(tmp_path / "r.onnx", FORMS["external"])
        (tmp_path / "r.onnx.data").unlink()
        with pytest.raises(ValueError, match=r"r.onnx"):
            RecogniserGraph(path)

    def test_an_opset_of_long_ago(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"r.onnx is of opset 6 and cannot be extended: expected at least 7"
        ):
            RecogniserGraph(write_recogniser(tmp_path / "r.onnx", Form(opset=6, ir_version=4)))

    def test_a_graph_for_single_faces_that_does_not_say_so_is_extended_for_single_faces(
        self, recogniser: RecogniserGraph, tmp_path: Path
    ) -> None:
        path = tmp_path / "single.onnx"
        model = onnx.load(recogniser.network.path)
        flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
        flatten.op_type = "Reshape"
        flatten.input.append("shape")
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, -1]), "shape"))
        onnx.save(model, path)
        with pytest.warns(UserWarning, match="one face at a time"):
            single = RecogniserGraph(path)
        for graph, name in ((recogniser, "open.onnx"), (single, "features.onnx")):
            graph.write_features(tmp_path / name)
        written = FaceNetwork(tmp_path / "features.onnx")
        expected = FaceNetwork(tmp_path / "open.onnx").run(faces(3))["features"]
        assert written.batch_size == 1
        assert np.allclose(written.run(faces(3))["features"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not MOBILEFACENET.exists(), reason="needs ../shared")
def test_the_embedding_of_a_real_recogniser_stays_what_it_was(tmp_path: Path) -> None:
    recogniser = RecogniserGraph(MOBILEFACENET)
    assert recogniser.maps.keys() <= {node.output[0] for node in onnx.load(MOBILEFACENET).graph.node}
    recogniser.write_features(tmp_path / "features.onnx")
    rows = FaceNetwork(tmp_path / "features.onnx").run(faces(6))["features"].astype(np.float64)
    layers = regressor(recogniser.num_features, (16,))
    recogniser.write_quality(
        tmp_path / "both.onnx",
        kind="both",
        layers=layers,
        reads=GROUPS,
        images=faces(6),
        quality=regress(rows, layers).astype(np.float32),
        metadata={},
    )
    quality, embeddings = QualityModel(tmp_path / "both.onnx").score_and_embed(faces(6)[..., ::-1])
    np.testing.assert_allclose(embeddings, recogniser.embed(faces(6)), rtol=0, atol=1e-5)
    np.testing.assert_allclose(quality, regress(rows, layers), rtol=1e-4, atol=1e-4)


def test_the_network_itself_is_what_numpy_says(tmp_path: Path) -> None:
    network = FaceNetwork(write_recogniser(tmp_path / "r.onnx"))
    np.testing.assert_allclose(network.run(faces(3))["embedding"], activations(faces(3))[-1], atol=1e-5)

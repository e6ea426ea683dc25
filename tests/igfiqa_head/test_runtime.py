"""Face networks from ONNX files, against NumPy, the onnx package and insightface itself."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from igfiqa_head.calibration import Calibration, PercentScale
from igfiqa_head.onnx_graph import read_onnx_graph
from igfiqa_head.runtime import INPUT_CONTRACT, FaceNetwork, QualityModel
from tests.onnx_models import expected, write_identity, write_model

SHARED = Path(__file__).resolve().parents[3] / "shared"
SIZE = 16


def faces(count: int, size: int = SIZE, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 21])
def test_outputs_are_those_of_numpy_whatever_the_batch_size_of_the_graph(
    tmp_path: Path, batch: int | str, count: int
) -> None:
    network = FaceNetwork(write_model(tmp_path / "m.onnx", {"a": 5, "b": 1}, batch=batch), threads=1)
    images = faces(count)
    outputs = network.run(images)
    assert network.image_size == (SIZE, SIZE)
    assert network.output_shapes == {"a": (5,), "b": (1,)}
    for name, width in (("a", 5), ("b", 1)):
        assert outputs[name].dtype == np.float32
        np.testing.assert_allclose(outputs[name], expected(images, width), rtol=1e-4, atol=1e-5)
        assert outputs[name].shape == (count, width)


def test_images_need_not_be_contiguous_and_are_left_alone(tmp_path: Path) -> None:
    network = FaceNetwork(write_model(tmp_path / "m.onnx"))
    images = faces(4)
    before = images.copy()
    mirrored = network.run(images[:, :, ::-1])["embedding"]
    np.testing.assert_allclose(mirrored, expected(images[:, :, ::-1], 8), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(images, before)


def test_half_precision_inputs_are_taken(tmp_path: Path) -> None:
    network = FaceNetwork(write_model(tmp_path / "m.onnx", dtype=onnx.TensorProto.FLOAT16))
    np.testing.assert_allclose(network.run(faces(3))["embedding"], expected(faces(3), 8), atol=2e-3)


def test_an_open_size_is_taken_for_112(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", size=112, input_shape=["N", 3, "H", "W"])
    assert FaceNetwork(path).image_size == (112, 112)


NAMINGS = {
    "plain": (["conv"], (127.5, 127.5)),
    "none": ([], (127.5, 127.5)),
    "mxnet": (["_minusscalar0", "_mulscalar0"], (0.0, 1.0)),
    "onnx": (["Sub_0", "Mul_1"], (0.0, 1.0)),
    "mixed, last of the eight": (["a", "b", "c", "d", "e", "f", "_minus", "Mul"], (0.0, 1.0)),
    "ninth": (["a", "b", "c", "d", "e", "f", "g", "_minus", "Mul"], (127.5, 127.5)),
    "only sub": (["Sub_0"], (127.5, 127.5)),
    "only mul": (["Mul_0"], (127.5, 127.5)),
    "within a path": (["/Sub", "/Mul"], (127.5, 127.5)),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_normalisation_is_insightfaces(tmp_path: Path, naming: str) -> None:
    names, (mean, std) = NAMINGS[naming]
    path = write_model(tmp_path / "m.onnx", names=names)
    network = FaceNetwork(path)
    assert (network.mean, network.std) == (mean, std)
    np.testing.assert_allclose(
        network.run(faces(2))["embedding"], expected(faces(2), 8, mean=mean, std=std), rtol=1e-4, atol=1e-3
    )
    arcface_onnx = pytest.importorskip("insightface.model_zoo.arcface_onnx")
    theirs = arcface_onnx.ArcFaceONNX(str(path))
    assert (theirs.input_mean, theirs.input_std) == (mean, std)
    bgr = [np.ascontiguousarray(image[:, :, ::-1]) for image in faces(2)]
    np.testing.assert_allclose(network.run(faces(2))["embedding"], theirs.get_feat(bgr), rtol=1e-4, atol=1e-4)


def test_metadata_and_arguments_come_before_names(tmp_path: Path) -> None:
    names = ["Sub_0", "Mul_0"]
    path = write_model(tmp_path / "m.onnx", names=names, metadata={"input": INPUT_CONTRACT})
    assert (FaceNetwork(path).mean, FaceNetwork(path).std) == (127.5, 127.5)
    assert FaceNetwork(path, normalisation=(0.0, 1.0)).mean == 0.0
    other = write_model(tmp_path / "o.onnx", names=names, metadata={"input": "a photograph"})
    assert FaceNetwork(other).mean == 0.0


@pytest.mark.parametrize(
    "normalisation", [(127.5, 0), (0, -1), (np.nan, 1), (0, np.inf), (1,), (1, 2, 3), "ab", 5, ("a", "b")]
)
def test_normalisations_that_cannot_be_applied_are_refused(tmp_path: Path, normalisation: object) -> None:
    with pytest.raises(ValueError, match=r"normalisation must be \(mean, std\) with std above 0, got"):
        FaceNetwork(write_model(tmp_path / "m.onnx"), normalisation=normalisation)  # type: ignore[arg-type]


def test_fingerprints_follow_content_and_normalisation(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    copy = tmp_path / "elsewhere.onnx"
    shutil.copy(path, copy)
    different = write_model(tmp_path / "d.onnx", seed=1)
    prints = [FaceNetwork(p).fingerprint for p in (path, copy, different)]
    assert prints[0] == prints[1] != prints[2]
    assert FaceNetwork(path, normalisation=(0.0, 1.0)).fingerprint != prints[0]


def test_weights_outside_of_the_file_count(tmp_path: Path) -> None:
    prints = []
    for seed in (0, 1, 0):
        (tmp_path / "m.onnx.data").unlink(missing_ok=True)
        network = FaceNetwork(write_model(tmp_path / "m.onnx", external=True, seed=seed))
        prints.append(network.fingerprint)
        assert "m.onnx.data" in read_onnx_graph((tmp_path / "m.onnx").read_bytes()).external_files
    assert prints[0] == prints[2] != prints[1]
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(ValueError, match="keeps weights in 'm.onnx.data', which is no regular file"):
        FaceNetwork(tmp_path / "m.onnx")


def refused(path: Path, match: str, **options: object) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        FaceNetwork(path, **options)  # type: ignore[arg-type]
    assert str(path) in str(caught.value)


def test_files_that_are_no_face_network_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing.onnx", "No such file")
    refused(tmp_path, "directory")
    (tmp_path / "text.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(tmp_path / "text.onnx", "not a complete ONNX model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    refused(tmp_path / "empty.onnx", "hold no ONNX graph")
    refused(write_model(tmp_path / "wrong.onnx", input_shape=["N", 3, "H", "W"]), "does not run on 1 face of")


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (["N", 1, SIZE, SIZE], {}),
        (["N", SIZE, SIZE, 3], {}),
        (["N", 3, SIZE], {}),
        ([], {}),
        (["N", 3, 10**6, 10**6], {}),
        ([10**6, 3, SIZE, SIZE], {}),
        (["N", 3, SIZE, SIZE], {"dtype": onnx.TensorProto.UINT8}),
        (["N", 3, SIZE, SIZE], {"inputs": 2}),
    ],
)
def test_other_inputs_are_refused(tmp_path: Path, shape: list[int | str], options: dict[str, int]) -> None:
    refused(
        write_identity(tmp_path / "m.onnx", shape, **options), "m.onnx takes in_0 .* expected one input of"
    )


def with_operators(path: Path, *nodes: onnx.NodeProto, **weights: np.ndarray) -> Path:
    """The model with nodes behind its output ``raw``, which make ``embedding``."""
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w, name) for name, w in weights.items())
    onnx.save(model, path)
    return path


def node(operator: str, *inputs: str, to: str = "embedding", **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [to], **attributes)


def batch_of_one_inside(path: Path) -> Path:
    """A declared batch of any size, and a shape of one face between two layers."""
    return with_operators(
        write_model(path),
        node("Reshape", "raw", "shape", to="flat"),
        node("MatMul", "flat", "identity"),
        shape=np.array([1, -1]),
        identity=np.eye(8, dtype=np.float32),
    )


def test_a_batch_of_one_inside_is_run_with_one_face_at_a_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(
        UserWarning, match="m.onnx does not give a row for each of two faces together: .* one face at a time"
    ):
        network = FaceNetwork(batch_of_one_inside(tmp_path / "m.onnx"))
    images = faces(11)
    assert np.allclose(network.run(images)["embedding"], expected(images, 8), atol=1e-5)
    assert capfd.readouterr().err == ""  # onnxruntime prints nothing of what was tried


def test_one_row_for_all_faces_is_one_face_at_a_time_too(tmp_path: Path) -> None:
    path = with_operators(
        write_model(tmp_path / "m.onnx"), node("Reshape", "raw", "shape"), shape=np.array([1, -1])
    )
    with pytest.warns(UserWarning, match="one face at a time"):
        network = FaceNetwork(path)
    images = faces(3)
    assert np.allclose(network.run(images)["embedding"], expected(images, 8), atol=1e-5)


def squeezed(path: Path, outputs: dict[str, int], *nodes: onnx.NodeProto, **weights: np.ndarray) -> Path:
    """A model with nodes between ``raw`` and its output, which is declared with no shape."""
    with_operators(write_model(path, outputs), *nodes, **weights)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    return path


def test_a_squeezed_quality_is_one_number_for_each_face(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """``model(x).squeeze()`` gives [] for one face and [N] for several."""
    model = QualityModel(
        squeezed(tmp_path / "q.onnx", {"quality": 1}, node("Squeeze", "raw", to="quality")), threads=1
    )
    for count in (1, 2, 8, 9):  # batches of 8: the last of 9 faces is run alone
        images = faces(count)
        assert np.allclose(model.score_rgb(images), expected(images, 1)[:, 0], atol=1e-5)
    assert not recwarn.list


def test_a_squeezed_embedding_is_a_row_for_each_face(tmp_path: Path) -> None:
    network = FaceNetwork(squeezed(tmp_path / "m.onnx", {"embedding": 8}, node("Squeeze", "raw")))
    for count in (1, 8, 9):
        assert np.allclose(network.run(faces(count))["embedding"], expected(faces(count), 8), atol=1e-5)


@pytest.mark.parametrize("width", [2, 8])
def test_a_flattened_batch_is_run_with_one_face_at_a_time(tmp_path: Path, width: int) -> None:
    """Of one face it gives [D], of N faces [N * D], so that [2] may be one face of two numbers."""
    flat = node("Reshape", "raw", "shape")
    path = squeezed(tmp_path / "m.onnx", {"embedding": width}, flat, shape=np.array([-1]))
    with pytest.warns(UserWarning, match="for each of two faces together: .* one face at a time"):
        network = FaceNetwork(path)
    assert network.output_shapes == {"embedding": (width,)}
    assert np.allclose(network.run(faces(3))["embedding"], expected(faces(3), width), atol=1e-5)


def test_one_sum_of_two_numbers_is_not_taken_for_two_faces(tmp_path: Path) -> None:
    total = node("ReduceSum", "raw", "axis", keepdims=0)
    path = squeezed(tmp_path / "m.onnx", {"embedding": 2}, total, axis=np.array([0]))
    with pytest.warns(UserWarning, match="one face at a time"):
        network = FaceNetwork(path)
    assert np.allclose(network.run(faces(2))["embedding"], expected(faces(2), 2), atol=1e-5)


def test_one_row_of_a_fixed_batch_says_nothing_of_a_face(tmp_path: Path) -> None:
    path = with_operators(
        write_model(tmp_path / "m.onnx", batch=4),
        node("ReduceSum", "raw", "axis", keepdims=0),
        axis=np.array([0]),
    )
    refused(path, r"has shape \[8\] for 4 faces, expected one row of at most 16,777,216 numbers for each")


@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize("share", [0.003, 0.5])
def test_a_little_chance_is_refused(tmp_path: Path, batch: int | str, share: float) -> None:
    path = with_operators(
        write_model(tmp_path / "m.onnx", batch=batch),
        node("RandomNormalLike", "raw", to="noise", scale=share),
        node("Add", "raw", "noise"),
    )
    refused(path, "depends on the other faces of the batch, or on chance")


def test_a_small_share_of_the_mean_of_the_batch_is_refused(tmp_path: Path) -> None:
    path = with_operators(
        write_model(tmp_path / "m.onnx"),
        node("ReduceMean", "raw", "zero", to="mean"),
        node("Mul", "mean", "share", to="part"),
        node("Sub", "raw", "part"),
        zero=np.array([0]), share=np.array(0.003, np.float32),
    )  # fmt: skip
    refused(path, "depends on the other faces of the batch")


@pytest.mark.parametrize("batch", ["N", 4])
@pytest.mark.parametrize("statistic", ["mean", "normalised", "first", "noise"])
def test_outputs_that_depend_on_the_other_faces_are_refused(
    tmp_path: Path, statistic: str, batch: int | str
) -> None:
    """As of a network exported in training mode: batch normalisation by the batch, dropout by chance."""
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    nodes = {
        "mean": [node("ReduceMean", "raw", "zero", to="mean"), node("Sub", "raw", "mean")],
        "normalised": [node("BatchNormalization", "raw", "ones", "zeros", "zeros", "ones", training_mode=1)],
        "first": [node("Gather", "raw", "zero", to="first"), node("Sub", "raw", "first")],
        "noise": [node("Dropout", "raw", "half", "yes", seed=1)],
    }[statistic]
    if statistic == "normalised":
        nodes[0].output.extend(["running_mean", "running_variance"])
    path = with_operators(
        write_model(tmp_path / "m.onnx", batch=batch),
        *nodes,
        zero=np.array([0]), ones=ones, zeros=zeros, half=np.array(0.5, np.float32), yes=np.array(True),
    )  # fmt: skip
    refused(path, "m.onnx: the output of a face depends on the other faces .* training mode.*model.eval")


def test_a_dynamically_quantised_network_is_run_with_one_face_at_a_time(tmp_path: Path) -> None:
    """Its 8-bit range is that of the batch: a dark face beside a bright one has few levels left."""
    path = with_operators(
        write_model(tmp_path / "m.onnx"),
        node("DynamicQuantizeLinear", "raw", to="levels"),
        node("DequantizeLinear", "levels", "scale", "zero"),
    )
    model = onnx.load(path)
    model.graph.node[-2].output.extend(["scale", "zero"])
    onnx.save(model, path)
    with pytest.warns(UserWarning, match="is quantised dynamically"):
        network = FaceNetwork(path)
    images = faces(5)
    alone = np.concatenate([network.run(image[None])["embedding"] for image in images])
    assert np.array_equal(network.run(images)["embedding"], alone)


@pytest.mark.parametrize("dtype", [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16])
@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_other_networks_are_run_in_batches_without_a_word(
    tmp_path: Path, dtype: int, batch: int | str, recwarn: pytest.WarningsRecorder
) -> None:
    network = FaceNetwork(write_model(tmp_path / "m.onnx", batch=batch, dtype=dtype))
    assert network.batch_size == (8 if batch == "N" else batch)
    assert not recwarn.list


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 0.999))
def test_truncated_files_are_refused(share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cut")
    content = write_model(folder / "m.onnx", {"embedding": 3}).read_bytes()
    (folder / "m.onnx").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="m.onnx"):
        FaceNetwork(folder / "m.onnx")


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        graph = read_onnx_graph(content)
    except ValueError:
        return
    assert all(isinstance(name, str) for name in graph.node_names)


def test_node_names_are_those_of_the_onnx_package(tmp_path: Path) -> None:
    paths = [write_model(tmp_path / "m.onnx", {"a": 2, "b": 7}, names=["Sub", "", "größer"])]
    if (SHARED / "models" / "mobilefacenet_fr.onnx").exists():
        paths.append(SHARED / "models" / "mobilefacenet_fr.onnx")
    for path in paths:
        names = [node.name for node in onnx.load(path).graph.node]
        assert list(read_onnx_graph(path.read_bytes()).node_names) == names


BAD_IMAGES = {
    "floats": (faces(2) / 255.0, "pass pixels from 0 to 255"),
    "ints": (faces(2).astype(np.int64), "got int64"),
    "one image": (faces(1)[0], r"pass images\[None\]"),
    "another size": (faces(2, 20), "align and crop"),
    "channels first": (faces(2).transpose(0, 3, 1, 2), "align and crop"),
    "grey": (faces(2)[..., 0], r"\[2, 16, 16\]"),
    "different sizes": ([faces(1)[0], faces(1, 20)[0]], "different shapes"),
    "text": ("face.jpg", "got <U8"),
    "nothing": (None, "got object"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_are_one_error(tmp_path: Path, kind: str) -> None:
    images, message = BAD_IMAGES[kind]
    path = write_model(tmp_path / "m.onnx", {"quality": 1})
    for run in (FaceNetwork(path).run, QualityModel(path).score):
        with pytest.raises(ValueError, match=message) as caught:
            run(images)
        assert "expected uint8 images [N, 16, 16, 3]" in str(caught.value)


def test_threads_are_checked(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    for threads in (0, -1, 1.5, "2", 99999999999):
        with pytest.raises(ValueError, match=f"threads must be an integer from 1 to 1024, got {threads!r}"):
            FaceNetwork(path, threads=threads)  # type: ignore[arg-type]
    assert FaceNetwork(path, threads=1).run(faces(1))


@pytest.mark.parametrize(
    ("outputs", "flat"),
    [({"quality": 1}, False), ({"quality": 1}, True), ({"score": 1}, False), ({"score": 1}, True)],
)
def test_qualities_are_one_number_for_each_bgr_face(
    tmp_path: Path, outputs: dict[str, int], flat: bool
) -> None:
    model = QualityModel(write_model(tmp_path / "q.onnx", outputs, flat=flat))
    images = faces(10)
    scores = model.score(images[..., ::-1])
    assert scores.shape == (10,)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected(images, 1)[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(scores, model.score_rgb(images))
    assert model.score([]).shape == (0,)


def test_the_output_named_quality_is_taken_among_several(tmp_path: Path) -> None:
    model = QualityModel(write_model(tmp_path / "q.onnx", {"embedding": 8, "quality": 1, "age": 1}))
    np.testing.assert_allclose(
        model.score(faces(3)[..., ::-1]), expected(faces(3), 1)[:, 0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "outputs", [{"embedding": 512}, {"a": 1, "b": 1}, {"quality": 2}, {"quality": 512, "b": 1}]
)
def test_a_model_without_one_quality_is_refused(tmp_path: Path, outputs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is no quality model: its outputs are"):
        QualityModel(write_model(tmp_path / "e.onnx", outputs))


def test_a_fused_recogniser_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"f.onnx is a fused recogniser, .*embedding_norm .* export it with --kind quality"
    ):
        QualityModel(write_model(tmp_path / "f.onnx", {"embedding": 8}, metadata={"kind": "fused"}))


def test_one_pass_gives_qualities_and_embeddings(tmp_path: Path) -> None:
    model = QualityModel(write_model(tmp_path / "b.onnx", {"embedding": 8, "quality": 1}))
    images = faces(10)
    qualities, embeddings = model.score_and_embed(images[..., ::-1])
    assert model.embeds
    np.testing.assert_allclose(qualities, expected(images, 1)[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embeddings, expected(images, 8), rtol=1e-4, atol=1e-5)
    assert [part.shape for part in model.score_and_embed([])] == [(0,), (0, 8)]


@pytest.mark.parametrize("outputs", [{"quality": 1}, {"embedding": 1}, {"quality": 1, "age": 1}])
def test_a_model_without_embeddings_gives_none(tmp_path: Path, outputs: dict[str, int]) -> None:
    model = QualityModel(write_model(tmp_path / "q.onnx", outputs))
    assert not model.embeds
    with pytest.raises(ValueError, match=r"q.onnx has no output named embedding: export it with --kind both"):
        model.score_and_embed(faces(2))


CALIBRATION = Calibration("ig_fiqa", "test", PercentScale(9, (-1.0, 0.0, 1.0), (0.0, 50.0, 100.0)))


def test_the_calibration_of_the_metadata_gives_percentages(tmp_path: Path) -> None:
    metadata = {"calibration": CALIBRATION.to_json()}
    model = QualityModel(write_model(tmp_path / "q.onnx", {"quality": 1}, metadata=metadata))
    assert model.calibration == CALIBRATION
    np.testing.assert_array_equal(model.percent([[-0.5, 0.0], [0.5, 7.0]]), [[25, 50], [75, 100]])
    assert model.percent(model.score(faces(3))).shape == (3,)


def test_an_uncalibrated_model_can_be_calibrated(tmp_path: Path) -> None:
    model = QualityModel(write_model(tmp_path / "q.onnx", {"quality": 1}))
    assert model.calibration is None
    with pytest.raises(ValueError, match=r"q.onnx is not calibrated: run igfiqa-eval calibrate"):
        model.percent([0.5])
    model.calibration = CALIBRATION
    assert model.percent(0.5) == 75


@pytest.mark.parametrize("text", ["", "{}", "not JSON", CALIBRATION.to_json()[:-5], "[" * 10**5])
def test_a_damaged_calibration_is_one_error(tmp_path: Path, text: str) -> None:
    path = write_model(tmp_path / "q.onnx", {"quality": 1}, metadata={"calibration": text})
    with pytest.raises(ValueError, match=r"q.onnx: the calibration in its metadata is damaged: not a calib"):
        QualityModel(path)


def coloured(rgb: tuple[int, int, int], count: int) -> NDArray[np.uint8]:
    """Faces of one colour, with some noise."""
    noise = np.random.default_rng(1).normal(0, 5, (count, SIZE, SIZE, 3))
    return (np.array(rgb) + noise).clip(0, 255).astype(np.uint8)


SKIN, GREY = (190, 140, 120), (130, 130, 130)


@pytest.fixture
def model(tmp_path: Path) -> QualityModel:
    return QualityModel(write_model(tmp_path / "q.onnx", {"embedding": 8, "quality": 1}), threads=1)


@pytest.mark.parametrize(
    ("method", "advice"),
    [("score", "Pass BGR,"), ("score_rgb", "Pass RGB,"), ("score_and_embed", "Pass BGR,")],
)
def test_swapped_channels_are_noticed_once(model: QualityModel, method: str, advice: str) -> None:
    is_rgb = method == "score_rgb"
    right = coloured(SKIN if is_rgb else SKIN[::-1], 30)
    run = getattr(model, method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(right)
    message = f"30 of 30 faces are more blue than red: their channels seem to be swapped. {advice}"
    with pytest.warns(UserWarning, match=message) as caught:
        run(right[..., ::-1])
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(right[..., ::-1])


def test_single_faces_add_up_to_a_warning(model: QualityModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for face in coloured(SKIN, 7):
            model.score(face[None])
    with pytest.warns(UserWarning, match="8 of 8 faces"):
        model.score(coloured(SKIN, 1))


@pytest.mark.parametrize(
    "images",
    [
        coloured(GREY, 40),
        coloured((132, 130, 130), 40),
        np.zeros((40, SIZE, SIZE, 3), np.uint8),
        coloured(SKIN, 7),
        np.concatenate([coloured(SKIN, 17), coloured(SKIN[::-1], 3)]),
        np.concatenate([coloured(GREY, 93), coloured(SKIN, 7)]),
        faces(64),
    ],
    ids=["grey", "cool grey", "black", "few", "mixed", "few among grey ones", "noise"],
)
def test_nothing_is_said_without_good_reason(model: QualityModel, images: NDArray[np.uint8]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score(images)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_real_faces_are_told_from_swapped_ones(model: QualityModel) -> None:
    from igfiqa_head.channel_order import ChannelGuard
    from igfiqa_head.io.verification_bin import read_verification_bin

    content = read_verification_bin(SHARED / "data" / "lfw_dev" / "lfw_dev.bin")
    images = np.stack([content.decode(index) for index in range(len(content.images))])
    groups = [images[start : start + 8] for start in range(0, len(images) - 7, 8)]
    assert len(groups) > 100
    assert [group for group in groups if ChannelGuard().complaint(group)] == []
    found = [ChannelGuard().complaint(group[..., ::-1]) is not None for group in groups]
    assert np.mean(found) > 0.9


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_a_real_recogniser_recognises_real_faces() -> None:
    from eval_tools.verification import verify
    from igfiqa_head.io.verification_bin import read_verification_bin

    content = read_verification_bin(SHARED / "data" / "lfw_dev" / "lfw_dev.bin")
    images = np.stack([content.decode(index) for index in range(len(content.images))])
    network = FaceNetwork(SHARED / "models" / "mobilefacenet_fr.onnx")
    views = [network.run(view)["output0"] for view in (images, images[:, :, ::-1])]
    assert verify(views[0] + views[1], content.is_genuine).accuracy > 0.985

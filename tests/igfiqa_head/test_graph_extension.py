"""Nodes and outputs added to a graph: what they compute, and that the graph itself stays what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from igfiqa_head.graph_extension import GraphExtension, computed_tensors, load_graph
from tests.recognisers import FORMS, activations, faces, write_recogniser


def network_input(count: int) -> NDArray[np.float32]:
    return (faces(count).transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5


def run(path: Path, **inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def maps_graph(*shapes: tuple[int, int]) -> onnx.ModelProto:
    """One input [N, C, H, W], of which pieces of H x W are cut out as ``maps_0``, ``maps_1``, ..."""
    nodes, sizes = [], []
    for i, (height, width) in enumerate(shapes):
        sizes.append(onnx.numpy_helper.from_array(np.array([height, width]), f"size_{i}"))
        nodes.append(helper.make_node("Slice", ["x", "zero", f"size_{i}", "axes"], [f"maps_{i}"]))
    sizes.append(onnx.numpy_helper.from_array(np.array([0, 0]), "zero"))
    sizes.append(onnx.numpy_helper.from_array(np.array([2, 3]), "axes"))
    faces_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "C", "H", "W"])
    output = helper.make_tensor_value_info("maps_0", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "maps", [faces_info], [output], sizes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


class TestWhatIsAdded:
    @pytest.mark.parametrize(("mean", "tolerance"), [(0.0, 1e-5), (1.0, 1e-5), (30.0, 2e-2)])
    def test_means_and_standard_deviations(self, tmp_path: Path, mean: float, tolerance: float) -> None:
        shapes = [(56, 56), (7, 9), (1, 1)]
        graph = GraphExtension(maps_graph(*shapes))
        maps = [graph.tensor(f"maps_{i}") for i in range(len(shapes))]
        graph.output(graph.mean_and_std(maps), "statistics", 24)
        graph.save(tmp_path / "m.onnx", {})
        x = (mean + np.random.default_rng(0).normal(size=(5, 4, 56, 56))).astype(np.float32)
        pieces = [x[:, :, :height, :width].astype(np.float64) for height, width in shapes]
        means = np.hstack([piece.mean(axis=(2, 3)) for piece in pieces])
        stds = np.hstack([piece.std(axis=(2, 3)) for piece in pieces])
        got = run(tmp_path / "m.onnx", input=x)[0]
        np.testing.assert_allclose(got[:, :12], means, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[:, 12:], stds, atol=tolerance)

    @pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e4])
    def test_a_map_that_is_the_same_everywhere_has_no_deviation(self, tmp_path: Path, value: float) -> None:
        graph = GraphExtension(maps_graph((28, 28)))
        graph.output(graph.mean_and_std([graph.tensor("maps_0")]), "statistics", 2)
        graph.save(tmp_path / "m.onnx", {})
        mean, std = run(tmp_path / "m.onnx", input=np.full((1, 1, 28, 28), value, np.float32))[0][0]
        assert mean == pytest.approx(value, rel=1e-5)
        assert 0 <= std <= 2e-3 * abs(value)  # not NaN, whatever rounding says of the variance

    def test_length(self, tmp_path: Path) -> None:
        graph = GraphExtension(load_graph(write_recogniser(tmp_path / "r.onnx")))
        graph.output(graph.norm(graph.tensor("embedding"), 12), "norm", 1)
        graph.save(tmp_path / "m.onnx", {})
        expected = np.linalg.norm(activations(faces(4))[-1], axis=1, keepdims=True)
        np.testing.assert_allclose(run(tmp_path / "m.onnx", input=network_input(4))[0], expected, rtol=1e-5)

    def test_the_same_node_and_constant_is_added_once(self, tmp_path: Path) -> None:
        graph = GraphExtension(load_graph(write_recogniser(tmp_path / "r.onnx")))
        ones = np.ones((12, 1), np.float32)
        assert graph.tensor("embedding") == graph.tensor("embedding")
        assert graph.constant(ones) == graph.constant(ones.copy())
        assert graph.constant(ones) != graph.constant(ones.reshape(1, 12))
        flat = graph.add("Flatten", graph.tensor("embedding"), axis=1)
        assert flat == graph.add("Flatten", graph.tensor("embedding"), axis=1)
        assert flat != graph.add("Flatten", graph.tensor("embedding"), axis=0)


class TestWhatStays:
    @pytest.mark.parametrize("name", ["mxnet", "branch", "function", "quality"])
    def test_nodes_keep_their_names_and_places(self, tmp_path: Path, name: str) -> None:
        source = load_graph(write_recogniser(tmp_path / "r.onnx", FORMS[name]))
        before = source.SerializeToString()
        graph = GraphExtension(source)
        graph.output(graph.tensor("embedding"), "quality", 12)
        graph.save(tmp_path / "m.onnx", {"kind": "test"})
        proto = onnx.load(tmp_path / "m.onnx")
        old, new = ([(n.op_type, n.name) for n in model.graph.node] for model in (source, proto))
        assert new[: len(old)] == old
        assert not any(name.startswith(("Sub", "_minus", "Mul", "_mul")) for _, name in new[len(old) :])
        assert source.SerializeToString() == before
        assert {entry.key: entry.value for entry in proto.metadata_props} == {"kind": "test"}

    @pytest.mark.parametrize("name", ["quality", "conv_0", "kernel_0", "embedding"])
    @pytest.mark.parametrize("form", ["plain", "quality", "branch"])
    def test_outputs_may_have_names_of_the_graph(self, tmp_path: Path, form: str, name: str) -> None:
        graph = GraphExtension(load_graph(write_recogniser(tmp_path / "r.onnx", FORMS[form])))
        graph.output(graph.tensor("embedding"), name, 12)
        graph.save(tmp_path / "m.onnx", {})
        proto = onnx.load(tmp_path / "m.onnx")
        assert [value.name for value in proto.graph.input] == ["input"]
        assert [value.name for value in proto.graph.output] == [name]
        rows = run(tmp_path / "m.onnx", input=network_input(3))[0]
        np.testing.assert_allclose(rows, activations(faces(3))[-1], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("name", "batch"), [("plain", "N"), ("batch 4", 4), ("unnamed batch", None)])
    def test_the_batch_dimension_is_declared_as_before(
        self, tmp_path: Path, name: str, batch: int | str | None
    ) -> None:
        graph = GraphExtension(load_graph(write_recogniser(tmp_path / "r.onnx", FORMS[name])))
        graph.output(graph.tensor("embedding"), "e", 12)
        graph.save(tmp_path / "m.onnx", {})
        first, second = onnx.load(tmp_path / "m.onnx").graph.output[0].type.tensor_type.shape.dim
        assert (first.dim_value or first.dim_param or None, second.dim_value) == (batch, 12)


class TestLoading:
    @pytest.mark.parametrize("name", ["opset 7", "mxnet"])
    def test_weights_are_no_inputs(self, tmp_path: Path, name: str) -> None:
        proto = load_graph(write_recogniser(tmp_path / "r.onnx", FORMS[name]))
        assert [value.name for value in proto.graph.input] == [FORMS[name].input_name]
        assert proto.ir_version == 4

    def test_weights_beside_the_file_are_taken_in(self, tmp_path: Path) -> None:
        proto = load_graph(write_recogniser(tmp_path / "r.onnx", FORMS["external"]))
        plain = load_graph(write_recogniser(tmp_path / "p.onnx"))
        assert not any(tensor.external_data for tensor in proto.graph.initializer)
        assert [t.raw_data for t in proto.graph.initializer] == [t.raw_data for t in plain.graph.initializer]

    def test_more_than_a_file_can_hold(self, tmp_path: Path) -> None:
        path = write_recogniser(tmp_path / "r.onnx", FORMS["external"])
        with (tmp_path / "r.onnx.data").open("r+b") as file:
            file.truncate(3 * 2**30)  # of which the disk stores nothing
        with pytest.raises(ValueError, match=r"r.onnx has 3.0 GiB of weights .* one ONNX file can hold 2"):
            load_graph(path)

    def test_weights_that_are_too_short(self, tmp_path: Path) -> None:
        path = write_recogniser(tmp_path / "r.onnx", FORMS["external"])
        with (tmp_path / "r.onnx.data").open("r+b") as file:
            file.truncate(100)
        with pytest.raises(ValueError, match=r"onnx cannot read .*r.onnx"):
            load_graph(path)


class TestComputedTensors:
    @pytest.mark.parametrize("name", FORMS)
    def test_every_form_gives_its_activations_in_order(self, tmp_path: Path, name: str) -> None:
        form = FORMS[name]
        count = form.batch if isinstance(form.batch, int) else 2
        images = faces(count)
        x = images.transpose(0, 3, 1, 2).astype(np.float32)
        x = x if form.normalises else (x - 127.5) / 127.5
        tensors = computed_tensors(load_graph(write_recogniser(tmp_path / "r.onnx", form)), x)
        names = ["relu_0", "relu_1", "relu_2", "embedding"]
        assert [found for found in tensors if found in names] == names
        assert not {"kernel_0", "condition", form.input_name} & tensors.keys()
        expected = activations(images, form)[-4:]
        tolerance = 1e-2 if form.half else 1e-4
        for found, values in zip(names, expected, strict=True):
            got = tensors[found].reshape(values.shape)
            np.testing.assert_allclose(got, values, rtol=tolerance, atol=tolerance)

    def test_what_does_not_run(self, tmp_path: Path) -> None:
        proto = load_graph(write_recogniser(tmp_path / "r.onnx"))
        with pytest.raises(ValueError, match="the graph does not run on 2 faces"):
            computed_tensors(proto, np.zeros((2, 3, 64, 64), np.float32))

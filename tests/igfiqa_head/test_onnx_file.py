"""What an ONNX file may ask for: other files, memory, time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.descriptor import Descriptor
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

from igfiqa_head.insightface import install
from igfiqa_head.onnx_file import OnnxFile
from igfiqa_head.onnx_graph import PARTS, read_onnx_graph
from igfiqa_head.runtime import FaceNetwork
from tests.packs import make_pack

FACES = np.zeros((1, 112, 112, 3), np.uint8)


def outside(location: str) -> TensorProto:
    """A float32 that another file holds."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def value(name: str, shape: list[object] | None = None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    *nodes: NodeProto, weights: tuple[TensorProto, ...] = (), faces: tuple[object, ...] = ("N", 3, 112, 112)
) -> ModelProto:
    """``mean`` of each face, then the nodes, which make ``quality`` of it."""
    axes = numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    mean = helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0)
    graph = helper.make_graph(
        [mean, *nodes], "faces", [value("input", list(faces))], [value("quality")], [axes, *weights]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def saved(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


ADD = helper.make_node("Add", ["mean", "w"], ["quality"])
SAME = helper.make_node("Identity", ["mean"], ["quality"])
YES = numpy_helper.from_array(np.array(True), "yes")


def in_weights(tensor: TensorProto) -> ModelProto:
    return model_of(ADD, weights=(tensor,))


def in_a_constant(tensor: TensorProto) -> ModelProto:
    return model_of(helper.make_node("Constant", [], ["w"], value=tensor), ADD)


def branches(branch: GraphProto) -> ModelProto:
    node = helper.make_node("If", ["yes"], ["quality"], then_branch=branch, else_branch=branch)
    return model_of(node, weights=(YES,))


def in_a_branch(tensor: TensorProto) -> ModelProto:
    return branches(helper.make_graph([ADD], "branch", [], [value("quality", ["N"])], [tensor]))


def in_a_constant_of_a_branch(tensor: TensorProto) -> ModelProto:
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    return branches(helper.make_graph([constant, ADD], "branch", [], [value("quality", ["N"])]))


def in_a_function(tensor: TensorProto) -> ModelProto:
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    opset = [helper.make_opsetid("", 18)]
    function = helper.make_function("own", "Plus", ["mean"], ["quality"], [constant, ADD], opset)
    model = model_of(helper.make_node("Plus", ["mean"], ["quality"], domain="own"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


USED = [in_weights, in_a_constant, in_a_branch, in_a_constant_of_a_branch, in_a_function]


def in_sparse_weights(tensor: TensorProto) -> ModelProto:
    model = in_weights(tensor)
    model.graph.initializer.pop()
    model.graph.sparse_initializer.append(SparseTensorProto(values=tensor, indices=tensor, dims=[1]))
    return model


def in_training(tensor: TensorProto) -> ModelProto:
    model = model_of(SAME)
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


def in_a_list_of_tensors(tensor: TensorProto) -> ModelProto:
    return model_of(helper.make_node("Own", ["mean"], ["quality"], domain="own", values=[tensor, tensor]))


PLACES = [*USED, in_sparse_weights, in_training, in_a_list_of_tensors]
Place = Callable[[TensorProto], ModelProto]


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_outside_of_the_folder_is_refused_before_the_file_is_opened(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it was opened"))
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.csv").write_bytes(b"ABCDEFGH")
    (folder / "link.bin").symlink_to("../secret.csv")
    os.mkfifo(folder / "pipe.bin")
    memory = folder / "*" / "_ORT_MEM_ADDR_" / "*"
    memory.parent.mkdir(parents=True)
    memory.write_bytes(bytes(8))
    secret = str(tmp_path / "secret.csv")
    for name in ("../secret.csv", secret, "link.bin", "pipe.bin", "*/_ORT_MEM_ADDR_/*", "no.bin", "a\0b", ""):
        path = saved(place(outside(name)), folder / "m.onnx")
        with pytest.raises(ValueError, match="keeps weights in .*no regular file in its folder") as caught:
            FaceNetwork(path)
        assert "\n" not in str(caught.value)
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize("place", USED)
def test_the_fingerprint_follows_every_tensor_that_is_used(place: Place, tmp_path: Path) -> None:
    path = saved(place(outside("w.bin")), tmp_path / "m.onnx")
    prints = []
    for number in (3, 7, 3):
        (tmp_path / "w.bin").write_bytes(np.float32(number).tobytes())
        network = FaceNetwork(path)
        assert network.run(FACES)["quality"] == number - 1
        prints.append(network.fingerprint)
    assert prints[0] == prints[2] != prints[1]


def test_the_fingerprint_knows_where_one_file_ends_and_the_next_begins(tmp_path: Path) -> None:
    path = saved(model_of(ADD, weights=(outside("a"), outside("b"))), tmp_path / "m.onnx")
    prints = []
    for first, second in ((b"123", b"4"), (b"12", b"34")):
        (tmp_path / "a").write_bytes(first)
        (tmp_path / "b").write_bytes(second)
        prints.append(OnnxFile(path).fingerprint((0.0, 1.0)))
    assert prints[0] != prints[1]


def test_links_to_files_that_lie_together_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir(), snapshot.mkdir()
    saved(in_weights(outside("w.bin")), blobs / "1f")
    (blobs / "2e").write_bytes(np.float32(3).tobytes())
    for name, blob in (("m.onnx", "1f"), ("w.bin", "2e")):
        (snapshot / name).symlink_to(f"../blobs/{blob}")
    assert FaceNetwork(snapshot / "m.onnx").run(FACES)["quality"] == 2


def test_a_graph_in_two_parts_is_looked_at_as_a_whole() -> None:
    """Readers of Protocol Buffers join them."""
    parts = [in_weights(outside("../a")), in_weights(outside("../b"))]
    content = b"".join(part.SerializeToString() for part in parts)
    assert read_onnx_graph(content).external_files == ("../a", "../b")


def test_a_tag_of_which_others_drop_the_upper_bits_is_refused() -> None:
    graph = in_weights(outside("../a")).graph.SerializeToString()
    tag, length = bytes([0xBA, 0x80, 0x80, 0x80, 0x10]), bytes([0x80 | len(graph) & 127, len(graph) >> 7])
    with pytest.raises(ValueError, match="starts no field"):
        read_onnx_graph(tag + length + graph + model_of().SerializeToString())


def test_graphs_deep_within_each_other_are_refused() -> None:
    message = b""
    for tag in [*(0x32, 0x2A, 0x0A) * 1_000, 0x3A]:  # the graph of an attribute of a node of a graph ...
        message = bytes([tag, *encoded(len(message))]) + message
    with pytest.raises(ValueError, match="deep"):
        read_onnx_graph(message)


def encoded(number: int) -> list[int]:
    return [number] if number < 128 else [number & 127 | 128, *encoded(number >> 7)]


def test_all_ways_to_a_tensor_are_known() -> None:
    def leads_to_tensor(message: Descriptor, above: tuple[str, ...] = ()) -> bool:
        return message.name == "TensorProto" or any(
            leads_to_tensor(field.message_type, (*above, message.name))
            for field in message.fields
            if field.message_type and field.message_type.name not in (*above, message.name)
        )

    kinds = {"ModelProto": ModelProto.DESCRIPTOR}
    waiting = list(kinds.values())
    while waiting:
        message = waiting.pop()
        fields = {field.number: field.message_type for field in message.fields if field.message_type}
        if message.name != "TensorProto":
            expected = {number: inner.name for number, inner in fields.items() if leads_to_tensor(inner)}
            assert PARTS[message.name] == expected
        new = [inner for inner in fields.values() if inner.name in PARTS and inner.name not in kinds]
        kinds |= {inner.name: inner for inner in new}
        waiting.extend(new)
    assert kinds.keys() == PARTS.keys()


def test_install_takes_no_file_with_tensors_outside(tmp_path: Path) -> None:
    pack = make_pack(tmp_path)
    (tmp_path / "w.bin").write_bytes(np.float32(3).tobytes())
    path = saved(in_a_branch(outside("w.bin")), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"keeps its weights in w.bin: export it as one file"):
        install(pack, path)


@pytest.mark.parametrize(
    "size", [(1024, 3, 1024, 1024), (1024, 3, 1024, "W"), (0, 3, 112, 112), (1, 3, 0, 112)]
)
def test_sizes_of_inputs_that_nobody_can_use_are_refused(size: tuple[object, ...], tmp_path: Path) -> None:
    path = saved(model_of(SAME, faces=size), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"m.onnx takes input .*N H W of at most 16,777,216"):
        FaceNetwork(path)


def expanded(numbers: int, *further: NodeProto, name: str = "quality") -> ModelProto:
    weights = (
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.array([1, numbers]), "shape"),
    )
    column = helper.make_node("Unsqueeze", ["mean", "one"], ["column"])
    wide = helper.make_node("Expand", ["column", "shape"], [name])
    return model_of(column, wide, *further, weights=weights)


def in_6_gb(path: Path) -> str:
    """What FaceNetwork says of a file where no more memory than that is to be had."""
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))\n"
        "from igfiqa_head.runtime import FaceNetwork\n"
        "try: FaceNetwork(sys.argv[1], threads=1)\n"
        "except ValueError as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


def test_memory_that_a_small_file_asks_for_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle = helper.make_node("ReduceMean", ["wide", "one"], ["quality"], keepdims=0)
    path = saved(expanded(2**30, middle, name="wide"), tmp_path / "m.onnx")
    assert "more than 4 GiB; set IGFIQA_ONNX_GIB=GIB to allow more" in in_6_gb(path)
    path = saved(expanded(2**28, middle, name="wide"), tmp_path / "m.onnx")
    monkeypatch.setenv("IGFIQA_ONNX_GIB", "0.5")
    assert "more than 0.5 GiB" in in_6_gb(path)
    monkeypatch.setenv("IGFIQA_ONNX_GIB", "a lot")
    assert "IGFIQA_ONNX_GIB must be a number from 0.001 to 1e+06, got 'a lot'" in in_6_gb(path)


def test_an_output_too_large_for_a_face_is_refused(tmp_path: Path) -> None:
    path = saved(expanded(2**25), tmp_path / "m.onnx")
    with pytest.raises(
        ValueError, match=r"\[1, 33554432\] for 1 face, expected one row of at most 16,777,216"
    ):
        FaceNetwork(path)


def test_an_output_of_text_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["mean"], ["quality"], to=TensorProto.STRING)
    model = model_of(node)
    model.graph.output[0].CopyFrom(value("quality", None, TensorProto.STRING))
    with pytest.raises(ValueError, match=r"m.onnx: output 'quality' .* expected one row"):
        FaceNetwork(saved(model, tmp_path / "m.onnx"))


def test_a_network_that_does_not_end_its_first_run_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"again": TensorProto.BOOL, "kept": TensorProto.FLOAT}
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names],
        "body",
        [value("i", [], TensorProto.INT64), *(value(name, None, kind) for name, kind in names.items())],
        [value(f"{name}_out", None, kind) for name, kind in names.items()],
    )
    loop = helper.make_node("Loop", ["", "yes", "mean"], ["quality"], body=body)
    path = saved(model_of(loop, weights=(YES,)), tmp_path / "m.onnx")
    monkeypatch.setenv("IGFIQA_ONNX_SECONDS", "0.2")
    with pytest.raises(ValueError, match=r"given up after 0.2 s; set IGFIQA_ONNX_SECONDS=SECONDS"):
        FaceNetwork(path)


def test_a_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="m.onnx cannot be read: it is a pipe, expected a regular file"):
        FaceNetwork(tmp_path / "m.onnx")


def test_no_file_is_taken_for_one_of_onnxruntimes_own_format(tmp_path: Path) -> None:
    path = saved(model_of(SAME), tmp_path / "m.onnx")
    shutil.copy(path, tmp_path / "m.ort")
    assert FaceNetwork(tmp_path / "m.ort").fingerprint == FaceNetwork(path).fingerprint

"""Which of onnxruntime's providers is used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from igfiqa_head.onnx_file import OnnxFile
from igfiqa_head.onnx_session import available_providers, open_session
from igfiqa_head.runtime import QualityModel
from tests.onnx_models import write_model

ROOT = Path(__file__).resolve().parents[2]
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])


@pytest.mark.parametrize(
    ("named", "chosen"),
    [
        (None, [CUDA, CPU]),
        (["CUDA", "CPU"], [CUDA, CPU]),
        (["cpu", "Cuda"], [CPU, CUDA]),
        ("cuda", [CUDA]),
        ([CUDA, "cpu", CPU], [CUDA, CPU]),
        (["cudaexecutionprovider"], [CUDA]),
    ],
)
@pytest.mark.usefixtures("with_cuda")
def test_names_may_be_short_and_the_order_is_that_of_preference(
    named: Sequence[str] | str | None, chosen: list[str], recwarn: pytest.WarningsRecorder
) -> None:
    assert available_providers(named) == chosen
    assert not recwarn.list


@pytest.mark.parametrize("other", ["coreml", "CoreMLExecutionProvider", "ROCMExecutionProvider"])
@pytest.mark.usefixtures("with_cuda")
def test_the_first_that_is_there_is_used_and_the_others_are_told_in_one_warning(other: str) -> None:
    with pytest.warns(UserWarning, match="onnxruntime has no .*ExecutionProvider, Tens.* here: CUDA") as told:
        assert available_providers([other, "TensorRT", "CUDA", "CPU"]) == [CUDA, CPU]
    assert len(told) == 1


def test_none_that_is_there_is_an_error(tmp_path: Path) -> None:
    path = write_model(tmp_path / "q.onnx", {"quality": 1})
    with pytest.raises(ValueError, match="onnxruntime has no CoreMLExecutionProvider here; it has .*CPU"):
        QualityModel(path, providers=["CoreML"])


@pytest.mark.parametrize("named", [["CPU", "CUDDA"], "CUDDA"])
def test_a_name_that_does_not_exist_is_an_error_even_beside_others(named: Sequence[str] | str) -> None:
    with pytest.raises(ValueError, match="knows no provider 'CUDDA': .* did you mean CUDA"):
        available_providers(named)


def test_a_provider_that_is_there_but_does_not_work_is_told(
    tmp_path: Path, with_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where onnxruntime-gpu meets no GPU: it takes the CPU by itself."""
    path, session = write_model(tmp_path / "m.onnx"), onnxruntime.InferenceSession

    def without_gpu(*arguments: Any, providers: list[str], **options: Any) -> onnxruntime.InferenceSession:
        return session(*arguments, providers=[CPU], **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_gpu)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider does not work on this machine: CPUExec"):
        assert open_session(OnnxFile(path), ["CUDA", "CPU"]).get_providers() == [CPU]
    with pytest.raises(ValueError, match="CUDAExecutionProvider does not work on this machine"):
        open_session(OnnxFile(path), ["CUDA"])


def test_nothing_is_reported_to_the_maker_of_onnxruntime(tmp_path: Path) -> None:
    """Which would put the number of this machine into the home folder, before it sends anything."""
    model = write_model(tmp_path / "quality.onnx", {"quality": 1}, size=112)
    home = tmp_path / "home"
    home.mkdir()
    switches = ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    code = f"from igfiqa_head.runtime import QualityModel; QualityModel({str(model)!r}, threads=1)"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env=environment | {"HOME": str(home), "TMPDIR": str(home)},
    )
    assert list(home.rglob("*")) == []

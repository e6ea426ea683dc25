"""What a head on top of a recogniser is worth to it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import Tensor, nn

from eval_tools.erc import error_rejection_curve
from eval_tools.test_sets import VerificationSet, all_pairs, degraded
from igfiqa_head.recogniser_graph import RecogniserGraph
from plugins.datasets.synthetic import SyntheticFaces
from tests.onnx_models import expected, write_model
from trainer.evaluation import Judgement, relative_area
from trainer.judging import NORM, OURS, RANDOM, SHARPNESS, judge_on_top
from trainer.log import LOGGER
from trainer.on_top import Features


class Norm(nn.Module):
    """Stands for an R that says what the length of the embedding says."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :8].norm(dim=1)


def judged(tmp_path: Path, test_set: VerificationSet, fmr: float = 1e-2) -> Judgement:
    features_of = Features(RecogniserGraph(write_model(tmp_path / "recogniser.onnx", size=112)))
    return judge_on_top("some", test_set, features_of, Norm(), fmr=fmr, cache=None)


def faces(people: int = 8, images: int = 5) -> VerificationSet:
    rendered = SyntheticFaces(people, images, split="test", low_variance_share=0.0)
    pairs, is_genuine, _ = all_pairs(rendered.labels)
    return VerificationSet(rendered.render(), pairs, is_genuine, rendered.labels)


def plain_colours() -> VerificationSet:
    """Identities that the recogniser tells apart without an error."""
    colours = np.random.default_rng(0).integers(30, 220, (6, 3))
    images = [np.full((112, 112, 3), colours[i // 4] + i % 4, np.uint8) for i in range(24)]
    labels = np.arange(24) // 4
    pairs, is_genuine, _ = all_pairs(labels)
    return VerificationSet(images, pairs, is_genuine, labels)


def test_curves_are_of_the_recognisers_own_similarities(tmp_path: Path) -> None:
    test_set = degraded(faces())
    result = judged(tmp_path, test_set)
    embeddings = expected(np.stack(list(test_set.images)), 8)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = (unit[test_set.pairs[:, 0]] * unit[test_set.pairs[:, 1]]).sum(axis=1)
    np.testing.assert_allclose(result.similarity, similarity, atol=1e-5)
    worse = np.linalg.norm(embeddings, axis=1)[test_set.pairs].min(axis=1)
    curve = error_rejection_curve(result.similarity, test_set.is_genuine, worse, fmr=1e-2)
    area = curve.pauc(0.95) / curve.fnmr[0]
    metrics = result.erc_metrics()
    assert set(metrics["area"]) == {OURS, NORM, SHARPNESS, RANDOM}
    assert metrics["area"][OURS] == pytest.approx(area)
    assert metrics["area"][NORM] == pytest.approx(area)
    assert metrics["auc"] == pytest.approx(curve.auc)
    assert (metrics["n_genuine"], metrics["n_impostor"]) == (80, 700)
    assert metrics["fnmr_at_0"] == curve.fnmr[0]
    np.testing.assert_allclose(result.quality, np.linalg.norm(embeddings, axis=1), rtol=1e-4)


def test_the_norm_of_unit_length_embeddings_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    path = write_model(tmp_path / "recogniser.onnx", size=112)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.append(onnx.helper.make_node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2))
    onnx.save(model, path)
    features_of = Features(RecogniserGraph(path))
    result = judge_on_top("some", degraded(faces()), features_of, Norm(), fmr=1e-2, cache=None)
    assert set(result.erc_metrics()["area"]) == {OURS, SHARPNESS, RANDOM}
    assert "some: the embedding norm is left out: lengths lie from" in caplog.text
    assert "some: the quality cannot rank its faces" in caplog.text  # R says the length, too


def test_verification_without_folds_has_no_accuracy(tmp_path: Path) -> None:
    metrics = judged(tmp_path, faces()).verification_metrics()
    assert set(metrics) == {"eer", "eer_resolved", "num_pairs"}
    assert 0 < metrics["eer"] < 0.5


def test_without_errors_there_is_no_relative_area(tmp_path: Path) -> None:
    result = judged(tmp_path, plain_colours())
    assert result.erc_metrics()["fnmr_at_0"] == 0
    assert all(math.isnan(relative_area(curve)) for curve in result.curves.values())


def test_calibration_names_what_it_holds_for(tmp_path: Path) -> None:
    result = judged(tmp_path, degraded(faces()))
    calibration = result.calibration("some faces", "r.onnx")
    assert (calibration.method, calibration.reference) == (OURS, "some faces")
    assert calibration.fnmr is not None
    assert calibration.fnmr.recogniser == "r.onnx"
    order = np.argsort(result.quality)
    assert (np.diff(calibration.percent(result.quality[order])) >= 0).all()


def test_few_errors_are_a_line_of_the_log_and_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, log_lines: list[str]
) -> None:
    judged(tmp_path, plain_colours()).calibration("colours", "r.onnx")
    assert not recwarn.list
    assert any("rests on 0 false non-matches" in line for line in log_lines)


def test_an_image_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    test_set = faces()
    images = list(test_set.images)
    images[7] = np.zeros((100, 112, 3), np.uint8)
    broken = VerificationSet(images, test_set.pairs, test_set.is_genuine, names=[f"f{i}" for i in range(40)])
    with pytest.raises(ValueError, match=r"image 7 \(f7\): the image is 112 x 100, .*; repair it or take it"):
        judged(tmp_path, broken)

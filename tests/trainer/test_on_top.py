"""The method on a network that does not change, against slow float64 references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from igfiqa_head.degradations import Degradations
from igfiqa_head.quality_head import QualityRegressor
from igfiqa_head.recogniser_graph import RecogniserGraph
from plugins.datasets.synthetic import SyntheticFaces
from tests.onnx_models import expected, write_model
from tests.references import method, on_top
from trainer.log import RunLog, Writer
from trainer.loop import TrainingDivergedError
from trainer.on_top import Features, Lessons, class_means, compute_features, fit, make_lessons
from trainer.replicas import Replicas


def embeddings_of_classes(
    spreads: list[float], images: int, replicas: int, width: int = 16, seed: int = 0
) -> tuple[list[np.ndarray], list[int]]:
    """Replicas [N, D] of classes with images ``spread`` around a centre, further off the more degraded."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(spreads)), images)
    centres = rng.normal(size=(len(spreads), width))
    offsets = rng.normal(size=(len(labels), width)) * np.array(spreads)[labels, None]
    clean = (centres[labels] + offsets) * rng.uniform(1, 9, (len(labels), 1))
    parts = [clean, *(clean + r * rng.normal(size=clean.shape) for r in range(1, replicas + 1))]
    order = rng.permutation(len(labels))
    return [part[order] for part in parts], labels[order].tolist()


def lessons_of(replicas: list[np.ndarray], labels: list[int], **options: bool) -> Lessons:
    embeddings = torch.from_numpy(np.concatenate(replicas)).float()
    return make_lessons(embeddings, embeddings, torch.tensor(labels), **options)


class TestLessons:
    @pytest.mark.parametrize("replicas", [0, 1, 3])
    @pytest.mark.parametrize("classes", [2, 7])
    def test_against_the_reference(self, classes: int, replicas: int) -> None:
        given = embeddings_of_classes([0.2 + 0.1 * k for k in range(classes)], 6, replicas)
        ours, reference = lessons_of(*given), on_top.lessons(*given)
        np.testing.assert_allclose(ours.certainty, reference.certainty, rtol=2e-5)
        np.testing.assert_allclose(ours.weights, reference.weights, atol=2e-5)
        np.testing.assert_allclose(ours.class_weights, reference.class_weights, atol=2e-5)

    def test_prototypes_are_class_means(self) -> None:
        (clean,), labels = embeddings_of_classes([0.3, 0.5, 1.0], 5, 0)
        ours = class_means(torch.from_numpy(clean), torch.tensor(labels), 3).numpy()
        reference = on_top.class_means(clean, labels)
        for row, other in zip(ours, reference, strict=True):
            assert method.cosine(row, other) == pytest.approx(1, abs=1e-12)

    def test_near_copies_lose_their_weight(self) -> None:
        """The direction of Eq. 9: classes without variance are silenced, the diverse ones are not."""
        lessons = lessons_of(*embeddings_of_classes([0.01] * 4 + [0.4] * 12, 30, 2))
        assert lessons.class_weights[:4].max() < 0.05
        assert lessons.class_weights[4:].mean() > 0.9

    def test_a_degraded_image_has_the_weight_of_its_class(self) -> None:
        replicas, labels = embeddings_of_classes([0.1, 0.4, 0.9], 5, 3)
        lessons = lessons_of(replicas, labels)
        own = lessons.class_weights[torch.tensor(labels)]
        torch.testing.assert_close(lessons.weights, own.repeat(4))

    def test_degraded_copies_do_not_make_near_copies_diverse(self) -> None:
        replicas, labels = embeddings_of_classes([0.01] * 2 + [0.4] * 6, 8, 3)
        torch.testing.assert_close(
            lessons_of(replicas, labels).class_weights, lessons_of(replicas[:1], labels).class_weights
        )

    def test_without_weights_all_are_one_and_the_labels_stay(self) -> None:
        given = embeddings_of_classes([0.1, 0.4, 0.9], 5, 1)
        plain, weighted = lessons_of(*given, variance_weights=False), lessons_of(*given)
        assert (plain.weights == 1).all()
        assert (plain.class_weights == 1).all()
        assert torch.equal(plain.certainty, weighted.certainty)

    def test_memory_is_bounded_by_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = embeddings_of_classes([0.2, 0.5, 0.8], 6, 2)
        whole = lessons_of(*given)
        monkeypatch.setattr("trainer.on_top._COSINES_AT_ONCE", 20)  # 6 rows of 3 cosines
        for one, other in zip(whole, lessons_of(*given), strict=True):
            torch.testing.assert_close(one, other)

    def test_one_image_in_a_class_says_nothing_about_its_variance(self) -> None:
        (clean,), labels = embeddings_of_classes([0.4, 0.4, 0.4], 6, 0)
        embeddings = np.concatenate([clean, [[*clean[0][::-1]]]])
        assert lessons_of([embeddings], [*labels, 3]).class_weights[3] < 0.01


class Collected(Writer):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def write(self, step: int, values: object) -> None:
        self.losses.append(values["train/loss_quality"])  # type: ignore[index]

    def close(self) -> None:
        pass


def random_lessons(size: int = 40, width: int = 6) -> Lessons:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(size, width, generator=generator)
    certainty = 0.6 + 0.3 * features[:, 0] + 0.5 * torch.rand(size, generator=generator)
    return Lessons(features, certainty, torch.rand(size, generator=generator), torch.ones(3))


def fitted(
    lessons: Lessons, *, lr: float = 0.1, batch_size: int = 8, num_epoch: int = 2, seed: int = 0
) -> tuple[QualityRegressor, list[float]]:
    regressor = QualityRegressor(lessons.features.shape[1])
    nn.init.zeros_(regressor.weight)
    nn.init.zeros_(regressor.bias)
    optimizer = torch.optim.SGD(regressor.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    collected = Collected()
    fit(
        regressor,
        lessons,
        optimizer=optimizer,
        schedule=schedule,
        log=RunLog(1, [collected]),
        batch_size=batch_size,
        num_epoch=num_epoch,
        beta=0.5,
        seed=seed,
    )
    return regressor, collected.losses


class TestFit:
    def test_steps_on_all_images_against_the_reference(self) -> None:
        lessons = random_lessons()
        regressor, losses = fitted(lessons, batch_size=40, num_epoch=3)
        features, certainty, weights = (x.double().numpy() for x in lessons[:3])
        weight, bias = np.zeros(features.shape[1]), 0.0
        for loss in losses:
            predicted = features @ weight + bias
            assert loss == pytest.approx(method.ig_loss(certainty, predicted, weights), rel=1e-5)
            _, by_weight, by_bias = method.ig_loss_gradients(features, weight, bias, certainty, weights, 0.5)
            weight, bias = weight - 0.1 * by_weight, bias - 0.1 * by_bias
        np.testing.assert_allclose(regressor.weight[0].detach(), weight, rtol=1e-4)
        assert regressor.bias.item() == pytest.approx(bias, rel=1e-4)

    def test_samples_of_weight_zero_teach_nothing(self) -> None:
        lessons = random_lessons()
        silenced = lessons.weights < 0.5
        weights = lessons.weights.masked_fill(silenced, 0)
        wrong = lessons.certainty.masked_fill(silenced, 99)
        one, _ = fitted(lessons._replace(weights=weights))
        other, _ = fitted(lessons._replace(weights=weights, certainty=wrong))
        assert torch.equal(one.weight, other.weight)

    def test_the_seed_decides_the_order(self) -> None:
        lessons = random_lessons()
        (one, _), (same, _), (other, _) = (fitted(lessons, seed=seed) for seed in (1, 1, 2))
        assert torch.equal(one.weight, same.weight)
        assert not torch.equal(one.weight, other.weight)

    def test_every_sample_is_seen_once_in_an_epoch(self) -> None:
        """But for those that do not fill a batch; without overlap the gradients add up."""
        lessons = random_lessons(24)
        whole, _ = fitted(lessons, lr=1e-6, batch_size=24, num_epoch=1)
        parts, _ = fitted(lessons, lr=1e-6, batch_size=8, num_epoch=1)
        torch.testing.assert_close(parts.weight, 3 * whole.weight, rtol=1e-4, atol=0)

    def test_divergence_is_one_clear_error(self) -> None:
        lessons = random_lessons()
        with pytest.raises(TrainingDivergedError, match=r"L_IG is (nan|inf) after epoch \d+: lower lr"):
            fitted(lessons._replace(features=lessons.features * 1e30), lr=1e9, num_epoch=5)

    def test_torch_has_as_many_threads_as_before(self) -> None:
        before = torch.get_num_threads()
        fitted(random_lessons())
        assert torch.get_num_threads() == before


@pytest.fixture
def features_of(tmp_path: Path) -> Features:
    return Features(RecogniserGraph(write_model(tmp_path / "recogniser.onnx", size=112)))


def some_replicas(count: int = 1, **settings: float) -> Replicas:
    faces = SyntheticFaces(4, 20).preload()
    return Replicas(faces, np.arange(0, 80, 2), Degradations(**settings), count, seed=5)  # type: ignore[arg-type]


class TestFeatures:
    def test_the_embedding_comes_first(self, features_of: Features) -> None:
        replicas = some_replicas()
        features = compute_features(features_of, replicas, None)
        assert features.shape == (80, *features_of.row_shape)
        pixels = np.stack(list(replicas))
        np.testing.assert_allclose(
            features[:, : features_of.embedding_size], expected(pixels, 8), rtol=1e-4, atol=1e-5
        )

    def test_nothing_is_computed_twice(
        self, features_of: Features, tmp_path: Path, log_lines: list[str]
    ) -> None:
        first = compute_features(features_of, some_replicas(4), tmp_path / "cache")
        again = compute_features(features_of, some_replicas(4), tmp_path / "cache")
        assert features_of.computed == 200
        assert torch.equal(first, again)
        assert [line for line in log_lines if "were in the cache" in line][1].endswith(
            "; 200 were in the cache"
        )

    @pytest.mark.parametrize("change", ["degradations", "recogniser"])
    def test_what_another_run_left_is_not_taken(
        self, features_of: Features, tmp_path: Path, change: str
    ) -> None:
        compute_features(features_of, some_replicas(4), tmp_path / "cache")
        replicas = some_replicas(4, p=0.9) if change == "degradations" else some_replicas(4)
        if change == "recogniser":
            path = write_model(tmp_path / "other.onnx", size=112, seed=1)
            features_of = Features(RecogniserGraph(path))
        known = features_of.computed
        features = compute_features(features_of, replicas, tmp_path / "cache")
        assert features_of.computed == known + 200
        assert torch.equal(features, compute_features(features_of, replicas, None))


def test_a_constant_label_and_a_constant_feature_are_no_trouble() -> None:
    lessons = random_lessons()
    features: Tensor = lessons.features.clone()
    features[:, 1] = 3.0
    regressor, losses = fitted(
        lessons._replace(features=features, certainty=torch.full_like(lessons.certainty, 0.5)), num_epoch=30
    )
    assert losses[-1] < 0.05 * losses[0]
    assert regressor.weight.isfinite().all()

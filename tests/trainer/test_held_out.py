"""People who are held out of the training data, and runs that are judged by them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from easydict import EasyDict
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import write_records
from igfiqa_head.io.verification_bin import write_verification_bin
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.runtime import QualityModel
from plugins.datasets.image_folder import ImageFolderDataset
from plugins.datasets.synthetic import SyntheticFaces
from tests.gloo import on_ranks
from trainer import build, build_data
from trainer.checkpoint import CheckpointError
from trainer.held_out import Split, Subset, choose_identities, hold_out
from trainer.log import RunLog
from trainer.loop import Trainer
from trainer.recipe import RecipeError
from trainer.run import run

Recipe = Callable[..., EasyDict]
PEOPLE, IMAGES = 20, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One's own images: a folder for each of 20 people with 4 images."""
    root = tmp_path_factory.mktemp("faces")
    faces = SyntheticFaces(PEOPLE, IMAGES, low_variance_share=0.0)
    for index in range(len(faces)):
        image, label = faces[index]
        (root / f"p{label:02}").mkdir(exist_ok=True)
        cv2.imwrite(str(root / f"p{label:02}" / f"{index}.png"), image[..., ::-1])
    return root


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in insightface's layout, with one of upstream's test sets."""
    root = tmp_path_factory.mktemp("records")
    faces = SyntheticFaces(PEOPLE, IMAGES, low_variance_share=0.0)
    encoded = [encode_image(faces[index][0], ".png") for index in range(len(faces))]
    write_records(root, encoded, faces.labels)
    genuine = [True, False] * 10
    pairs = [(4 * k, 4 * k + 1) if same else (k, 79 - k) for k, same in enumerate(genuine)]
    write_verification_bin(root / "lfw.bin", [encoded[i] for pair in pairs for i in pair], genuine)
    return root


@pytest.fixture
def own_folder(tiny_recipe: Recipe, folder: Path) -> Recipe:
    """The tiny recipe for one's own folder, without test sets."""
    return lambda *overrides: tiny_recipe(
        f"rec={folder}", "val_targets=", "num_epoch=1", "erc_fmr=0.1", *overrides
    )


def split_of(config: EasyDict) -> Split:
    return build_data.build_split(config, build_data.build_train_set(config))


class TestWholeRun:
    def test_an_own_folder_without_val_targets_leaves_metrics_pictures_and_calibration(
        self, own_folder: Recipe, log_lines: list[str]
    ) -> None:
        config = own_folder("num_classes=20")  # of whom two get no prototype
        metrics = run(config)
        output = Path(config.output)
        assert metrics["data"] == {
            "learned_images": 72, "held_out_images": 8, "learned_identities": 18, "held_out_identities": 2,
        }  # fmt: skip
        erc = metrics["erc"]["held_out"]
        assert (erc["n_genuine"], erc["n_impostor"]) == (2 * 6, 16)
        assert set(metrics["verification"]["held_out"]) == {"eer", "eer_resolved", "num_pairs"}
        assert (output / "erc.png").is_file()
        assert (output / "quality_sheet.png").is_file()
        recipe = json.loads((output / "recipe.json").read_text())["recipe"]
        assert (recipe["num_classes"], recipe["num_image"]) == (18, 72)
        assert torch.load(output / "quality_head.pt", weights_only=True)["variance.variance"].shape == (18,)
        calibration = QualityModel(output / "quality.onnx").calibration
        assert calibration is not None
        assert (calibration.reference, calibration.percentile.n_images) == ("held_out", 8)
        assert calibration.fnmr is not None
        assert calibration.fnmr.recogniser == "embedding.onnx, of a face and its mirror image together"
        assert any("8 images of 2 people are held out to judge by; 72 of 18 others" in x for x in log_lines)
        assert any(line.startswith("held_out: equal error rate") for line in log_lines)

    def test_a_damaged_image_of_theirs_is_found_before_the_training(
        self, own_folder: Recipe, folder: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(folder, tmp_path / "damaged")
        position = int(split_of(own_folder()).held_out[-1])
        damaged = sorted((tmp_path / "damaged").glob("*/*.png"))[position]
        damaged.write_bytes(damaged.read_bytes()[:200])
        with pytest.raises(ValueError, match=damaged.name):
            run(own_folder(f"rec={tmp_path / 'damaged'}"))
        assert not (tmp_path / "run" / "checkpoint_gpu_0.pt").exists()


class TestTraining:
    def test_a_run_that_goes_on_with_another_seed_learns_from_the_same_people(
        self, own_folder: Recipe
    ) -> None:
        first, _ = trainer_of(own_folder("seed=1"))
        first.save()
        second, split = trainer_of(own_folder("seed=2", "resume=True"))
        second.resume()
        np.testing.assert_array_equal(first.loader.dataset.chosen, second.loader.dataset.chosen)
        assert not set(second.loader.dataset.chosen) & set(split.held_out)
        assert second.num_classes == 18

    def test_a_run_that_goes_on_with_another_share_is_refused(self, own_folder: Recipe) -> None:
        trainer_of(own_folder("held_out=0"))[0].save()
        with pytest.raises(CheckpointError, match=r"begun with another .* held_out \(0 in older versions"):
            trainer_of(own_folder())[0].resume()

    def test_ranks_agree_on_who_is_held_out(self, own_folder: Recipe) -> None:
        config = own_folder("network=tiny_group_norm", "batch_size=6", "held_out=0.2")
        first, second = on_ranks(2, step_of_rank, config)
        assert first["held_out"] == second["held_out"]
        assert len(first["held_out"]) == 16
        assert first["loss"] == pytest.approx(second["loss"])

    def test_decoded_images_are_shared_with_a_run_that_holds_out_others(
        self, own_folder: Recipe, tmp_path: Path
    ) -> None:
        changed = []
        for share in ("0.1", "0.3"):
            config = own_folder(f"decoded_cache={tmp_path / 'cache'}", f"held_out={share}")
            trainer, split = trainer_of(config)
            for position in range(len(split.learned)):
                image, label = trainer.loader.dataset[position]
                np.testing.assert_array_equal(image, split.training_set[position][0])
                assert label == split.training_set[position][1]
            (images,) = (tmp_path / "cache").glob("*.npy")
            changed.append(images.stat().st_mtime_ns)
        assert changed[0] == changed[1]


def trainer_of(config: EasyDict, ranks: Ranks = ALONE) -> tuple[Trainer, Split]:
    build.load_plugins(config)
    Path(config.output).mkdir(parents=True, exist_ok=True)
    split = split_of(config)
    log, device = RunLog(1000, bars=False), build.build_device(config)
    return build.build_trainer(config, split.training_set, log, device, ranks), split


def step_of_rank(ranks: Ranks, config: EasyDict) -> dict[str, Any]:
    trainer, split = trainer_of(config, ranks)
    statistics, _, _ = trainer.step([next(trainer.loader.batches(0))])
    return {"held_out": split.held_out.tolist(), "loss": float(statistics["loss"])}


class TestWhoIsHeldOut:
    def test_records_with_test_sets_of_their_own_are_left_whole(
        self, tiny_recipe: Recipe, records: Path, log_lines: list[str]
    ) -> None:
        config = tiny_recipe(f"rec={records}", "val_targets=")
        assert split_of(config).training_set.num_classes == PEOPLE
        assert any("there is no test set, so nothing will be said of how good" in line for line in log_lines)

    @pytest.mark.parametrize(("share", "people"), [("0.1", 2), ("0.5", 10), ("0", 0), ("None", 0)])
    def test_the_recipe_decides(self, tiny_recipe: Recipe, records: Path, share: str, people: int) -> None:
        split = split_of(tiny_recipe(f"rec={records}", "val_targets=lfw", f"held_out={share}"))
        assert split.counts()["held_out_identities"] == people
        names = ["held_out", "lfw"] if people else ["lfw"]
        assert (
            list(build_data.build_test_sets(tiny_recipe(f"rec={records}", "val_targets=lfw"), split)) == names
        )

    def test_a_folder_with_val_targets_is_left_whole(self, own_folder: Recipe) -> None:
        assert len(split_of(own_folder("val_targets=synthetic")).held_out) == 0

    def test_too_few_people_are_told_and_nobody_is_held_out(
        self, tiny_recipe: Recipe, tmp_path: Path, log_lines: list[str]
    ) -> None:
        write_people(tmp_path / "few", 8)
        config = tiny_recipe(f"rec={tmp_path / 'few'}", "val_targets=")
        split = split_of(config)
        assert split.training_set is split.dataset
        assert any("held_out=0.25 would hold out two" in line for line in log_lines)
        with pytest.raises(ValueError, match="a share of 0.05 of the 8 people .*Raise held_out"):
            split_of(tiny_recipe(f"rec={tmp_path / 'few'}", "val_targets=", "held_out=0.05"))

    def test_a_share_beyond_the_bounds_is_refused(self, tiny_recipe: Recipe) -> None:
        with pytest.raises(RecipeError, match="'held_out' accepts a number in"):
            tiny_recipe("held_out=2")

    def test_rendered_faces_where_the_recipe_asks_for_it(self, tiny_recipe: Recipe) -> None:
        config = tiny_recipe("synthetic.num_identities=20", "held_out=0.2")
        assert list(build_data.build_test_sets(config, split_of(config))) == ["held_out", "synthetic"]
        assert len(split_of(tiny_recipe("synthetic.num_identities=20", "val_targets=")).held_out) == 0


def write_people(root: Path, people: int) -> None:
    for number in range(people):
        (root / str(number)).mkdir(parents=True)
        for image in range(2):
            pixels = np.full((112, 112, 3), 20 * number + image, np.uint8)
            cv2.imwrite(str(root / str(number) / f"{image}.png"), pixels)


class TestValTargets:
    """Upstream's configs name lfw, cfp_fp and agedb_30."""

    def test_a_run_is_judged_by_those_that_are_there(
        self, tiny_recipe: Recipe, records: Path, log_lines: list[str]
    ) -> None:
        config = tiny_recipe(f"rec={records}", "val_targets=lfw,cfp_fp,agedb_30")
        assert list(build_data.build_test_sets(config, split_of(config))) == ["lfw"]
        (line,) = [line for line in log_lines if "do not exist" in line]
        assert "val_targets names cfp_fp, agedb_30, but" in line
        assert "found: ['lfw']. The others judge the run" in line

    def test_none_of_them_is_an_error(self, tiny_recipe: Recipe, folder: Path) -> None:
        config = tiny_recipe(f"rec={folder}", "val_targets=lfw,cfp_fp")
        with pytest.raises(ValueError, match=r"cfp_fp.bin do not exist; found: none\. Copy them there"):
            build_data.build_test_sets(config, split_of(config))

    def test_a_name_with_its_suffix_is_told_of(self, tiny_recipe: Recipe, folder: Path) -> None:
        config = tiny_recipe(f"rec={folder}", "val_targets=lfw.bin")
        with pytest.raises(ValueError, match=r"not exist; found: none \(.* without .bin\)\. Copy it there"):
            build_data.build_test_sets(config, split_of(config))

    def test_the_name_of_the_people_held_out_is_taken(self, tiny_recipe: Recipe, records: Path) -> None:
        config = tiny_recipe(f"rec={records}", "val_targets=held_out")
        with pytest.raises(ValueError, match="'held_out', which is the name of the identities held out"):
            build_data.build_test_sets(config, split_of(config))


class TestHoldOut:
    @given(
        counts=st.lists(st.integers(1, 9), min_size=1, max_size=40),
        share=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    )
    def test_people_are_whole_and_apart(self, counts: list[int], share: float) -> None:
        labels = np.repeat(3 * np.arange(len(counts)), counts)[::-1].copy()
        learned, held_out = hold_out(labels, share)
        assert sorted([*learned, *held_out]) == list(range(len(labels)))
        people = set(labels[held_out].tolist())
        assert not people & set(labels[learned].tolist())
        assert len(people) <= round(share * len(counts))
        if people:
            assert len(people) >= 2
            assert min(np.bincount(labels)[sorted(people)]) >= 2

    def test_the_numbers_of_the_labels_do_not_matter(self) -> None:
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3))
        for part, other in zip(hold_out(labels, 0.2), hold_out(7 * labels + 5, 0.2), strict=True):
            np.testing.assert_array_equal(part, other)

    def test_of_a_huge_set_200_people_with_2000_images(self) -> None:
        labels = np.repeat(np.arange(10_000), 50)
        learned, held_out = hold_out(labels, 0.1)
        people, counts = np.unique(labels[held_out], return_counts=True)
        assert (len(people), set(counts)) == (200, {10})
        assert len(learned) == 9800 * 50
        first = held_out[labels[held_out] == people[0]] - 50 * people[0]
        np.testing.assert_array_equal(first, np.linspace(0, 49, 10).astype(int))

    def test_few_people_with_many_images_are_thinned_too(self) -> None:
        _, held_out = hold_out(np.repeat(np.arange(20), 3000), 0.1)
        assert len(held_out) == 2000


class TestSubset:
    def test_classes_are_numbered_anew_and_images_are_those_chosen(self) -> None:
        faces = SyntheticFaces(6, 3, seed=1).preload()
        chosen = np.array([3, 4, 5, 9, 10, 15])
        subset = Subset(faces, chosen)
        assert (len(subset), subset.num_classes) == (6, 3)
        assert subset.labels.tolist() == [0, 0, 0, 1, 1, 2]
        for position, index in enumerate(chosen):
            image, label = subset[position]
            np.testing.assert_array_equal(image, faces[int(index)][0])
            assert label == subset.labels[position]

    def test_planted_classes_have_their_new_labels(self) -> None:
        faces = SyntheticFaces(10, 2, low_variance_share=0.5)
        kept = np.flatnonzero(faces.labels >= 4)
        expected = [identity - 4 for identity in faces.low_variance_ids if identity >= 4]
        assert Subset(faces, kept).low_variance_ids.tolist() == expected

    def test_other_data_sets_have_none(self, folder: Path) -> None:
        assert not len(Subset(ImageFolderDataset(folder), np.arange(8)).low_variance_ids)


class TestOnTop:
    @given(
        counts=st.lists(st.integers(1, 9), min_size=1, max_size=40),
        held_out=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
        max_images=st.integers(2, 200),
        seed=st.integers(0, 3),
    )
    def test_whole_identities_within_the_bounds(
        self, counts: list[int], held_out: float, max_images: int, seed: int
    ) -> None:
        labels = np.repeat(3 * np.arange(len(counts)), counts)[::-1].copy()
        try:
            parts = choose_identities(labels, held_out=held_out, max_images=max_images, seed=seed)
        except ValueError:
            return
        people = [set(labels[part].tolist()) for part in parts]
        assert not people[0] & people[1]
        for part, identities, limit in zip(parts, people, (1, held_out), strict=True):
            assert len(part) <= round(limit * max_images)
            assert sorted(part) == np.flatnonzero(np.isin(labels, list(identities))).tolist()
        assert len(people[0]) >= 2
        assert np.bincount(labels[parts[0]]).max() >= 2
        assert len(people[1]) >= 2 if held_out else not people[1]

    def test_without_a_bound_everybody_is_there(self) -> None:
        labels = np.repeat(np.arange(20), 3)
        learned, held_out = choose_identities(labels, held_out=0.25, max_images=10_000, seed=0)
        assert (len(learned), len(held_out)) == (45, 15)
        assert sorted([*learned, *held_out]) == list(range(60))

    def test_a_small_set_holds_out_two(self) -> None:
        _, held_out = choose_identities(np.repeat(np.arange(6), 4), held_out=0.1, max_images=100, seed=0)
        assert len(held_out) == 8

    def test_the_seed_decides(self) -> None:
        def choose(seed: int) -> list[int]:
            parts = choose_identities(np.repeat(np.arange(30), 2), held_out=0.3, max_images=20, seed=seed)
            return [*parts[0].tolist(), -1, *parts[1].tolist()]

        assert choose(1) == choose(1)
        assert choose(1) != choose(2)

    @pytest.mark.parametrize(
        ("labels", "held_out", "max_images", "message"),
        [
            (np.zeros(9, int), 0.0, 100, "9 images of 1 identities.* leave 1 identities to learn from"),
            (np.repeat([0, 1, 2], 4), 0.5, 100, "leave 1 identities to learn from and 2 to judge by"),
            (np.repeat([0, 1, 2, 3], 50), 0.5, 100, "and 1 to judge by.*raise on_top.max_images"),
            (np.repeat([0, 1, 2, 3], 50), 0.0, 60, "leave 1 identities to learn from"),
            (np.arange(50), 0.1, 100, "each of the 45 identities to learn from has a single image"),
        ],
    )
    def test_too_little(
        self, labels: NDArray[np.int64], held_out: float, max_images: int, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            choose_identities(labels, held_out=held_out, max_images=max_images, seed=0)


def test_three_million_labels() -> None:
    labels = np.repeat(np.arange(100_000), 30)
    learned, held_out = choose_identities(labels, held_out=0.1, max_images=10_000, seed=0)
    assert (len(learned), len(held_out)) == (9990, 990)

"""From a recipe to data sets, beside :mod:`trainer.build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from easydict import EasyDict

import plugins.datasets  # noqa: F401  importing a folder registers what is in it
from eval_tools.test_sets import VerificationSet, balanced_pairs, read_bin_set
from igfiqa_head.registry import DATASETS
from trainer import held_out
from trainer.decoded_cache import open_decoded
from trainer.held_out import Split, Subset, hold_out
from trainer.log import LOGGER, warnings_as_log_lines
from trainer.parts import build_part, room_for

SYNTHETIC = "synthetic"
_OWN_FOLDER = "image_folder"
_SHARE = 0.1  # held out of one's own folder
_MAX_PRELOADED = 28_000  # rendered faces, about 1 GiB


def build_train_set(config: EasyDict) -> Any:
    """The training images, checked against the recipe's num_classes and num_image; every class has images.

    Raises:
        ValueError: ``rec`` holds no data set, or a label is not below ``num_classes``.
    """
    name = _data_set_name(config)
    with warnings_as_log_lines():
        if name == SYNTHETIC:
            dataset = _rendered(config)
        else:
            dataset = build_part(DATASETS, name, config.rec, settings=dict(config.get(name, {})))
    for note in getattr(dataset, "notes", ()):
        LOGGER.warning("%s: %s", config.rec, note)
    if name == SYNTHETIC and len(dataset) <= _MAX_PRELOADED:
        dataset.preload()  # rendering a face again in every epoch would cost more than training on it
    largest = int(dataset.labels.max())
    if config.num_classes is not None and largest >= config.num_classes:
        raise ValueError(
            f"{config.rec} has a label {largest}, but num_classes is {config.num_classes}: "
            f"labels must lie in [0, num_classes). Set num_classes={largest + 1} or leave it out"
        )
    if config.num_image is not None and len(dataset) != config.num_image:
        LOGGER.warning(
            "the recipe says num_image=%d, but %s has %d images: the data decides",
            config.num_image, config.rec, len(dataset),
        )  # fmt: skip
    return _without_unused_labels(config, dataset)


def _without_unused_labels(config: EasyDict, dataset: Any) -> Any:
    """The data set, its classes numbered anew where there are labels without images, which is told.

    A class without images has a v of its own in Eq. 9, and a prototype that is a negative to all others. What
    is learned must not depend on how labels are numbered.
    """
    classes, announced = len(np.unique(dataset.labels)), config.num_classes or dataset.num_classes
    if classes == announced:
        return dataset
    LOGGER.warning(
        "%s has images of %d classes, but %s %d: the labels without images take no part",
        config.rec, classes, "num_classes is" if config.num_classes else "there are labels for", announced,
    )  # fmt: skip
    return Subset(dataset, np.arange(len(dataset)))


def _data_set_name(config: EasyDict) -> str:
    if config.dataset != "auto":
        return config.dataset
    if config.rec == SYNTHETIC:
        return SYNTHETIC
    root = Path(config.rec)
    if (root / "train.rec").is_file():
        return "recordio"
    if root.is_dir():
        return "image_folder"
    raise ValueError(
        f"rec={config.rec!r} is no folder: expected one with train.rec and train.idx, a folder with one "
        'sub-folder per identity, or "synthetic"'
    )


def _rendered(config: EasyDict) -> Any:
    counts = _synthetic_counts(config)
    with room_for(
        f"{counts['num_identities']} identities with {counts['images_per_identity']} rendered faces each "
        "(num_classes and num_image, or synthetic.num_identities and synthetic.images_per_identity)"
    ):
        dataset = DATASETS.get(SYNTHETIC)(**counts)
        dataset.labels.max()  # they are made when they are asked for
    return dataset


def _synthetic_counts(config: EasyDict) -> dict[str, Any]:
    """The rendered set's size: the recipe's num_classes and num_image, else those of its own block."""
    block = config.synthetic
    classes = config.num_classes or block.num_identities
    images = config.num_image or classes * block.images_per_identity
    if images < classes:  # arcface_torch's speed tests name more classes than images
        classes = images
    return {
        "num_identities": classes,
        "images_per_identity": images // classes,
        "low_variance_share": block.low_variance_share,
        "clean_share": block.clean_share,
        "seed": config.seed,
    }


def build_split(config: EasyDict, dataset: Any) -> Split:
    """The images to train a network on and those to judge it by, as ``held_out`` says.

    Of one's own folder without ``val_targets`` a tenth is held out. Data in insightface's layout comes with
    test sets of its own and is left whole unless the recipe asks for it.

    Raises:
        ValueError: ``held_out`` is set, but leaves too few people to judge by.
    """
    share = _share_held_out(config)
    split = Split(dataset, *hold_out(dataset.labels, share))
    if len(split.held_out):
        LOGGER.info(
            "%(held_out_images)d images of %(held_out_identities)d people are held out to judge by; "
            "%(learned_images)d of %(learned_identities)d others are learned from; held_out=0 holds out none",
            split.counts(),
        )
    elif share:
        _tell_of_too_few(config, share, len(np.unique(dataset.labels)))
    elif config.held_out is None and not config.val_targets:
        LOGGER.info(
            "there is no test set, so nothing will be said of how good the result is: name .bin files in "
            "val_targets, or hold out people with held_out=0.1"
        )
    return split


def _share_held_out(config: EasyDict) -> float:
    if config.held_out is not None:
        return float(config.held_out)
    is_without_tests = _data_set_name(config) == _OWN_FOLDER and not config.val_targets
    return _SHARE if is_without_tests else 0.0


def _tell_of_too_few(config: EasyDict, share: float, people: int) -> None:
    text = (
        f"a share of {share:g} of the {people} people in {config.rec} is fewer than judging takes: two with "
        "two images each, and two others to learn from"
    )
    if config.held_out is not None:
        raise ValueError(f"{text}. Raise held_out, or set it to 0 to hold out none")
    advice = f"; held_out={2 / people:.2g} would hold out two" if people >= 4 else ""
    LOGGER.warning("%s. So nobody is held out, and nothing is said of how good the result is%s", text, advice)


def build_test_sets(config: EasyDict, split: Split) -> dict[str, VerificationSet]:
    """The people held out, and what ``val_targets`` names: ``rec/NAME.bin``, "synthetic" for rendered faces.

    Raises:
        ValueError: there is none of the files, or one is damaged.
    """
    if held_out.NAME in config.val_targets:
        raise ValueError(
            f"val_targets names {held_out.NAME!r}, which is the name of the identities held out of rec"
        )
    sets = {held_out.NAME: split.test_set()} if len(split.held_out) else {}
    return sets | {name: _verification_set(config, name) for name in _targets_found(config)}


def _targets_found(config: EasyDict) -> list[str]:
    """The names in ``val_targets`` without those whose files are missing, which a warning lists."""
    names = config.val_targets
    missing = [name for name in names if name != SYNTHETIC and not _bin_file(config, name).is_file()]
    if missing:
        found = sorted(path.stem for path in Path(config.rec).glob("*.bin")) or "none"
        absent = ", ".join(str(_bin_file(config, name)) for name in missing)
        do, it = ("does", "it") if len(missing) == 1 else ("do", "them")
        text = f"val_targets names {', '.join(missing)}, but {absent} {do} not exist; found: {found}"
        if any(name.endswith(".bin") for name in missing):
            text += " (val_targets has the names without .bin)"
        if len(missing) == len(names):
            raise ValueError(f"{text}. Copy {it} there, or take {it} out of val_targets")
        LOGGER.warning("%s. The others judge the run", text)
    return [name for name in names if name not in missing]


def _bin_file(config: EasyDict, name: str) -> Path:
    return Path(config.rec) / f"{name}.bin"


def _verification_set(config: EasyDict, name: str) -> VerificationSet:
    if name == SYNTHETIC:
        faces = build_synthetic_test_faces(config)
        with room_for(
            f"the rendered faces of synthetic.test_identities={faces.num_identities} with "
            f"synthetic.test_images_per_identity={faces.images_per_identity}"
        ):
            pairs, is_genuine = balanced_pairs(faces.labels, np.random.default_rng(config.seed))
            return VerificationSet(faces.render(), pairs, is_genuine, folds=10)
    return read_bin_set(_bin_file(config, name))


def build_synthetic_test_faces(config: EasyDict) -> Any:
    """The rendered faces of the target "synthetic": identities that are never trained on."""
    block = config.synthetic
    return DATASETS.get(SYNTHETIC)(
        block.test_identities,
        block.test_images_per_identity,
        split="test",
        low_variance_share=0.0,
        seed=config.seed,
    )


def with_decoded_images(config: EasyDict, dataset: Any) -> Any:
    """The data set, with its images decoded beforehand where ``decoded_cache`` says so."""
    if config.decoded_cache is None:
        return dataset
    if isinstance(dataset, Subset):  # the cache has all images, whoever is held out
        return Subset(with_decoded_images(config, dataset.whole), dataset.chosen)
    source = f"{_data_set_name(config)} {Path(config.rec).resolve()}"
    return open_decoded(dataset, Path(config.decoded_cache), source=source, num_workers=config.num_workers)

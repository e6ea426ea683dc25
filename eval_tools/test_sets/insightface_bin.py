"""insightface's verification sets (``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin`` ...)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eval_tools.on_bad import OnBad, check_on_bad
from eval_tools.scores import BoolArray
from eval_tools.test_sets.images import LazyImages
from eval_tools.test_sets.pair_list import PathLike
from eval_tools.test_sets.verification_set import VerificationSet, folds_of, select
from igfiqa_head.io.verification_bin import VerificationBin, VerificationBinError, read_verification_bin

FOLDS = 10


def read_bin_set(path: PathLike, *, on_bad: OnBad = "error") -> VerificationSet:
    """A test set from insightface's ``.bin`` file, in its 10 folds.

    Args:
        path: the file.
        on_bad: "exclude" leaves out pairs that repeat an earlier one byte for byte, but not their images,
            which are known by their position in the file. They are never an error: arcface_torch counts them,
            and so do published figures. A note says how many there are.

    Raises:
        ValueError: not such a file, or no genuine or no impostor pair.
    """
    check_on_bad(on_bad)
    content = read_verification_bin(path)
    n_pairs = len(content.is_genuine)
    try:
        test_set = VerificationSet(
            images=LazyImages(2 * n_pairs, content.decode, content.stored_size),
            pairs=np.arange(2 * n_pairs).reshape(-1, 2),
            is_genuine=content.is_genuine,
            folds=folds_of(n_pairs, FOLDS),
        )
        return _note_folds(_note_repeated(test_set, _repeated(content), on_bad))
    except ValueError as error:
        raise VerificationBinError(f"{path}: {error}") from error


def _repeated(content: VerificationBin) -> BoolArray:
    """Which pairs [P] have the same two encoded images as an earlier one, in either order."""
    numbers: dict[bytes, int] = {}
    images = np.array([numbers.setdefault(image, len(numbers)) for image in content.images])
    _, first = np.unique(np.sort(images.reshape(-1, 2)), axis=0, return_index=True)
    repeated = np.ones(len(content.is_genuine), np.bool_)
    repeated[first] = False
    return repeated


def _note_repeated(test_set: VerificationSet, repeated: BoolArray, on_bad: OnBad) -> VerificationSet:
    if not repeated.any():
        return test_set
    found = f"{np.count_nonzero(repeated)} of {repeated.size} pairs repeat an earlier pair byte for byte"
    if on_bad == "error":
        return replace(test_set, notes=(f"{found}; they are counted, as arcface_torch does.",))
    keep_images = np.ones(len(test_set.images), np.bool_)
    return select(test_set, keep_images, ~repeated, f"{found} and were excluded.")


def _note_folds(test_set: VerificationSet) -> VerificationSet:
    """Files of other programs may hold all genuine pairs first."""
    if test_set.folds is None:
        return test_set
    parts = np.array_split(test_set.is_genuine, test_set.folds)
    uniform = sum(part.all() or not part.any() for part in parts)
    if not uniform:
        return test_set
    note = (
        f"{uniform} of the {test_set.folds} folds hold pairs of one kind, genuine or impostor: the accuracy "
        "over these folds means nothing, while the other figures do not depend on the order of the pairs."
    )
    return replace(test_set, notes=(*test_set.notes, note))

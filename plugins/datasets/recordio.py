"""Training sets in insightface's RecordIO layout."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.aligned_faces import RecordFaces
from igfiqa_head.io.images import check_square
from igfiqa_head.io.regular_files import regular
from igfiqa_head.registry import DATASETS

_PROPERTY = re.compile(rb"([0-9]{1,9})\s*,\s*[0-9]{1,9}\s*,\s*[0-9]{1,9}")


@DATASETS.register("recordio")
class RecordIODataset:
    """Faces of a folder with ``train.rec``, ``train.idx`` and, optionally, ``property``.

    ``dataset[i]`` is (RGB uint8 [H, W, 3], int label). It can be pickled and shared with forked workers.

    Args:
        root: the folder.
        transform: applied to the image, whose place its result takes.
        image_size: side that every image must have, in pixels; None takes images of any size.

    Raises:
        ValueError: files are missing, or damaged (:class:`~igfiqa_head.io.recordio.CorruptRecordError`), or
            an image is not ``image_size`` x ``image_size``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[NDArray[np.uint8]], Any] | None = None,
        *,
        image_size: int | None = 112,
    ) -> None:
        self.root = Path(root)
        self.transform = transform
        self.image_size = image_size
        self._shape = (image_size, image_size)
        _check_files(self.root)
        self._faces = RecordFaces(self.root / "train.rec")
        self.reader = self._faces.reader
        self._property = self.root / "property"
        self._announced = _read_num_classes(self._property) if self._property.exists() else None

    def __len__(self) -> int:
        return len(self._faces)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        index = operator.index(index)
        value, image = self._faces.labelled(index)
        key = self._faces.keys.item(index)
        label = self.reader.class_label(key, value)
        if image.shape[:2] != self._shape:
            check_square(image, self.image_size, f"{self.reader.rec_path}: the image of key {key}")
        return (image if self.transform is None else self.transform(image)), label

    @property
    def fingerprint(self) -> str:
        """Changes if the files do: their sizes and times of modification."""
        files = (os.stat(path) for path in (self.reader.rec_path, self.reader.idx_path))
        return f"{self.image_size} " + " ".join(f"{file.st_size}@{file.st_mtime_ns}" for file in files)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class label of every image, int64 [N]; the headers are read once, no image is decoded."""
        return self._faces.labels

    @cached_property
    def num_classes(self) -> int:
        """Number of classes: that of ``property``, else the largest label + 1.

        Raises:
            ValueError: ``property`` announces fewer classes than there are labels.
        """
        needed = int(self.labels.max()) + 1
        if self._announced is not None and self._announced < needed:
            raise ValueError(
                f"{self._property} announces {self._announced} classes, but the largest label in "
                f"{self.reader.rec_path} is {needed - 1}: correct or remove the property file"
            )
        return self._announced or needed


def _check_files(root: Path) -> None:
    if not root.is_dir():
        raise ValueError(f"the data set folder {str(root)!r} does not exist or is no folder")
    missing = [name for name in ("train.rec", "train.idx") if not (root / name).is_file()]
    if missing:
        found = ", ".join(sorted(path.name for path in root.iterdir())[:20]) or "nothing"
        raise ValueError(f"{root} has no {' and no '.join(missing)}; found: {found}")


def _read_num_classes(path: Path) -> int:
    """The first number of a ``property`` file, whose first line is ``num_classes,height,width``."""
    with open(path, "rb", opener=regular) as file:
        line = file.readline(80).strip()
    numbers = _PROPERTY.fullmatch(line)
    if numbers is None or int(numbers[1]) < 1:
        raise ValueError(f"{path} must start with 'num_classes,height,width', got {line!r}")
    return int(numbers[1])

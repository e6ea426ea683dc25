"""Training sets as one folder of image files per identity."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.images import check_square, decode_image
from igfiqa_head.registry import DATASETS

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@DATASETS.register("image_folder")
class ImageFolderDataset:
    """Faces stored as ``root/IDENTITY/*.{jpg,jpeg,png,bmp,webp}``; hidden and other files are ignored.

    ``dataset[i]`` is (RGB uint8 [H, W, 3], int label). Identities, sorted by name, have the labels 0, 1, 2
    and so on; the images of one are sorted by name too.

    Args:
        root: the folder.
        transform: applied to the image, whose place its result takes.
        image_size: side that every image must have, in pixels; None takes images of any size.

    Attributes:
        classes: name of each identity.
        labels: class label of every image, int64 [N].

    Raises:
        ValueError: there are no identities, one has no images, a link is broken or leaves ``root``, or an
            image cannot be decoded or is not ``image_size`` x ``image_size``.
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
        self.classes = _identities(self.root)
        images = [_images(self.root, name) for name in self.classes]
        self.paths = [path for of_identity in images for path in of_identity]
        self.labels: NDArray[np.int64] = np.repeat(np.arange(len(images)), [len(paths) for paths in images])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        index = operator.index(index)
        path = self.paths[index]
        try:
            image = decode_image(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        check_square(image, self.image_size, path)
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    @property
    def fingerprint(self) -> str:
        """Changes if a file does: a digest of their names, sizes and times of modification."""
        digest = hashlib.sha256(str(self.image_size).encode())
        for path in self.paths:
            file = os.stat(path)
            digest.update(f"{os.path.relpath(path, self.root)}\0{file.st_size}@{file.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return len(self.classes)


def _identities(root: Path) -> list[str]:
    if not root.is_dir():
        raise ValueError(f"the data set folder {str(root)!r} does not exist or is no folder")
    names = sorted(entry.name for entry in _visible(root, root) if entry.is_dir())
    if not names:
        raise ValueError(f"{root} has no sub-folders; expected one folder of images per identity")
    return names


def _images(root: Path, identity: str) -> list[str]:
    folder = root / identity
    paths = sorted(
        entry.path for entry in _visible(folder, root) if Path(entry.name).suffix.lower() in SUFFIXES
    )
    if not paths:
        raise ValueError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}): add some or remove it")
    return paths


def _visible(folder: Path, root: Path) -> Iterator[os.DirEntry[str]]:
    """Entries of ``folder`` that are not hidden; a link that is broken or leaves ``root`` is an error."""
    real_root = os.path.realpath(root)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not _is_inside(real_root, os.path.realpath(entry.path)):
                raise ValueError(
                    f"{entry.path} is a broken link or leads out of {root}: copy the file instead"
                )
            yield entry


def _is_inside(real_root: str, real_path: str) -> bool:
    return os.path.exists(real_path) and os.path.commonpath([real_root, real_path]) == real_root

"""Training sets as one folder of image files per identity."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.aligned_faces import read_image
from igfiqa_head.io.image_files import IMAGE_SUFFIXES, IdentityFolders, identity_folders
from igfiqa_head.io.images import check_square
from igfiqa_head.registry import DATASETS


@DATASETS.register("image_folder")
class ImageFolderDataset:
    """Faces stored as ``root/IDENTITY/*.jpg`` or another of the suffixes that
    :data:`~igfiqa_head.io.image_files.IMAGE_SUFFIXES` lists.

    ``dataset[i]`` is (RGB uint8 [H, W, 3], int label). Identities, sorted by name, have the labels 0, 1, 2
    and so on; the images of one are sorted by name too.

    Args:
        root: the folder.
        transform: applied to the image, whose place its result takes.
        image_size: side that every image must have, in pixels; None takes images of any size.

    Attributes:
        classes: name of each identity.
        notes: on the pictures and other files that were left out.
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
        folders = _identities(self.root)
        self.notes = folders.notes
        self.classes = list(folders.images)
        self.paths = [os.path.join(root, name) for names in folders.images.values() for name in names]
        sizes = [len(names) for names in folders.images.values()]
        self.labels: NDArray[np.int64] = np.repeat(np.arange(len(sizes)), sizes)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        index = operator.index(index)
        path = self.paths[index]
        image = read_image(path)
        check_square(image, self.image_size, path)
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    @property
    def fingerprint(self) -> str:
        """Changes if a file does: a digest of their names, sizes and times of modification."""
        digest = hashlib.sha256(str(self.image_size).encode())
        for path in self.paths:
            file = os.stat(path)
            name = os.path.relpath(path, self.root)
            digest.update(os.fsencode(f"{name}\0{file.st_size}@{file.st_mtime_ns}\0"))
        return digest.hexdigest()

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return len(self.classes)


def _identities(root: Path) -> IdentityFolders:
    if not root.is_dir():
        raise ValueError(f"the data set folder {str(root)!r} does not exist or is no folder")
    found = identity_folders(str(root))
    if not found.images:
        raise ValueError(f"{root} has no sub-folders; expected one folder of images per identity")
    empty = next((identity for identity, names in found.images.items() if not names), None)
    if empty is not None:
        unread = next((f": {why}" for name, why in found.unread.items() if name.startswith(f"{empty}/")), "")
        raise ValueError(
            f"{root / empty} has no images ({', '.join(IMAGE_SUFFIXES)}){unread}. Add some, or remove it"
        )
    return found

"""ONNX files, looked at before anything opens them."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

from igfiqa_head.io.image_files import is_inside
from igfiqa_head.io.regular_files import read_regular, regular
from igfiqa_head.onnx_graph import read_onnx_graph

_BLOCK = 2**20


class OnnxFile:
    """An ONNX file that was looked at: it is whole, and all that it reads lies in its own folder.

    onnxruntime opens what a file names. Older releases follow it to any file of the disk, wait for pipes, and
    take some names for addresses in memory.

    Attributes:
        path: the file.
        content: its bytes.
        graph: what they say, see :class:`igfiqa_head.onnx_graph.OnnxGraph`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file, and find those that hold tensors of it.

        Raises:
            ValueError: it cannot be read, is no complete ONNX model, or keeps tensors in what is no regular
                file of its folder.
        """
        self.path = Path(path)
        try:
            self.content = read_regular(self.path)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            self.graph = read_onnx_graph(self.content)
        except ValueError as error:
            raise ValueError(f"{self.path} is not a complete ONNX model: {error}") from error
        # A cache of downloads may consist of links to files that lie together elsewhere.
        roots = {os.path.dirname(self.path) or ".", os.path.dirname(os.path.realpath(self.path))}
        for name in self.graph.external_files:
            if not any(_lies_in(root, self.path.parent, name) for root in roots):
                raise ValueError(
                    f"{self.path} keeps weights in {name!r}, which is no regular file in its folder: put it "
                    "there, or export the network as one file"
                )

    @property
    def size(self) -> int:
        """Bytes of the file and of those that hold tensors of it."""
        return len(self.content) + sum(map(os.path.getsize, self._outside))

    def fingerprint(self, normalisation: tuple[float, float]) -> str:
        """A digest of all that the network consists of, and of the (mean, std) of its input.

        Raises:
            ValueError: a file can no longer be read.
        """
        digest = hashlib.sha256(self.content)
        for path in self._outside:  # two trainings may differ in these files only
            digest.update(_sha256(path))
        digest.update(repr(normalisation).encode())
        return digest.hexdigest()

    @property
    def _outside(self) -> list[Path]:
        return [self.path.parent / name for name in self.graph.external_files]


def _lies_in(root: str, folder: Path, name: str) -> bool:
    """Whether ``name`` is a regular file that onnxruntime finds in ``folder``, and that lies in ``root``."""
    if "\0" in name or "*" in name or ".." in Path(name).parts:  # */.../* is an address in memory
        return False
    path = folder / name
    return not os.path.isabs(name) and os.path.isfile(path) and is_inside(str(path), root)


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(path, "rb", opener=regular) as file:
            for block in iter(partial(file.read, _BLOCK), b""):
                digest.update(block)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return digest.digest()

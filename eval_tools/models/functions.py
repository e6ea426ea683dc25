"""What is computed from pixels: embeddings and qualities; and the qualities that need no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_tools.cache import FloatArray, UInt8Array
from eval_tools.test_sets.embeddings import ChunkedEmbeddings
from igfiqa_head.draws import keyed_uniforms
from igfiqa_head.runtime import FaceNetwork, QualityModel


class OnnxRecogniser:
    """Embeddings [B, V, D] of each face: upright and mirrored (V = 2), or upright alone (V = 1)."""

    def __init__(
        self,
        path: str | Path,
        *,
        flip: bool = True,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        normalisation: tuple[float, float] | None = None,
    ) -> None:
        """Open an ONNX file, see :class:`igfiqa_head.runtime.FaceNetwork`.

        Raises:
            ValueError: as there, or it does not have exactly one output of embeddings [N, D].
        """
        self.network = FaceNetwork(path, providers=providers, threads=threads, normalisation=normalisation)
        self.flip = flip
        self.output, width = _embedding_output(self.network)
        self.image_size: tuple[int, int] | None = self.network.image_size
        self.row_shape: tuple[int, ...] = (2 if flip else 1, width)
        self.fingerprint = f"{self.network.fingerprint} {self.output} {self.row_shape}"

    def __call__(self, images: UInt8Array) -> FloatArray:
        """RGB uint8 [B, H, W, 3] -> [B, V, D]."""
        views = [images, images[:, :, ::-1]] if self.flip else [images]
        embeddings = [self.network.run(view)[self.output] for view in views]
        return np.stack([rows.reshape(len(images), -1) for rows in embeddings], axis=1)


def _embedding_output(network: FaceNetwork) -> tuple[str, int]:
    """Name and width of the only output with a vector for each face; a width of 1 is a quality."""
    widths = {
        name: shape[0]
        for name, shape in network.output_shapes.items()
        if shape and shape[0] > 1 and set(shape[1:]) <= {1}
    }
    if len(widths) != 1:
        given = ", ".join(f"{name} {['N', *shape]}" for name, shape in network.output_shapes.items())
        raise ValueError(
            f"{network.path} is no recogniser: its outputs are {given}; expected one of embeddings [N, D]"
        )
    return next(iter(widths.items()))


class OnnxQuality:
    """Qualities [B] of an ONNX quality network."""

    def __init__(
        self, path: str | Path, *, providers: Sequence[str] | None = None, threads: int | None = None
    ) -> None:
        """Open an ONNX file, see :class:`igfiqa_head.runtime.QualityModel`."""
        self.model = QualityModel(path, providers=providers, threads=threads, check_channels=False)
        self.image_size: tuple[int, int] | None = self.model.network.image_size
        self.row_shape: tuple[int, ...] = ()
        self.fingerprint = f"{self.model.network.fingerprint} {self.model.output}"

    def __call__(self, images: UInt8Array) -> FloatArray:
        """RGB uint8 [B, H, W, 3] -> [B]."""
        return self.model.score_rgb(images)


class Sharpness:
    """Variance of the Laplacian [B] of the grey images, a classical measure of focus.

    Pech-Pacheco et al., ICPR 2000, https://doi.org/10.1109/ICPR.2000.903548.
    """

    fingerprint = "variance of the 3 x 3 Laplacian of the 8-bit grey image"
    image_size: tuple[int, int] | None = None
    row_shape: tuple[int, ...] = ()

    def __call__(self, images: UInt8Array) -> FloatArray:
        """RGB uint8 [B, H, W, 3] -> [B]."""
        grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images)
        return np.array([cv2.Laplacian(image, cv2.CV_64F).var() for image in grey], np.float32)


class EmbeddingNorm:
    """Length of a recogniser's embedding of the upright face; no quality if the network normalises itself.

    :func:`eval_tools.constant_quality.length_fault` tells.
    """

    def score(self, embeddings: ArrayLike | ChunkedEmbeddings) -> NDArray[np.float64]:
        """[N, V, D], whole or in chunks -> [N]."""
        if isinstance(embeddings, ChunkedEmbeddings):
            return np.concatenate([np.empty(0), *(_norms(views) for _, views in embeddings.chunks())])
        return _norms(np.asarray(embeddings))


def _norms(views: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.linalg.norm(views[:, 0].astype(np.float64), axis=1)


class RandomQuality:
    """Uniform numbers in [0, 1): the quality of image i depends on ``seed`` and i alone."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, count: int) -> NDArray[np.float64]:
        """The qualities [count] of the first ``count`` images."""
        return keyed_uniforms(self.seed, np.arange(count), count=1)[:, 0]

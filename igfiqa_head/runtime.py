"""The quality of aligned faces, from an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.calibration import Calibration
from igfiqa_head.channel_order import ChannelGuard
from igfiqa_head.face_network import DEFAULT_SIZE, INPUT_CONTRACT, FaceNetwork, FloatArray, check_images

__all__ = ["DEFAULT_SIZE", "INPUT_CONTRACT", "FaceNetwork", "QualityModel", "check_images"]

_ORDERS = {
    "BGR": "Pass BGR, as cv2.imread gives it, or call score_rgb with RGB images",
    "RGB": "Pass RGB, or call score with BGR images, as cv2.imread gives them",
}


class QualityModel:
    """A face quality network, such as ``quality.onnx`` of a training run; higher is better.

    Attributes:
        network: what it runs.
        calibration: what its scores mean, from the file's metadata, or None. It may be set:
            ``model.calibration = Calibration.load("calibration.json")``.
    """

    def __init__(
        self,
        path: str | Path,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        *,
        check_channels: bool = True,
    ) -> None:
        """Open an ONNX file, see :class:`FaceNetwork`.

        Args:
            path, providers, threads: as there.
            check_channels: warn of faces whose red and blue seem to be swapped; False where the order is
                known because this package has decoded the images.

        Raises:
            ValueError: as there, or the network does not give one number for each face, or its calibration is
                damaged.
        """
        self.network = FaceNetwork(path, providers=providers, threads=threads)
        self.output = _quality_output(self.network)
        self.calibration = _calibration(self.network)
        self._guard = ChannelGuard() if check_channels else None

    @property
    def embeds(self) -> bool:
        """Whether the same pass gives embeddings, as in a file of kind "both"."""
        return self.output != "embedding" and len(self.network.output_shapes.get("embedding", ())) == 1

    def score(self, aligned: ArrayLike) -> FloatArray:
        """Qualities [N], higher is better, of aligned faces.

        Warns once if nearly all of several faces look as if they were RGB.

        Args:
            aligned: BGR uint8 [N, 112, 112, 3] (the network's size), as insightface's ``norm_crop`` makes it.

        Raises:
            ValueError: another shape or dtype.
        """
        return self._run(aligned, "BGR")[self.output].reshape(-1)

    def score_rgb(self, images: ArrayLike) -> FloatArray:
        """The same for RGB images."""
        return self._run(images, "RGB")[self.output].reshape(-1)

    def score_and_embed(self, aligned: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Qualities [N] and embeddings [N, D] (not normalised) of the same faces, from one pass.

        Raises:
            ValueError: as :meth:`score`, or the file has no embeddings, see :attr:`embeds`.
        """
        if not self.embeds:
            raise ValueError(f"{self.network.path} has no output named embedding: export it with --kind both")
        outputs = self._run(aligned, "BGR")
        return outputs[self.output].reshape(-1), outputs["embedding"]

    def percent(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores as 0 to 100, of the same shape; see :meth:`igfiqa_head.calibration.Calibration.percent`.

        Raises:
            ValueError: the model is not calibrated, or a score is NaN.
        """
        if self.calibration is None:
            raise ValueError(
                f"{self.network.path} is not calibrated: run igfiqa-eval calibrate and set "
                "model.calibration = Calibration.load(...)"
            )
        return self.calibration.percent(scores)

    def _run(self, images: ArrayLike, order: str) -> dict[str, FloatArray]:
        pixels = check_images(images, self.network.image_size)
        rgb = pixels if order == "RGB" else pixels[..., ::-1]
        complaint = None if self._guard is None else self._guard.complaint(rgb)
        if complaint is not None:
            warnings.warn(f"{complaint}. {_ORDERS[order]}", stacklevel=3)
        return self.network.run(rgb)


def _quality_output(network: FaceNetwork) -> str:
    """The output ``quality``, else the only output."""
    shapes = network.output_shapes
    name = "quality" if "quality" in shapes else next(iter(shapes))
    if (name == "quality" or len(shapes) == 1) and shapes[name] in ((), (1,)):
        return name
    if network.metadata.get("kind") == "fused":
        raise ValueError(
            f"{network.path} is a fused recogniser, whose quality is the norm of its embedding: insightface "
            "loads it from a pack by itself and face.embedding_norm is the quality. For a quality "
            "model export it with --kind quality"
        )
    given = ", ".join(f"{name} {['N', *shape]}" for name, shape in shapes.items())
    raise ValueError(
        f"{network.path} is no quality model: its outputs are {given}; expected one named quality, or a "
        "single one, with one number for each face (a network with embeddings is a recogniser)"
    )


def _calibration(network: FaceNetwork) -> Calibration | None:
    text = network.metadata.get("calibration")
    if text is None:
        return None
    try:
        return Calibration.from_json(text)
    except ValueError as error:
        raise ValueError(f"{network.path}: the calibration in its metadata is damaged: {error}") from error

"""Faces in photographs: found by the detector of an insightface pack, aligned as recognisers expect them.

Needs the extra ``insightface``. Nothing is downloaded: a pack that is not on the disk is an error.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from igfiqa_head.alignment import TEMPLATE_SIZE, align
from igfiqa_head.onnx_file import OnnxFile
from igfiqa_head.onnx_session import (
    MAX_PIXELS,
    available_providers,
    first_run,
    reason_of,
    session_options,
)

_TRIED = (1, 3, 64, 64)

PACKS = Path("~/.insightface/models")
"""Where insightface keeps the packs that are asked for by name."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photograph.

    Attributes:
        box: float32 [4], left, top, right, bottom in pixels; it may reach beyond the image.
        landmarks: float32 [5, 2], see :func:`igfiqa_head.alignment.align`.
        detection_score: confidence of the detector, 0 to 1.
        aligned: BGR uint8 [S, S, 3], what a quality network or a recogniser takes.
    """

    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    detection_score: float
    aligned: NDArray[np.uint8] = field(repr=False)


class FaceDetector:
    """The detector of an insightface pack; its other models are not run.

    Attributes:
        folder: of the pack.
        face_size: side S of the aligned faces.
    """

    def __init__(
        self,
        pack: str | Path,
        *,
        face_size: int = TEMPLATE_SIZE,
        threshold: float = 0.5,
        search_size: int | None = None,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        """Open the pack.

        Args:
            pack: a folder, or the name of one in ``~/.insightface/models``, such as ``buffalo_l``.
            face_size: side of the aligned faces.
            threshold: lowest detection score, 0 to 1.
            search_size: side of the square to which photographs are fitted for the search, a multiple of 32:
                larger ones find smaller faces and take longer. None for insightface's choice. Detectors of
                one fixed size keep it.
            providers: onnxruntime's, in order of preference; None for insightface's choice.
            threads: of onnxruntime within an operator; None for all cores.

        Raises:
            ValueError: insightface is not installed, the pack is not there, is damaged or has no detector of
                faces with landmarks, or another argument is out of range.
        """
        if not 0.0 < threshold < 1.0:
            raise ValueError(f"the detection threshold must lie between 0 and 1, got {threshold}")
        if search_size is not None and (search_size < 32 or search_size % 32):
            raise ValueError(f"the search size must be a multiple of 32, got {search_size}")
        self.folder = find_pack(pack)
        self.face_size = face_size
        self._app = _open_detector(self.folder, providers, threads)
        size = {} if search_size is None else {"det_size": (search_size, search_size)}
        self._app.prepare(ctx_id=0, det_thresh=threshold, **size)

    def find(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of a photograph, the most certain first; empty if there is none.

        Args:
            image: BGR uint8 [H, W, 3], as ``cv2.imread`` gives it.

        Raises:
            ValueError: another shape or dtype, or an image that the detector cannot take.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(f"expected a BGR uint8 image [H, W, 3], got {image.dtype} {list(image.shape)}")
        try:
            found = self._app.get(image)
        except Exception as error:  # OpenCV's, onnxruntime's or insightface's: they share no other base
            height, width = image.shape[:2]
            raise ValueError(
                f"the detector of {self.folder} fails on an image of {width} x {height}: {error}"
            ) from error
        return [self._face(image, face) for face in found]

    def _face(self, image: NDArray[np.uint8], found: Any) -> Face:
        return Face(
            box=np.asarray(found.bbox, np.float32),
            landmarks=np.asarray(found.kps, np.float32),
            detection_score=float(found.det_score),
            aligned=align(image, found.kps, self.face_size),
        )


def find_pack(pack: str | Path) -> Path:
    """The folder of an insightface pack: ``pack`` itself, or the one of that name where insightface looks.

    Raises:
        ValueError: there is no such folder; the message says how to get it.
    """
    installed = Path(os.path.expanduser(PACKS))  # pathlib's raises where there is no such user
    places = [Path(os.path.expanduser(pack)), installed / pack] if str(pack) else []
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        present = sorted(path.name for path in installed.glob("*") if path.is_dir())
        raise ValueError(
            f"there is no insightface pack {str(pack)!r}: expected a folder of .onnx files, or the name of "
            f"one in {PACKS} (there: {', '.join(present) or 'none'}). `insightface-cli model.download "
            "buffalo_l` gets one; mind its licence"
        )
    return folder.resolve()


def _open_detector(folder: Path, providers: Sequence[str] | None, threads: int | None) -> Any:
    """insightface's ``FaceAnalysis`` with nothing but the detector."""
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise ValueError(
            f'finding faces needs insightface: pip install "igfiqa-head[insightface]" ({error})'
        ) from error
    has_manifest = (folder / "manifest.json").exists()
    files = sorted(path.name for path in folder.glob("*.onnx"))
    if not files and not has_manifest:
        nested = next((path.parent for path in folder.glob("*/*.onnx")), None)
        hint = f", but {nested} does: take that" if nested else ""
        raise ValueError(f"{folder} is no insightface pack: it holds no .onnx file{hint}")
    for path in folder.rglob("*") if has_manifest else folder.glob("*.onnx"):
        if path.suffix.lower() == ".onnx":  # insightface opens it by itself, or may
            OnnxFile(path)
    options: dict[str, Any] = {"sess_options": session_options(threads)}
    if providers is not None:
        options["providers"] = available_providers(providers)
    try:
        app = FaceAnalysis(str(folder), allowed_modules=["detection"], **options)
    except Exception as error:  # an AssertionError without a message is how it says that there is no detector
        raise ValueError(
            f"insightface finds no detector in {folder} ({', '.join(files)}): "
            f"{str(error) or 'none of the files is one'}"
        ) from error
    if not app.det_model.use_kps:
        raise ValueError(f"the detector of {folder} gives no landmarks, so its faces cannot be aligned")
    _try(folder, app.det_model.session)
    return app


def _try(folder: Path, session: onnxruntime.InferenceSession) -> None:
    """Run the detector once on black: it might want any size or never end, which insightface lets it."""
    faces = session.get_inputs()[0]
    shape = [
        size if isinstance(size, int) else usual for size, usual in zip(faces.shape, _TRIED, strict=True)
    ]
    if math.prod(shape) > 3 * MAX_PIXELS:
        raise ValueError(
            f"the detector of {folder} takes {faces.shape}, expected at most {MAX_PIXELS:,} pixels"
        )
    try:
        with first_run() as options:
            session.run(None, {faces.name: np.zeros(shape, np.float32)}, options)
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise ValueError(f"the detector of {folder} does not run: {reason_of(error)}") from error

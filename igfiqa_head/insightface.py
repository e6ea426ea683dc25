"""A quality for every face that insightface finds.

    app = FaceAnalysis("buffalo_l")
    app.prepare(ctx_id=0)
    attach(app, "quality.onnx")
    for face in app.get(image):
        face.quality, face.quality_percent

docs/insightface.md tells how insightface picks the files of a pack, and what goes wrong there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.faces import find_pack
from igfiqa_head.io.atomic import atomic_path, check_writable, make_subfolder
from igfiqa_head.onnx_graph import read_onnx_graph
from igfiqa_head.onnx_session import PREFERRED_PROVIDERS
from igfiqa_head.runtime import QualityModel

TASK = "quality"
SAFE_PLACE = Path("quality", "quality.onnx")
"""Within a pack: insightface takes every .onnx file of the folder itself for a model of its own, but opens no
sub-folder."""


class QualityHook:
    """A model among those of an app: ``FaceAnalysis.get`` calls it for every face.

    insightface completes one face before it looks at the next, so the faces of a picture come one by one and
    cannot be scored as a batch.

    Attributes:
        model: gives the qualities.
        recogniser: the app's own, if it no longer runs because the model gives the embeddings; else None.
            ``app.models["recognition"] = hook.recogniser`` lets it run again, and its embeddings win.
    """

    taskname = TASK

    def __init__(self, app: Any, model: QualityModel, recogniser: Any = None) -> None:
        self._app, self.model, self.recogniser = app, model, recogniser
        self._norm_crop = _insightface().utils.face_align.norm_crop

    def prepare(self, ctx_id: int, **_: Any) -> None:
        """``FaceAnalysis.prepare`` calls it; a negative ``ctx_id`` means the CPU."""
        if ctx_id < 0:
            self.model.network.use_cpu()

    def get(self, image: NDArray[np.uint8], face: Any) -> float:
        """Set ``face.quality``, ``face.quality_percent`` if calibrated, and ``face.embedding`` if embedded.

        Args:
            image: BGR uint8 [H, W, 3].
            face: insightface's ``Face`` with its five landmarks ``kps``.

        Returns:
            The quality.

        Raises:
            ValueError: the face has no landmarks, or the image is not of this kind.
        """
        if np.shape(face.kps) != (5, 2) or not np.isfinite(face.kps).all():
            raise ValueError(
                f"a face cannot be aligned by the landmarks {face.kps}: expected five points. Take a pack "
                "whose detector gives them, such as buffalo_l"
            )
        crop = self._norm_crop(image, landmark=face.kps, image_size=self.model.network.image_size[0])
        if self.model.embeds and self._may_embed(face):
            scores, embeddings = self.model.score_and_embed(crop[None])
            face.embedding = embeddings[0]
        else:
            scores = self.model.score(crop[None])
        face.quality = float(scores[0])
        if self.model.calibration is not None:
            face.quality_percent = float(self.model.percent(scores)[0])
        return face.quality

    def _may_embed(self, face: Any) -> bool:
        """insightface gives no embedding to a face that its liveness addon rejects, so neither do we."""
        guarded = "liveness" in getattr(self._app, "addons", ()) and self._app.liveness_mode == "normal"
        return not guarded or face.liveness.is_live is True


def attach(
    app: Any,
    model: QualityModel | str | Path | None = None,
    *,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
) -> QualityHook:
    """Give every face of ``app.get`` a ``.quality`` and, if the model is calibrated, a ``.quality_percent``.

    Works before and after ``app.prepare``, with any pack and any ``allowed_modules``. A model of kind "both"
    also gives ``face.embedding``, and the app's recogniser no longer runs: see :class:`QualityHook`. Its
    embeddings compare with each other only, not with those of the pack's recogniser. Attaching another model
    replaces the first.

    Args:
        app: insightface's ``FaceAnalysis``.
        model: a quality model or its file; None for the one that :func:`install` put into the app's pack.
        providers, threads: to open the file, see :class:`igfiqa_head.runtime.FaceNetwork`; providers None
            for what the app's detector runs on, CUDA or the CPU.

    Returns:
        The hook, which is ``app.models["quality"]``.

    Raises:
        ValueError: another ``app``; the model is no quality model or takes faces of a size to which
            insightface cannot align; it lies where insightface would take it for the recogniser, or has
            already been taken for it; no model is installed; or insightface is not.
    """
    if not isinstance(app, _insightface().app.FaceAnalysis):
        raise ValueError(f"app must be insightface's FaceAnalysis, got {type(app).__name__}")
    _check_recogniser(app)
    if not isinstance(model, QualityModel):
        model = _open(app, model, providers, threads)
    elif providers is not None or threads is not None:
        raise ValueError(
            "providers and threads are for opening a file; the QualityModel given is open already"
        )
    _check_place(app, model.network.path)
    _check_size(model)
    previous = app.models.get(TASK)
    if isinstance(previous, QualityHook) and previous.recogniser is not None:
        app.models.setdefault("recognition", previous.recogniser)
    recogniser = app.models.pop("recognition", None) if model.embeds else None
    hook = QualityHook(app, model, recogniser)
    app.models[TASK] = hook
    return hook


def install(pack: str | Path, quality_file: str | Path) -> Path:
    """Put a quality model where :func:`attach` finds it and insightface does not mistake it.

    A file that lies in the pack's own folder is moved, any other is copied; a model installed before is
    replaced.

    Args:
        pack: its folder, or its name as ``FaceAnalysis`` takes it, such as ``buffalo_l``.
        quality_file: ONNX file of kind "quality" or "both".

    Returns:
        The new file, ``PACK/quality/quality.onnx``.

    Raises:
        ValueError: no such pack, one that cannot be written to or whose folder ``quality`` is a link, or no
            quality model for insightface's faces in one file.
    """
    folder, source = find_pack(pack), Path(quality_file)
    if not any(folder.glob("*.onnx")) and not (folder / "manifest.json").exists():
        raise ValueError(f"{folder} is no insightface pack: it holds no .onnx file")
    target = folder / SAFE_PLACE
    check_writable(target if target.parent.exists() else folder / target.name)
    _check_size(QualityModel(source, providers=["CPUExecutionProvider"]))
    content = source.read_bytes()
    outside = read_onnx_graph(content).external_files
    if outside:
        raise ValueError(f"{source} keeps its weights in {', '.join(outside)}: export it as one file")
    make_subfolder(target.parent)
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    if source.absolute().parent.resolve() == folder:
        source.unlink()
    return target


def _insightface() -> Any:
    try:
        import insightface.app
        import insightface.utils.face_align
    except ImportError as error:
        raise ValueError(
            f'this needs insightface: pip install "igfiqa-head[insightface]" ({error})'
        ) from error
    return insightface


def _open(
    app: Any, path: str | Path | None, providers: Sequence[str] | None, threads: int | None
) -> QualityModel:
    if path is None:
        pack = Path(app.model_dir)
        path = pack / SAFE_PLACE
        if not path.is_file():
            raise ValueError(
                f"{pack} has no quality model: run `igfiqa install {pack} quality.onnx`, or pass a file"
            )
    if providers is None:
        in_use = app.det_model.session.get_providers()
        providers = [name for name in PREFERRED_PROVIDERS if name in in_use]
    return QualityModel(path, providers=providers, threads=threads)


def _check_recogniser(app: Any) -> None:
    """Raise if what insightface runs as the recogniser gives one number for each face."""
    recogniser = app.models.get("recognition")
    if recogniser is not None and list(recogniser.output_shape[1:]) in ([], [1]):
        path = Path(recogniser.model_file)
        raise ValueError(_misplaced(path, path.parent, "took"))


def _check_place(app: Any, path: Path) -> None:
    """Raise if the file lies where insightface picks models by shape, as it does without a manifest."""
    pack = Path(app.model_dir)
    if getattr(app, "model_package", None) is None and path.absolute().parent.resolve() == pack.resolve():
        raise ValueError(_misplaced(path, pack, "would take"))


def _misplaced(path: Path, pack: Path, verb: str) -> str:
    return (
        f"insightface {verb} {path} for the recogniser, since it tells the models of a pack's folder apart "
        "by the size of their input: every face.embedding would be a quality. "
        f"`igfiqa install {pack} {path}` moves the file to {SAFE_PLACE.as_posix()} in the pack; then open "
        "FaceAnalysis again and call attach(app)"
    )


def _check_size(model: QualityModel) -> None:
    height, width = model.network.image_size
    if height != width or (height % 112 and height % 128):
        raise ValueError(
            f"{model.network.path} takes faces of {width} x {height}; insightface aligns to squares of 112 "
            "or 128 pixels and their multiples"
        )

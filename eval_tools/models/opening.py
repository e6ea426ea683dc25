"""From what a user writes to a recogniser or a quality method."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from eval_tools.models.functions import EmbeddingNorm, OnnxQuality, OnnxRecogniser, RandomQuality, Sharpness
from eval_tools.models.packs import pack_recogniser
from eval_tools.precomputed import PrecomputedEmbeddings, PrecomputedQuality

Recogniser: TypeAlias = OnnxRecogniser | PrecomputedEmbeddings
Quality: TypeAlias = OnnxQuality | Sharpness | EmbeddingNorm | RandomQuality | PrecomputedQuality

BUILT_IN_QUALITIES = ("norm", "random", "sharpness")
SCORE_SUFFIXES = (".npz", ".csv", ".tsv", ".txt")
_RECOGNISERS = (
    "an ONNX file, an insightface pack (a folder, or the name of one in ~/.insightface/models) or "
    "precomputed embeddings (.npz)"
)
_QUALITIES = (
    "an ONNX file, precomputed scores (.npz, .csv, .tsv, .txt, or FILE:COLUMN) or one of "
    + ", ".join(BUILT_IN_QUALITIES)
)


def open_recogniser(
    spec: str,
    *,
    flip: bool = True,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
) -> Recogniser:
    """Open a recogniser.

    Args:
        spec: an ONNX file; an insightface pack, as a folder or by its name in ``~/.insightface/models``; or
            ``.npz`` with embeddings, see :class:`eval_tools.precomputed.PrecomputedEmbeddings`.
        flip: also embed mirror images.
        providers, threads: of onnxruntime, see :class:`igfiqa_head.runtime.FaceNetwork`.

    Raises:
        ValueError: none of these, or one that is damaged or no recogniser.
    """
    packs = _expanded("~/.insightface/models")
    path = _existing(spec) or _existing(str(packs / spec))
    if path is None:
        installed = [folder.name for folder in packs.glob("*") if folder.is_dir()]
        raise ValueError(_not_found(spec, "recogniser", _RECOGNISERS, installed))
    if path.is_dir():
        return _open_pack(path, flip, providers, threads)
    if path.suffix.lower() == ".npz":
        return PrecomputedEmbeddings(path)
    if path.suffix.lower() == ".onnx":
        return OnnxRecogniser(path, flip=flip, providers=providers, threads=threads)
    raise ValueError(f"{path} is no recogniser: expected {_RECOGNISERS}")


def open_quality(
    spec: str,
    *,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
) -> Quality:
    """Open a quality method.

    Args:
        spec: an ONNX file; precomputed scores, see :class:`eval_tools.precomputed.PrecomputedQuality`, where
            ``FILE:COLUMN`` names the column; or "norm", "random" or "sharpness".
        seed: of "random".
        providers, threads: of onnxruntime, see :class:`igfiqa_head.runtime.FaceNetwork`.

    Raises:
        ValueError: none of these, or one that is damaged or no quality method.
    """
    if spec in BUILT_IN_QUALITIES:
        built_in: dict[str, Quality] = {
            "norm": EmbeddingNorm(),
            "random": RandomQuality(seed),
            "sharpness": Sharpness(),
        }
        return built_in[spec]
    path, column = _existing(spec), "quality"
    if path is None and _existing(spec.rpartition(":")[0]) is not None:
        path, column = _expanded(spec.rpartition(":")[0]), spec.rpartition(":")[2]
    if path is None:
        raise ValueError(_not_found(spec, "quality method", _QUALITIES, BUILT_IN_QUALITIES))
    if path.suffix.lower() in SCORE_SUFFIXES:
        return PrecomputedQuality(path, column)
    if path.suffix.lower() == ".onnx":
        return OnnxQuality(path, providers=providers, threads=threads)
    raise ValueError(f"{path} is no quality method: expected {_QUALITIES}")


def _open_pack(
    folder: Path, flip: bool, providers: Sequence[str] | None, threads: int | None
) -> OnnxRecogniser:
    path, normalisation = pack_recogniser(folder)
    try:
        return OnnxRecogniser(
            path, flip=flip, providers=providers, threads=threads, normalisation=normalisation
        )
    except ValueError as error:  # a quality.onnx in the pack takes the place of the recogniser, unnoticed
        raise ValueError(
            f"insightface takes {path.name} for the recogniser of {folder}, but {error}; "
            "move it to another folder"
        ) from error


def _existing(spec: str) -> Path | None:
    path = _expanded(spec)
    return path if spec and os.path.exists(path) else None  # pathlib's raises for names that are too long


def _expanded(spec: str) -> Path:
    return Path(os.path.expanduser(spec))  # pathlib's raises where there is no such user


def _not_found(spec: str, kind: str, expected: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(spec, list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{spec!r} is no {kind} and no file of that name exists: expected {expected}.{hint}"

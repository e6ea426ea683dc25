"""Templates of faces and the pairs of templates that are compared."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval_tools.ijb.templates import ARCFACE_TORCH, TemplateOptions, template_sums
from eval_tools.scores import BoolArray, FloatArray, IntArray, check_scores
from eval_tools.test_sets.embeddings import ChunkedEmbeddings, Flip, pair_similarity
from eval_tools.test_sets.images import selected
from eval_tools.verification import OperatingPoint, operating_point
from igfiqa_head.alignment import align
from igfiqa_head.io.images import decode_image
from igfiqa_head.io.regular_files import read_regular

TAR_FMRS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Target FMRs of the TAR tables of IJB-B and IJB-C."""


@dataclass(frozen=True, eq=False)
class AlignedFaces(Sequence[NDArray[np.uint8]]):
    """Face crops, read and aligned when asked for: RGB uint8 [112, 112, 3].

    Attributes:
        root, names: file i is ``root / names[i]``.
        landmarks: [N, 5, 2], (x, y) pixels in that file.
    """

    root: Path
    names: Sequence[str]
    landmarks: FloatArray

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override]
        """Face ``index``; a ``ValueError`` that names the file if it is missing, damaged or degenerate."""
        path = self.root / self.names[operator.index(index)]
        try:
            return align(decode_image(read_regular(path)), self.landmarks[index])
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True, eq=False)
class IJBSet:
    """The 1:1 protocol of IJB-B or IJB-C. A template is a set of images, from one medium or several.

    Attributes:
        images: N faces; ``images[i]`` is RGB uint8 [H, W, 3], read when asked for.
        names: [N], file names relative to the set's folder.
        template: int64 [N], position in ``template_ids`` of the template of each image.
        media: int64 [N], medium (still image or video) of each image.
        detector_score: float64 [N], not negative.
        template_ids: int64 [T], the templates' own numbers; each has an image.
        template_pairs: integers [P, 2], positions in ``template_ids``.
        is_genuine: bool [P].
        options: how embeddings become template features.
        notes: what was left out, one sentence each.

    Raises:
        ValueError: arrays that do not fit each other.
    """

    images: Sequence[NDArray[np.uint8]]
    names: Sequence[str]
    template: IntArray
    media: IntArray
    detector_score: FloatArray
    template_ids: IntArray
    template_pairs: NDArray[np.integer]
    is_genuine: BoolArray
    options: TemplateOptions = ARCFACE_TORCH
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in ("images", "names", "media", "detector_score")}
        if any(size != len(self.template) for size in sizes.values()):
            raise ValueError(f"{len(self.template)} images are in templates, but there are {sizes}")
        if not np.array_equal(np.unique(self.template), np.arange(len(self.template_ids))):
            raise ValueError(f"each of the {len(self.template_ids)} templates must have at least one image")
        if self.template_pairs.shape != (len(self.is_genuine), 2):
            raise ValueError(
                f"template_pairs must be [{len(self.is_genuine)}, 2] to fit is_genuine, got "
                f"{list(self.template_pairs.shape)}"
            )
        pairs = self.template_pairs
        if pairs.size and not (pairs.min() >= 0 and pairs.max() < len(self.template_ids)):
            raise ValueError(
                f"template_pairs must index {len(self.template_ids)} templates, got {pairs.min()} .. "
                f"{pairs.max()}"
            )

    @property
    def identities(self) -> IntArray | None:
        """None: the metadata say which templates show one person, but not who."""
        return None

    @property
    def pair_identities(self) -> IntArray | None:
        """None, see :attr:`identities`."""
        return None

    @property
    def folds(self) -> int | None:
        """None: the protocol is the TAR over all pairs."""
        return None

    @cached_property
    def image_weights(self) -> FloatArray:
        """Weight [N] of each image in the sum that is its template's feature.

        One over the number of images that the template has of the same medium, times the detector score if
        ``options`` say so.
        """
        _, media = np.unique(self.media, return_inverse=True)
        groups = self.template * (media.max(initial=0) + 1) + media
        _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
        weights = 1.0 / counts[group]
        return weights * self.detector_score if self.options.use_detector_score else weights

    def template_features(
        self, embeddings: ArrayLike | ChunkedEmbeddings, flip: Flip | None = None
    ) -> FloatArray:
        """Features float64 [T, D] of the templates, L2-normalised ([T, V D] for "concat").

        The sum over the media of a template of the mean image feature of each, see :class:`TemplateOptions`.

        Args:
            embeddings: [N, V, D], V = 1 (upright) or 2 (upright, mirror image), not normalised; or an object
                whose ``chunks()`` yield (start, array [n, V, D]) in order. Only one chunk is held at a time.
            flip: in place of ``options.flip``.

        Raises:
            ValueError: another shape, an embedding that is not finite, or a template whose feature is zero.
        """
        options = self.options if flip is None else dataclasses.replace(self.options, flip=flip)
        sums = template_sums(embeddings, options, self.template, self.image_weights, self.names)
        lengths = np.sqrt(np.einsum("td,td->t", sums, sums))
        unusable = ~(np.isfinite(lengths) & (lengths > 0))
        if unusable.any():
            raise ValueError(
                f"{np.count_nonzero(unusable)} templates have a feature that is zero or not finite, first "
                f"template {self.template_ids[unusable][0]}: check the embeddings and detector scores of its "
                "images"
            )
        sums /= lengths[:, None]
        return sums

    def similarity(self, embeddings: ArrayLike | ChunkedEmbeddings, flip: Flip | None = None) -> FloatArray:
        """Cosine float64 [P] of the features of each template pair, see :meth:`template_features`."""
        return pair_similarity(self.template_features(embeddings, flip), self.template_pairs)

    def template_quality(self, quality: ArrayLike, how: Literal["min", "max", "mean"] = "min") -> FloatArray:
        """Quality float64 [T] of the templates from that of their images [N].

        Raises:
            ValueError: another length, a quality that is not finite, or an unknown ``how``.
        """
        values = check_scores("quality", quality, len(self.names))
        if how == "mean":
            return np.bincount(self.template, values) / np.bincount(self.template)
        extremes = {"min": (np.minimum, np.inf), "max": (np.maximum, -np.inf)}
        if how not in extremes:
            raise ValueError(f"unknown template quality {how!r}: choose 'min', 'max' or 'mean'")
        extreme, start = extremes[how]
        qualities = np.full(len(self.template_ids), start)
        extreme.at(qualities, self.template, values)
        return qualities

    def pair_quality(self, quality: ArrayLike, how: Literal["min", "max", "mean"] = "min") -> FloatArray:
        """Quality float64 [P] of the pairs: that of the worse template.

        Args:
            quality: [N], of the images; higher is better.
            how: quality of a template from those of its images. "min" is CR-FIQA's.

        Raises:
            ValueError: see :meth:`template_quality`.
        """
        first, second = self.template_quality(quality, how)[self.template_pairs.T]
        return np.minimum(first, second, out=first)

    def operating_points(
        self, similarity: ArrayLike, fmrs: Iterable[float] = TAR_FMRS
    ) -> list[OperatingPoint]:
        """TAR, threshold and counts at each target FMR.

        The threshold is the lowest whose FMR does not exceed the target; insightface reads its ROC curve at
        the nearest FMR, which may lie above.

        Raises:
            ValueError: see :func:`eval_tools.verification.operating_point`.
        """
        return [operating_point(similarity, self.is_genuine, fmr) for fmr in fmrs]

    def without_images(self, indices: ArrayLike) -> IJBSet:
        """The set without some images, such as unreadable ones; ``notes`` count what went.

        A template goes on without them. If it has no other image it goes, and so do its pairs.

        Args:
            indices: positions in ``images``, in any order.

        Raises:
            ValueError: indices out of range, or no pair left.
        """
        rows = np.unique(np.asarray(indices, dtype=np.int64))
        if not rows.size:
            return self
        if rows[0] < 0 or rows[-1] >= len(self.names):
            raise ValueError(f"images are numbered 0 .. {len(self.names) - 1}, got {rows[0]} .. {rows[-1]}")
        kept = np.delete(np.arange(len(self.names)), rows)
        left, template = np.unique(self.template[kept], return_inverse=True)
        position = np.full(len(self.template_ids), -1, self.template_pairs.dtype)
        position[left] = np.arange(len(left))
        pairs = position[self.template_pairs]
        usable = (pairs >= 0).all(axis=1)
        if not usable.any():
            raise ValueError(f"without {rows.size} of {len(self.names)} images no template pair is left")
        note = (
            f"{rows.size} of {len(self.names)} images left out, and with them "
            f"{len(self.template_ids) - len(left)} templates that have no other image and "
            f"{np.count_nonzero(~usable)} of {len(usable)} template pairs."
        )
        return dataclasses.replace(
            self,
            images=selected(self.images, kept),
            names=[self.names[row] for row in kept.tolist()],
            template=template,
            media=self.media[kept],
            detector_score=self.detector_score[kept],
            template_ids=self.template_ids[left],
            template_pairs=pairs[usable],
            is_genuine=self.is_genuine[usable],
            notes=(*self.notes, note),
        )

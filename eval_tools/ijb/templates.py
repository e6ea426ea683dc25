"""From the embeddings of images to the features of templates and the scores of template pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.scores import FloatArray, IntArray
from eval_tools.test_sets.embeddings import (
    ChunkedEmbeddings,
    Flip,
    at_unit_length,
    check_flip,
    joined_views,
    view_blocks,
)


@dataclass(frozen=True)
class TemplateOptions:
    """How the embeddings of the images of a template become one feature.

    Attributes:
        flip: image feature from the upright view and its mirror image: their "sum", the L2-normalised views
            side by side ("concat"), or the upright one alone ("none").
        use_detector_score: weigh images by the score of the face detector.
        keep_norm: leave the image features as long as they are, or else L2-normalise them, before they are
            averaged. With "concat" all are equally long, so it makes no difference.
    """

    flip: Flip = "sum"
    use_detector_score: bool = True
    keep_norm: bool = True

    def __post_init__(self) -> None:
        check_flip(self.flip)


ARCFACE_TORCH = TemplateOptions(flip="sum", use_detector_score=True, keep_norm=True)
"""insightface's IJB protocol (recognition/arcface_torch), behind most published TARs."""

CRFIQA = TemplateOptions(flip="concat", use_detector_score=False, keep_norm=True)
"""The templates of CR-FIQA's error-versus-reject curves on IJB-C (arXiv 2112.06592)."""


def template_sums(
    embeddings: ArrayLike | ChunkedEmbeddings,
    options: TemplateOptions,
    template: IntArray,
    weight: FloatArray,
    names: Sequence[str],
) -> FloatArray:
    """Weighted sums of the image features of each template, float64 [T, D] ([T, V D] for "concat").

    The mean within a medium is a division by a count known beforehand. So the sum over the media of the means
    is one weighted sum over the images, and holds no more than itself and a chunk of the embeddings.

    Args:
        embeddings: [N, V, D], V = 1 (upright) or 2 (upright, mirror image).
        options: how views become image features.
        template: [N], position of each image's template.
        weight: [N], weight of each image.
        names: [N], for messages.

    Raises:
        ValueError: another shape, chunks with gaps, or an embedding that is not finite or, where it has to be
            normalised, zero.
    """
    sums = np.empty((0, 0))
    for start, views in view_blocks(embeddings, len(names)):
        images = slice(start, start + len(views))
        features = _image_features(views.astype(np.float64), options, names[images]) * weight[images, None]
        if start == 0:
            sums = np.zeros((int(template.max()) + 1, features.shape[1]))
        order = np.argsort(template[images], kind="stable")
        present, firsts = np.unique(template[images][order], return_index=True)
        sums[present] += np.add.reduceat(features[order], firsts, axis=0)
    return sums


def _image_features(views: FloatArray, options: TemplateOptions, names: Sequence[str]) -> FloatArray:
    """Image features [n, D'] from views [n, V, D]."""
    features = joined_views(views, options.flip, names)
    if not options.keep_norm:
        return at_unit_length(features, names)
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if broken.size:
        first = names[int(broken[0])]
        raise ValueError(f"the embedding of image {first} is not finite ({broken.size} in all)")
    return features

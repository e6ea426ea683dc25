"""SyntheticFaces: an embedded data set of drawn faces with known identity and known capture quality.

It needs no download and no licence, so it serves demonstrations, tests and continuous integration; and since
the quality of every image and the identities without variance are known, it measures what real data cannot.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from numbers import Integral, Real

import cv2
import numpy as np
from numpy.typing import NDArray

from igfiqa_head.registry import DATASETS

from .faces.canvas import Canvas, build_canvas
from .faces.capture import degrade_capture
from .faces.drawing import SIDE, ImageArray
from .faces.renderer import render_face
from .faces.shot import draw_shot
from .faces.traits import Traits, draw_traits, restyle

SPLITS = ("train", "test")
# Every use of randomness has its own stream; all stream keys are equally long because NumPy's SeedSequence
# pads short keys with zeros, which would make (seed, a) and (seed, a, 0) the same stream.
_IDENTITY, _IMAGE, _DUPLICATED, _JITTER, _SEVERITY, _DUPLICATED_SEVERITY, _CHOICE, _TEXTURE = range(8)


@DATASETS.register("synthetic")
class SyntheticFaces:
    """Aligned colour faces of invented people, rendered on demand.

    A diverse identity shows a new pose, light, expression, background and capture quality in every image, and
    in a third of them other hair, glasses or beard, so that the face is what has to be learned. A
    low-variance identity shows one capture of arbitrary quality over and over, up to sub-pixel shifts, a per
    cent of gain and a trace of noise: the case that the weights of IG-FIQA (arXiv 2403.08256) exist for.

    Args:
        num_identities: number of classes, >= 1; may be huge, for nothing is rendered before it is asked for.
        images_per_identity: images of each class, >= 1.
        split: "train" or "test"; the two share no identity and no random stream.
        low_variance_share: share of the identities that are low-variance ones, in [0, 1].
        clean_share: share of the diverse identities' images that are nearly clean, in [0, 1].
        seed: >= 0. Equal arguments give equal bytes, whatever the order of access, threads or processes.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        num_identities: int,
        images_per_identity: int,
        split: str = "train",
        low_variance_share: float = 0.2,
        seed: int = 0,
        *,
        clean_share: float = 1 / 3,
    ) -> None:
        _require_integer("num_identities", num_identities, minimum=1)
        _require_integer("images_per_identity", images_per_identity, minimum=1)
        _require_integer("seed", seed, minimum=0)
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}")
        _require_share("low_variance_share", low_variance_share)
        _require_share("clean_share", clean_share)
        self.num_identities = int(num_identities)
        self.images_per_identity = int(images_per_identity)
        self.split = split
        self.low_variance_share = float(low_variance_share)
        self.clean_share = float(clean_share)
        self.seed = int(seed)
        self._images: ImageArray | None = None

    @property
    def fingerprint(self) -> str:
        """Changes if the images do: what they are rendered from."""
        counts = f"{self.num_identities} x {self.images_per_identity}"
        return f"{self.split} {counts} {self.low_variance_share} {self.clean_share} {self.seed}"

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return self.num_identities

    def __len__(self) -> int:
        return self.num_identities * self.images_per_identity

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Identity of every image, [N]: ``i // images_per_identity``."""
        return np.repeat(np.arange(self.num_identities, dtype=np.int64), self.images_per_identity)

    @cached_property
    def low_variance_ids(self) -> NDArray[np.int64]:
        """Labels of the low-variance identities, ascending."""
        count = round(self.low_variance_share * self.num_identities)
        chosen = self._stream(_CHOICE).choice(self.num_identities, count, replace=False, shuffle=False)
        return np.sort(chosen).astype(np.int64)

    @cached_property
    def severity(self) -> NDArray[np.float32]:
        """Loss of capture quality of every image, [N] in [0, 1]; known without rendering.

        The share ``clean_share`` of the images of diverse identities is uniform in [0, 0.05], the rest
        uniform in [0.05, 1]. Low-variance identities have one value each, uniform in [0.3, 1].
        """
        u = self._stream(_SEVERITY).random(len(self), np.float32)
        severity = np.interp(u, (0.0, self.clean_share, 1.0), (0.0, 0.05, 1.0)).astype(np.float32)
        one_each = self._stream(_DUPLICATED_SEVERITY).uniform(0.3, 1.0, self.num_identities)
        planted = self.low_variance_ids
        severity.reshape(self.num_identities, -1)[planted] = one_each[planted, None]
        return severity

    def __getitem__(self, index: int) -> tuple[ImageArray, int]:
        """Image ``index`` (negative counts from the end) as RGB uint8 [112, 112, 3], and its label.

        Raises:
            IndexError: there is no such image.
        """
        i = self._position(index)
        image = self._render_one(i) if self._images is None else self._images[i].copy()
        return image, i // self.images_per_identity

    def render(self, indices: Iterable[int] | None = None, num_threads: int | None = None) -> ImageArray:
        """Render many images at once on a pool of threads (OpenCV releases the interpreter lock).

        Args:
            indices: which images, in which order; all of them by default.
            num_threads: size of the pool; the number of usable cores by default.

        Returns:
            RGB uint8 [K, 112, 112, 3].

        Raises:
            IndexError: an index is out of range.
            ValueError: ``num_threads`` is below 1.
        """
        wanted = range(len(self)) if indices is None else [self._position(index) for index in indices]
        if self._images is not None:
            return self._images[np.asarray(wanted, np.int64)]
        images = np.empty((len(wanted), SIDE, SIDE, 3), np.uint8)

        def fill_chunk(start: int) -> None:
            for k in range(start, min(start + chunk, len(wanted))):
                images[k] = self._render_one(wanted[k])

        # Chunks of whole identities, where the order allows it, paint each identity's canvas once.
        chunk = max(self.images_per_identity, 16)
        with ThreadPoolExecutor(_usable_cores() if num_threads is None else num_threads) as pool:
            list(pool.map(fill_chunk, range(0, len(wanted), chunk)))
        return images

    def preload(self, num_threads: int | None = None) -> SyntheticFaces:
        """Render everything into memory (37,632 bytes an image), so that epochs only copy; returns ``self``.

        Call it before worker processes are forked and they share the memory.
        """
        if self._images is None:
            self._images = self.render(num_threads=num_threads)
        return self

    @cached_property
    def _is_low_variance(self) -> NDArray[np.bool_]:
        flags = np.zeros(self.num_identities, bool)
        flags[self.low_variance_ids] = True
        return flags

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"image index {position} is out of range for {len(self)} images")
        return position % len(self)

    def _stream(self, purpose: int, identity: int = 0, image: int = 0) -> np.random.Generator:
        return _stream(self.seed, self.split, purpose, identity, image)

    def _render_one(self, i: int) -> ImageArray:
        identity, image = divmod(i, self.images_per_identity)
        severity = float(self.severity[i])
        if self._is_low_variance[identity]:
            capture = _duplicated_capture(self.seed, self.split, identity, severity)
            return _jitter(capture, self._stream(_JITTER, identity, image))
        return _photograph(self.seed, self.split, identity, severity, self._stream(_IMAGE, identity, image))


def _require_integer(name: str, value: object, minimum: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value!r}")


def _require_share(name: str, value: object) -> None:
    if not isinstance(value, Real) or not 0.0 <= float(value) <= 1.0:
        raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _stream(seed: int, split: str, purpose: int, identity: int = 0, image: int = 0) -> np.random.Generator:
    return np.random.default_rng((seed, SPLITS.index(split), purpose, identity, image))


@lru_cache(maxsize=128)
def _person(seed: int, split: str, identity: int, restyled: bool) -> tuple[Traits, Canvas]:
    """An identity in one of its two looks, with its canvas (about 0.8 MB), kept for its next images."""
    rng = _stream(seed, split, _IDENTITY, identity)
    traits = draw_traits(rng)
    if restyled:
        traits = restyle(traits, rng)
    return traits, build_canvas(traits, _stream(seed, split, _TEXTURE, identity))


def _photograph(
    seed: int, split: str, identity: int, severity: float, rng: np.random.Generator
) -> ImageArray:
    shot = draw_shot(rng)
    traits, canvas = _person(seed, split, identity, shot.restyled)
    return degrade_capture(render_face(traits, canvas, shot), severity, rng)


@lru_cache(maxsize=256)
def _duplicated_capture(seed: int, split: str, identity: int, severity: float) -> ImageArray:
    return _photograph(seed, split, identity, severity, _stream(seed, split, _DUPLICATED, identity))


def _jitter(capture: ImageArray, rng: np.random.Generator) -> ImageArray:
    """A near-duplicate: shifted by up to 0.2 pixels, 1 % brighter or darker, noise of one grey level."""
    shift = np.array([(1, 0, rng.uniform(-0.2, 0.2)), (0, 1, rng.uniform(-0.2, 0.2))])
    moved = cv2.warpAffine(capture, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    noise = rng.standard_normal(capture.shape, np.float32)
    bright = cv2.addWeighted(moved, rng.uniform(0.99, 1.01), noise, 1.0, 0.0, dtype=cv2.CV_32F)
    return cv2.convertScaleAbs(np.maximum(bright, 0.0))

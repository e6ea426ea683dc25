"""What test sets of all kinds have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from numpy.typing import ArrayLike

from eval_tools.scores import BoolArray, FloatArray, IntArray
from eval_tools.test_sets.embeddings import ChunkedEmbeddings
from eval_tools.test_sets.images import RGBImage

Self = TypeVar("Self", bound="TestSet")


class TestSet(Protocol):
    """N face images, and P pairs of them or of templates that are made of them.

    :class:`~eval_tools.test_sets.VerificationSet` documents the members;
    :class:`~eval_tools.ijb.IJBSet` compares templates.
    """

    @property
    def images(self) -> Sequence[RGBImage]: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def is_genuine(self) -> BoolArray: ...

    @property
    def identities(self) -> IntArray | None: ...

    @property
    def pair_identities(self) -> IntArray | None: ...

    @property
    def folds(self) -> int | None: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def similarity(self, embeddings: ArrayLike | ChunkedEmbeddings, flip: Any = ...) -> FloatArray: ...

    def pair_quality(self, quality: ArrayLike, how: Any = ...) -> FloatArray: ...

    def without_images(self: Self, indices: Any) -> Self: ...

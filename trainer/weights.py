"""The trained backbone that a fine-tuning starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.sources import Source, SourceError, open_source


def open_weights(
    path: Path, *, network: str | None, embedding_size: int | None, plugins: Sequence[str] = ()
) -> Source:
    """A trained backbone, checked against what the recipe expects; a quality head beside it is not used.

    Args:
        path: what :func:`trainer.sources.open_source` takes: a run's folder or a torch checkpoint.
        network, embedding_size: what the recipe names; None takes what the weights are of.
        plugins: modules or ``.py`` files that the recipe trusts.

    Raises:
        ValueError: there is no backbone in ``path``, it diverged, or it is of another network or size.
    """
    if path.suffix.lower() == ".onnx":
        raise SourceError(
            f"{path} is an ONNX file, which cannot be trained further: fine-tuning starts from a torch "
            "checkpoint or a run's folder. recipes/on_top.py gives a quality head to a recogniser in ONNX"
        )
    source = open_source(path, network=None if path.is_dir() else network, plugins=plugins)
    for key, wanted in {"network": network, "embedding_size": embedding_size}.items():
        found = source.recipe[key]
        if wanted not in (None, found):
            raise SourceError(
                f"the recipe says {key}={wanted!r}, but {path} has {found!r}: set {key}=None to take over "
                "what the weights are of"
            )
    return source

"""The card that goes with a quality model: what it was made of, how good it is, what it may be used for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from igfiqa_head.recogniser_graph import RecogniserGraph
from trainer.judging import DISCARD_LIMIT

_TEMPLATE = """\
# Model card: IG-FIQA on top of {name}

How useful a face image is for recognition, as one number: higher is better. `quality.onnx` gives the number,
`both.onnx` also the recogniser's own embedding from the same pass. Input: aligned faces of 112 x 112.

## Made of

| | |
|---|---|
| recogniser | `{name}`, not changed; SHA-256 `{digest}` |
| embeddings | {embedding_size} numbers |
| data | `{rec}`: {num_image:,} images of {num_classes:,} identities, of which at most {max_images:,} images were used |
| method | IG-FIQA (arXiv 2403.08256) with class means as prototypes; R reads {reads}; {form} |
| degradations | {replicas} copies of each image, each of three kinds with probability {degradation_p} |
| made with | igfiqa {version}, recipe in `recipe.json` |

## How good it is

Area under the error-versus-reject curve (protocol `fixed`, FMR {fmr:g}, discarded share 0 to {limit}) over the FNMR
where nothing is discarded: lower is better, {limit} is what a score without any use gives. The embeddings are the
recogniser's; the sets have a share of {degraded_share:.0%} of degraded images, of kinds that were not learned from.

{areas}

It was measured on these sets and on this recogniser. On other cameras, poses or people it may differ: measure it
there with `igfiqa-eval erc`.

## To fill in by who passes it on

- Licence of this file: ...
- Licence of the recogniser, which is a part of it: ...
- Licence of the data, and what the people on the images agreed to: ...
- Intended use, and uses that are ruled out: ...
- Contact: ...
"""


def model_card(
    description: Mapping[str, Any], recogniser: RecogniserGraph, metrics: Mapping[str, Any], version: str
) -> str:
    """Markdown from recipe.json's content, the recogniser and metrics.json's content."""
    recipe = description["recipe"]
    on_top, paper = recipe["on_top"], recipe["ig_fiqa"]
    path = recogniser.network.path
    return _TEMPLATE.format(
        name=path.name,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        embedding_size=recogniser.embedding_size,
        rec=recipe["rec"],
        num_image=recipe["num_image"],
        num_classes=recipe["num_classes"],
        max_images=on_top["max_images"],
        reads=", ".join(on_top["reads"]),
        form=f"{on_top['hidden']} hidden units" if on_top["hidden"] else "one linear layer",
        replicas=on_top["replicas"],
        degradation_p=paper["degradation_p"],
        version=version,
        fmr=recipe["erc_fmr"],
        limit=DISCARD_LIMIT,
        degraded_share=on_top["degraded_share"],
        areas=_table(metrics["erc"]) if metrics["erc"] else "Nothing was held out, so nothing was measured.",
    )


def _table(results: Mapping[str, Mapping[str, Any]]) -> str:
    methods = list(next(iter(results.values()))["area"])
    lines = ["| test set | FNMR | " + " | ".join(methods) + " |", "|---" * (2 + len(methods)) + "|"]
    for name, result in results.items():
        areas = " | ".join(f"{result['area'][method]:.3f}" for method in methods)
        lines.append(f"| {name} | {result['fnmr_at_0']:.4f} | {areas} |")
    return "\n".join(lines)

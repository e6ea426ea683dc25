"""The card that goes with a quality model: what it was made of, how good it is, what it may be used for."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval_tools.tables import MARKS
from eval_tools.test_sets.degraded import KINDS
from igfiqa_head.recogniser_graph import RecogniserGraph
from igfiqa_head.text import printable
from trainer.evaluation import DISCARD_LIMIT

_TEMPLATE = """\
# Model card: IG-FIQA on top of {name}

How useful a face image is for recognition, as one number: higher is better. `quality.onnx` gives the number,
`both.onnx` also the recogniser's own embedding from the same pass. Input: aligned faces of 112 x 112.

```python
from igfiqa_head.insightface import attach
attach(app, "quality.onnx")  # app: insightface's FaceAnalysis; every face gets .quality
```

## Made of

| | |
|---|---|
| recogniser | {name}, not changed; SHA-256 `{digest}` |
| data | {rec}: {learned_images:,} images of {learned_identities:,} identities |
| degradations | {degradations} |
| method | IG-FIQA (arXiv 2403.08256), class means as prototypes, {weights} |
| R | {form} on {reads} |
| made with | igfiqa {version}, recipe in `recipe.json` |

## How good it is

{result}

## To fill in by who passes it on

- Licence of this file: ...
- Licence of the recogniser, which is a part of it: ...
- Licence of the data, and what the people on the images agreed to: ...
- Intended use, and uses that are ruled out: ...
- Contact: ...
"""

_RESULT = """\
{areas}

Area under the error-versus-reject curve (protocol `fixed`, FMR {fmr:g}, discarded share 0 to {limit}) over
the FNMR where nothing is discarded: lower is better, {limit} is what a score without any use gives. The
embeddings are the recogniser's own. {held_out}{damage}{unresolved}

On other cameras, poses or people the figures differ: measure them there with `igfiqa-eval erc`."""

_UNRESOLVED = f"\n\n{MARKS['unresolved']} The impostor pairs are too few for this FMR: the row says little."


def model_card(
    description: Mapping[str, Any], recogniser: RecogniserGraph, metrics: Mapping[str, Any], version: str
) -> str:
    """Markdown from recipe.json's content, the recogniser and metrics.json's content."""
    recipe = description["recipe"]
    path = recogniser.network.path
    reads = [name for name in recogniser.groups if name in recipe["on_top"]["reads"]]
    return _TEMPLATE.format(
        name=_code(path.name),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        rec=_code(Path(recipe["rec"]).name or recipe["rec"]),
        **metrics["data"],
        degradations=_degradations(recipe["on_top"]["replicas"], recipe["ig_fiqa"]),
        weights="weights by intra-class variance"
        if recipe["ig_fiqa"]["variance_weights"]
        else "equal weights",
        form=f"{recipe['on_top']['hidden']} hidden units"
        if recipe["on_top"]["hidden"]
        else "one linear layer",
        reads=", ".join(reads),
        version=version,
        result=_result(recipe, metrics) if metrics["erc"] else "There was no test set: nothing was measured.",
    )


def _degradations(copies: int, settings: Mapping[str, Any]) -> str:
    if not copies:
        return "none"
    p, further = settings["degradation_p"], settings["further_p"]
    text = f"{copies} copies of each image, each of the paper's three kinds with probability {p}"
    return f"{text}, each of five further ones with {further}" if further else text


def _result(recipe: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    data, share = metrics["data"], recipe["on_top"]["degraded_share"]
    people = f"The held-out images are {data['held_out_images']:,} of {data['held_out_identities']:,} other"
    damage = f"Of the images of a set {share:.0%} were damaged: {', '.join(KINDS[:-1])} or {KINDS[-1]}."
    return _RESULT.format(
        areas=_table(metrics["erc"]),
        fmr=recipe["erc_fmr"],
        limit=DISCARD_LIMIT,
        held_out=f"{people} identities of the data. " if data["held_out_images"] else "",
        damage=damage if share else "",
        unresolved="" if all(of["resolved"] for of in metrics["erc"].values()) else _UNRESOLVED,
    )


def _table(results: Mapping[str, Mapping[str, Any]]) -> str:
    methods = list(dict.fromkeys(method for result in results.values() for method in result["area"]))
    head = ["test set", "genuine + impostor pairs", "FNMR", *methods]
    lines = [_row(head), _row(["---"] * len(head))]
    for name, result in results.items():
        pairs = f"{result['n_genuine']:,} + {result['n_impostor']:,}"
        areas = [_area(result["area"].get(method)) for method in methods]
        mark = "" if result["resolved"] else MARKS["unresolved"]
        lines.append(_row([_code(name), pairs, f"{result['fnmr_at_0']:.4f}{mark}", *areas]))
    return "\n".join(lines)


def _code(text: str) -> str:
    """Markdown of other people's text, also in a table: as it stands, whatever HTML or Markdown is in it."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if len(ticks) > 1 else ""
    return ticks + space + printable(text).replace("|", r"\|") + space + ticks


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _area(area: float | None) -> str:
    if area is None:
        return "-"
    return "no errors" if math.isnan(area) else f"{area:.3f}"

"""From a comparison to the page: tables, galleries and charts put into the template."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval_tools.report.charts import chart_data
from eval_tools.result_tables import area_table, resolves_difference, verification_table
from eval_tools.results import Comparison, CurveKey, Gallery, SignificanceKey
from eval_tools.significance import PairedComparison
from eval_tools.tables import MEANINGS, Mark, Table
from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.io.images import encode_image
from igfiqa_head.text import printable

PROTOCOLS = {
    "fixed": "One threshold, chosen once on all impostor pairs; genuine pairs of low quality are discarded "
    "(ISO/IEC 29794-1, NIST FATE). The default.",
    "crfiqa": "At each of 20 discard fractions all pairs of low quality, genuine and impostor, are discarded "
    "and the threshold is chosen anew on the rest (CR-FIQA). Most published AUC tables rest on this.",
    "fixed-all": "One threshold, chosen once on all impostor pairs; genuine and impostor pairs are discarded "
    "together.",
    "image": "Images are discarded, the rest compared with each other, and the threshold is chosen anew "
    "(SER-FIQ).",
}

_SHOWN: dict[Mark, str] = {"best": "bold", "second": "underlined", "unresolved": "†", "alike": "≈"}


def write_report(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write a comparison as one HTML file, the charts' library and all pictures inside.

    Step curves are thinned for drawing, see :mod:`eval_tools.report.thinning`, and the page says how much;
    tables hold the exact areas.

    Args:
        comparison: what to show.
        path: the file, replaced as a whole.

    Raises:
        ValueError: the packages of the extra ``report`` are not installed.
    """
    template, plotly = _template(), _plotly()
    page = template.render(
        plotly=plotly,
        data=chart_data(comparison),
        areas=[_area_section(comparison, protocol) for protocol in comparison.names("protocol")],
        limit=comparison.limit,
        points=_files_beside(path, [f"erc_{name}_curves.csv" for name in comparison.names("protocol")]),
        verification=verification_table(comparison),
        curve_rows=[_curve_row(comparison, key) for key in comparison.curves],
        significance=_significance(comparison),
        galleries=[_gallery(gallery) for gallery in comparison.galleries],
        settings={**comparison.settings, "number": comparison.number},
        legend=_legend,
        several_sets=len({key.test_set for key in comparison.quality}) > 1,
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _files_beside(path: str | os.PathLike[str], names: list[str]) -> list[str]:
    """Those of the names that are files in the page's folder."""
    return [name for name in names if (Path(path).parent / name).is_file()]


def _template() -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise _missing(error) from error
    # Names and captions come from other people's files: everything is escaped unless it says otherwise.
    environment = Environment(
        loader=PackageLoader("eval_tools", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["script_hash"] = _script_hash
    return environment.get_template("page.html")


def _script_hash(script: str) -> str:
    """The script's name in a Content-Security-Policy, which lets the browser run this script and no other."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise _missing(error) from error
    return get_plotlyjs()


def _missing(error: ImportError) -> ValueError:
    return ValueError(f'the page needs {error.name}: pip install "igfiqa-head[report]"')


def _area_section(comparison: Comparison, protocol: str) -> dict[str, Any]:
    table = area_table(comparison, protocol)
    return {
        "protocol": protocol,
        "explanation": PROTOCOLS[protocol],
        "table": table,
        "best": _best_methods(table),
        "n_ranked": len({place for _, place in _wins(table)}),
        "worse": _worse_than_random(comparison, protocol),
    }


def _best_methods(table: Table) -> list[tuple[str, int]]:
    """(method, number of ranked columns in which it is best), the most successful one first."""
    return Counter(method for method, _ in _wins(table)).most_common()


def _wins(table: Table) -> list[tuple[str, tuple[str, int]]]:
    """(method, (recogniser, column)) of every best area; a column that is not resolved has none."""
    return [
        (method, (recogniser, column))
        for (recogniser, method), cells in zip(table.rows, table.cells, strict=True)
        for column, cell in enumerate(cells)
        if cell.rank == "best"
    ]


def _worse_than_random(comparison: Comparison, protocol: str) -> dict[tuple[str, str], str]:
    """(recogniser, method), as the table names them, -> where it is worse than random with confidence."""
    found: dict[tuple[str, str], list[str]] = {}
    for key in comparison.curves:
        if key.protocol == protocol and comparison.worse_than_random(key):
            row = printable(key.recogniser), printable(key.method)
            found.setdefault(row, []).append(f"{key.test_set}, FMR {key.fmr:g}")
    return {row: "; ".join(places) for row, places in found.items()}


def _significance(comparison: Comparison) -> dict[SignificanceKey, list[tuple[PairedComparison, bool]]]:
    """The comparisons of two methods, and whether the FMR is resolved all along the curves of both."""
    return {
        key: [(pair, resolves_difference(comparison, key, (pair.first, pair.second))) for pair in pairs]
        for key, pairs in comparison.significance.items()
    }


def _legend(table: Table) -> str:
    """The meaning of the marks and of the small print in the cells."""
    meanings = [f"{_SHOWN[mark]}: {MEANINGS[mark]}" for mark in table.marks]
    text = "; ".join(meanings + ([f"small print: {table.small_print}"] if table.small_print else []))
    return text[:1].upper() + text[1:]


def _curve_row(comparison: Comparison, key: CurveKey) -> dict[str, Any]:
    measured = comparison.curves[key]
    curve = measured.curve
    thresholds, fmrs = np.atleast_1d(curve.threshold), np.atleast_1d(curve.effective_fmr)
    return {
        **key._asdict(),
        "area": measured.area,
        "random": curve.auc_random,
        "best": curve.auc_best,
        "fnmr": float(curve.error[0]),
        "threshold": _range(thresholds),
        "effective_fmr": _range(fmrs),
        "resolved": comparison.resolves(key),
        "n_genuine": int(curve.n_genuine[0]),
        "n_impostor": int(curve.n_impostor[0]),
    }


def _range(values: NDArray[np.float64]) -> str:
    low, high = f"{np.nanmin(values):.4g}", f"{np.nanmax(values):.4g}"
    return low if low == high else f"{low} to {high}"


def _gallery(gallery: Gallery) -> dict[str, Any]:
    return {
        "title": gallery.title,
        "note": gallery.note,
        "items": [
            {"sources": [_data_uri(image) for image in item.images], "caption": item.caption}
            for item in gallery.items
        ],
    }


def _data_uri(image: NDArray[np.uint8]) -> str:
    encoded = base64.b64encode(encode_image(image, ".jpg", quality=88)).decode("ascii")
    return f"data:image/jpeg;base64,{encoded}"

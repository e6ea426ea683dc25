"""The folder of a run: tables, figures, the page, and the results they are made from."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from eval_tools.curve_points import curve_points
from eval_tools.plots import plot_det, plot_erc_panels, plot_quality_histogram, plot_similarity_histogram
from eval_tools.result_tables import area_table, significance_table, verification_table
from eval_tools.results import JSON_FILE, Comparison, CurveKey, VerificationSummary, read_settings
from eval_tools.significance import PairedComparison
from eval_tools.tables import Table
from igfiqa_head.io.atomic import atomic_path, make_folder, make_subfolder
from igfiqa_head.io.folder_lock import locked
from igfiqa_head.io.written_files import LIST_FILE, written_together

FIGURE_SUFFIXES = (".png", ".pdf")
FIGURES = "figures"
REPORT_FILE = "report.html"
INPUTS = "inputs"
"""The setting that is equal for two runs only if they were made of the same files."""
_LONGEST = 100  # bytes of a figure's name without its suffix


def tables(comparison: Comparison) -> dict[str, Table]:
    """The tables of a comparison that are shown, by the names of their files."""
    areas = {f"erc_{protocol}": area_table(comparison, protocol) for protocol in comparison.names("protocol")}
    return {"verification": verification_table(comparison), **areas}


def _written_tables(comparison: Comparison) -> dict[str, Table]:
    """Those, and the differences of methods, too many to be shown."""
    found = {name: significance_table(comparison, name) for name in comparison.names("protocol")}
    differences = {f"erc_{name}_significance": table for name, table in found.items() if table.rows}
    return tables(comparison) | differences


@contextmanager
def results_folder(folder: Path, settings: Mapping[str, str], *, overwrite: bool = False) -> Iterator[None]:
    """Hold the folder of a run while it computes and writes, or find out before that it cannot write there.

    Results of an earlier run are replaced if that had the same inputs, see :data:`INPUTS`.

    Args:
        folder: made if it does not exist.
        settings: of the run, see :class:`eval_tools.results.Comparison`.
        overwrite: whether results of other inputs are replaced, too.

    Raises:
        ValueError: it cannot be made, another process writes to it, it holds results of other inputs or
            something else, or its ``figures`` are a link.
    """
    make_folder(folder)
    with locked(folder, settings.get("command", "an evaluation")):
        make_subfolder(folder / FIGURES)
        _check_content(folder, settings, overwrite)
        yield


def _check_content(folder: Path, settings: Mapping[str, str], overwrite: bool) -> None:
    if (folder / JSON_FILE).is_file():
        earlier = read_settings(folder)
        if not overwrite and earlier.get(INPUTS) != settings.get(INPUTS):
            command = earlier.get("command", "unknown")
            raise ValueError(
                f"{folder} holds the results of other inputs or of an earlier version (command: {command}): "
                "name another --output, or add --overwrite to replace them"
            )
    elif not (folder / LIST_FILE).is_file():
        paths = [*folder.iterdir(), *(folder / FIGURES).iterdir()]
        others = [path for path in paths if path.name != FIGURES and not path.name.startswith(".")]
        if others:
            raise ValueError(f"{folder} holds other files, such as {others[0]}: name a new or empty folder")


def write_outputs(
    comparison: Comparison, folder: Path, *, bands: bool | None = None, progress: bool = True
) -> bool:
    """Write everything a comparison gives; returns whether the page is part of it.

    All files are written before any of an earlier run is replaced; what is left of that run is then removed,
    unless somebody changed it. The page needs the extra ``report`` and is left out where that is not
    installed. ``bands`` is as in :func:`eval_tools.plots.plot_erc_panels`.
    """
    has_page = all(importlib.util.find_spec(package) for package in ("plotly", "jinja2"))
    make_folder(folder)
    with written_together(folder, comparison.number, instead_of_all=True) as new:
        comparison.save(new)
        _write_tables(comparison, new)
        _draw_figures(comparison, new / FIGURES, bands, progress)
        if has_page:
            from eval_tools.report import write_report

            write_report(comparison, new / REPORT_FILE)
    return has_page


def _write_tables(comparison: Comparison, folder: Path) -> None:
    for name, table in _written_tables(comparison).items():
        write_text(folder / f"{name}.csv", table.to_csv())
        write_text(folder / f"{name}.tex", table.to_latex())
    for protocol in comparison.names("protocol"):
        write_text(folder / f"erc_{protocol}_curves.csv", curve_points(comparison, protocol))
    write_text(folder / "results.json", json.dumps(summary(comparison), indent=2) + "\n")


def _draw_figures(comparison: Comparison, folder: Path, bands: bool | None, progress: bool) -> None:
    folder.mkdir()
    drawings = dict(_figures(comparison, bands))
    for name, draw in tqdm(drawings.items(), desc="figures", disable=None if progress else True):
        for suffix in FIGURE_SUFFIXES:
            draw(folder / f"{name}{suffix}")


def _figures(comparison: Comparison, bands: bool | None) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """(file name without suffix, function that draws to a path) of every figure."""
    conditions = dict.fromkeys((key.recogniser, key.protocol, key.fmr) for key in comparison.curves)
    draw_panels = partial(plot_erc_panels, comparison, bands=bands)
    for recogniser, protocol, fmr in conditions:
        name = _file_name("erc", recogniser, protocol, f"{fmr:g}")
        yield name, partial(draw_panels, recogniser=recogniser, protocol=protocol, fmr=fmr)
    for method in dict.fromkeys(key.method for key in comparison.quality):
        quality = {key.test_set: q for key, q in comparison.quality.items() if key.method == method}
        yield _file_name("quality", method), partial(plot_quality_histogram, quality, title=method)
    for test_set in dict.fromkeys(key.test_set for key in comparison.verification):
        of_set = {k.recogniser: s for k, s in comparison.verification.items() if k.test_set == test_set}
        yield _file_name("det", test_set), partial(plot_det, of_set, title=test_set)
        for recogniser, measured in of_set.items():
            title = f"{recogniser} on {test_set}"
            draw = partial(plot_similarity_histogram, measured, title=title)
            yield _file_name("similarity", test_set, recogniser), draw


def _file_name(*parts: str) -> str:
    """A name of letters, digits, points and dashes that tells any two lists of parts apart."""
    name = "_".join(re.sub(r"[^\w.-]+", "-", part).strip("-.") for part in parts)
    if "_".join(parts) == name and len(name.encode()) <= _LONGEST:
        return name
    shortened = name.encode()[:_LONGEST].decode(errors="ignore")
    return f"{shortened}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:6]}"


def summary(comparison: Comparison) -> dict[str, Any]:
    """The numbers as nested dictionaries for programs: sets > recognisers > verification and curves."""
    content: dict[str, Any] = {}
    for key, measured in comparison.verification.items():
        content.setdefault(key.test_set, {})[key.recogniser] = _verification(measured) | {"erc": {}}
    for curve_key in comparison.curves:
        protocols = content[curve_key.test_set][curve_key.recogniser]["erc"]
        fmrs = protocols.setdefault(curve_key.protocol, {})
        fmrs.setdefault(repr(curve_key.fmr), {})[curve_key.method] = _curve(comparison, curve_key)
    return {
        "number": comparison.number,
        "settings": dict(comparison.settings),
        "limit": comparison.limit,
        "test_sets": content,
    }


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        # A file name that is not UTF-8 reaches us with lone surrogates, which no file can hold.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _verification(measured: VerificationSummary) -> dict[str, Any]:
    return {
        "n_images": measured.n_images,
        "n_genuine": measured.n_genuine,
        "n_impostor": measured.n_impostor,
        "accuracy": measured.accuracy,
        "accuracy_std": measured.accuracy_std,
        "eer": measured.eer,
        "eer_resolved": measured.eer_resolved,
        "operating_points": [
            {
                "target_fmr": point.target_fmr,
                "effective_fmr": point.fmr,
                "threshold": point.threshold,
                "tar": point.tar,
                "fnmr": point.fnmr,
                "resolved": point.resolved,
            }
            for point in measured.operating_points
        ],
        "notes": list(measured.notes),
    }


def _curve(comparison: Comparison, key: CurveKey) -> dict[str, Any]:
    measured = comparison.curves[key]
    curve, band = measured.curve, measured.band
    return {
        "area": _number(measured.area),
        "area_interval": None if band is None else [_number(band.area_low), _number(band.area_high)],
        "interval_level": None if band is None else band.level,
        "resampled": None if band is None else band.unit,
        "auc": _number(curve.auc),
        "auc_best": _number(curve.auc_best),
        "auc_random": _number(curve.auc_random),
        "fnmr_at_0": _number(curve.error[0]),
        "effective_fmr": _number(np.atleast_1d(curve.effective_fmr)[0]),
        "threshold": _number(np.atleast_1d(curve.threshold)[0]),
        "resolved": comparison.resolves(key),
        "resolved_up_to": curve.resolved_end,
        "against_random": _difference(measured.against_random),
        "worse_than_random": None if measured.against_random is None else comparison.worse_than_random(key),
        "tied": measured.tied,
        "n_errors": int(curve.n_errors[0]),
        "n_genuine": int(curve.n_genuine[0]),
        "n_impostor": int(curve.n_impostor[0]),
    }


def _difference(pair: PairedComparison | None) -> dict[str, float | None] | None:
    if pair is None:
        return None
    return {name: _number(getattr(pair, name)) for name in ("difference", "low", "high", "p_value")}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)

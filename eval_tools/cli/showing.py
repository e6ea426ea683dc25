"""What a command says at its end."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from eval_tools.cli.arguments import split_name
from eval_tools.measure import DEFAULT_FMRS, Settings
from eval_tools.outputs import INPUTS, REPORT_FILE, tables, write_outputs
from eval_tools.results import Comparison
from eval_tools.tables import MARKS, MEANINGS
from igfiqa_head.text import tell

_GIVEN = ("test_sets", "pairs", "recogniser", "quality")
# For :func:`eval_tools.plots.plot_erc_panels`.
_BANDS = {"few": None, "all": True, "none": False}


def description(options: argparse.Namespace, settings: Settings) -> dict[str, str]:
    """The settings, files and versions behind a run, for its page."""
    given = {name: _listed(value) for name in _GIVEN if (value := getattr(options, name, None))}
    return {
        **{name.replace("_", " "): ", ".join(specs) for name, specs in given.items()},
        INPUTS: _digest(given),
        "target FMRs": _targets(settings),
        **(_of_models(settings) if "recogniser" in given else {}),
        **(_of_curves(settings) if "pairs" in given or "quality" in given else {}),
        "bad images and pairs": settings.on_bad,
        "command": shlex.join(["igfiqa-eval", *sys.argv[1:]]),
        "version": f"igfiqa-head {_version()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def show_and_write(comparison: Comparison, options: argparse.Namespace) -> None:
    """Write the folder of the run, and print the tables."""
    folder = options.output
    has_page = write_outputs(comparison, folder, bands=_BANDS[getattr(options, "bands", "few")])
    print_tables(comparison)
    tell(f"wrote {folder}: tables, figures{' and ' + REPORT_FILE if has_page else ''}")
    if not has_page:
        tell(f'for a page to look at: pip install "igfiqa-head[report]", then igfiqa-eval report {folder}')


def print_tables(comparison: Comparison) -> None:
    styled = sys.stdout.isatty()
    shown = tables(comparison)
    for table in shown.values():
        print(table.to_text(styled=styled), end="\n\n")
    found = {mark for table in shown.values() for mark in table.marks}
    if found:
        print("; ".join(f"{MARKS[mark]} {MEANINGS[mark]}" for mark in MEANINGS if mark in found), end="\n\n")


def _targets(settings: Settings) -> str:
    targets = ", ".join(f"{fmr:g}" for fmr in settings.fmrs or DEFAULT_FMRS)
    return targets if settings.fmrs else f"{targets}, as far as a set resolves them"


def _of_models(settings: Settings) -> dict[str, str]:
    return {"mirror image": settings.flip}


def _of_curves(settings: Settings) -> dict[str, str]:
    return {
        "protocols": ", ".join(settings.protocols),
        "pair quality": settings.pair_quality,
        "bootstrap": f"{settings.n_resamples} resamples, level {settings.level:g}, seed {settings.seed}",
    }


def _listed(values: Sequence[str] | str) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def _digest(given: Mapping[str, Sequence[str]]) -> str:
    """A number of the inputs, whatever folder they were named from; the page need not show whole paths."""
    absolute = {name: [*map(_absolute, specs)] for name, specs in given.items()}
    return hashlib.sha256(repr(absolute).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _absolute(text: str) -> tuple[str, str]:
    name, spec = split_name(text)
    return name, os.path.abspath(spec) if os.path.exists(spec) else spec


def _version() -> str:
    try:
        return version("igfiqa-head")
    except PackageNotFoundError:
        return "(not installed)"

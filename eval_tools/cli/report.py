"""``igfiqa-eval report``: one self-contained page."""

from __future__ import annotations

import argparse
from pathlib import Path

from eval_tools.outputs import REPORT_FILE
from eval_tools.results import Comparison
from igfiqa_head.command_line import Commands, command, user_path
from igfiqa_head.io.atomic import check_writable
from igfiqa_head.io.folder_lock import locked
from igfiqa_head.io.written_files import list_written

DETAILS = """\
Reads a folder that compare, verify, ijb or erc wrote and makes one HTML file of it: interactive
curves, tables, effective FMRs and counts, and the faces behind them. The page needs no
network and no other file; send it as it is."""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "report", run, "Write the results as one page to look at.", DETAILS)
    parser.add_argument(
        "results", type=user_path, metavar="FOLDER", help="the --output of compare, verify, ijb or erc"
    )
    parser.add_argument(
        "--output",
        type=user_path,
        default=None,
        metavar="FILE",
        help=f"by default {REPORT_FILE} in that folder",
    )


def run(options: argparse.Namespace) -> None:
    path = options.output or options.results / REPORT_FILE
    if options.output is not None or not options.results.is_dir():
        _write_page(options.results, path)
        return
    with locked(options.results, "igfiqa-eval report"):
        comparison = _write_page(options.results, path)
        list_written(options.results, [REPORT_FILE], comparison.number)


def _write_page(results: Path, path: Path) -> Comparison:
    from eval_tools.report import write_report  # needs the extra "report"

    comparison = Comparison.load(results)
    check_writable(path)
    write_report(comparison, path)
    print(f"wrote {path}")
    return comparison

"""``igfiqa cache``: what is kept of faces between runs, and how to be rid of it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from igfiqa_head.cli.showing import count_of
from igfiqa_head.command_line import Commands, command, user_path
from igfiqa_head.io.cache_folder import Entry, clear, default_folder, entries, limits
from igfiqa_head.text import printable

DETAILS = """\
Embeddings and qualities are kept by their content, so that nothing is computed twice:
by igfiqa-eval in your cache folder, by recipes/on_top.py in work_dirs/cache. A recipe
with decoded_cache=FOLDER keeps images there. All of it is biometric data; only you can
read it.

  igfiqa cache info                   # where, how much, and how old
  igfiqa cache clear                  # remove it: our files by their names, no others
  igfiqa cache clear /data/decoded    # from another folder

What was unused for 90 days goes by itself, and in folders above 10 GB what was unused for
longest; the environment variables IGFIQA_CACHE_DAYS and IGFIQA_CACHE_GB change that. The
size of decoded images is yours to choose."""

ON_TOP = Path("work_dirs/cache")
"""Where recipes keep features unless they say otherwise."""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "cache", run, "Show or clear what is kept between runs.", DETAILS)
    parser.add_argument("action", choices=("info", "clear"))
    parser.add_argument(
        "folders",
        nargs="*",
        type=user_path,
        metavar="FOLDER",
        help="caches; if not given, your cache folder and work_dirs/cache of the current folder",
    )


def run(options: argparse.Namespace) -> None:
    for folder in options.folders or _usual_folders():
        found = clear(folder) if options.action == "clear" else entries(folder)
        removed = "removed " if options.action == "clear" else ""
        print(printable(f"{folder}: {removed}{_description(found)}"))
    if options.action == "info":
        size, days = limits()
        print(f"limits: {days:g} days without use, {size:g} GB (decoded images: any size)")


def _usual_folders() -> list[Path]:
    usual = [folder for folder in (default_folder(), ON_TOP) if folder is not None]
    found = [folder for folder in usual if folder.is_dir()]
    if not found:
        print(printable(f"nothing is kept in {' or '.join(map(str, usual))}"))
    return found


def _description(found: Sequence[Entry]) -> str:
    amount = f"{count_of(len(found), 'result')}, {sum(entry.size for entry in found) / 1e6:.1f} MB"
    if not found:
        return amount
    days = (time.time() - min(entry.used for entry in found)) / 86400
    return f"{amount}, the oldest last used {count_of(round(days), 'day')} ago"

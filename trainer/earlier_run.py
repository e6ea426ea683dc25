"""The files of an earlier run in the folder of a new one: kept from being overwritten, or replaced whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from igfiqa_head.io.atomic import make_folder, remove_leftovers
from igfiqa_head.io.folder_lock import locked
from igfiqa_head.io.written_files import read_list
from igfiqa_head.kinds import OUTPUTS
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.text import first_of
from trainer.checkpoint import checkpoint_files, has_checkpoint
from trainer.log import warnings_as_log_lines
from trainer.weight_files import BACKBONE, QUALITY_HEAD, RECIPE

_PROOF = (RECIPE, "training.log")
_STARTED = ("recogniser.onnx", *_PROOF)
_TENSORBOARD, _EVENTS = "tensorboard", "events.out.tfevents.*"
_WEIGHTS = (BACKBONE, QUALITY_HEAD)
_FINISHED = (
    "metrics.json",
    "model_card.md",
    "erc.png",
    "quality_sheet.png",
    *(f"{kind}{copy}.onnx" for kind in OUTPUTS for copy in ("", ".fp16", ".int8")),  # and exports of the run
)
_SHOWN = 4

T = TypeVar("T")


@dataclass(frozen=True)
class EarlierRun:
    """The files that a run has left in a folder, as they are now.

    Attributes:
        folder: of the run.
        files: path -> what tells this file from a later one of the same name.
    """

    folder: Path
    files: Mapping[Path, os.stat_result] = field(default_factory=dict)

    def remove(self) -> None:
        """Remove these files, and what writers left that were killed.

        One that was replaced in the meantime stays, and so does everything else.
        """
        checkpoints = (path.name[1:] for path in self.folder.glob(".checkpoint_gpu_*.pt"))
        stems = (name.rsplit(".", 2)[0] for name in checkpoints)
        for name in (*_WEIGHTS, *_FINISHED, *_STARTED, *(f"{stem}.pt" for stem in stems)):
            remove_leftovers(self.folder / name)
        for path, seen in self.files.items():
            if os.path.samestat(path.lstat(), seen):
                path.unlink()


@contextmanager
def held_output(folder: Path, ranks: Ranks = ALONE) -> Iterator[None]:
    """Make the folder of a run, and hold it within the block against other runs and exports.

    Every rank calls it, the first one holds the folder.

    Raises:
        ValueError: on all ranks: the folder cannot be written to, or another process holds it.
    """
    with ExitStack() as held:

        def hold() -> None:
            make_folder(folder)
            with warnings_as_log_lines():  # of a file system without locks
                held.enter_context(locked(folder, "train.py"))

        _by_first(hold, folder, ranks)
        yield


def check_output(
    folder: Path,
    *,
    resume: bool | str,
    overwrite: bool,
    has_checkpoints: bool = True,
    needed: Iterable[str | None] = (),
    ranks: Ranks = ALONE,
) -> EarlierRun:
    """Refuse the folder of a new run that holds a run already.

    Nothing is removed yet: a run that cannot begin should cost nobody an earlier one. Every rank calls it,
    the first one decides.

    Args:
        folder: the recipe's ``output``.
        resume, overwrite: the recipe's keys.
        has_checkpoints: False for a run on top of a recogniser, which goes on from what is in its cache.
        needed: what the new run starts from, which must not be removed.
        ranks: the processes that train together.

    Returns:
        What is to be removed when the new run begins; of no files unless ``overwrite``.

    Raises:
        ValueError: on all ranks: the folder holds a run that would be overwritten.
    """

    def look() -> EarlierRun:
        read_list(folder)  # a damaged one is told of now, not at the end of an epoch
        earlier = _looked_at(folder, resume, overwrite, has_checkpoints)
        _check_links(folder)
        _check_kept(earlier, needed)
        return earlier

    return _by_first(look, folder, ranks) or EarlierRun(folder)


def _by_first(decide: Callable[[], T], folder: Path, ranks: Ranks) -> T | None:
    """What the first rank decides, on the others None; all of them raise if it cannot."""
    decision, problem = None, None
    if ranks.rank == 0:
        try:
            decision = decide()
        except (ValueError, OSError) as error:
            problem = error
    if ranks.any(problem is not None):
        raise problem or ValueError(f"the first process refuses output={folder}: its own message tells why")
    return decision


def _looked_at(folder: Path, resume: bool | str, overwrite: bool, has_checkpoints: bool) -> EarlierRun:
    found = _files(folder)
    if overwrite:
        return EarlierRun(folder, {path: _of_plain_file(path, folder) for path in found})
    # Weights beside a log may be of a run killed before its first checkpoint; alone they are others'.
    finished = any(path.name in _FINISHED for path in found)
    is_killed_start = not finished and _is_of_a_run(found)
    goes_on = has_checkpoint(folder) if has_checkpoints else is_killed_start
    restarts = has_checkpoints and (resume is True or (resume == "auto" and is_killed_start))
    if not found or restarts or (resume and goes_on):
        return EarlierRun(folder)
    names = [str(path.relative_to(folder)) for path in found]
    holds = f"output={folder} already holds a run ({first_of(names, _SHOWN)})"
    if finished and not has_checkpoints:
        raise ValueError(
            f"{holds}, and it is finished: name another output=, or replace it with overwrite=True (features "
            "in the cache are used again)"
        )
    first = "go on with it by resume=True, " if goes_on else "nothing of it can be gone on from: "
    raise ValueError(
        f"{holds}: {first}start in another folder with output=, or replace that run with overwrite=True"
    )


def _is_of_a_run(found: Iterable[Path]) -> bool:
    """Whether files are with one that a run writes before all others, or with a checkpoint."""
    return any(path.name in _PROOF or path.name.startswith("checkpoint_") for path in found)


def _check_links(folder: Path) -> None:
    """Refuse links in the place of what a run adds to, and does not replace as it does other files."""
    for path in (folder / "training.log", folder / _TENSORBOARD):
        if path.is_symlink():
            raise ValueError(
                f"{path} is a link, through which the run would write elsewhere: remove it, or name another "
                "output="
            )


def _check_kept(earlier: EarlierRun, needed: Iterable[str | None]) -> None:
    removed = set(map(os.path.realpath, (earlier.folder, *earlier.files) if earlier.files else ()))
    for source in needed:
        if source is not None and os.path.realpath(source) in removed:
            raise ValueError(
                f"{source} is of the run in output={earlier.folder}, which overwrite=True removes: start in "
                "another folder with output="
            )


def _files(folder: Path) -> list[Path]:
    """The files of a run, and of exports from it, that are there; the most valuable first."""
    events = sorted((folder / _TENSORBOARD).glob(_EVENTS))
    named = [folder / name for name in (*_WEIGHTS, *_FINISHED, *_STARTED)]
    return [path for path in [*checkpoint_files(folder), *named, *events] if path.exists()]


def _of_plain_file(path: Path, folder: Path) -> os.stat_result:
    """The status of a file of a run's folder that may be removed.

    Raises:
        ValueError: it is a folder or a link, or lies behind one.
    """
    for part in (path,) if path.parent == folder else (path, path.parent):
        if part.is_symlink():
            raise ValueError(f"{part} is a link, which overwrite=True does not follow: remove it yourself")
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no plain file, so no run wrote it: move it away yourself")
    return status

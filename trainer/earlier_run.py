"""The files of an earlier run in the folder of a new one: kept from being overwritten, or replaced whole."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from igfiqa_head.kinds import OUTPUTS
from igfiqa_head.ranks import ALONE, Ranks
from trainer.checkpoint import checkpoint_files, has_checkpoint

_STARTED = ("recipe.json", "training.log")
_EVENTS = "events.out.tfevents.*"
_WEIGHTS = ("model.pt", "quality_head.pt")
_FINISHED = (
    "metrics.json",
    "model_card.md",
    "erc.png",
    "quality_sheet.png",
    "recogniser.onnx",
    *(f"{kind}{copy}.onnx" for kind in OUTPUTS for copy in ("", ".fp16", ".int8")),  # and exports of the run
)
_SHOWN = 4


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
        """Remove these files. One that was replaced in the meantime stays, and so does everything else."""
        for path, seen in self.files.items():
            if os.path.samestat(path.lstat(), seen):
                path.unlink()


def check_output(
    folder: Path,
    *,
    resume: bool | str,
    overwrite: bool,
    can_resume: bool = True,
    ranks: Ranks = ALONE,
) -> EarlierRun:
    """Make the folder of a new run, and refuse one with another run in it.

    Nothing is removed yet: a run that cannot begin should cost nobody an earlier one. Every rank calls it,
    the first one decides.

    Args:
        folder: the recipe's ``output``.
        resume, overwrite: the recipe's keys.
        can_resume: whether this kind of run has checkpoints.
        ranks: the processes that train together.

    Returns:
        What is to be removed when the new run begins; of no files unless ``overwrite``.

    Raises:
        ValueError: on all ranks: the folder cannot be written to, or holds a run that would be overwritten.
    """
    earlier, problem = EarlierRun(folder), None
    if ranks.rank == 0:
        try:
            _make(folder)
            earlier = _looked_at(folder, resume if can_resume else False, overwrite, can_resume)
        except ValueError as error:
            problem = error
    if ranks.any(problem is not None):
        raise problem or ValueError(f"the first process refuses output={folder}: its own message tells why")
    return earlier


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"output={folder} cannot be written to: {error.strerror}") from error


def _looked_at(folder: Path, resume: bool | str, overwrite: bool, can_resume: bool) -> EarlierRun:
    found = _files(folder)
    if overwrite:
        return EarlierRun(folder, {path: _of_plain_file(path, folder) for path in found})
    goes_on = can_resume and has_checkpoint(folder)
    if not found or resume is True or (resume == "auto" and (goes_on or not _is_finished(found))):
        return EarlierRun(folder)
    names = [str(path.relative_to(folder)) for path in found]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    ways = "start with output=ANOTHER_FOLDER, or replace that run with overwrite=True"
    if goes_on:
        ways = f"go on from its checkpoint with resume=True, {ways}"
    elif can_resume:
        ways = f"it has no checkpoint to go on from, so {ways}"
    raise ValueError(f"output={folder} holds another run ({', '.join(names[:_SHOWN])}{more}): {ways}")


def _files(folder: Path) -> list[Path]:
    """What a run writes, and exports from it, as far as it is there; the most valuable first."""
    events = sorted((folder / "tensorboard").glob(_EVENTS))
    named = [folder / name for name in (*_WEIGHTS, *_FINISHED, *_STARTED)]
    return [path for path in [*checkpoint_files(folder), *named, *events] if path.exists()]


def _is_finished(found: list[Path]) -> bool:
    """Whether a run came to its end. Weights alone may be what a first checkpoint was killed after."""
    return any(path.name in _FINISHED for path in found)


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

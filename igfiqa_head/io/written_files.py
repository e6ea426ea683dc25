"""The files that we wrote into a folder, as a list in that folder.

The list gives the digest of each file, and a number that files of one run share. It tells which files are
ours and may be removed, and whether files that belong together were written together. What it does not name,
or what was changed since, is the user's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from igfiqa_head.io.atomic import atomic_path, flush_folder, make_subfolder, replace

LIST_FILE = ".igfiqa-files.json"
_NEW = ".igfiqa-new-"


class WrittenFile(NamedTuple):
    """The number of the run that wrote a file, and the SHA-256 digest of its content."""

    number: str
    sha256: str


_Files = dict[str, WrittenFile]  # by name within the folder, SUB/NAME for a file of a sub-folder


class _List(NamedTuple):
    """The content of a list; not whole while files are being replaced."""

    files: _Files
    is_whole: bool


@contextmanager
def written_together(
    folder: str | os.PathLike[str], number: str, *, instead_of_all: bool = False
) -> Iterator[Path]:
    """Yield an empty folder; its files become those of ``folder`` when the block ends without an error.

    A block that raises leaves everything as it was; an interruption of the replacement itself is noticed by
    :func:`check_one_moment`. Nobody else may be writing to the folder, see
    :func:`igfiqa_head.io.folder_lock.locked`.

    Args:
        folder: one that exists. The files may lie in sub-folders of it, one deep.
        number: of the run that writes.
        instead_of_all: whether files of the list that were not written this time are removed afterwards.

    Raises:
        ValueError: a sub-folder of ``folder`` is a link, or a folder is in a file's place.
        OSError: a file cannot be written; it names the place where the file was to be.
    """
    folder = Path(folder)
    for left in folder.glob(f"{_NEW}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=_NEW, dir=folder))
    try:
        yield staging
        _move(staging, folder, number, instead_of_all)
    except OSError as error:
        shown = Path(str(error.filename))
        if not shown.is_relative_to(staging):
            raise
        place = folder / shown.relative_to(staging)
        raise OSError(error.errno, error.strerror, os.fspath(place)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def list_written(folder: str | os.PathLike[str], names: Iterable[str], number: str) -> None:
    """Put files that lie in a folder on its list, as they are."""
    folder = Path(folder)
    old = _read(folder)
    _write(folder, old._replace(files=old.files | _listed(folder, names, number)))


def check_one_moment(folder: str | os.PathLike[str], names: Iterable[str], advice: str) -> None:
    """Raise unless those of the files that exist were written together; without a list, nothing is known.

    Args:
        folder: where they are.
        names: of files that belong together.
        advice: what to do if they were not.

    Raises:
        ValueError: one was changed or replaced since, or comes from another run, and is named; or a run was
            interrupted while it replaced the files of the folder.
    """
    folder = Path(folder)
    files, is_whole = _read(folder)
    found = [name for name in names if (folder / name).is_file()]
    known = files.keys() & set(found)
    for name in found if known else []:
        if name not in files or _digest(folder / name) != files[name].sha256:
            raise ValueError(f"{folder / name} is of another moment than the files around it: {advice}")
        if files[name].number != files[found[0]].number:
            raise ValueError(f"{folder / name} is of another run than {found[0]} beside it: {advice}")
    if not is_whole:
        raise ValueError(f"{folder} holds files of two runs, as the second was interrupted: {advice}")


def read_list(folder: str | os.PathLike[str]) -> Mapping[str, WrittenFile]:
    """What the list of a folder holds of each file, by name; nothing where there is no list.

    Raises:
        ValueError: it is damaged.
    """
    return _read(Path(folder)).files


def _read(folder: Path) -> _List:
    path = folder / LIST_FILE
    if not os.path.lexists(path):
        return _List({}, True)
    try:
        if path.is_symlink() or not path.is_file():  # reading a pipe would wait for its other end
            raise ValueError("it is no ordinary file")
        content = json.loads(path.read_text(encoding="utf-8"))
        return _List(_decode(content["files"]), bool(content["is_whole"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the list of written files {path} is damaged: remove it") from error


def _move(staging: Path, folder: Path, number: str, instead_of_all: bool) -> None:
    names = sorted(path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file())
    for name in names:
        _make_place(folder, name)
    old, new = _read(folder).files, _listed(staging, names, number)
    kept = new if instead_of_all else old | new
    _write(folder, _List(old | new, False))  # so that an interruption leaves no file that it does not name
    for name in names:
        replace(staging / name, folder / name)
    for parent in {(folder / name).parent for name in names}:
        flush_folder(parent)
    for name in old.keys() - kept.keys():
        _remove(folder / name, old[name])
    _write(folder, _List(kept, True))


def _make_place(folder: Path, name: str) -> None:
    target = folder / name
    if target.parent != folder:
        make_subfolder(target.parent)
    if target.is_dir() and not target.is_symlink():
        raise ValueError(f"{target} cannot be written: a folder has its name; move it away")


def _remove(path: Path, written: WrittenFile) -> None:
    """Remove a file unless it was changed since, or a link leads to it."""
    in_place = not (path.is_symlink() or path.parent.is_symlink())
    if in_place and path.is_file() and _digest(path) == written.sha256:
        path.unlink()


def _write(folder: Path, content: _List) -> None:
    files = {name: written._asdict() for name, written in content.files.items()}
    with atomic_path(folder / LIST_FILE) as temporary:
        temporary.write_text(json.dumps({"files": files, "is_whole": content.is_whole}, indent=1), "utf-8")


def _listed(folder: Path, names: Iterable[str], number: str) -> _Files:
    return {name: WrittenFile(number, _digest(folder / name)) for name in names}


def _decode(files: Mapping[str, Mapping[str, Any]]) -> _Files:
    decoded = {name: WrittenFile(**entry) for name, entry in files.items()}
    for name, written in decoded.items():
        if not all(isinstance(text, str) for text in written) or not _is_within(name):
            raise ValueError(f"{name!r} is no file of ours")
    return decoded


def _is_within(name: str) -> bool:
    """Whether a name is that of a file in a folder, or in a sub-folder of it."""
    parts = PurePosixPath(name).parts
    return len(parts) in (1, 2) and "\\" not in name and not {"/", ".."} & {*parts}


def _digest(path: Path) -> str:
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            content.update(chunk)
    return content.hexdigest()

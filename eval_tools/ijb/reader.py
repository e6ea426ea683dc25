"""The folder of IJB-B or IJB-C as insightface lays it out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from eval_tools.ijb.ijb_set import AlignedFaces, IJBSet
from eval_tools.ijb.tables import BadLines, read_image_rows, read_template_pairs, without_repeats
from eval_tools.ijb.templates import ARCFACE_TORCH, TemplateOptions
from eval_tools.names import Names
from eval_tools.on_bad import OnBad
from igfiqa_head.io.image_files import is_inside

Target = Literal["IJBB", "IJBC"]
IMAGES = "loose_crop"
LANDMARK_FILE, MEDIA_FILE, PAIR_FILE = (
    "{}_name_5pts_score.txt",
    "{}_face_tid_mid.txt",
    "{}_template_pair_label.txt",
)


def read_ijb(
    root: str | os.PathLike[str],
    target: Target | None = None,
    *,
    on_bad: OnBad = "error",
    options: TemplateOptions = ARCFACE_TORCH,
) -> IJBSet:
    """Read the metadata of IJB-B or IJB-C; images are read, and aligned by their landmarks, when asked for.

    ``root`` holds ``loose_crop/*.jpg`` and three text files, ``{t}`` being ``ijbb`` or ``ijbc``:
    ``meta/{t}_name_5pts_score.txt``, ``meta/{t}_face_tid_mid.txt`` and ``meta/{t}_template_pair_label.txt``.

    Args:
        root: that folder, or the one above it with the sub-folder ``IJBB`` or ``IJBC``.
        target: which of the two to read; None takes the one that is there.
        on_bad: "error" raises at the first malformed line, image that is not there (or is a link that leads
            out of ``loose_crop``), pair of an unknown template or of one with itself, and pair that occurs
            twice (in either order; the first one counts). "exclude" leaves them out and counts them in
            ``notes``.
        options: how embeddings become template features.

    Raises:
        ValueError: no such folder or files, both sets there and no target, bad lines, or nothing left.
    """
    bad = BadLines(on_bad)
    folder, prefix = _find(Path(root), target)
    landmarks, media, pairs_path = (
        folder / "meta" / name.format(prefix) for name in (LANDMARK_FILE, MEDIA_FILE, PAIR_FILE)
    )
    for path in (landmarks, media, pairs_path):
        if not path.is_file():
            raise ValueError(f"{path} is missing: the metadata of {prefix.upper()} are three files")
    rows = read_image_rows(landmarks, media, _image_files(folder / IMAGES), bad)
    _check_left(landmarks, "images", len(rows.names), bad)
    template_ids, template = np.unique(rows.template_ids, return_inverse=True)
    pairs, is_genuine = read_template_pairs(pairs_path, template_ids, bad)
    _check_left(pairs_path, "template pairs", len(pairs), bad)
    pairs, is_genuine = without_repeats(pairs_path, template_ids, pairs, is_genuine, bad)
    names = [f"{IMAGES}/{name}" for name in rows.names]
    return IJBSet(
        AlignedFaces(folder, names, rows.landmarks),
        names,
        template,
        rows.media_ids,
        rows.detector_score,
        template_ids,
        pairs,
        is_genuine,
        options,
        bad.notes,
    )


def _find(root: Path, target: Target | None) -> tuple[Path, str]:
    """The folder with ``meta`` and the prefix of its files."""
    if target is not None and target not in get_args(Target):
        raise ValueError(f"target must be 'IJBB', 'IJBC' or None, got {target!r}")
    found = [
        (folder, name.lower())
        for name in ([target] if target else get_args(Target))
        for folder in (root, root / name)
        if (folder / "meta" / PAIR_FILE.format(name.lower())).is_file()
    ]
    if not found:
        wanted = PAIR_FILE.format(target.lower() if target else "ijbb|ijbc")
        raise ValueError(f"{root} holds no IJB set: expected meta/{wanted}, here or in a folder IJBB or IJBC")
    if len(found) > 1:
        places = ", ".join(f"{prefix.upper()} in {folder}" for folder, prefix in found)
        raise ValueError(
            f"{root} holds more than one set ({places}): pass target='IJBB' or 'IJBC', or one's folder"
        )
    return found[0]


def _check_left(path: Path, items: str, count: int, bad: BadLines) -> None:
    if not count:
        reasons = " ".join(bad.notes) or "It is empty."
        raise ValueError(f"{path} names no usable {items}: there is nothing to compare. {reasons}")


def _image_files(folder: Path) -> Names:
    """Names of the files in the folder; links count if they stay in it."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: it must hold the face crops")
    with os.scandir(folder) as entries:
        return Names(
            entry.name
            for entry in entries
            if entry.is_file() and (not entry.is_symlink() or is_inside(entry.path, str(folder)))
        )

"""The files of a folder: images that are read, pictures of other formats, which are not, and all else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from igfiqa_head.io.image_headers import format_of, not_read, unread_format
from igfiqa_head.io.regular_files import regular
from igfiqa_head.text import first_of

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp")
"""The suffixes of images that are read, whichever of the four formats the content has."""

_OTHER_FORMATS = {
    "HEIC": (".heic", ".heif", ".hif"), "AVIF": (".avif", ".avifs"), "JPEG XL": (".jxl",),
    "TIFF": (".tif", ".tiff"), "GIF": (".gif",), "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpf", ".jpx"),
    "PNM": (".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm"), "Targa": (".tga",), "OpenEXR": (".exr",),
    "Radiance": (".hdr", ".pic"), "Sun raster": (".ras", ".sr"), "PCX": (".pcx",), "Photoshop": (".psd",),
    "SGI": (".sgi", ".rgb"),
    "raw": (
        ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".srw", ".pef",
    ),
}  # fmt: skip
_FORMAT_OF_SUFFIX = {suffix: name for name, suffixes in _OTHER_FORMATS.items() for suffix in suffixes}
_TEXTS = (".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".log", ".idx")
_SHOWN = 3


def suffix_of(name: str) -> str:
    """The suffix of a file, in lower case and with its dot."""
    return os.path.splitext(name)[1].lower()


def why_unread(path: str) -> str | None:
    """The reason why a picture without one of :data:`IMAGE_SUFFIXES` is not read; None if it is no picture.

    It is one by its suffix or, unless that is one of texts, by how its content starts.
    """
    suffix = suffix_of(path)
    name = _FORMAT_OF_SUFFIX.get(suffix)
    start = b"" if suffix in _TEXTS else start_of(path)
    readable = format_of(start)
    if readable and (readable != "BMP" or start[6:10] == bytes(4)):  # "BM" may start a text
        return f"this {readable} image is not read under this name: rename it to end in .{readable.lower()}"
    name = name or unread_format(start)
    return None if name is None else not_read(name)


def start_of(path: str) -> bytes:
    """The first 16 bytes of a file; nothing of one that cannot be read, which is judged by its name then."""
    try:
        with open(path, "rb", opener=regular) as file:
            return file.read(16)
    except OSError:
        return b""


@dataclass
class FolderFiles:
    """The content of a folder. Names are relative to it.

    Attributes:
        images: sorted names of the images.
        unread: name of a picture that is not read -> why.
        others: files that are no pictures, pipes and the like, and what is hidden.
        folders: sub-folders.
    """

    images: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


def folder_files(folder: str, root: str) -> FolderFiles:
    """The content of a folder in the order of names, its sub-folders unopened.

    Args:
        folder: its path.
        root: links may not lead out of this folder.

    Raises:
        ValueError: a link is broken or leads out of ``root``.
        OSError: the folder cannot be read.
    """
    found = FolderFiles()
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            found.others.append(entry.name)
            continue
        if leads_out(entry.path, root):
            raise ValueError(f"{entry.path} {LEADS_OUT} {root}: copy the file instead")
        if entry.is_dir():
            found.folders.append(entry.name)
        elif suffix_of(entry.name) in IMAGE_SUFFIXES and entry.is_file():
            found.images.append(entry.name)
        elif (why := why_unread(entry.path)) is not None:
            found.unread[entry.name] = why
        else:
            found.others.append(entry.name)
    return found


LEADS_OUT = "is a broken link or leads out of"


def leads_out(path: str, root: str) -> bool:
    """Whether ``path`` is a link, but not to something in the folder ``root``."""
    return os.path.islink(path) and not is_inside(path, root)


def is_inside(path: str, root: str) -> bool:
    """Whether ``path`` exists and, all links followed, lies in the folder ``root``."""
    real_path, real_root = os.path.realpath(path), os.path.realpath(root)
    return os.path.exists(real_path) and os.path.commonpath([real_root, real_path]) == real_root


@dataclass(frozen=True)
class IdentityFolders:
    """A folder with one sub-folder of images for each identity. Names are relative to the folder.

    Attributes:
        images: name of an identity, sorted -> names of its images, sorted, such as ``Ann/1.jpg``.
        unread: name of a picture that is not read, or lies beside or below the identities -> why.
        others: files that are no pictures, and what is hidden.
    """

    images: dict[str, list[str]]
    unread: dict[str, str]
    others: list[str]

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence on the pictures that are left out, and one on the other files, where there are any."""
        unread = [f"{name} ({why})" for name, why in self.unread.items()]
        return tuple(
            f"{counted(what, names)}."
            for what, names in (("pictures left out", unread), (OTHERS, self.others))
            if names
        )


OTHERS = "files passed over, hidden or no pictures"


def counted(what: str, names: Sequence[str]) -> str:
    """Their number and the first few names."""
    return f"{what}: {len(names):,}: {first_of(names, _SHOWN)}"


def identity_folders(root: str) -> IdentityFolders:
    """The content of a folder with a sub-folder for each identity.

    Raises:
        ValueError: a link is broken or leads out of ``root``.
    """
    top = folder_files(root, root)
    found = IdentityFolders({}, dict(top.unread), list(top.others))
    found.unread.update(dict.fromkeys(top.images, "it lies beside the folders of the identities"))
    for identity in top.folders:
        files = folder_files(os.path.join(root, identity), root)
        found.images[identity] = [f"{identity}/{name}" for name in files.images]
        found.unread.update({f"{identity}/{name}": why for name, why in files.unread.items()})
        found.others.extend(f"{identity}/{name}" for name in files.others)
        for name in files.folders:
            below = _pictures_below(root, f"{identity}/{name}")
            found.unread.update(dict.fromkeys(below, "it lies in a folder within that of an identity"))
    return found


def _pictures_below(root: str, folder: str) -> Iterator[str]:
    """Names of the pictures in ``root/folder`` and its sub-folders, links and hidden ones left alone."""
    for place, folders, names in os.walk(os.path.join(root, folder)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(place, name)
            if not name.startswith(".") and (suffix_of(name) in IMAGE_SUFFIXES or why_unread(path)):
                yield os.path.relpath(path, root)

"""What lies in folders: images, pictures that are not read, and all else."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from igfiqa_head.io.image_files import folder_files, identity_folders, is_inside, why_unread
from igfiqa_head.io.images import encode_image

PNG = encode_image(np.full((8, 8, 3), 90, np.uint8), ".png")


def put(root: Path, *names: str, content: bytes = PNG) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.HEIC", b"", "HEIC"),
        ("a.avif", b"", "AVIF"),
        ("a.jxl", b"", "JPEG XL"),
        ("a.tiff", b"", "TIFF"),
        ("a.gif", b"", "GIF"),
        ("a.ppm", b"", "PNM"),
        ("a.jp2", b"", "JPEG 2000"),
        ("a.dng", b"", "raw"),
        ("a", b"GIF89a", "GIF"),
        ("a.image", b"II*\0", "TIFF"),
        ("a.dat", b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        ("a.dat", b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        ("a.jpg_original", b"\xff\xd8\xff\xe0", r"JPEG .* end in \.jpeg"),
        ("a", PNG, r"PNG .* end in \.png"),
        ("a.gif", PNG, r"PNG .* end in \.png"),
        ("a.dat", cv2.imencode(".bmp", np.zeros((4, 4, 3), np.uint8))[1].tobytes(), r"BMP .* end in \.bmp"),
        ("a.dat", cv2.imencode(".webp", np.zeros((4, 4, 3), np.uint8))[1].tobytes(), r"end in \.webp"),
    ],
)
def test_pictures_that_are_not_read_are_known(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    put(tmp_path, name, content=content)
    assert re.search(what, why_unread(str(tmp_path / name)) or "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", PNG),
        ("scores.csv", b"GIF8"),
        ("BMW", b"BMW, VW, Audi and others"),
        ("clip.mp4", b"\0\0\0\x18ftypisom\0\0\0\0"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0"),
        ("empty", b""),
    ],
)
def test_other_files_are_no_pictures(tmp_path: Path, name: str, content: bytes) -> None:
    put(tmp_path, name, content=content)
    assert why_unread(str(tmp_path / name)) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert why_unread(str(tmp_path / "pipe")) is None


def test_everything_in_a_folder_is_counted_once(tmp_path: Path) -> None:
    put(
        tmp_path, "b.JPG", "a.jfif", "c.jpe", "d.webp", "e.heic", "f", ".hidden.png", "g.txt", "sub.png/x.png"
    )
    found = folder_files(str(tmp_path), str(tmp_path))
    assert found.images == ["a.jfif", "b.JPG", "c.jpe", "d.webp"]
    assert list(found.unread) == ["e.heic", "f"]
    assert found.others == [".hidden.png", "g.txt"]
    assert found.folders == ["sub.png"]


def test_identities_and_what_is_left_out_beside_and_below_them(tmp_path: Path) -> None:
    put(
        tmp_path,
        "Bob/1.png",
        "Ann/2.jpe",
        "Ann/1.heic",
        "Ann/old/3.png",
        "Ann/old/deep/4.gif",
        "Ann/old/x.txt",
    )
    put(tmp_path, "sheet.png", "README", "Ann/notes.txt", "Ann/old/.5.png", content=b"text")
    found = identity_folders(str(tmp_path))
    assert found.images == {"Ann": ["Ann/2.jpe"], "Bob": ["Bob/1.png"]}
    assert list(found.unread) == ["sheet.png", "Ann/1.heic", "Ann/old/3.png", "Ann/old/deep/4.gif"]
    assert found.others == ["README", "Ann/notes.txt"]
    assert found.notes[0].startswith("pictures left out: 4: sheet.png (it lies beside")
    assert found.notes[0].endswith("and 1 more.")
    assert found.notes[1] == "files passed over, hidden or no pictures: 2: README, Ann/notes.txt."


def test_links_may_lead_anywhere_within_the_root(tmp_path: Path) -> None:
    put(tmp_path, "set/a/1.png", "set2/2.png")
    inside, outside = tmp_path / "set/inside.png", tmp_path / "set/outside.png"
    inside.symlink_to(tmp_path / "set/a/1.png")
    assert folder_files(str(tmp_path / "set"), str(tmp_path / "set")).images == ["inside.png"]
    assert is_inside(str(inside), str(tmp_path / "set"))
    outside.symlink_to(tmp_path / "set2/2.png")
    assert not is_inside(str(outside), str(tmp_path / "set"))
    with pytest.raises(ValueError, match="outside.png is a broken link or leads out of"):
        folder_files(str(tmp_path / "set"), str(tmp_path / "set"))

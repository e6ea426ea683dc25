"""What is read from files and folders, and what becomes of that which cannot be."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import write_records
from igfiqa_head.io.verification_bin import write_verification_bin
from igfiqa_head.scoring.sources import Picture, Source, Unread, open_sources


def image(seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def png(seed: int = 0, size: int = 16) -> bytes:
    return encode_image(image(seed, size), ".png")


def write_video(path: Path, frames: int, size: int = 64) -> Path:
    """Grey frames, frame i of the grey level 4 i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (size, size))
    for frame in range(frames):
        writer.write(np.full((size, size, 3), 4 * frame, np.uint8))
    writer.release()
    return path


def read(*inputs: Path, every: int = 1) -> list[Picture | Unread]:
    found: list[Picture | Unread] = []
    for source in open_sources(inputs, every=every):
        found += [source] if isinstance(source, Unread) else source.pictures()
    return found


def names(*inputs: Path) -> list[str]:
    return [str(Path(item.source).relative_to(inputs[0])) for item in read(*inputs)]


def test_folders_are_searched_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.jpeg", "a/x/deep.webp", "z.bmp", "notes.txt", ".hidden/1.png", "b/.1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    assert names(tmp_path) == ["z.bmp", "a/x/deep.webp", "b/1.jpeg", "b/2.PNG"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(png())
    (tmp_path / "a/back").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    found = read(tmp_path)
    assert [item.source for item in found] == [str(tmp_path / "self.png"), str(tmp_path / "a/1.png")]
    assert isinstance(found[0], Unread)


def test_links_that_lead_out_of_a_folder_are_listed_unless_asked_for(tmp_path: Path) -> None:
    for name in ("mine/1.png", "set/2.png", "set/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png())
    (tmp_path / "set/folder").symlink_to(tmp_path / "mine")
    (tmp_path / "set/face.png").symlink_to(tmp_path / "mine/1.png")
    (tmp_path / "set/linked.txt").symlink_to(tmp_path / "mine/1.png")
    (tmp_path / "given").symlink_to(tmp_path / "set")
    passed_over: list[str] = []
    found = open_sources([tmp_path / "given"], pass_over=passed_over.append)
    reason = f"it is a broken link or leads out of {tmp_path / 'given'}; "
    reason += "--follow-links follows those that lead out"
    left = [Unread(str(tmp_path / "given" / name), reason) for name in ("face.png", "folder")]
    assert [item for item in found if isinstance(item, Unread)] == left
    assert [item.name for item in found if isinstance(item, Source)] == [str(tmp_path / "given/2.png")]
    assert passed_over == [str(tmp_path / "given" / name) for name in ("linked.txt", "notes.txt")]
    followed = open_sources([tmp_path / "given"], follow_links=True)
    files = ["2.png", "face.png", "folder/1.png"]
    assert [item.name for item in followed if isinstance(item, Source)] == [
        str(tmp_path / "given" / name) for name in files
    ]


def test_pixels_are_bgr(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png())
    (picture,) = read(tmp_path / "1.png")
    assert isinstance(picture, Picture)
    np.testing.assert_array_equal(picture.bgr, image()[..., ::-1])
    assert (picture.folder, picture.frame) == (str(tmp_path), None)


def test_a_named_file_may_have_any_suffix(tmp_path: Path) -> None:
    (tmp_path / "face.dat").write_bytes(png())
    assert isinstance(read(tmp_path / "face.dat")[0], Picture)


def test_records_bear_their_keys_and_lie_in_their_labels(tmp_path: Path) -> None:
    write_records(tmp_path, [png(0), png(1), png(2)], [0, 0, 1], image_size=16)
    found = read(tmp_path)
    record_file = tmp_path / "train.rec"
    assert [item.source for item in found] == [f"{record_file}/{key}" for key in (1, 2, 3)]
    assert [item.folder for item in found if isinstance(item, Picture)] == [
        f"{record_file}/{label}" for label in (0, 0, 1)
    ]
    np.testing.assert_array_equal(found[2].bgr, image(2)[..., ::-1])  # type: ignore[union-attr]
    (source,) = open_sources([record_file])
    assert isinstance(source, Source)
    assert source.count == 3


def test_a_bad_record_leaves_the_others(tmp_path: Path) -> None:
    write_records(tmp_path, [png(0), b"no image", png(2)], [0, 0, 1], image_size=16)
    found = read(tmp_path / "train.rec")
    assert [type(item) for item in found] == [Picture, Unread, Picture]
    (tmp_path / "train.idx").unlink()
    (unread,) = read(tmp_path / "train.rec")
    assert isinstance(unread, Unread)
    assert "train.idx" in unread.reason


def test_images_of_a_verification_set_bear_their_index(tmp_path: Path) -> None:
    path = tmp_path / "pairs.bin"
    write_verification_bin(path, [png(0), b"no image", png(2), png(3)], np.array([True, False]))
    found = read(path)
    assert [item.source for item in found] == [f"{path}/{index}" for index in range(4)]
    assert [type(item) for item in found] == [Picture, Unread, Picture, Picture]
    path.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    assert [type(item) for item in read(path)] == [Unread]
    assert not Path("ran").exists()


@pytest.mark.parametrize(("every", "frames"), [(1, list(range(10))), (4, [0, 4, 8]), (50, [0])])
def test_every_nth_frame_of_a_video(tmp_path: Path, every: int, frames: list[int]) -> None:
    found = read(write_video(tmp_path / "clip.avi", 10), every=every)
    assert [item.frame for item in found] == frames
    for item in found:
        assert isinstance(item, Picture)
        assert item.bgr.shape == (64, 64, 3)
        assert abs(float(item.bgr.mean()) - 4 * item.frame) < 3  # type: ignore[operator]
    (source,) = open_sources([tmp_path / "clip.avi"], every=every)
    assert isinstance(source, Source)
    assert source.count == len(frames)


def test_a_video_that_ends_early_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *frames, last = read(path)
    assert 0 < len(frames) < 36
    assert isinstance(last, Unread)
    assert "of 40 frames: damaged or truncated" in last.reason


def bomb() -> bytes:
    """A PNG that announces 3.6 gigapixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "not a JPEG"),
        ("text.png", b"hello", "not a JPEG"),
        ("cut.png", png()[:200], "damaged or truncated"),
        ("bomb.png", bomb(), "more than the limit"),
        ("clip.mp4", b"no video", "cannot be opened"),
        ("pairs.bin", b"no pickle", "pairs.bin"),
        ("train.rec", b"no record", "needs its index train.idx beside it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_files_give_one_line(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    (unread,) = read(tmp_path / name)
    assert isinstance(unread, Unread)
    assert unread.source == str(tmp_path / name)
    assert reason in unread.reason
    assert "\n" not in unread.reason


def test_the_limit_of_pixels_is_that_of_records_and_sets_too(tmp_path: Path) -> None:
    write_records(tmp_path, [png()], [0], image_size=16)
    write_verification_bin(tmp_path / "set.bin", [png(), png()], [True])
    inputs = [tmp_path / "train.rec", tmp_path / "set.bin"]
    for limit, kind in ((16 * 16, Picture), (16 * 16 - 1, Unread)):
        sources = [source for source in open_sources(inputs, max_pixels=limit) if isinstance(source, Source)]
        assert [type(item) for source in sources for item in source.pictures()] == 3 * [kind]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["pipe.png", "pipe.bin", "pipe.mp4"])
def test_nobody_waits_for_a_pipe(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (unread,) = read(tmp_path / name)
    assert isinstance(unread, Unread)
    assert unread.reason == "it is a pipe, expected a regular file"


def test_files_beside_images_that_cannot_be_opened_stop_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("igfiqa_head.io.image_files.open", refuse, raising=False)
    (tmp_path / "face.png").write_bytes(png())
    for name in ("others.bin", "others.dat"):
        (tmp_path / name).write_bytes(b"of somebody else")
    passed_over: list[str] = []
    (source,) = open_sources([tmp_path], pass_over=passed_over.append)
    assert isinstance(source, Source)
    assert [Path(path).name for path in passed_over] == ["others.bin", "others.dat"]


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    (unread,) = read(tmp_path)
    assert isinstance(unread, Unread)
    assert "no image" in unread.reason


def test_inputs_that_do_not_exist_and_a_senseless_step(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file or folder .*nowhere"):
        open_sources([tmp_path, tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        open_sources([tmp_path], every=0)

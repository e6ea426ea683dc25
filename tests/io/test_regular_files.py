import os
import socket
from pathlib import Path

import pytest

from igfiqa_head.io.regular_files import read_regular, regular

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")


def test_the_content_of_a_file_is_read_and_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"content")
    (tmp_path / "link.txt").symlink_to(tmp_path / "file.txt")
    assert read_regular(tmp_path / "link.txt") == b"content"
    with open(tmp_path / "file.txt", encoding="ascii", opener=regular) as file:
        assert file.read() == "content"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OSError, match="it is a pipe, expected a regular file"):
        read_regular(tmp_path / "pipe.csv")


def test_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "endless.onnx").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="it is a device, expected a regular file"):
        read_regular(tmp_path / "endless.onnx")


def test_a_socket_and_a_folder_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="s'$"):
            read_regular(tmp_path / "s")
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


def test_no_descriptor_stays_open_after_a_refusal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    for _ in range(3):
        with pytest.raises(OSError, match="it is a pipe"):
            read_regular(tmp_path / "pipe")
    assert len(before) == len(os.listdir("/proc/self/fd") if before else [])

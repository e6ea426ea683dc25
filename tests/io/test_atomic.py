from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from igfiqa_head.io.atomic import atomic_path, check_writable, make_folder


def test_the_file_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "metrics.json"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == tmp_path
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["metrics.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "model.pt"
    target.write_text("old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "forgotten"):
        pass


def test_writers_that_look_at_the_suffix_work(tmp_path: Path) -> None:
    with atomic_path(str(tmp_path / "scores.npy")) as temporary:
        np.save(temporary, np.arange(3))
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), np.arange(3))


def test_a_link_keeps_pointing_to_its_target(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real = tmp_path / "disk" / "model.pt"
    real.write_text("old")
    link = tmp_path / "model.pt"
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.touch()
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_private_file_is_this_users_alone_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "face.npy").touch(0o644)
    with atomic_path(tmp_path / "face.npy", private=True) as temporary:
        temporary.write_text("new")
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "face.npy").stat().st_mode) == 0o600


def test_an_error_names_the_path_of_the_user_and_not_the_temporary_one(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "scores.csv", tmp_path):
        with pytest.raises(OSError) as caught, atomic_path(path) as temporary:  # noqa: PT011
            temporary.write_text("new")
        assert str(caught.value).endswith(f": {str(path)!r}")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "it is a folder, expected the name of a file"),
        ("none/x.csv", "there is no folder .*none"),
        ("file/x.csv", "there is no folder .*file"),
        ("pipe", "it is no ordinary file"),
    ],
)
def test_what_cannot_be_written_is_known_before(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=f"{name} cannot be written: {reason}"):
        check_writable(tmp_path / name)


def test_a_folder_that_cannot_be_written_to_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file system that is mounted for reading only, permissions tell nothing."""

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system", "/somewhere/tmp1234")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    for check in (lambda: check_writable(tmp_path / "x.csv"), lambda: make_folder(tmp_path / "new")):
        with pytest.raises(ValueError, match=r"the folder .* cannot be written to: Read-only") as caught:
            check()
        assert "tmp1234" not in str(caught.value)


def test_what_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    for name in ("old", "new"):
        check_writable(tmp_path / name)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "old").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a", "old"]


def test_a_folder_in_whose_place_a_file_is_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="the folder .*file cannot be made: File exists"):
        make_folder(tmp_path / "file")

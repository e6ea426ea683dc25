from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from igfiqa_head.io.written_files import (
    LIST_FILE,
    check_one_moment,
    list_written,
    written_together,
)


def write(folder: Path, number: str, instead_of_all: bool = True, **files: str) -> None:
    with written_together(folder, number, instead_of_all=instead_of_all) as new:
        for name, text in files.items():
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != LIST_FILE
    )


def test_the_next_run_removes_what_it_does_not_write_again(tmp_path: Path) -> None:
    write(tmp_path, "1", **{"a": "1", "figures/b": "1", "figures/c": "1"})
    write(tmp_path, "2", **{"a": "2", "figures/c": "2"})
    assert names(tmp_path) == ["a", "figures/c"]
    files = json.loads((tmp_path / LIST_FILE).read_text())["files"]
    assert {name: file["number"] for name, file in files.items()} == {"a": "2", "figures/c": "2"}


def test_files_of_the_user_stay(tmp_path: Path) -> None:
    """Those put there, and those changed since."""
    write(tmp_path, "1", **{"a": "1", "figures/b": "1"})
    (tmp_path / "figures/paper").write_text("mine")
    (tmp_path / "figures/b").write_text("changed")
    (tmp_path / "notes").write_text("mine")
    write(tmp_path, "2", a="2")
    assert names(tmp_path) == ["a", "figures/b", "figures/paper", "notes"]


def test_a_part_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    write(tmp_path, "1", a="1", b="1")
    write(tmp_path, "1", instead_of_all=False, b="2")
    assert names(tmp_path) == ["a", "b"]
    check_one_moment(tmp_path, ["a", "b"], "again")


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "1", a="1")

    def fail() -> None:
        with written_together(tmp_path, "2", instead_of_all=True) as new:
            (new / "a").write_text("2")
            (new / "none" / "b").write_text("2")

    with pytest.raises(FileNotFoundError) as caught:
        fail()
    assert caught.value.filename == str(tmp_path / "none" / "b")
    assert (tmp_path / "a").read_text() == "1"
    assert sorted(os.listdir(tmp_path)) == [LIST_FILE, "a"]


@pytest.mark.parametrize("renames", range(5))
def test_an_interruption_of_the_replacement_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """And the run after it knows all files for its own."""
    write(tmp_path, "1", a="1", b="1")
    real, done = os.replace, []

    def stop(*paths: object) -> None:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(paths)
        real(*paths)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, "2", a="2", b="2", c="2")
    if renames == 0:
        check_one_moment(tmp_path, ["a", "b"], "again")
    else:  # the list comes first, then the files, then the list
        reason = r"is of another moment than the files around it|holds files of two runs"
        with pytest.raises(ValueError, match=f"({reason}).*: again"):
            check_one_moment(tmp_path, ["a", "b"], "again")
    write(tmp_path, "3", a="3", b="3")
    check_one_moment(tmp_path, ["a", "b"], "again")
    assert names(tmp_path) == ["a", "b"]


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".igfiqa-new-abcdefgh"
    (left / "figures").mkdir(parents=True)
    (left / "figures" / "a").write_text("half")
    (tmp_path / ".igfiqa-new-linked").symlink_to(tmp_path.parent)
    write(tmp_path, "1", a="1")
    assert not left.exists()
    assert tmp_path.parent.exists()


def test_a_file_of_another_run_or_of_the_user_is_named(tmp_path: Path) -> None:
    write(tmp_path, "1", a="1", b="1")
    write(tmp_path, "2", instead_of_all=False, b="2")
    with pytest.raises(ValueError, match="b is of another run than a beside it: again"):
        check_one_moment(tmp_path, ["a", "b"], "again")
    (tmp_path / "c").write_text("mine")
    with pytest.raises(ValueError, match="c is of another moment"):
        check_one_moment(tmp_path, ["a", "c"], "again")
    list_written(tmp_path, ["c"], "1")
    check_one_moment(tmp_path, ["a", "c"], "again")


def test_folders_without_a_list_are_not_checked(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    check_one_moment(tmp_path, ["a", "b", "c"], "again")


def test_a_subfolder_that_is_a_link_is_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    write(folder, "1", **{"a": "1", "figures/b": "1"})
    (folder / "figures").rename(elsewhere)
    (folder / "figures").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="figures is a link"):
        write(folder, "2", **{"a": "2", "figures/b": "2"})
    write(folder, "2", a="2")
    assert (elsewhere / "b").read_text() == "1"


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, "1", a="1")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="b cannot be written: a folder has its name"):
        write(tmp_path, "2", a="2", b="2")
    assert (tmp_path / "a").read_text() == "1"


@pytest.mark.parametrize(
    "name", ["../precious", "/precious", "a/../../precious", "a/b/c", "..\\precious", ".", "a/.."]
)
def test_names_of_a_strangers_list_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    files = {name: {"number": "1", "sha256": "0"}}
    (tmp_path / LIST_FILE).write_text(json.dumps({"files": files, "is_whole": True}))
    with pytest.raises(ValueError, match="the list of written files .* is damaged: remove it"):
        write(tmp_path, "2", a="2")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {"a": {}}}',
        '{"files": {"a": {"number": 1, "sha256": ""}}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_list_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / LIST_FILE).write_text(content)
    with pytest.raises(ValueError, match="is damaged: remove it"):
        check_one_moment(tmp_path, [], "")


def test_a_pipe_in_the_place_of_the_list_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LIST_FILE)
    with pytest.raises(ValueError, match="is damaged: remove it"):
        check_one_moment(tmp_path, [], "")


def test_a_file_behind_a_link_is_not_removed(tmp_path: Path) -> None:
    """Nor is the link, which the user made."""
    write(tmp_path, "1", a="1", b="1")
    (tmp_path / "b").rename(tmp_path / "kept")
    (tmp_path / "b").symlink_to("kept")
    write(tmp_path, "2", a="2")
    assert names(tmp_path) == ["a", "b", "kept"]

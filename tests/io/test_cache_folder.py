"""Caches of faces: private, limited, and emptied of nothing but their own."""

from __future__ import annotations

import os
import pwd
import stat
import time
from pathlib import Path

import pytest

from eval_tools.cli import main as evaluate
from igfiqa_head.cli import main
from igfiqa_head.faces import find_pack
from igfiqa_head.io.cache_folder import clear, default_folder, entries, open_folder

DAY = 24 * 3600
EMBEDDINGS = "0123456789abcdef" * 4 + ".f32"
DECODED = [f"decoded-0123456789abcdef.{suffix}" for suffix in ("npy", "json", "lock")]
ABANDONED = [f".{'ab' * 32}.0123456789ab.f32", ".decoded-0123456789abcdef.0123456789ab.npy"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def make(folder: Path, name: str, *, size: int = 10, days: float = 0) -> Path:
    """A file that was last used some days ago."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(bytes(size))
    os.utime(path, (0, time.time() - days * DAY))
    return path


def embeddings(number: int) -> str:
    return f"{number:064x}.f32"


def test_a_new_one_is_private_and_known_as_a_cache(tmp_path: Path) -> None:
    open_folder(tmp_path / "a" / "cache")
    assert mode(tmp_path / "a" / "cache") == 0o700
    tag = (tmp_path / "a" / "cache" / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_one_of_an_earlier_version_is_made_private(tmp_path: Path) -> None:
    file = make(tmp_path / "cache", EMBEDDINGS)
    (tmp_path / "cache").chmod(0o755)
    file.chmod(0o644)
    open_folder(tmp_path / "cache")
    assert (mode(tmp_path / "cache"), mode(file)) == (0o700, 0o600)


def test_a_folder_with_files_of_the_user_keeps_its_permissions_and_stays_in_backups(tmp_path: Path) -> None:
    ours, theirs = make(tmp_path, EMBEDDINGS), make(tmp_path, "thesis.tex")
    for path, before in ((tmp_path, 0o755), (ours, 0o644), (theirs, 0o644)):
        path.chmod(before)
    open_folder(tmp_path)
    assert (mode(tmp_path), mode(ours), mode(theirs)) == (0o755, 0o600, 0o644)
    assert not (tmp_path / "CACHEDIR.TAG").exists()


def test_a_folder_for_all_users_stays_so(tmp_path: Path) -> None:
    file = make(tmp_path, DECODED[0])
    file.chmod(0o644)
    tmp_path.chmod(0o1777)
    open_folder(tmp_path)
    assert (mode(tmp_path), mode(file)) == (0o1777, 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_what_was_long_unused_is_removed(tmp_path: Path) -> None:
    old, new = make(tmp_path, embeddings(1), days=91), make(tmp_path, embeddings(2), days=89)
    for name in DECODED[:2]:
        make(tmp_path, name, days=200)
    lock = make(tmp_path, DECODED[2], days=2)  # one result was used when the last of its files was
    open_folder(tmp_path)
    assert not old.exists()
    assert {new, lock, *(tmp_path / name for name in DECODED)} <= set(tmp_path.iterdir())


def test_what_was_unused_for_longest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IGFIQA_CACHE_GB", "25e-9")
    files = [make(tmp_path, embeddings(days), days=days) for days in (2, 3, 4, 5)]
    open_folder(tmp_path)
    assert [path.exists() for path in files] == [True, True, False, False]


def test_what_was_used_within_a_day_stays_as_a_run_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IGFIQA_CACHE_GB", "0")
    today, earlier = make(tmp_path, embeddings(1), days=0.9), make(tmp_path, embeddings(2), days=1.1)
    open_folder(tmp_path)
    assert (today.exists(), earlier.exists()) == (True, False)


def test_a_size_that_was_asked_for_is_not_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IGFIQA_CACHE_GB", "0")
    file = make(tmp_path, DECODED[0], days=80)
    open_folder(tmp_path, limit_size=False)
    assert file.exists()
    monkeypatch.setenv("IGFIQA_CACHE_DAYS", "79")
    open_folder(tmp_path, limit_size=False)
    assert not file.exists()


@pytest.mark.parametrize("value", ["ten", "-1", "nan", ""])
def test_a_limit_that_is_no_number_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("IGFIQA_CACHE_DAYS", value)
    with pytest.raises(ValueError, match=f"IGFIQA_CACHE_DAYS must be a number from 0 to inf, got '{value}'"):
        open_folder(tmp_path)


def test_only_our_own_files_are_removed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "cache", tmp_path / "outside"
    outside.mkdir()
    ours = [make(folder, name) for name in (EMBEDDINGS, *DECODED, *ABANDONED)]
    names = ("holiday.npy", "0123456789abcdef.npy", "x" + EMBEDDINGS, EMBEDDINGS + ".bak", embeddings(1)[1:])
    theirs = [make(folder, name) for name in names]
    theirs.append(make(outside, embeddings(2)))
    (folder / embeddings(2)).symlink_to(outside / embeddings(2))
    (folder / embeddings(3)).mkdir()
    theirs += [make(folder / embeddings(3), embeddings(4)), folder / embeddings(2)]
    assert sum(len(entry.paths) for entry in entries(folder)) == len(ours)
    assert sum(entry.size for entry in clear(folder)) == 10 * len(ours)
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in theirs)


def test_the_command_tells_of_caches_and_clears_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "igfiqa", EMBEDDINGS, size=3_200_000, days=12)
    make(tmp_path / "igfiqa", embeddings(1), size=100_000)
    (tmp_path / "work_dirs").mkdir()
    make(tmp_path / "work_dirs" / "cache", EMBEDDINGS, size=100_000)
    assert main(["cache", "info"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/igfiqa: 2 results, 3.3 MB, the oldest last used 12 days ago",
        "work_dirs/cache: 1 result, 0.1 MB, the oldest last used 0 days ago",
        "limits: 90 days without use, 10 GB (decoded images: any size)",
    ]
    assert main(["cache", "clear", "work_dirs/cache"]) == 0
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{tmp_path}/igfiqa: removed 2 results, 3.3 MB")
    assert not list(tmp_path.rglob("*.f32"))


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "info", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


@pytest.fixture
def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HOME, and a user of whom the system knows nothing, as in many containers."""
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}[0])


@pytest.mark.usefixtures("without_home")
def test_without_a_home_there_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert default_folder() is None


@pytest.mark.usefixtures("without_home")
def test_commands_work_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cache", "info"]) == 0
    assert "nothing is kept in work_dirs/cache" in capsys.readouterr().out
    assert evaluate(["verify", "none.bin", "--recogniser", "none.onnx"]) == 2
    assert "none.bin" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there is no insightface pack '~'"):
        find_pack("~")

"""The folder of a run: what is replaced, what is removed and what stays."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval_tools import outputs
from eval_tools.outputs import INPUTS, results_folder, write_outputs
from eval_tools.results import ARRAYS_FILE, JSON_FILE, Comparison
from tests.eval_tools.simulated import simulated_comparison


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page, and figures that say what they show."""

    def figures(comparison: Comparison, _: object) -> Iterator[tuple[str, object]]:
        for method in comparison.names("method"):
            yield method, lambda path, method=method: path.write_text(method)

    monkeypatch.setattr(outputs, "_figures", figures)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


def _comparison(*methods: str) -> Comparison:
    return simulated_comparison(("a",), ("r",), methods, n_pairs=60)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_the_user_stay_and_ours_go(tmp_path: Path) -> None:
    write_outputs(_comparison("m", "n"), tmp_path)
    users = ("figures/paper_figure.svg", "erc_notes.md", "verification.docx", "figures/n.pdf", ".hidden")
    for name in users:
        (tmp_path / name).write_text("mine")
    write_outputs(_comparison("m"), tmp_path)
    assert all((tmp_path / name).read_text() == "mine" for name in users)
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert figures == ["m.pdf", "m.png", "n.pdf", "paper_figure.svg"]  # n.pdf was changed, n.png was not


def test_results_without_a_list_keep_what_is_not_replaced(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    _comparison("m").save(tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/n.png").write_text("an earlier run's, or not")
    with results_folder(tmp_path, {}):
        write_outputs(_comparison("m"), tmp_path)
    assert (tmp_path / "figures/n.png").exists()


def test_figures_that_are_a_link_are_refused_before_the_work(tmp_path: Path) -> None:
    results, private = tmp_path / "results", tmp_path / "private"
    private.mkdir()
    (private / "thesis.tex").write_text("precious")
    results.mkdir()
    (results / "figures").symlink_to(private)
    with pytest.raises(ValueError, match="figures is a link"), results_folder(results, {}):
        pytest.fail("worked")
    with pytest.raises(ValueError, match="figures is a link"):
        write_outputs(_comparison("m"), results)
    assert _content(private) == {"thesis.tex": b"precious"}


def test_a_linked_results_folder_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    with results_folder(tmp_path / "data" / "results", {}):
        write_outputs(_comparison("m"), tmp_path / "data" / "results")
    assert (tmp_path / "disk" / "results" / JSON_FILE).is_file()


def test_a_folder_among_the_figures_is_the_users(tmp_path: Path) -> None:
    write_outputs(_comparison("m"), tmp_path)
    (tmp_path / "figures/drafts").mkdir()
    write_outputs(_comparison("m"), tmp_path)
    assert (tmp_path / "figures/drafts").is_dir()


def test_a_full_disk_leaves_the_old_results_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_outputs(_comparison("m"), tmp_path)
    before = _content(tmp_path)

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("json.dumps", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_outputs(_comparison("m", "n"), tmp_path)
    assert caught.value.filename == str(tmp_path / JSON_FILE)
    assert _content(tmp_path) == before


@pytest.mark.parametrize("renames", [2, 3, 4, 8])
def test_a_run_that_is_killed_between_two_files_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """And does not stand in the way of the next one."""
    write_outputs(_comparison("m", "n"), tmp_path)
    real, done = os.replace, []

    def stop(source: Path, target: Path) -> None:
        if Path(target).parent == tmp_path:
            if len(done) == renames:
                raise KeyboardInterrupt
            done.append(target)
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_outputs(_comparison("m", "n"), tmp_path)
    with pytest.raises(
        ValueError, match=r"of another moment|of two runs.*run the command that wrote them again"
    ):
        Comparison.load(tmp_path)
    with results_folder(tmp_path, {}):
        write_outputs(_comparison("m", "n"), tmp_path)
    Comparison.load(tmp_path)


@pytest.mark.parametrize("name", [JSON_FILE, ARRAYS_FILE])
def test_files_of_two_runs_are_refused_by_name(tmp_path: Path, name: str) -> None:
    """Those that were written over each other, and those that were copied to a new folder."""
    for run, method in (("one", "m"), ("two", "n")):
        (tmp_path / run).mkdir()
        write_outputs(_comparison(method), tmp_path / run)
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    with pytest.raises(ValueError, match=f"{name} is of another moment than the files around it: run the"):
        Comparison.load(tmp_path / "one")
    (tmp_path / "copied").mkdir()
    for file in (JSON_FILE, ARRAYS_FILE):
        (tmp_path / "copied" / file).write_bytes((tmp_path / "one" / file).read_bytes())
    with pytest.raises(ValueError, match=f"{ARRAYS_FILE} is of another run than {JSON_FILE} beside it"):
        Comparison.load(tmp_path / "copied")


def test_a_first_run_that_was_killed_does_not_stand_in_the_way(tmp_path: Path) -> None:
    write_outputs(_comparison("m"), tmp_path)
    (tmp_path / JSON_FILE).unlink()
    with results_folder(tmp_path, {"quality": "m"}):
        write_outputs(_comparison("m"), tmp_path)


def test_the_files_of_a_run_have_one_number(tmp_path: Path) -> None:
    comparison = _comparison("m")
    write_outputs(comparison, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["number"] == comparison.number
    assert Comparison.load(tmp_path).number == comparison.number != _comparison("m").number


def test_what_killed_writers_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    for name in (".arrays.0123456789ab.npz", ".igfiqa.lock", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / ".igfiqa-new-abcdefgh" / "figures").mkdir(parents=True)
    (tmp_path / "figures").mkdir()
    with results_folder(tmp_path, {}):
        write_outputs(_comparison("m"), tmp_path)
    assert not (tmp_path / ".igfiqa-new-abcdefgh").exists()


@pytest.mark.parametrize("name", ["notes.md", "figures/photo.png"])
def test_a_folder_of_other_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / name).write_text("mine")
    with (
        pytest.raises(ValueError, match=f"holds other files, such as .*{name}"),
        results_folder(tmp_path, {}),
    ):
        pass


def test_results_of_other_inputs_are_replaced_only_if_asked(tmp_path: Path) -> None:
    settings = {INPUTS: "0123", "command": "igfiqa-eval compare a.bin"}
    simulated_comparison(("a",), ("r",), ("m",), n_pairs=60, settings=settings).save(tmp_path)
    with results_folder(tmp_path, settings | {"target FMRs": "0.1", "date": "today"}):
        pass
    for other in (settings | {INPUTS: "4567"}, {}):
        told = r"results of other inputs .* \(command: igfiqa-eval compare a.bin\): .* --overwrite"
        with pytest.raises(ValueError, match=told), results_folder(tmp_path, other):
            pass
        with results_folder(tmp_path, other, overwrite=True):
            pass

"""``igfiqa-eval`` from arguments to files, on small sets that the tests make."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval_tools.cli import main
from eval_tools.cli.arguments import split_name
from eval_tools.outputs import _file_name
from eval_tools.results import Comparison
from igfiqa_head.calibration import Calibration
from igfiqa_head.io.folder_lock import locked
from tests.eval_tools.faces import SIZE, write_pair_set, write_people
from tests.eval_tools.simulated import simulated_comparison
from tests.onnx_models import write_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_pair_set(folder / "pairs.bin")
    write_model(folder / "recogniser.onnx", size=SIZE)
    write_model(folder / "quality.onnx", {"quality": 1}, size=SIZE)
    write_people(folder / "people")
    return folder


@pytest.fixture
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write to, with the models beside it."""
    for path in models.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def run(text: str) -> int:
    return main(text.split())


COMPARE = (
    "compare pairs.bin all=people --recogniser fr=recogniser.onnx "
    "--quality q=quality.onnx norm random --fmr 0.1"
)


def test_names_of_many_bytes_are_names_of_figures_too() -> None:
    names = [_file_name("det", "人" * 80), _file_name("det", "人" * 80 + "脸")]
    assert len(set(names)) == 2
    assert max(len(f".{name}.123456789012.png".encode()) for name in names) <= 255
    assert _file_name("erc", "fr", "fixed", "0.1") == "erc_fr_fixed_0.1"


def test_an_argument_longer_than_a_file_name_may_be_is_split() -> None:
    name = "n" * 300
    assert split_name(f"{name}=pairs.bin") == (name, "pairs.bin")


def test_compare_writes_tables_figures_and_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{COMPARE} --degrade 0.4 --bootstrap 40 --output results") == 0
    printed = capsys.readouterr().out
    assert "protocol fixed" in printed
    assert "protocol crfiqa" in printed
    assert "all (40 % degraded)" in printed
    names = {
        str(path.relative_to(here / "results")) for path in (here / "results").rglob("*") if path.is_file()
    }
    for expected in (
        "results.json",
        "erc_fixed.csv",
        "erc_crfiqa.tex",
        "verification.csv",
        "figures/erc_fr_fixed_0.1.png",
        "figures/erc_fr_fixed_0.1.pdf",
        "figures/quality_q.png",
        "figures/det_pairs.png",
        "figures/similarity_pairs_fr.pdf",
        "report.html",
    ):
        assert expected in names, sorted(names)
    comparison = Comparison.load(here / "results")
    assert comparison.names("method") == ["q", "norm", "random"]
    units = {m.band.unit for k, m in comparison.curves.items() if k.test_set == "all" and m.band}
    assert units == {"identities"}
    assert {m.band.unit for k, m in comparison.curves.items() if k.test_set == "pairs" and m.band} == {
        "pairs"
    }


def test_the_files_agree_with_each_other(here: Path) -> None:
    assert run(f"{COMPARE} --bootstrap 0 --output results") == 0
    document = json.loads((here / "results/results.json").read_text())
    with open(here / "results/erc_fixed.csv", newline="") as file:
        rows = {row["quality"]: row for row in csv.DictReader(file)}
    for method, curve in document["test_sets"]["pairs"]["fr"]["erc"]["fixed"]["0.1"].items():
        assert float(rows[method]["pairs FMR 0.1"]) == curve["area"]


def test_a_second_run_computes_nothing_anew(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(f"{COMPARE} --bootstrap 0 --output first") == 0
    calls = []
    monkeypatch.setattr("eval_tools.models.OnnxRecogniser.__call__", lambda *_: calls.append("recogniser"))
    monkeypatch.setattr("eval_tools.models.OnnxQuality.__call__", lambda *_: calls.append("quality"))
    assert run(f"{COMPARE} --bootstrap 0 --output second") == 0
    assert not calls
    first, second = (json.loads((here / name / "results.json").read_text()) for name in ("first", "second"))
    assert first["test_sets"] == second["test_sets"]


def test_verify(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify pairs.bin people --recogniser recogniser.onnx --fmr 0.1 --output results") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["recogniser", "accuracy", "EER", "TAR@0.1", "EER", "TAR@0.1"]
    measured = json.loads((here / "results/results.json").read_text())["test_sets"]
    assert measured["people"]["recogniser"]["accuracy"] is None  # all pairs have no folds
    assert measured["pairs"]["recogniser"]["accuracy"] > 0.8
    assert measured["people"]["recogniser"]["n_genuine"] == 6 * 4 * 3 // 2


def test_erc_of_scored_pairs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    genuine = np.arange(400) % 2 == 0
    quality = rng.random((400, 2))
    similarity = np.where(genuine, quality.min(axis=1), 0.2 * rng.random(400))
    rows = ["similarity,is_genuine,good_a,good_b,noise"]
    rows += [
        f"{s},{int(g)},{a},{b},{n}"
        for s, g, (a, b), n in zip(similarity, genuine, quality, rng.random(400), strict=True)
    ]
    (here / "scores.csv").write_text("\n".join(rows))
    assert run("erc scores.csv --fmr 0.05 --bootstrap 40 --output results") == 0
    areas = json.loads((here / "results/results.json").read_text())["test_sets"]["scores"]["given scores"][
        "erc"
    ]
    good, noise = areas["fixed"]["0.05"]["good"], areas["fixed"]["0.05"]["noise"]
    assert good["area"] == pytest.approx(good["auc_best"])
    assert good["area"] < 0.7 * noise["area"]
    assert "good" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        "verify {} --recogniser recogniser.onnx --fmr 0.1 --output results --overwrite",
        "compare {} --recogniser recogniser.onnx --quality quality.onnx --bootstrap 0 --overwrite",
        "calibrate {} --quality quality.onnx --output c.json",
        "threshold {} --quality quality.onnx --discard 0.25",
    ],
)
def test_images_of_a_list_are_looked_for_where_they_are_said_to_be(
    here: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (here / "lists").mkdir()
    names = [f"person_{person}/{shot}.png" for person in range(3) for shot in range(2)]
    pairs = [(a, b, int(a[:8] == b[:8])) for a in names for b in names if a < b]
    for name, root in (("relative", ""), ("absolute", f"{here.resolve() / 'people'}/")):
        lines = ["image_a,image_b,is_genuine", *(f"{root}{a},{root}{b},{same}" for a, b, same in pairs)]
        (here / f"lists/{name}.csv").write_text("\n".join(lines))
    assert run(command.format("lists/relative.csv")) == 2
    assert "there is no image" in capsys.readouterr().err
    assert run(command.format("lists/relative.csv --images people")) == 0
    assert run(command.format("lists/absolute.csv")) == 2
    assert "--absolute-paths" in capsys.readouterr().err
    assert run(command.format("lists/absolute.csv --absolute-paths")) == 0


def test_only_settings_that_had_a_part_are_listed(here: Path) -> None:
    """Verification knows no protocol and no resampling, and given scores have no mirror image."""
    of_curves, of_models = {"protocols", "pair quality", "bootstrap"}, {"mirror image"}
    rows = [f"{0.01 * i},{i % 2},{1.5 * i}" for i in range(40)]
    (here / "pairs.csv").write_text("\n".join(["similarity,is_genuine,good", *rows]))
    for command, expected in (
        ("verify pairs.bin --recogniser recogniser.onnx --fmr 0.1", of_models),
        ("erc pairs.csv --fmr 0.1 --bootstrap 0", of_curves),
        (f"{COMPARE} --bootstrap 0", of_models | of_curves),
    ):
        assert run(f"{command} --output results --overwrite") == 0
        settings = json.loads((here / "results/results.json").read_text())["settings"]
        assert settings.keys() & (of_curves | of_models) == expected


@pytest.mark.parametrize(("option", "bands"), [("", None), (" --bands all", True), (" --bands none", False)])
def test_bands_of_figures_are_chosen(
    here: Path, monkeypatch: pytest.MonkeyPatch, option: str, bands: bool | None
) -> None:
    asked = []
    monkeypatch.setattr(
        "eval_tools.outputs.plot_erc_panels", lambda *_, **given: asked.append(given["bands"])
    )
    assert run(f"{COMPARE} --bootstrap 0 --output results{option}") == 0
    assert set(asked) == {bands}


def test_report_of_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated_comparison(("a",), ("r",), ("m", "n"), n_pairs=100).save(here)
    (here / "precious").write_text("mine")
    (here / "report.html").symlink_to("precious")
    assert run(f"report {here} --output page.html") == 0
    assert "page.html" in capsys.readouterr().out
    assert "<html" in (here / "page.html").read_text(encoding="utf-8")
    assert run(f"report {here}") == 0
    assert (here / "report.html").read_bytes() == (here / "page.html").read_bytes()
    assert (here / "precious").read_text() == "mine"


def test_two_runs_with_one_output_and_the_second_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it computes anything; reports of the folder wait as well."""
    (here / "results").mkdir()
    with locked(here / "results", "igfiqa-eval compare"):
        assert run(f"{COMPARE} --bootstrap 0 --output results") == 2
        assert run("report results") == 2
    said = capsys.readouterr()
    assert said.err.count(f"results is being written to by process {os.getpid()} on ") == 2
    assert not said.out
    assert not list((here / "results").rglob("*.*"))


def test_calibrate(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "calibrate people --quality quality.onnx --recogniser recogniser.onnx --fmr 0.1 --output c.json"
    assert run(command) == 0
    calibration = Calibration.load(here / "c.json")
    assert calibration.method == "quality"
    assert calibration.reference == "people"
    assert calibration.fnmr is not None
    assert "expected FNMR" in capsys.readouterr().out


def test_calibrate_without_a_recogniser_gives_percentages(here: Path) -> None:
    assert run("calibrate people --quality sharpness --output c.json") == 0
    assert Calibration.load(here / "c.json").fnmr is None


def test_threshold(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("threshold people --quality quality.onnx --discard 0.25 --output t.json") == 0
    document = json.loads((here / "t.json").read_text())
    assert document["kept"]["n_images_left"] == 18
    assert "25.0 %" in capsys.readouterr().out


def test_threshold_for_an_error_rate_needs_a_recogniser(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("threshold people --quality quality.onnx --fnmr 0.01") == 2
    assert "--recogniser" in capsys.readouterr().err


def _truncated(here: Path) -> str:
    content = (here / "pairs.bin").read_bytes()
    (here / "cut.bin").write_bytes(content[: len(content) // 2])
    return "cut.bin"


def _code(here: Path) -> str:
    (here / "evil.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    return "evil.bin"


def _one_kind(here: Path) -> str:
    write_people(here / "alone", n_people=1)
    return "alone"


def _wrong_count(here: Path) -> str:
    (here / "people/pairs.txt").write_text("1 2\nperson_0 0 1\nperson_0 0 person_1 1\n")
    return "people"


@pytest.mark.parametrize("broken", [_truncated, _code, _one_kind, lambda here: "no_such.bin"])
def test_a_broken_set_gives_one_error(here: Path, capsys: pytest.CaptureFixture[str], broken) -> None:
    name = broken(here)
    assert run(f"verify {name} --recogniser recogniser.onnx") == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith("igfiqa-eval: error: ") or "igfiqa-eval: error:" in "\n".join(errors)
    assert name.split(".")[0] in "\n".join(errors)
    assert not (here / "ran").exists()
    assert not (here / "verification_results").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "verify pairs.bin --recogniser no_such.onnx",
        "verify pairs.bin --recogniser quality.onnx",
        "verify pairs.bin pairs.bin --recogniser recogniser.onnx",
        "verify pairs.bin --recogniser recogniser.onnx --fmr 2",
        "compare pairs.bin --recogniser recogniser.onnx --quality recogniser.onnx",
        "compare pairs.bin --recogniser recogniser.onnx --quality sharpnes",
        "compare pairs.bin --recogniser recogniser.onnx --quality norm --limit 3",
        "compare pairs.bin --recogniser recogniser.onnx --quality norm --degrade 3",
        "report people",
        "erc quality.onnx",
    ],
)
def test_bad_arguments_give_one_error(here: Path, capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_unreadable_images_stop_or_are_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_people(here / "some")
    (here / "some/person_0/0.png").write_bytes(b"no image")
    assert run("verify some --recogniser recogniser.onnx --output results") == 2
    assert "person_0/0.png" in capsys.readouterr().err
    assert run("verify some --recogniser recogniser.onnx --output results --on-bad exclude") == 0
    assert "1 of 24 images" in capsys.readouterr().out
    measured = json.loads((here / "results/results.json").read_text())["test_sets"]["some"]["recogniser"]
    assert measured["n_images"] == 23
    assert measured["n_genuine"] == 6 * 4 * 3 // 2 - 3


def test_wrong_settings_are_found_before_anything_is_computed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("eval_tools.scored_set.apply_cached", lambda *_, **__: calls.append("computed"))
    for wrong in ("--bootstrap 20", "--limit 7", "--fmr 2", "--seed -1", "--output pairs.bin/results"):
        assert run(f"compare pairs.bin --recogniser recogniser.onnx --quality norm {wrong}") == 2
        assert capsys.readouterr().err.count("error:") == 1
    for wrong in ("--knots 1", "--fmr 0"):
        assert run(f"calibrate pairs.bin --quality sharpness {wrong}") == 2
    assert run("threshold pairs.bin --quality sharpness --discard 1") == 2
    assert not calls


def test_inputs_are_the_same_wherever_they_are_named_from(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"verify {{}} --recogniser {here}/recogniser.onnx --fmr 0.1 --output {here}/results"
    for name in ("pairs.bin", here / "pairs.bin"):
        assert run(command.format(name)) == 0
    (here / "elsewhere").mkdir()
    shutil.copy(here / "pairs.bin", here / "elsewhere")
    monkeypatch.chdir(here / "elsewhere")
    assert run(command.format("pairs.bin")) == 2
    assert "holds the results of other inputs" in capsys.readouterr().err


def test_results_of_other_inputs_are_replaced_only_if_asked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And then no file of theirs stays."""
    command = "verify {} --recogniser recogniser.onnx --fmr 0.1 --output results"
    assert run(command.format("pairs.bin")) == 0
    capsys.readouterr()
    assert run(command.format("people")) == 2
    error = "results holds the results of other inputs .*: name another --output, or add --overwrite to"
    assert re.search(error, capsys.readouterr().err)
    assert run(command.format("people") + " --overwrite") == 0
    assert not list((here / "results").rglob("*pairs*"))


def test_other_peoples_files_are_not_touched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine").mkdir()
    (here / "mine/erc_notes.txt").write_text("precious")
    assert run("verify pairs.bin --recogniser recogniser.onnx --output mine") == 2
    assert "erc_notes.txt" in capsys.readouterr().err
    assert (here / "mine/erc_notes.txt").read_text() == "precious"


def test_scores_of_clean_images_are_refused_for_degraded_ones(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "scores.txt").write_text("\n".join(f"{i:05d}.jpg {i}" for i in range(80)))
    command = "compare pairs.bin --recogniser recogniser.onnx --quality scores.txt --bootstrap 0"
    assert run(command) == 0
    assert run(f"{command} --degrade 0.5") == 2
    assert "scores.txt" in capsys.readouterr().err


def test_methods_with_alike_names_have_figures_of_their_own(here: Path) -> None:
    arguments = ["--quality", "a b=norm", "a-b=random", "--bootstrap", "0", "--output", "results"]
    assert main(["compare", "pairs.bin", "--recogniser", "recogniser.onnx", *arguments]) == 0
    figures = {path.name for path in (here / "results/figures").glob("quality_*.png")}
    assert len(figures) == 2


def test_a_name_cannot_command_the_terminal_or_break_a_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--recogniser", "recogniser.onnx", "--quality", "\x1b[2Jevil\nname=norm", "--bootstrap", "0"]
    assert main(["compare", "pairs.bin", *arguments, "--output", "results"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    for path in (here / "results").glob("*.tex"):
        assert "\x1b" not in path.read_text()
    assert main(["verify", "no\x1b[2J\nfile", "--recogniser", "recogniser.onnx"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_the_home_folder_is_found_behind_an_equals_sign(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell expands the ~ of --output=~/results or of NAME=~/file."""
    monkeypatch.setenv("HOME", str(here))
    arguments = "fr=~/recogniser.onnx --quality q=~/quality.onnx --fmr 0.1 --bootstrap 0 --no-cache"
    assert run(f"compare set=~/pairs.bin --recogniser {arguments} --output=~/results") == 0
    assert run("report ~/results --output=~/page.html") == 0
    assert run("calibrate pairs.bin --quality quality.onnx --cache=~/kept --output=~/calibration.json") == 0
    assert all((here / name).exists() for name in ("results", "page.html", "kept", "calibration.json"))
    assert not (here / "~").exists()


@pytest.mark.parametrize(
    "command",
    ["calibrate pairs.bin --quality nowhere", "threshold pairs.bin --discard 0.1 --quality nowhere"],
)
def test_an_output_that_cannot_be_written_is_told_before_the_work(
    here: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Before the models are opened: ``nowhere`` is none."""
    assert run(f"{command} --output none/x.json") == 2
    assert "none/x.json cannot be written: there is no folder none" in capsys.readouterr().err
    assert run(f"{command} --output people") == 2
    assert "people cannot be written: it is a folder" in capsys.readouterr().err


def test_both_spellings_of_recogniser_and_an_order_of_providers(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of providers that are not there one warning tells, however many models are opened."""
    models = "--recognizer recogniser.onnx b=recogniser.onnx --quality quality.onnx --fmr 0.1 --bootstrap 0"
    assert run(f"compare pairs.bin {models} --providers TensorRT cuda CPU") == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "Provider" in line]
    assert len(warned) == 1
    assert warned[0].endswith("CPUExecutionProvider is used")
    assert run("threshold pairs.bin --quality quality.onnx --discard 0.1 --providers CUDA") == 2
    assert "onnxruntime has no CUDAExecutionProvider here" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_reader_that_leaves_and_a_plain_terminal_cost_no_results(here: Path, encoding: str) -> None:
    command = [sys.executable, "-c", "import sys; from eval_tools.cli import main; sys.exit(main())"]
    arguments = ["verify", "pairs.bin", "--recogniser", "recogniser.onnx", "--output", encoding]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command + arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if encoding == "utf-8":
        process.stdout.close()
    else:
        assert b"accuracy" in process.stdout.read()
    error = process.stderr.read().decode()
    assert process.wait() == 0, error
    assert "rror" not in error
    assert (here / encoding / "results.json").is_file()


def test_usual_fmrs_that_a_set_does_not_resolve_are_left_out_and_asked_ones_marked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """240 impostor pairs resolve neither of the usual FMRs."""
    assert run("verify people --recogniser recogniser.onnx --output results") == 0
    printed = capsys.readouterr().out
    assert "TAR@0.01" in printed
    assert "TAR@0.001" not in printed
    assert "FMR 0.001, 0.0001 left out: not resolved by 240 impostor pairs (0.001 takes 1,000)" in printed
    assert "†" not in printed
    assert run("verify people --recogniser recogniser.onnx --fmr 1e-4 --output results") == 0
    table, _, notes = capsys.readouterr().out.partition("people: ")
    assert table.split()[-1].endswith("†")
    assert "left out" not in notes
    assert "† not resolved" in notes
    with open(here / "results/verification.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["people EER resolved"], row["people TAR@0.0001 resolved"]) == ("1", "0")
    document = json.loads((here / "results/results.json").read_text())
    (point,) = document["test_sets"]["people"]["recogniser"]["operating_points"]
    assert point["resolved"] is False


def test_figures_of_one_method_at_an_fmr_that_is_not_resolved_are_marked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "calibrate people --quality quality.onnx --recogniser recogniser.onnx"
    assert run(f"{command} --output c.json") == 0
    assert "FMR 0.01 instead" in capsys.readouterr().out
    calibration = Calibration.load(here / "c.json")
    assert calibration.fnmr is not None
    assert calibration.fnmr.target_fmr == 0.01
    assert run(f"{command} --fmr 1e-4 --output c.json") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "expected FNMR" in line]
    assert lines
    assert all(line.endswith("†") for line in lines)


def test_an_error_rate_of_no_error_is_marked_in_the_table_of_thresholds(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (
        "threshold people --quality quality.onnx --recogniser recogniser.onnx --discard 0.2 --output t.json"
    )
    assert run(f"{command} --fmr 0.5") == 0
    printed = capsys.readouterr().out
    document = json.loads((here / "t.json").read_text())
    rows = [*document["table"], document["kept"]]
    assert printed.count("0.0000†") == sum(row["fnmr"] == 0 for row in rows) > 0
    assert "† no error among the pairs left" in printed


@pytest.mark.parametrize("command", ["compare", "ijb", "verify", "erc"])
def test_help_shows_lists_as_they_are_typed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert "default: [" not in printed
    assert ("fixed crfiqa)" in " ".join(printed.split())) == (command != "verify")

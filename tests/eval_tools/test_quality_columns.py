"""Which columns of scored pairs are ranked as quality methods, and that the others are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval_tools.cli import main
from eval_tools.precomputed import ScoredPairs, read_scored_pairs

COUNT = 40
RNG = np.random.default_rng(0)
GENUINE = np.arange(COUNT) % 2 == 0
BASE: dict[str, np.ndarray] = {
    "similarity": np.where(GENUINE, 0.6, 0.0) + 0.3 * RNG.random(COUNT),
    "is_genuine": GENUINE.astype(int),
    "q": RNG.random(COUNT),
}
FOLD = np.arange(COUNT) // 4
OTHERS = {
    "Unnamed: 0": np.arange(COUNT),
    "Unnamed: 0.1": np.arange(COUNT)[::-1],
    "index": RNG.permutation(COUNT),
    "Index": RNG.permutation(COUNT),
    "id": RNG.permutation(COUNT),
    "ID": RNG.permutation(COUNT),
    "pair_id": RNG.permutation(COUNT),
    "pairId": RNG.permutation(COUNT),
    "PairID": RNG.permutation(COUNT),
    "fold": FOLD,
    "Fold": FOLD,
    "subject": FOLD,
    "template_id_1": FOLD,
    "frame no": FOLD,
    "counter": np.arange(COUNT),
    "from_one": np.arange(1, COUNT + 1),
    "falling": np.arange(COUNT)[::-1],
    "of_shuffled_rows": 100 + RNG.permutation(COUNT),
    "of_a_filtered_frame": np.cumsum(RNG.integers(1, 4, COUNT)),
    "version": np.full(COUNT, 3),
    "nothing": np.full(COUNT, np.nan),
    "path": np.array([f"faces/{n}.jpg" for n in range(COUNT)]),
    "camera": np.array([f"12_{n}" for n in range(COUNT)]),
    "german": np.array([f"0,{n}" for n in range(COUNT)]),
    "score_again": BASE["similarity"],
    "match": BASE["is_genuine"],
    "prediction": (BASE["similarity"] > 0.4).astype(int),
    "ok": RNG.integers(0, 2, COUNT),
    "passed": RNG.integers(0, 2, COUNT).astype(bool),
    "repeated_count": np.arange(COUNT) % 10,
    "counts_of_groups": np.concatenate([np.arange(1, n + 1) for n in (5, 12, 3, 20)]),
    "outer": np.arange(COUNT) // 10,
    "level_0": FOLD,
    "cluster": RNG.integers(0, 9, COUNT),
    "gender": RNG.integers(0, 3, COUNT),
    "uuid": RNG.integers(0, 2**40, COUNT),
    "digest": RNG.integers(0, 2**52, COUNT),
}


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **columns)  # type: ignore[arg-type]
        return path
    rows = zip(*([str(value) for value in values.tolist()] for values in columns.values()), strict=True)
    path.write_text("\n".join(";".join(row) for row in [columns.keys(), *rows]).replace("nan", ""))
    return path


@pytest.mark.parametrize("kind", [".csv", ".npz"])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("first", [True, False])
def test_what_is_no_quality_is_not_ranked_and_named(
    tmp_path: Path, kind: str, other: str, first: bool
) -> None:
    column = {other: OTHERS[other]}
    path = write(tmp_path / f"p{kind}", column | BASE if first else BASE | column)
    pairs = read_scored_pairs(path)
    assert list(pairs.quality) == ["q"]
    np.testing.assert_array_equal(pairs.quality["q"], BASE["q"])
    assert len(pairs.notes) == 1
    assert pairs.notes[0].startswith(f"Columns that are not ranked: {other} (")
    assert pairs.notes[0].endswith("; choose columns with --quality.")


def test_the_unnamed_row_numbers_of_pandas_are_not_ranked(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", {"": np.arange(COUNT), **BASE})
    pairs = read_scored_pairs(path)
    assert list(pairs.quality) == ["q"]
    assert pairs.notes == ("Columns that are not ranked: column 1 (no name); choose columns with --quality.",)


@pytest.mark.parametrize(
    "name", ["quality_index", "hybrid", "grid", "norm", "OFIQ.scalar", "score 2", "validity", "blurriness"]
)
def test_names_that_only_look_alike_are_ranked(tmp_path: Path, name: str) -> None:
    pairs = read_scored_pairs(write(tmp_path / "p.csv", BASE | {name: RNG.random(COUNT)}))
    assert list(pairs.quality) == ["q", name]
    assert pairs.notes == ()


def test_whole_numbers_are_ranked_unless_they_number_the_rows(tmp_path: Path) -> None:
    percent = RNG.integers(0, 101, COUNT)
    pairs = read_scored_pairs(write(tmp_path / "p.csv", BASE | {"p": percent, "sorted": np.sort(percent)}))
    assert list(pairs.quality) == ["q", "p", "sorted"]


def test_both_sides_of_a_method_are_looked_at(tmp_path: Path) -> None:
    sides = {"cr_a": RNG.random(COUNT), "cr_b": RNG.random(COUNT), "row_a": FOLD, "row_b": FOLD[::-1]}
    half = {"ref_a": np.full(COUNT, 7.0), "ref_b": RNG.random(COUNT), "n_a": np.arange(COUNT), "n_b": FOLD}
    pairs = read_scored_pairs(write(tmp_path / "p.csv", BASE | sides | half))
    assert list(pairs.quality) == ["q", "cr", "ref"]
    assert [f"{name} (" in pairs.notes[0] for name in ("row_a", "row_b", "n_a", "n_b")] == [True] * 4


@pytest.mark.parametrize("kind", [".csv", ".npz"])
def test_columns_are_chosen(tmp_path: Path, kind: str) -> None:
    sides = {"r_a": RNG.random(COUNT), "r_b": RNG.random(COUNT)}
    path = write(tmp_path / f"p{kind}", BASE | sides | {"fold": FOLD, "note": OTHERS["path"]})
    pairs = read_scored_pairs(path, quality=["r", "fold"])
    assert list(pairs.quality) == ["r", "fold"]
    np.testing.assert_array_equal(pairs.quality["fold"], FOLD)
    np.testing.assert_array_equal(pairs.quality["r"], np.minimum(sides["r_a"], sides["r_b"]))
    assert pairs.notes == ("Columns that are not ranked: q, note.",)


def test_a_choice_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", BASE | {"norm": RNG.random(COUNT)})
    with pytest.raises(
        ValueError, match=r"no quality 'nrm' \(--quality\), only q, norm; did you mean 'norm'"
    ):
        read_scored_pairs(path, quality=["nrm"])
    with pytest.raises(ValueError, match="p.csv, line 2: note is 'faces/0.jpg', expected a number"):
        read_scored_pairs(write(path, BASE | {"note": OTHERS["path"]}), quality=["note"])


def test_a_file_without_a_quality_is_an_error_that_says_how_to_choose(tmp_path: Path) -> None:
    columns = {name: BASE[name] for name in ("similarity", "is_genuine")} | {"fold": FOLD}
    with pytest.raises(ValueError, match=r"no column that looks like a quality: fold \(.*--quality NAME"):
        read_scored_pairs(write(tmp_path / "p.csv", columns))


def test_a_quality_with_one_wrong_cell_is_an_error_and_no_text(tmp_path: Path) -> None:
    cells = BASE["q"].astype(str)
    cells[7] = "0,5"
    with pytest.raises(
        ValueError, match="line 9: q is '0,5', expected a number .*; if q is no quality, .* --quality"
    ):
        read_scored_pairs(write(tmp_path / "p.csv", BASE | {"q": cells}))


def test_arrays_of_other_shapes_are_left_out(tmp_path: Path) -> None:
    others: dict[str, Any] = {"threshold": np.float64(0.3), "embeddings": np.ones((COUNT, 4)), "ok": GENUINE}
    pairs = read_scored_pairs(write(tmp_path / "p.npz", BASE | others))
    assert list(pairs.quality) == ["q"]
    assert pairs.notes[0].startswith(
        "Columns that are not ranked: threshold (float64 []), embeddings (float64 [40, 4]), ok (bool [40]);"
    )
    path = write(tmp_path / "p.npz", BASE | {"r": RNG.random(COUNT - 1)})
    pairs = read_scored_pairs(path)
    assert list(pairs.quality) == ["q"]
    assert pairs.notes[0].startswith("Columns that are not ranked: r (float64 [39]);")
    with pytest.raises(ValueError, match=r"r must be numbers \[40\] like similarity, got float64 \[39\]"):
        read_scored_pairs(path, quality=["r"])


def test_the_command_ranks_what_it_ranked_without_row_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "plain.csv", BASE)
    write(tmp_path / "pandas.csv", {"": np.arange(COUNT), **BASE, "fold": FOLD})
    curves = []
    for name, more in (("plain", []), ("pandas", []), ("pandas", ["--quality", "q"])):
        out = tmp_path / f"{name}{len(more)}"
        options = ["--fmr", "0.1", "--bootstrap", "0", "--output", str(out), *more]
        assert main(["erc", str(tmp_path / f"{name}.csv"), *options]) == 0
        curves.append(
            json.loads((out / "results.json").read_text())["test_sets"][name]["given scores"]["erc"]
        )
    assert curves[0] == curves[1] == curves[2]
    assert curves[0]["fixed"]["0.1"].keys() == {"q"}
    assert "Columns that are not ranked: column 1 (no name), fold (" in capsys.readouterr().out


def test_identities_are_equal_in_any_unicode_form(tmp_path: Path) -> None:
    text = "similarity,is_genuine,q,identity_a,identity_b\n0.9,1,0.1,José,Jose\u0301\n0.1,0,0.7,José,Ann\n"
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    pairs: ScoredPairs = read_scored_pairs(tmp_path / "p.csv")
    assert pairs.pair_identities is not None
    assert pairs.pair_identities.tolist() == [[0, 0], [0, 1]]


def test_a_table_with_a_row_for_each_method_is_told_what_to_do(tmp_path: Path) -> None:
    names = np.array([f"{n}.jpg" for n in range(COUNT)])
    columns = BASE | {"name_a": names, "name_b": names[::-1], "method": np.array(["cr"] * COUNT)}
    melted = {name: np.concatenate([values, values]) for name, values in columns.items()}
    with pytest.raises(ValueError, match="same name_a and name_b .if method names the method, give each met"):
        read_scored_pairs(write(tmp_path / "p.csv", melted))


def test_a_file_with_both_kinds_of_scores_is_told_so(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", BASE | {"distance": 1 - BASE["similarity"]})
    with pytest.raises(ValueError, match="similarity and distance are both there: remove one"):
        read_scored_pairs(path)

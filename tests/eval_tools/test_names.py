"""Names that look equal and are written in two Unicode forms: é as one character, or as e and an accent."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from eval_tools.ijb.tables import BadLines, read_image_rows
from eval_tools.names import Folders, Names
from eval_tools.precomputed import PrecomputedEmbeddings, PrecomputedQuality
from eval_tools.precomputed.matching import AMBIGUOUS, MISSING, match_names
from eval_tools.test_sets import read_csv_set, read_lfw_set
from tests.eval_tools.test_sets.making import write_face

NFC, NFD = (unicodedata.normalize(form, "Jos\xe9") for form in ("NFC", "NFD"))
FORMS = [(NFC, NFD), (NFD, NFC)]


@pytest.mark.parametrize(("listed", "there"), FORMS)
def test_scores_and_embeddings_are_found(tmp_path: Path, listed: str, there: str) -> None:
    (tmp_path / "s.txt").write_text(f"x/{listed}/0.jpg 1\nx/{listed}/1.jpg 2\n", encoding="utf-8")
    names = [f"{there}/1.jpg", f"{there}/0.jpg"]
    assert PrecomputedQuality(tmp_path / "s.txt").lookup(names).values.tolist() == [2, 1]
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=[f"{listed}/0.jpg", f"{listed}/1.jpg"])
    found = PrecomputedEmbeddings(tmp_path / "e.npz").lookup(names).values
    np.testing.assert_array_equal(found[:, 0], np.eye(2)[::-1])


@pytest.mark.parametrize(
    ("wanted", "given_names", "positions"),
    [
        ([NFC, NFD], [NFD, NFC], [1, 0]),
        ([NFC, "x"], [NFD, "x"], [0, 1]),
        ([NFC], [NFC, NFD], [0]),
        ([NFC, NFD], [NFC], [0, AMBIGUOUS]),
        ([f"{NFC}/1", f"{NFC}/2"], [f"a/{NFD}/1", f"a/{NFC}/2"], [0, 1]),
        ([NFC], ["Jose"], [MISSING]),
    ],
)
def test_an_equal_name_comes_first_and_nothing_is_guessed(
    wanted: list[str], given_names: list[str], positions: list[int]
) -> None:
    assert match_names(wanted, given_names).positions.tolist() == positions


def test_names_are_found_in_the_one_form_that_is_there() -> None:
    assert Names([NFD, "Ann"]).find(NFC) == NFD
    assert Names([NFC, NFD]).find(NFC) == NFC
    assert Names([NFC, NFD]).find(NFD) == NFD
    assert Names(["Ann"]).find(NFC) is None
    angstrom, ring = "\u212b", "A\u030a"  # and the composed form of both is a third
    assert Names([angstrom, ring]).find("\xc5") is None


@pytest.mark.parametrize(("listed", "there"), FORMS)
def test_images_of_lists_are_found_on_the_disk(tmp_path: Path, listed: str, there: str) -> None:
    for number in (1, 2):
        write_face(tmp_path / f"{there}/{there}_000{number}.png", number)
    write_face(tmp_path / "Ann/Ann_0001.png")
    names = [f"{there}/{there}_0001.png", f"{there}/{there}_0002.png", "Ann/Ann_0001.png"]
    (tmp_path / "pairs.txt").write_text(f"1\n{listed}\t1\t2\n{there}\t1\tAnn\t1\n", encoding="utf-8")
    assert list(read_lfw_set(tmp_path / "pairs.txt").names) == names
    genuine = f"{listed}/{listed}_0001.png,{listed}/{listed}_0002.png,1,{there},{listed}"
    impostor = f"{there}/{listed}_0001.png,{names[2]},0,{there},Ann"
    text = f"image_a,image_b,is_genuine,identity_a,identity_b\n{genuine}\n{impostor}"
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    test_set = read_csv_set(tmp_path / "pairs.csv")
    assert list(test_set.names) == names
    assert test_set.identities is not None
    assert test_set.identities.tolist() == [0, 0, 1]
    assert test_set.images[0].shape == (8, 8, 3)


def test_a_name_of_two_files_is_taken_as_it_is_written(tmp_path: Path) -> None:
    for form in (NFC, NFD):
        write_face(tmp_path / f"{form}.png")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system knows one form only")
    for form in (NFC, NFD):
        assert Folders().find(str(tmp_path), f"{form}.png") == f"{form}.png"


@pytest.mark.parametrize(("listed", "there"), FORMS)
def test_a_link_by_another_form_does_not_lead_out(tmp_path: Path, listed: str, there: str) -> None:
    write_face(tmp_path / "secret.png")
    write_face(tmp_path / "set/a.png")
    (tmp_path / f"set/{there}.png").symlink_to(tmp_path / "secret.png")
    text = f"image_a,image_b,is_genuine\na.png,{listed}.png,1\n"
    (tmp_path / "set/pairs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="is a link that leads out of"):
        read_csv_set(tmp_path / "set/pairs.csv")


@pytest.mark.parametrize(("listed", "there"), FORMS)
def test_images_of_ijb_are_found_on_the_disk(tmp_path: Path, listed: str, there: str) -> None:
    (tmp_path / "points.txt").write_text(f"{listed}.jpg {'1 ' * 10}1\n", encoding="utf-8")
    (tmp_path / "media.txt").write_text(f"{there}.jpg 7 9\n", encoding="utf-8")
    present, bad = Names([f"{there}.jpg"]), BadLines("error")
    rows = read_image_rows(tmp_path / "points.txt", tmp_path / "media.txt", present, bad)
    assert (rows.names, rows.template_ids.tolist()) == ([f"{there}.jpg"], [7])

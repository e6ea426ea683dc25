"""Finding out what a path holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_tools.test_sets import VerificationSet, open_test_set
from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import write_records
from igfiqa_head.io.verification_bin import write_verification_bin
from tests.eval_tools.test_sets.making import DATA, face, write_face, write_lfw

LINES = ["Ann\t1\t2", "Ann\t1\tBob\t2"]


def opened(path: Path, **options: object) -> VerificationSet:
    test_set = open_test_set(path, **options)  # type: ignore[arg-type]
    assert isinstance(test_set, VerificationSet)
    assert test_set.images[0].shape == (8, 8, 3)
    return test_set


def write_bin(path: Path) -> None:
    images = [encode_image(face(seed), ".png") for seed in range(4)]
    write_verification_bin(path, images, [True, False])


def write_record_files(root: Path) -> None:
    write_records(root, [encode_image(face(seed), ".png") for seed in range(3)], [0, 0, 1], image_size=8)


def write_csv(root: Path) -> Path:
    for seed, name in enumerate("abc"):
        write_face(root / f"{name}.png", seed)
    path = root / "list.csv"
    path.write_text("image_a,image_b,is_genuine\na.png,b.png,1\na.png,c.png,0\n")
    return path


class TestFiles:
    @pytest.mark.parametrize("name", ["lfw.bin", "lfw.pkl"])
    def test_bin(self, tmp_path: Path, name: str) -> None:
        write_bin(tmp_path / name)
        assert list(opened(tmp_path / name).names) == ["0", "1", "2", "3"]

    def test_records(self, tmp_path: Path) -> None:
        write_record_files(tmp_path)
        assert len(opened(tmp_path / "train.rec").pairs) == 3

    def test_pairs_file(self, tmp_path: Path) -> None:
        path = write_lfw(tmp_path, LINES, "1 1").rename(tmp_path / "list")
        assert opened(path).names[0] == "Ann/Ann_0001.png"

    def test_csv(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path).rename(tmp_path / "list.txt")
        assert opened(path).names[0] == "a.png"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("x.rec", r"x\.rec needs its index"),
            ("x.bin", "not a pickle|unexpected"),
            ("x.csv", "line 1: expected the columns"),
            ("x.txt", "line 1: expected the number of folds"),
            ("x.xyz", r"x\.xyz is no test set; expected one of\n- insightface"),
        ],
    )
    def test_damaged_files_are_known_by_their_suffix(self, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / name).write_text("what is this?")
        with pytest.raises(ValueError, match=message):
            open_test_set(tmp_path / name)

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="there is no file or folder .*absent"):
            open_test_set(tmp_path / "absent")


class TestFolders:
    def test_records(self, tmp_path: Path) -> None:
        write_record_files(tmp_path)
        assert len(opened(tmp_path).pairs) == 3
        assert len(opened(tmp_path, max_pairs=2).pairs) == 2

    def test_pairs_file_before_all_pairs(self, tmp_path: Path) -> None:
        path = write_lfw(tmp_path, LINES, "1 1").rename(tmp_path / "images" / "list.txt")
        assert len(opened(path.parent).pairs) == 2
        path.unlink()
        assert len(opened(path.parent).pairs) == 15

    @pytest.mark.parametrize("name", ["xqlfw_pairs.txt", "Pairs.csv"])
    def test_a_damaged_pairs_file_does_not_become_all_pairs(self, tmp_path: Path, name: str) -> None:
        path = write_lfw(tmp_path, LINES, "damaged")
        path.rename(tmp_path / "images" / name)
        with pytest.raises(ValueError, match=f"{name}, line 1: expected"):
            open_test_set(tmp_path / "images")

    def test_xqlfw(self, tmp_path: Path) -> None:
        write_lfw(tmp_path, LINES, "1 1", images="xqlfw_aligned_112").rename(tmp_path / "xqlfw_pairs.txt")
        (tmp_path / "xqlfw_scores.txt").write_text("Ann/Ann_0001.jpg 0.1\n")
        assert len(opened(tmp_path).pairs) == 2

    def test_csv(self, tmp_path: Path) -> None:
        write_csv(tmp_path)
        (tmp_path / "other.csv").write_text("name,age\n")
        assert len(opened(tmp_path).pairs) == 2

    def test_bin(self, tmp_path: Path) -> None:
        write_bin(tmp_path / "lfw.bin")
        (tmp_path / "._lfw.bin").write_bytes(b"what a Mac leaves behind")
        assert opened(tmp_path).folds is None

    def test_identities(self, tmp_path: Path) -> None:
        write_lfw(tmp_path, LINES, "1 1").unlink()
        (tmp_path / "images" / "people.txt").write_text("3\nAnn\t2\nBob\t2\nCat\t2\n")
        assert len(opened(tmp_path / "images").pairs) == 15
        (tmp_path / "images" / "Dan").mkdir()
        with pytest.raises(ValueError, match="Dan has no image"):
            open_test_set(tmp_path / "images")
        assert len(opened(tmp_path / "images", on_bad="exclude").notes) == 1

    def test_several(self, tmp_path: Path) -> None:
        write_record_files(tmp_path)
        write_bin(tmp_path / "lfw.bin")
        with pytest.raises(ValueError, match=r"holds several test sets \(lfw\.bin, train\.rec\): name one"):
            open_test_set(tmp_path)

    def test_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"holds no test set; found nothing, expected one of"):
            open_test_set(tmp_path)
        for index in range(23):
            (tmp_path / f"{index:02d}.jpg").touch()
        (tmp_path / "00folder").mkdir()
        with pytest.raises(ValueError, match=r"found 00\.jpg, 00folder/, .*18\.jpg and 4 more, expected"):
            open_test_set(tmp_path)

    def test_ijb(self, tmp_path: Path) -> None:
        (tmp_path / "IJBC" / "meta").mkdir(parents=True)
        (tmp_path / "IJBC" / "meta" / "ijbc_face_tid_mid.txt").touch()
        for folder in (tmp_path, tmp_path / "IJBC"):
            with pytest.raises(ValueError, match="meta"):  # of the IJB reader, which misses two files
                open_test_set(folder)


def test_unknown_policy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_bad must be .* got 'skip'"):
        open_test_set(tmp_path, on_bad="skip")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("samples")
    write_bin(root / "x.bin")
    write_record_files(root)
    write_csv(root)
    write_lfw(root, LINES, "1 1")
    return root


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from(["x.bin", "train.rec", "train.idx", "list.csv", "pairs.txt"]),
    data=st.data(),
    on_bad=st.sampled_from(["error", "exclude"]),
)
def test_damaged_files_are_opened_or_refused(
    samples: Path, name: str, data: st.DataObject, on_bad: str
) -> None:
    path = samples / name
    content = path.read_bytes()
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    path.write_bytes(damaged)
    try:
        test_set = open_test_set(path.with_suffix(".rec") if name == "train.idx" else path, on_bad=on_bad)  # type: ignore[arg-type]
        for index in range(len(test_set.images)):
            assert test_set.images[index].ndim == 3
    except ValueError as error:
        assert 0 < len(str(error)) < 2000  # noqa: PT017 - some damage is harmless
    finally:
        path.write_bytes(content)


@settings(deadline=None, max_examples=100)
@given(content=st.binary(max_size=40), suffix=st.sampled_from(["", ".bin", ".rec", ".csv", ".txt"]))
def test_random_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"random{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="random"):
        open_test_set(path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the development faces are absent")
def test_development_faces() -> None:
    assert len(open_test_set(DATA / "lfw_dev_test").is_genuine) == 415_416
    assert open_test_set(DATA / "lfw_dev" / "lfw_dev.bin").folds == 10
    with pytest.raises(ValueError, match="several test sets"):
        open_test_set(DATA / "lfw_dev")

"""Does IJB-C fit on a laptop? Time and memory of the whole 1:1 protocol at IJB-C's size.

    OMP_NUM_THREADS=1 python benchmarks/ijb_scale.py
    python benchmarks/ijb_scale.py --images 20000 --templates 1000 --pairs 150000    # seconds

Writes made-up metadata of that size to a temporary folder (another process does, so that its memory does not
count), then reads them, aggregates seeded 512-d embeddings that are drawn chunk by chunk, scores all template
pairs, and measures the TAR and the error-versus-reject curves. Prints the time of each stage and the peak
memory of the process. Then two named alternatives on a slice of the same data: numpy.loadtxt for the pairs,
and for the templates all embeddings in memory with a search for each template's images, as insightface does.
The exit status is 1 if the peak exceeds ``--limit``.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eval_tools.erc import error_rejection_curves  # noqa: E402
from eval_tools.ijb import IJBSet, read_ijb  # noqa: E402
from eval_tools.ijb.tables import BadLines, read_template_pairs  # noqa: E402

GALLERY_SHARE = 3531 / 23124  # of IJB-C's templates
CHUNK, DIM = 4096, 512
SLICE_LINES, SLICE_IMAGES = 1_000_000, 20_000


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A gallery template for each person, and the rest of the templates to compare with them."""

    images: int
    templates: int
    pairs: int
    seed: int

    @property
    def people(self) -> int:
        return max(2, round(self.templates * GALLERY_SHARE))

    def person(self, template_ids: np.ndarray) -> np.ndarray:
        """Who is in the templates, which are numbered from 1 on."""
        return (template_ids - 1) % self.people


def write_metadata(sizes: Sizes, folder: Path) -> None:
    rng = np.random.default_rng(sizes.seed)
    (folder / "loose_crop").mkdir()
    (folder / "meta").mkdir()
    share = rng.dirichlet(np.full(sizes.templates, 0.6))
    counts = 1 + rng.multinomial(sizes.images - sizes.templates, share)
    template = np.repeat(np.arange(1, sizes.templates + 1), counts)
    media = np.cumsum(rng.random(sizes.images) < 0.3)
    points = rng.normal(80, 20, (sizes.images, 10))
    score = rng.uniform(0.6, 1.0, sizes.images)
    with (
        open(folder / "meta/ijbc_name_5pts_score.txt", "w") as landmark_file,
        open(folder / "meta/ijbc_face_tid_mid.txt", "w") as media_file,
    ):
        for i in range(sizes.images):
            (folder / f"loose_crop/{i + 1}.jpg").touch()
            coordinates = " ".join(f"{x:.3f}" for x in points[i])
            landmark_file.write(f"{i + 1}.jpg {coordinates} {score[i]:.3f}\n")
            media_file.write(f"{i + 1}.jpg {template[i]} {media[i]}\n")
    with open(folder / "meta/ijbc_template_pair_label.txt", "w") as pair_file:
        for rows in pair_rows(sizes, rng):
            pair_file.write("%d %d %d\n" * len(rows) % tuple(rows.ravel().tolist()))


def pair_rows(sizes: Sizes, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Every gallery template with its share of the others, its own person's among them."""
    probes = np.arange(sizes.people + 1, sizes.templates + 1)
    ends = np.linspace(0, sizes.pairs, sizes.people + 1).astype(int)
    for gallery, count in enumerate(np.diff(ends), 1):
        same = sizes.person(probes) == gallery - 1
        others = rng.choice(probes[~same], count - np.count_nonzero(same), replace=False)
        chosen = np.sort(np.append(probes[same], others))
        yield np.stack([np.full(count, gallery), chosen, sizes.person(chosen) == gallery - 1], axis=1)


class DrawnEmbeddings:
    """Embeddings of an upright view and its mirror image: the person's direction, and more noise the lower
    the quality. Drawn anew, chunk by chunk, whenever they are asked for."""

    def __init__(self, sizes: Sizes, template_ids: np.ndarray) -> None:
        rng = np.random.default_rng([sizes.seed, 1])
        self._person = sizes.person(template_ids)
        by_template = rng.random(template_ids.max() + 1)
        self.quality = 0.8 * by_template[template_ids] + 0.2 * rng.random(len(template_ids))
        self._directions = rng.standard_normal((sizes.people, DIM), dtype=np.float32)
        self._seed = sizes.seed
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self._person)

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(self), CHUNK):
            began = time.perf_counter()
            chunk = self._draw(start)
            self.seconds += time.perf_counter() - began
            yield start, chunk

    def _draw(self, start: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, 2, start])
        rows = slice(start, start + CHUNK)
        spread = np.exp(2.2 - 2 * self.quality[rows]).astype(np.float32)
        views = rng.standard_normal((spread.size, 2, DIM), dtype=np.float32)
        views *= spread[:, None, None]
        views += self._directions[self._person[rows], None]
        return views


def peak_gib() -> float:
    """Peak resident memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


@contextmanager
def stage(name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{name:52} {time.perf_counter() - began:8.2f} s   peak {peak_gib():.2f} GiB", flush=True)


def judge(sizes: Sizes, folder: Path) -> tuple[IJBSet, DrawnEmbeddings]:
    """The whole protocol, stage by stage."""
    print(f"{'start':52} {'':8}     peak {peak_gib():.2f} GiB")
    with stage("read and check the metadata"):
        ijb = read_ijb(folder)
    embeddings = DrawnEmbeddings(sizes, ijb.template_ids[ijb.template])
    with stage(f"aggregate {len(ijb.template_ids)} templates, score {len(ijb.is_genuine)} pairs"):
        similarity = ijb.similarity(embeddings)
    print(f"{'  of which drawing the embeddings':52} {embeddings.seconds:8.2f} s")
    with stage("TAR at FMR 1e-6 .. 1e-1"):
        points = ijb.operating_points(similarity)
    with stage("quality of the pairs"):
        quality = ijb.pair_quality(embeddings.quality)
    with stage("four error-versus-reject curves"):
        curves = error_rejection_curves(similarity, ijb.is_genuine, quality, fmrs=(1e-3, 1e-4))
    print("TAR (%)    " + "   ".join(f"{point.target_fmr:g}: {100 * point.tar:.2f}" for point in points))
    for (protocol, fmr), curve in curves.items():
        print(f"{protocol:8} FMR {fmr:g}: area {curve.auc:.5f}, of a random score {curve.auc_random:.5f}")
    return ijb, embeddings


def compare_reading(ijb: IJBSet, folder: Path) -> None:
    """Seconds to read the first lines of the pair file, ours and numpy.loadtxt's."""
    path = folder / "slice.txt"
    with open(folder / "meta/ijbc_template_pair_label.txt", "rb") as whole:
        path.write_bytes(b"".join(line for line, _ in zip(whole, range(SLICE_LINES), strict=False)))
    began = time.perf_counter()
    pairs, genuine = read_template_pairs(path, ijb.template_ids, BadLines("error"))
    ours = time.perf_counter() - began
    began = time.perf_counter()
    rows = np.loadtxt(path, dtype=np.int64)
    positions = np.searchsorted(ijb.template_ids, rows[:, :2])
    theirs = time.perf_counter() - began
    if not (np.array_equal(pairs, positions) and np.array_equal(genuine, rows[:, 2])):
        raise SystemExit("the two readers disagree")
    print(
        f"read {len(rows)} pairs: {ours:.2f} s with all checks, numpy.loadtxt without {theirs:.2f} s; "
        f"all pairs as loadtxt holds them take {len(ijb.is_genuine) * 24 / 2**30:.2f} GiB, "
        f"ours {(ijb.template_pairs.nbytes + ijb.is_genuine.nbytes) / 2**30:.2f} GiB"
    )


def compare_aggregation(ijb: IJBSet, embeddings: DrawnEmbeddings) -> None:
    """Seconds to aggregate some of the images, ours and with a search for the images of each template."""
    kept = np.zeros(len(ijb.names), bool)
    kept[: SLICE_IMAGES // 2] = kept[-SLICE_IMAGES // 2 :] = True  # of the gallery, and of what it meets
    ijb = ijb.without_images(np.flatnonzero(~kept))
    views = np.concatenate([chunk[kept[start : start + CHUNK]] for start, chunk in embeddings.chunks()])
    began = time.perf_counter()
    ours = ijb.template_features(views)
    our_seconds = time.perf_counter() - began
    began = time.perf_counter()
    features = (views[:, 0] + views[:, 1]) * ijb.detector_score[:, None]
    theirs = np.zeros_like(ours)
    for template in range(len(theirs)):
        images = np.flatnonzero(ijb.template == template)
        for medium in np.unique(ijb.media[images]):
            theirs[template] += features[images[ijb.media[images] == medium]].mean(axis=0)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    their_seconds = time.perf_counter() - began
    if not np.allclose(ours, theirs, atol=1e-5):
        raise SystemExit("the two aggregations disagree")
    print(
        f"aggregate {len(views)} images: {our_seconds:.2f} s, with a search for each template "
        f"{their_seconds:.2f} s; all embeddings in memory would take "
        f"{len(embeddings) * views[0].nbytes / 2**30:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=469_375)
    parser.add_argument("--templates", type=int, default=23_124)
    parser.add_argument("--pairs", type=int, default=15_658_489)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=3.0, help="GiB that the peak must stay below")
    options = parser.parse_args()
    sizes = Sizes(options.images, options.templates, options.pairs, options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with stage("write the metadata (another process)"):
            writer = multiprocessing.get_context("spawn").Process(target=write_metadata, args=(sizes, folder))
            writer.start()
            writer.join()
        if writer.exitcode:
            raise SystemExit("the metadata could not be written")
        ijb, embeddings = judge(sizes, folder)
        peak = peak_gib()
        compare_reading(ijb, folder)
        compare_aggregation(ijb, embeddings)
    print(f"peak memory of the protocol {peak:.2f} GiB, limit {options.limit:g} GiB")
    sys.exit(peak >= options.limit)


if __name__ == "__main__":
    main()

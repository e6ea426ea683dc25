"""The loader against a bare decode loop, per core: what reading, flipping and handing over cost.

    python benchmarks/data_loading.py
    python benchmarks/data_loading.py --rec /data/faces_emore --images 20000

    bare decode        cv2.imdecode of bytes that lie in memory, one after the other, and nothing else
    what must be done  the same, half of the images flipped, each copied to a batch
    no worker          trainer.loader in the training process: shuffled, read from the file, flipped, uint8
    one worker         the same with a worker
    one worker, float  the same, and to float32 on the CPU, which on a GPU is the device's work
    PyTorch's own      the same data set and flips, batches sent as tensors: the usual way
    decoded cache      one worker, with decoded_cache=DIR

Per core means per second of processor time: of this process and of the workers, all of their threads, added.
So a ratio of 0.9 says that nine tenths of what the loader takes is decoding, whatever else the machine does.
An epoch is measured from when the workers are idle until they are idle again; what they read of the next one
by then is as much as they had read of this one before. The bare loops take the images in a shuffled order,
too: a decoder is faster where neighbours are alike. All run on one core, so that elapsed time, given beside,
means the same on a machine with nothing else to do.

The contenders take turns, in an order that changes each round. Given are medians with their 95 % intervals;
those of the ratios to the bare loop are of the ratios within each round. The ratio of "one worker" should be
at least 0.9; exit status 1 if its interval lies below. Processor time of the workers is had on Linux alone.

Without --rec, the images are rendered faces, 112 x 112, as JPEG of quality 95, in a RecordIO file.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from igfiqa_head.draws import keyed_uniforms  # noqa: E402
from igfiqa_head.io.images import encode_image  # noqa: E402
from igfiqa_head.io.record_writer import write_records  # noqa: E402
from plugins.datasets.recordio import RecordIODataset  # noqa: E402
from plugins.datasets.synthetic import SyntheticFaces  # noqa: E402
from trainer.decoded_cache import open_decoded  # noqa: E402
from trainer.loader import Loader  # noqa: E402
from trainer.prefetch import FLIP_STREAM  # noqa: E402

LIMIT = 0.9
JUDGED = "one worker"
CPU = torch.device("cpu")

Pass = Callable[[int], object]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rec", type=Path, help="folder with train.rec and train.idx (default: rendered faces)"
    )
    parser.add_argument("--images", type=int, default=8192, help="at most so many (default 8192)")
    parser.add_argument("--batch", type=int, default=256, help="images in a batch (default 256)")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each contender (default 20)")
    return parser.parse_args()


def write_faces(folder: Path, count: int) -> None:
    per_identity = 16
    faces = SyntheticFaces(-(-count // per_identity), per_identity)
    encoded = (encode_image(image, quality=95) for image in faces.render())
    write_records(folder, encoded, faces.labels)


class FirstImages(RecordIODataset):
    """The first of a data set's images."""

    def __init__(self, root: Path, count: int) -> None:
        super().__init__(root)
        self.count = min(count, super().__len__())

    def __len__(self) -> int:
        return self.count

    @property
    def labels(self) -> np.ndarray:  # type: ignore[override]
        return self.reader.read_labels(self.reader.image_keys()[: self.count])

    def encoded(self) -> list[bytes]:
        return [self.reader.read(int(key)).data for key in self.reader.image_keys()[: self.count]]


class Flipped(Dataset):
    """What a data set for PyTorch's own way looks like: sample after sample, flipped as in our loader."""

    def __init__(self, dataset: RecordIODataset) -> None:
        self.dataset, self.epoch = dataset, 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image, label = self.dataset[index]
        is_flipped = keyed_uniforms(0, FLIP_STREAM, self.epoch, index, count=1)[0] < 0.5
        return (cv2.flip(image, 1) if is_flipped else image), label


def contenders(dataset: FirstImages, batch: int, folder: Path) -> dict[str, Pass]:
    """What is timed, by its name; each call is one epoch."""
    encoded = dataset.encoded()
    np.random.default_rng(1).shuffle(encoded)
    cached = open_decoded(dataset, folder, source="benchmark", num_workers=1)
    plain = DataLoader(
        Flipped(dataset), batch, shuffle=True, drop_last=True, num_workers=1, persistent_workers=True
    )

    def loader(images: object, num_workers: int) -> Loader:
        return Loader(images, batch, seed=0, num_workers=num_workers, device=CPU)

    def decode(epoch: int) -> None:
        for image in encoded:
            cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)

    slots = np.empty((batch, 112, 112, 3), np.uint8)
    flipped = np.random.default_rng(0).random(len(encoded)) < 0.5

    def decode_flip_copy(epoch: int) -> None:
        for row, (image, is_flipped) in enumerate(zip(encoded, flipped.tolist(), strict=True)):
            decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
            slots[row % batch] = cv2.flip(decoded, 1) if is_flipped else decoded

    none, one, floats, of_cache = (
        loader(dataset, 0),
        loader(dataset, 1),
        loader(dataset, 1),
        loader(cached, 1),
    )
    return {
        "bare decode": decode,
        "what must be done": decode_flip_copy,
        "no worker": lambda epoch: exhaust(none.faces(epoch)),
        JUDGED: lambda epoch: exhaust(one.faces(epoch)),
        "one worker, float": lambda epoch: exhaust(floats.batches(epoch)),
        "PyTorch's own": lambda epoch: exhaust(iter(plain)),
        "decoded cache": lambda epoch: exhaust(of_cache.faces(epoch)),
    }


def exhaust(batches: Iterator[object]) -> None:
    for _ in batches:
        pass


def processor_time() -> float:
    """Seconds that this process and its workers have computed, all threads."""
    total, clock = time.process_time(), ctypes.c_int()
    for worker in multiprocessing.active_children():
        if ctypes.CDLL(None).clock_getcpuclockid(worker.pid, ctypes.byref(clock)):
            raise ProcessLookupError(f"worker {worker.pid} is gone")
        total += time.clock_gettime(clock.value)
    return total


def wait_until_idle() -> None:
    def is_idle(pid: int | None) -> bool:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        return state == "S"  # it waits to be told what to do

    while not all(is_idle(worker.pid) for worker in multiprocessing.active_children()):
        time.sleep(0.01)  # looking takes processor time


def measure(passes: dict[str, Pass], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of an epoch, of processor time and elapsed, [rounds, 2] for each contender."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    rng = np.random.default_rng(0)
    for name in passes:
        passes[name](0)  # pages are touched, and batches of epoch 1 read ahead
    wait_until_idle()
    for epoch in tqdm(range(1, rounds + 1), leave=False, disable=None):
        for name in rng.permutation(list(passes)):
            before, start = processor_time(), time.perf_counter()
            passes[name](epoch)
            wait_until_idle()
            seconds[name].append((processor_time() - before, time.perf_counter() - start))
    return {name: np.array(values) for name, values in seconds.items()}


def median(values: np.ndarray) -> tuple[float, float, float]:
    """The median and its 95 % interval, from the order statistics (no assumption on the distribution)."""
    ordered, size = np.sort(values), len(values)
    rank = max(0, int(np.floor(size / 2 - 0.98 * np.sqrt(size))))
    return float(np.median(values)), float(ordered[rank]), float(ordered[size - 1 - rank])


def main() -> int:
    options = parse_arguments()
    if hasattr(os, "sched_setaffinity"):  # workers inherit it
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.rec is None:
            write_faces(Path(folder), options.images)
        dataset = FirstImages(options.rec or Path(folder), options.images)
        passes = contenders(dataset, options.batch, Path(folder) / "cache")
        seconds = measure(passes, options.rounds)
    images = {name: len(dataset) // options.batch * options.batch for name in passes}
    images["bare decode"] = images["what must be done"] = len(dataset)
    size = np.mean([len(image) for image in dataset.encoded()]) / 1000
    print(
        f"{len(dataset)} images of {size:.1f} kB, batches of {options.batch}, {options.rounds} rounds, "
        "one core"
    )
    print(f"{'':20} {'images/s and core':>26} {'of bare decode':>22} {'elapsed':>8}")
    bare = seconds["bare decode"] / images["bare decode"]
    ratios = {}
    for name, values in seconds.items():
        per_image = values / images[name]
        ratios[name] = median(bare[:, 0] / per_image[:, 0])
        elapsed = np.median(bare[:, 1] / per_image[:, 1])
        print(
            "{:20} {:>8.0f} ({:>6.0f} ..{:>7.0f}) {:>6.3f} ({:.3f} .. {:.3f}) {:>8.3f}".format(
                name, *median(1 / per_image[:, 0]), *ratios[name], elapsed
            )
        )
    _, low, high = ratios[JUDGED]
    verdict = "missed" if high < LIMIT else "met" if low >= LIMIT else "not decided by this run's noise"
    print(f"{JUDGED}: at least {LIMIT}: {verdict}")
    return int(high < LIMIT)


if __name__ == "__main__":
    sys.exit(main())

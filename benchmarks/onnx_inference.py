"""What an exported network costs: ONNX against torch, and a quality beside the embedding.

    python benchmarks/onnx_inference.py
    python benchmarks/onnx_inference.py --networks mbf vit_t --rounds 60

Prints images/s of `quality`, `embedding`, `both` and the int8 copy of `quality` in onnxruntime, of the file
that torch.onnx makes by itself, and of torch eager on the same backbone and head. All run in turns, in an
order that changes from round to round; given are medians with their 95 % intervals.

Then `both` and `embedding` take turns alone. The time of the one over that of the other should be at most
1.01; exit status 1 if the interval of this ratio lies above.

Weights are random, with batch statistics of rendered faces; the speed of a network does not depend on them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads would take onnxruntime's cores

import numpy as np
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from igfiqa_head.compression import CompressionError, compress_to_int8  # noqa: E402
from igfiqa_head.export import export_onnx  # noqa: E402
from igfiqa_head.onnx_file import OnnxFile  # noqa: E402
from igfiqa_head.onnx_session import open_session  # noqa: E402
from igfiqa_head.quality_head import QualityRegressor  # noqa: E402
from plugins.backbones import get_model  # noqa: E402
from plugins.datasets.synthetic import SyntheticFaces  # noqa: E402
from trainer.loader import to_network_input  # noqa: E402

NETWORKS = ("r18", "mbf", "timm:test_byobnet")  # the last is the quick start's
LIMIT = 1.01
SECONDS_A_TURN = 0.1
CALIBRATION, COMPARED = 32, 100

Pass = Callable[[], object]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME", help="backbones")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each contender (default 40)")
    parser.add_argument("--batch", type=int, default=8, help="faces in a pass (default 8)")
    parser.add_argument("--threads", type=int, default=2, help="of onnxruntime and torch (default 2)")
    return parser.parse_args()


def random_networks(name: str, faces: torch.Tensor) -> tuple[torch.nn.Module, QualityRegressor]:
    """A backbone with the statistics of faces, and the regressor along which its embeddings differ most."""
    torch.manual_seed(0)
    backbone = get_model(name)
    for module in backbone.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the average over all batches
    regressor = QualityRegressor()
    with torch.no_grad():
        for part in faces.split(COMPARED // 3):
            backbone.train()(part)
        embeddings = torch.cat([backbone.eval()(part) for part in faces.split(COMPARED // 3)])
        regressor.weight.copy_(torch.pca_lowrank(embeddings, q=1)[2].T)
    return backbone, regressor


def contenders(name: str, crops: np.ndarray, options: argparse.Namespace, folder: Path) -> dict[str, Pass]:
    """What is timed, by its name; each call is one pass of a batch."""
    faces = to_network_input(torch.from_numpy(crops), torch.device("cpu"))
    backbone, regressor = random_networks(name, faces)
    paths = {kind: folder / f"{kind}.onnx" for kind in ("quality", "embedding", "both")}
    for kind, path in paths.items():
        export_onnx(backbone, regressor, path, kind=kind, images=faces[:8])
    try:
        calibration, others = crops[:CALIBRATION], crops[CALIBRATION:]
        int8 = folder / "int8.onnx"
        agreement = compress_to_int8(paths["quality"], int8, calibration=calibration, images=others)
        print(f"{name}: {agreement}")
        paths["quality, int8"] = int8
    except CompressionError as error:
        print(f"{name}: no int8 copy of these random weights: {str(error).partition(';')[2].strip()}")
    paths["torch.onnx alone"] = folder / "plain.onnx"
    export_plainly(torch.nn.Sequential(backbone, regressor), faces[:2], paths["torch.onnx alone"])
    batch = faces[: options.batch]
    passes: dict[str, Pass] = {"torch eager": lambda: regressor(backbone(batch))}
    for kind, path in paths.items():
        session = open_session(OnnxFile(path), ["CPUExecutionProvider"], options.threads)
        passes[kind] = lambda session=session: session.run(None, {"input": batch.numpy()})
    return passes


def export_plainly(model: torch.nn.Module, faces: torch.Tensor, path: Path) -> None:
    """The alternative to compare with: torch.onnx as its manual shows it."""
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(
            model.eval(),
            (faces,),
            path,
            dynamo=True,
            external_data=False,
            input_names=["input"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )


@torch.inference_mode()
def measure(passes: dict[str, Pass], rounds: int, what: str) -> dict[str, np.ndarray]:
    """Seconds of a pass, [rounds] for each contender."""
    repeats = {name: passes_in(SECONDS_A_TURN, run) for name, run in passes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    rng = np.random.default_rng(0)
    for _ in tqdm(range(rounds), desc=what, leave=False, disable=None):
        for name in rng.permutation(list(passes)):
            passes[name]()  # whoever ran before leaves other things in the cache, and threads that still spin
            seconds[name].append(time_of(passes[name], repeats[name]))
    return {name: np.array(values) for name, values in seconds.items()}


def measure_ratio(first: Pass, second: Pass, rounds: int) -> np.ndarray:
    """Time of ``first`` over that of ``second``, [rounds]; the turns are short and so share the load."""
    repeats = passes_in(SECONDS_A_TURN / 10, first)
    ratios = []
    for _ in range(rounds):
        times = [time_of(run, repeats) for run in (first, second, second, first) * 5]
        ratios.append(sum(times[0::4] + times[3::4]) / sum(times[1::4] + times[2::4]))
    return np.array(ratios)


def passes_in(seconds: float, run: Pass) -> int:
    """How many passes take this long; at least 1."""
    run()
    return max(1, round(seconds / time_of(run, 1)))


def time_of(run: Pass, repeats: int) -> float:
    """Seconds of one of ``repeats`` passes."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def median(values: np.ndarray) -> tuple[float, float, float]:
    """The median and its 95 % interval, from the order statistics (no assumption on the distribution)."""
    ordered, size = np.sort(values), len(values)
    rank = max(0, int(np.floor(size / 2 - 0.98 * np.sqrt(size))))
    return float(np.median(values)), float(ordered[rank]), float(ordered[size - 1 - rank])


def main() -> int:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    crops = SyntheticFaces(CALIBRATION + COMPARED, 1, split="test", low_variance_share=0).render()
    print(f"{options.threads} threads, batches of {options.batch}, {options.rounds} rounds")
    missed = False
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            passes = contenders(name, crops, options, Path(folder))
            seconds = measure(passes, options.rounds, name)
            ratios = measure_ratio(passes["both"], passes["embedding"], options.rounds)
        print(f"\n{name:20} {'images/s':>10} {'95 % interval':>17} {'of torch':>9}")
        for contender, values in seconds.items():
            speed, low, high = median(options.batch / values)
            against_torch = median(seconds["torch eager"] / values)[0]
            print(f"  {contender:18} {speed:>10.1f} {low:>8.1f} {high:>8.1f} {against_torch:>8.2f}x")
        ratio, low, high = median(ratios)
        verdict = "missed" if low > LIMIT else "met" if high <= LIMIT else "not decided by this run's noise"
        print(f"  both / embedding: {ratio:.4f} ({low:.4f} .. {high:.4f}), at most {LIMIT}: {verdict}\n")
        missed |= low > LIMIT
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

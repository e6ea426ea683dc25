"""Export trained networks as ONNX, for onnxruntime and insightface.

    python -m trainer.export work_dirs/quickstart --kind both
    python -m trainer.export ms1mv3_r50/model.pt --quality-head quality_head.pt --images lfw.bin
    python -m trainer.export 181952backbone.pth --kind fused --licence "CC BY-NC 4.0"

SOURCE is the folder of a run, a checkpoint of arcface_torch (model.pt or checkpoint_gpu_0.pt), or one of
CR-FIQA. The file is kept only if it agrees with torch on face crops, with batches of 1 and 3, to a relative
1e-4. Kinds:

    quality     output quality [N, 1], higher is better
    embedding   output embedding [N, D]: a recogniser
    both        these two, in one pass
    fused       embedding [N, D] whose length is softplus(quality): a recogniser that insightface
                loads by itself; face.embedding_norm then orders faces by quality

--fp16 and --int8 write smaller copies beside it, which are kept only if they order other crops as the float32
network does (rank correlation of the qualities, and mean cosine of the embeddings, at least 0.99).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.command_line import Parser, exit_status, user_path
from igfiqa_head.io.atomic import check_writable, make_folder
from igfiqa_head.io.folder_lock import locked
from igfiqa_head.io.written_files import list_written
from igfiqa_head.kinds import OUTPUTS
from igfiqa_head.text import tell

if TYPE_CHECKING:
    from igfiqa_head.compression import Agreement
    from trainer.sources import Source

_BATCH_CROPS, _GATE_CROPS, _COMPARED_CROPS = 3, 8, 512


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m trainer.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=user_path, metavar="SOURCE", help="run folder or checkpoint file")
    parser.add_argument("--kind", choices=OUTPUTS, default="quality", help="default: quality")
    parser.add_argument(
        "--output",
        type=user_path,
        metavar="PATH",
        help="file (.onnx) or folder to write to; default: KIND.onnx in the run's folder, or "
        "CHECKPOINT.KIND.onnx beside the checkpoint",
    )
    parser.add_argument(
        "--quality-head",
        type=user_path,
        metavar="FILE",
        help="quality_head.pt of a run, for a checkpoint without",
    )
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="backbone of a checkpoint, such as r50 or timm:NAME; arcface_torch's are found without it",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        type=os.path.expanduser,
        default=[],
        metavar="FILE",
        help="module or .py file that registers the backbone; it is run. Can be repeated",
    )
    parser.add_argument(
        "--images",
        type=user_path,
        metavar="PATH",
        help="aligned 112 x 112 faces to compare on: a folder, .rec or .bin; default: the run's own images, "
        "else rendered faces",
    )
    parser.add_argument(
        "--calibration",
        type=user_path,
        metavar="FILE",
        help="of `igfiqa-eval calibrate`, put into the file: scores then read as 0 to 100",
    )
    parser.add_argument(
        "--licence", "--license", metavar="TEXT", help="what the file may be used for, put into it"
    )
    parser.add_argument("--fp16", action="store_true", help="write a float16 copy too")
    parser.add_argument(
        "--int8", action="store_true", help="write an 8-bit copy too, calibrated on the images"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 for an error or a copy that was refused, see also :func:`exit_status`."""
    options = parse_arguments(arguments)
    interrupted = "interrupted; no file was left half-written"
    return exit_status(partial(export, options), failure=1, interrupted=interrupted)


def export(options: argparse.Namespace) -> int:
    """Do what the command line asks for.

    Raises:
        ValueError: an input cannot be used, or the file disagrees with torch.
    """
    path = _output_path(options)
    if not (path.parent / "recipe.json").is_file():
        return _export(options, path)
    with locked(path.parent, "python -m trainer.export"):  # a run's folder
        return _export(options, path)


def _export(options: argparse.Namespace, path: Path) -> int:
    import torch  # after parsing: --help should not wait for it

    from igfiqa_head.export import export_onnx
    from trainer.loader import to_network_input
    from trainer.sources import open_source
    from trainer.weight_files import moment

    extra = _given_metadata(options)
    tell(f"loading {options.source}")
    source = open_source(
        options.source,
        quality_head=options.quality_head,
        network=options.network,
        plugins=options.plugin,
    )
    metadata = source.metadata() | extra
    _check_head(options.kind, source)
    make_folder(path.parent)
    for target in (path, *_copies(options, path).values()):
        check_writable(target)
    crops = _crops(options, source)
    tell(f"exporting {options.kind}: {_described(source)}")
    start = time.monotonic()
    error = export_onnx(
        source.backbone,
        source.regressor,
        path,
        kind=options.kind,
        images=to_network_input(torch.from_numpy(crops[:_GATE_CROPS]), torch.device("cpu")),
        metadata=metadata,
    )
    seconds = time.monotonic() - start
    tell(f"wrote {_file(path)}; relative error against torch {error:.1e}; {seconds:.0f} s")
    written, held = _write_copies(options, path, crops)
    if source.sha256 and path.parent.samefile(options.source):
        list_written(path.parent, [path.name, *written], moment(path.parent))
    _tell_of_older_copies(path)
    for line in ("next:", *_advice(options, path)):
        tell(line)
    return 0 if held else 1


def _given_metadata(options: argparse.Namespace) -> dict[str, str]:
    """What the command line puts into the file."""
    from igfiqa_head.calibration import Calibration

    extra = {}
    if options.licence is not None:
        extra["licence"] = options.licence
    if options.calibration is not None:
        if "quality" not in OUTPUTS[options.kind]:
            raise ValueError(f"--calibration is of scores, which --kind {options.kind} has no output of")
        extra["calibration"] = Calibration.load(options.calibration).to_json()
    return extra


def _check_head(kind: str, source: Source) -> None:
    if kind != "embedding" and source.regressor is None:
        raise ValueError(
            f"{source.files[0]} comes without a quality head, which --kind {kind} needs: pass "
            "--quality-head FILE, or --kind embedding"
        )


def _crops(options: argparse.Namespace, source: Source) -> NDArray[np.uint8]:
    """Faces to compare on, RGB uint8 [N, 112, 112, 3] in random order; more of them for smaller copies."""
    from igfiqa_head.compression import MIN_CALIBRATION, MIN_COMPARED
    from igfiqa_head.io.aligned_faces import open_faces
    from trainer.crops import draw_crops, rendered_crops

    compressed = options.fp16 or options.int8
    count = MIN_CALIBRATION + _COMPARED_CROPS if compressed else _GATE_CROPS
    where = options.images
    if where is None and source.images is not None and Path(source.images).exists():
        where = Path(source.images)
    if where is None:
        tell(f"comparing on {count} rendered faces; --images PATH takes real ones")
        return rendered_crops(count)
    crops = draw_crops(open_faces(where), count)
    least = MIN_CALIBRATION + MIN_COMPARED if compressed else _BATCH_CROPS
    if len(crops) < least:
        copies = " with --fp16 or --int8" if compressed else ""
        raise ValueError(f"{where} has {len(crops)} images; the comparison needs at least {least}{copies}")
    tell(f"comparing on {len(crops)} images of {where}")
    return crops


def _output_path(options: argparse.Namespace) -> Path:
    """The file to write."""
    name, output = f"{options.kind}.onnx", options.output
    if output is not None:
        return output if output.suffix == ".onnx" else output / name
    return options.source / name if options.source.is_dir() else options.source.with_suffix(f".{name}")


def _copies(options: argparse.Namespace, path: Path) -> dict[str, Path]:
    """The smaller copies that were asked for, by the names of their options."""
    return {name: path.with_suffix(f".{name}.onnx") for name in ("fp16", "int8") if getattr(options, name)}


def _described(source: Source) -> str:
    network, size = source.recipe["network"], source.recipe["embedding_size"]
    head = "no quality head" if source.regressor is None else f"quality head: {source.method}"
    return f"{network}, embeddings of {size}, {head}"


def _file(path: Path) -> str:
    return f"{path} ({path.stat().st_size / 1e6:.1f} MB)"


def _write_copies(
    options: argparse.Namespace, path: Path, crops: NDArray[np.uint8]
) -> tuple[list[str], bool]:
    """Write the smaller copies that were asked for.

    Returns:
        The names of those that were written, and whether all of them were good enough to be kept.
    """
    from igfiqa_head.compression import MIN_CALIBRATION, CompressionError, compress_to_fp16, compress_to_int8

    calibration, others = crops[:MIN_CALIBRATION], crops[MIN_CALIBRATION:]
    compress: dict[str, Callable[..., Agreement]] = {
        "fp16": partial(compress_to_fp16, images=others),
        "int8": partial(compress_to_int8, calibration=calibration, images=others, tell=_not_good),
    }
    written: list[str] = []
    for name, copy in _copies(options, path).items():
        tell(f"making {copy.name}")
        try:
            agreement = compress[name](path, copy)
        except CompressionError as error:
            tell(f"error: {error}", sys.stderr)
        else:
            tell(f"wrote {_file(copy)}; {agreement}")
            written.append(copy.name)
    return written, written == [copy.name for copy in _copies(options, path).values()]


def _tell_of_older_copies(path: Path) -> None:
    for option in ("fp16", "int8"):
        copy = path.with_suffix(f".{option}.onnx")
        if copy.is_file() and copy.stat().st_mtime_ns < path.stat().st_mtime_ns:
            tell(
                f"{copy} is older than {path.name} and not made from it: --{option} replaces it, or remove it"
            )


def _not_good(line: str) -> None:
    tell(f"not good enough: {line}")


def _advice(options: argparse.Namespace, path: Path) -> list[str]:
    """What to do next with the file, and what it lacks."""
    if "quality" in OUTPUTS[options.kind]:
        lines = [
            f"score faces:     igfiqa score FACES --model {path}",
            f'in insightface:  attach(app, "{path}") of igfiqa_head.insightface gives every face a quality'
            + (" and the embedding" if options.kind == "both" else ""),
            "keep it out of a model pack's own folder; igfiqa install PACK FILE knows the safe place",
        ]
    else:
        lines = ["in insightface:  put it into a model pack in place of the recogniser"]
        if options.kind == "fused":
            lines.append(
                "face.normed_embedding is the embedding, face.embedding_norm orders faces by quality"
            )
    if options.calibration is None and "quality" in OUTPUTS[options.kind]:
        lines.append("for scores from 0 to 100: igfiqa-eval calibrate, then export with --calibration FILE")
    if options.licence is None:
        lines.append("the file says nothing of its licence; --licence TEXT does")
    return [f"  {line}" for line in lines]


if __name__ == "__main__":
    sys.exit(main())

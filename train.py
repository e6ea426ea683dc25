"""Train a face recogniser with a quality head from a recipe.

    python train.py recipes/quickstart.py
    python train.py recipes/ms1mv2_r100_igfiqa.py rec=/data/faces_emore ig_fiqa.sub_batch=mirror
    python train.py recipes/casia_r50_igfiqa.py resume=True
    torchrun --nproc_per_node=8 train.py recipes/ms1mv2_r100_igfiqa.py resume=auto
    python train.py recipes/on_top.py recognizer=w600k_r50.onnx rec=/data/faces

Every key of recipes/base.py can be set as key=value. A run writes to work_dirs/<recipe> (or output=...):
model.pt, quality_head.pt, checkpoint_gpu_0.pt, quality.onnx, embedding.onnx, metrics.json, recipe.json,
training.log, tensorboard/, erc.png and quality_sheet.png. On top of a recognizer, which is not trained, it
writes both.onnx and model_card.md instead of the networks. A folder with a run in it is refused: go on with
that run by resume=True, name another output=, or replace it by overwrite=True.

Under torchrun, images and classes are spread over all processes, each on a GPU of its own; batch_size is that
of each. Each writes a checkpoint_gpu_<rank>.pt to output, which all machines must share; with resume=auto any
number of processes goes on from the last checkpoint, as torchrun --max-restarts makes them do by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial

from igfiqa_head.command_line import Parser, exit_status
from igfiqa_head.text import tell


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a recipe file, such as recipes/quickstart.py")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a recipe key, such as lr=0.02")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 for an error (told in one line), 128 + signal number if stopped.

    A fault of the program itself is told as by :func:`igfiqa_head.command_line.exit_status`.
    """
    options = parse_arguments(arguments)
    return exit_status(
        partial(_train, options),
        "" if _is_first_rank() else f"process {os.environ['RANK']}: ",
        failure=1,
        interrupted="stopped by SIGINT",
        less_memory="lower batch_size, or see what else the recipe makes large",
    )


def _train(options: argparse.Namespace) -> int:
    from trainer.recipe import load_recipe

    config = load_recipe(options.recipe, options.overrides)
    from trainer.loop import TrainingDivergedError  # neither --help nor a mistyped key should wait for torch
    from trainer.run import run
    from trainer.stopping import Stopped

    try:
        run(config)
    except Stopped as stop:
        if _is_first_rank():
            tell(str(stop), sys.stderr)
        return stop.exit_status
    except TrainingDivergedError as error:
        raise ValueError(str(error)) from error
    return 0


def _is_first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"  # set by torchrun


if __name__ == "__main__":
    sys.exit(main())

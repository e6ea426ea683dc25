"""What a run tells: the screen, training.log, TensorBoard and, where wanted, Weights & Biases."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from igfiqa_head.io.images import decode_image
from igfiqa_head.text import printable

LOGGER = logging.getLogger("igfiqa")
_ON_SCREEN = ("loss", "loss_recognition", "loss_quality", "cr", "variance_mean", "zero_weights")


class Writer(ABC):
    """A place where the numbers of a run go."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take the named numbers of a step."""

    @abstractmethod
    def close(self) -> None:
        """The run is over."""

    def text(self, name: str, content: str) -> None:  # noqa: B027  not every writer has a use for it
        """Take a text in Markdown, such as the recipe."""

    def picture(self, step: int, name: str, path: Path) -> None:  # noqa: B027  likewise
        """Take the picture in ``path``, a PNG file."""

    def model_saved(self, path: Path, epoch: int) -> None:  # noqa: B027  likewise
        """The backbone's weights after ``epoch`` epochs are in ``path``."""


class TensorBoardWriter(Writer):
    """Scalars, texts and pictures as event files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # its import takes seconds

        self._writer = SummaryWriter(str(folder))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def text(self, name: str, content: str) -> None:
        self._writer.add_text(name, content)

    def picture(self, step: int, name: str, path: Path) -> None:
        self._writer.add_image(name, decode_image(path.read_bytes()), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WandbWriter(Writer):
    """Scalars and pictures to Weights & Biases, and the model after every epoch if ``save_artifacts``.

    The recipe is ``config``, of which it keeps a table of its own.
    """

    def __init__(
        self,
        *,
        key: str | None,
        entity: str | None,
        project: str | None,
        resume: bool | str,
        suffix: str | None,
        notes: str | None,
        save_artifacts: bool,
        config: Mapping[str, Any],
    ) -> None:
        try:
            import wandb
        except ModuleNotFoundError:
            raise ValueError('using_wandb=True needs wandb: pip install "igfiqa-head[wandb]"') from None
        self._wandb, self._save_artifacts = wandb, save_artifacts
        if key is not None:
            wandb.login(key=key)
        self._name = "_".join(filter(None, (datetime.now().strftime("%y%m%d_%H%M"), suffix)))
        self._run = wandb.init(
            entity=entity, project=project, name=self._name, notes=notes, resume=resume, config=dict(config)
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        self._run.log({name: self._wandb.Image(str(path))}, step=step)

    def model_saved(self, path: Path, epoch: int) -> None:
        if not self._save_artifacts:
            return
        artifact = self._wandb.Artifact(f"{self._name}_E{epoch}", type="model")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self) -> None:
        self._run.finish()


class RunLog:
    """Averages the numbers of ``frequent`` steps, then logs them everywhere.

    Args:
        frequent: steps between log lines; an epoch of fewer has one line, at its end.
        writers: where the scalars go besides the screen and training.log.
        bars: show progress bars in a terminal.
    """

    def __init__(self, frequent: int, writers: Iterable[Writer] = (), *, bars: bool = True) -> None:
        self.frequent = frequent
        self.writers = list(writers)
        self._no_bars = None if bars else True  # None: wherever the output is no terminal
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()
        self._images = 0
        self._seconds = 0.0
        self._bar: tqdm | None = None
        self._where = ""
        self._step = 0

    @contextmanager
    def epoch(self, epoch: int, num_epoch: int, steps: int, done: int) -> Iterator[None]:
        """A progress bar for one epoch."""
        self._where = f"epoch {epoch + 1}/{num_epoch}"
        with (
            logging_redirect_tqdm(loggers=[LOGGER]),
            tqdm(
                total=steps, initial=done, desc=self._where, unit="step", disable=self._no_bars, leave=False
            ) as self._bar,
        ):
            yield
        if steps < self.frequent and self._sums:
            self._flush(self._step)

    def step(self, global_step: int, statistics: Mapping[str, Tensor], images: int, seconds: float) -> None:
        """Take in one step's scalars, the images that passed the backbone, and the time it took."""
        for name, value in statistics.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._counts.update(statistics.keys())  # a step that is skipped has fewer
        self._images, self._seconds = self._images + images, self._seconds + seconds
        self._step = global_step
        if self._bar is not None:
            self._bar.update()
        if global_step % self.frequent == 0:
            self._flush(global_step)

    def _flush(self, global_step: int) -> None:
        values = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        values["images_per_second"] = self._images / self._seconds
        shown = "  ".join(f"{name} {values[name]:.4f}" for name in _ON_SCREEN if name in values)
        LOGGER.info(
            "%s  step %d  %s  lr %.2e  %.0f images/s",
            self._where, global_step, shown, values["learning_rate"], values["images_per_second"],
        )  # fmt: skip
        self.scalars(global_step, {f"train/{name}": value for name, value in values.items()})
        self._sums, self._counts, self._images, self._seconds = {}, Counter(), 0, 0.0

    def scalars(self, global_step: int, values: Mapping[str, float]) -> None:
        """Write scalars at once."""
        for writer in self.writers:
            writer.write(global_step, values)

    def text(self, name: str, content: str) -> None:
        """Write a text in Markdown."""
        for writer in self.writers:
            writer.text(name, content)

    def picture(self, global_step: int, name: str, path: Path) -> None:
        """Write the picture in a PNG file."""
        for writer in self.writers:
            writer.picture(global_step, name, path)

    def model_saved(self, path: Path, epoch: int) -> None:
        """Tell the writers of new weights."""
        for writer in self.writers:
            writer.model_saved(path, epoch)

    def bar(self, items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        """``items`` behind a progress bar."""
        return tqdm(items, total=total, desc=what, disable=self._no_bars, leave=False)

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


class _Formatter(logging.Formatter):
    """Names are other people's: none may break a line, command a terminal, or cost the line."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def logging_to(path: Path) -> Iterator[Callable[[], None]]:
    """Within the block, log lines go to the screen and to the end of the file ``path``.

    The file is opened by calling what is yielded; lines from before wait for that, so that a run that never
    began leaves no file.
    """
    held, screen = MemoryHandler(capacity=1, flushOnClose=False), logging.StreamHandler()
    screen.setFormatter(_Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    handlers: list[logging.Handler] = [held, screen]

    def begin() -> None:
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
        held.setTarget(file)
        held.flush()

    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for handler in handlers:
        LOGGER.addHandler(handler)
    try:
        yield begin
    finally:
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()


@contextmanager
def only_errors_shown() -> Iterator[None]:
    """Within the block, log lines are dropped unless they tell of errors: another process speaks for all."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def warnings_as_log_lines() -> Iterator[None]:
    """Within the block, Python's warnings are collected; they become log lines at its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        LOGGER.warning("%s", warning.message)

"""The training loop: one step is the paper's Eq. 11."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from igfiqa_head.draws import keyed_uniforms
from igfiqa_head.quality_head import QualityHead
from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.sub_batches import Batch
from trainer.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from trainer.first_pass import class_means, start_from_means
from trainer.loader import Loader
from trainer.log import LOGGER, RunLog
from trainer.objective import Objective
from trainer.position import Position
from trainer.schedule import go_to
from trainer.stopping import Stopped, StopRequest, catch_stop_signals
from trainer.torch_files import CheckpointError
from trainer.update import Update
from trainer.weight_files import BACKBONE, QUALITY_HEAD, save_weights

DROPOUT_STREAM = 5  # keeps the seeds of dropout apart from the other draws of the same seed

# What the optimiser's groups are called in the log.
_LEARNING_RATES = ("learning_rate", "learning_rate_classifier", "learning_rate_quality_head")


class TrainingDivergedError(ArithmeticError):
    """Losses or gradients that are not finite, too many times in a row."""


class StepResult(NamedTuple):
    """What a step tells.

    Attributes:
        statistics: scalars to log, means over all ranks.
        images: how many passed the backbone, of all ranks.
        stop: number of a signal that asks some rank to stop, or 0.
    """

    statistics: dict[str, Tensor]
    images: int
    stop: int


class Trainer:
    """Trains a backbone, its class prototypes and, if there is one, a quality head.

    Args:
        backbone: images [B, 3, H, W] -> embeddings [B, D].
        classifier: (embeddings, labels, step=) -> L_Arc; also gives CCS and NNCCS. Its ``weight`` has the
            prototypes, on several ranks those of ``ranks.classes(C)``.
        quality_head: None trains plain recognition.
        optimizer, schedule: over the parameters of the three, a group for each; stepped together.
        loader: the batches.
        output: folder of the run.
        log: where numbers go.
        num_epoch: epochs in all.
        num_classes: C.
        seed: of dropout.
        ranks: the processes that train together.
        training_pass: the backbone as it is called in training: compiled, or in DistributedDataParallel.
            None: as it is.
        images_per_step: that all ranks draw for an optimiser step.
        class_mean_prototypes: the classifier's prototypes start as class means, see :meth:`first_pass`.
        gradient_acc: batches per optimiser step.
        clip_grad_norm: bound on the gradient norm of backbone and quality head together, or None. CR-FIQA's
            regressor is a part of its backbone and is clipped with it.
        half: the type of mixed precision in the backbone, None for none. In float16 gradients are scaled
            against underflow (CUDA).
        checkpoint_every: steps between checkpoints, besides those at the end of an epoch.
        max_skipped: steps in a row that may be skipped because a loss or gradient is not finite.
        after_steps: called every ``after_steps_every`` steps with the global step, for verification.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        classifier: nn.Module,
        quality_head: QualityHead | None,
        optimizer: Optimizer,
        schedule: LambdaLR,
        loader: Loader,
        output: Path,
        log: RunLog,
        num_epoch: int,
        num_classes: int,
        seed: int = 0,
        ranks: Ranks = ALONE,
        training_pass: nn.Module | None = None,
        images_per_step: int = 1,
        class_mean_prototypes: bool = False,
        gradient_acc: int = 1,
        clip_grad_norm: float | None = None,
        half: torch.dtype | None = None,
        checkpoint_every: int = 2000,
        max_skipped: int = 20,
        after_steps: Callable[[int], None] = lambda step: None,
        after_steps_every: int = 2000,
    ) -> None:
        self.backbone, self.classifier, self.quality_head = backbone, classifier, quality_head
        self.training_pass = backbone if training_pass is None else training_pass
        self.objective = Objective(self.training_pass, backbone, classifier, quality_head, half)
        self.optimizer, self.schedule, self.loader = optimizer, schedule, loader
        self.output, self.log, self.ranks, self.seed = output, log, ranks, seed
        self.num_epoch, self.num_classes = num_epoch, num_classes
        self.gradient_acc, self.class_mean_prototypes, self.half = gradient_acc, class_mean_prototypes, half
        self.checkpoint_every, self.max_skipped = checkpoint_every, max_skipped
        self.after_steps, self.after_steps_every = after_steps, after_steps_every
        self.steps_per_epoch = loader.batches_per_epoch // gradient_acc
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"gradient_acc={gradient_acc} batches make a step, but an epoch has "
                f"{loader.batches_per_epoch}: lower gradient_acc, batch_size or the number of processes"
            )
        self.scaler = torch.amp.GradScaler(
            loader.device.type, enabled=half is torch.float16 and loader.device.type == "cuda"
        )
        self._replicated = [] if quality_head is None else [*quality_head.parameters()]
        self.update = Update(
            optimizer,
            schedule,
            clipped=[*backbone.parameters(), *self._replicated],
            clip_grad_norm=clip_grad_norm,
            scaler=self.scaler,
            ranks=ranks,
        )
        self.position = Position(images_per_step=images_per_step)
        self._skipped_in_a_row = 0
        self._stop = StopRequest()

    def fit(self) -> None:
        """Train from the current position to the last epoch.

        Raises:
            TrainingDivergedError: losses or gradients are not finite for too long; names the step and the
                last checkpoint.
            Stopped: SIGTERM or SIGINT came to some rank; the state is saved.
            CheckpointError: a checkpoint cannot be written.
        """
        if self.position.global_step > 0:
            self._save_weights()  # those there may be of two moments, if the run was killed between them
        head = self.quality_head
        needed = self.class_mean_prototypes or (head is not None and head.needs_first_pass)
        if needed and self.position.global_step == 0:
            self.first_pass()
        with catch_stop_signals() as self._stop:
            while self.position.epoch < self.num_epoch:
                self._train_epoch()
                self.position = replace(self.position, epoch=self.position.epoch + 1, step=0)
                self.save()

    def _train_epoch(self) -> None:
        position = self.position
        self._set_training(True)
        batches = self.loader.batches(position.epoch, position.step * self.gradient_acc)
        with self.log.epoch(position.epoch, self.num_epoch, self.steps_per_epoch, position.step):
            while position.step < self.steps_per_epoch:
                started = time.perf_counter()
                statistics, images, stop = self.step(list(islice(batches, self.gradient_acc)))
                position.step += 1
                position.global_step += 1
                self.log.step(position.global_step, statistics, images, time.perf_counter() - started)
                if position.global_step % self.after_steps_every == 0:
                    self.after_steps(position.global_step)
                    self._set_training(True)
                if stop:
                    self.save()
                    raise Stopped(stop, str(checkpoint_path(self.output)))
                if position.global_step % self.checkpoint_every == 0 and position.step < self.steps_per_epoch:
                    self.save(weights=False)

    def step(self, batches: list[Batch]) -> StepResult:
        """One optimiser step.

        Args:
            batches: ``gradient_acc`` batches of this rank.

        Raises:
            TrainingDivergedError: losses or gradients are not finite for too long.
        """
        self._seed_dropout()
        statistics, images = self._accumulate(batches)
        outcome = self.update(statistics["loss"], self._stop)
        if outcome.is_taken:
            self._skipped_in_a_row = 0
            statistics = self._mean_over_ranks(statistics | {"gradient_norm": outcome.gradient_norm})
        else:
            self._note_skipped(statistics["loss"], outcome.gradient_norm)
            statistics = {}
        statistics["skipped"] = torch.tensor(float(not outcome.is_taken))
        # Without a quality head there are two learning rates.
        statistics |= zip(_LEARNING_RATES, map(torch.as_tensor, outcome.learning_rates), strict=False)
        return StepResult(statistics, images * self.ranks.size, outcome.stop)

    def _accumulate(self, batches: list[Batch]) -> tuple[dict[str, Tensor], int]:
        """Gradients of the mean loss of all batches, its parts, and the images that passed the backbone."""
        statistics: dict[str, Tensor] = {}
        images = 0
        for number, batch in enumerate(batches, start=1):
            with self._gradients_kept_apart(unless=number == len(batches)):
                losses = self.objective(batch, step=self.position.global_step, epoch=self._epoch())
                self.scaler.scale(losses.total / len(batches)).backward()
            images += losses.images
            for name, value in losses.statistics.items():
                statistics[name] = statistics.get(name, 0) + value / len(batches)
        if self.ranks.size > 1:
            # DistributedDataParallel has those of the backbone. Our R has averaged its own already, to which
            # a second time does no harm; a head from outside may have others.
            for parameter in self._replicated:
                if parameter.grad is not None:
                    parameter.grad = self.ranks.sum(parameter.grad) / self.ranks.size
        return statistics, images

    def _epoch(self) -> float:
        return self.position.epoch + self.position.step / self.steps_per_epoch

    def _seed_dropout(self) -> None:
        """The draws of a step depend on (seed, step, rank) alone, so no generator need be saved."""
        key = (self.seed, DROPOUT_STREAM, self.position.global_step, self.ranks.rank)
        torch.manual_seed(int(keyed_uniforms(*key, count=1)[0] * 2**53))

    def _gradients_kept_apart(self, *, unless: bool) -> AbstractContextManager[object]:
        """Ranks exchange their gradients once a step, with the last of the batches it accumulates."""
        is_parallel = isinstance(self.training_pass, DistributedDataParallel)
        return self.training_pass.no_sync() if is_parallel and not unless else nullcontext()  # type: ignore[operator]

    def _mean_over_ranks(self, statistics: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.ranks.size == 1:
            return statistics
        values = [x.to(self.loader.device, torch.float64) for x in statistics.values()]
        return dict(zip(statistics, self.ranks.sum(torch.stack(values)) / self.ranks.size, strict=True))

    def _note_skipped(self, loss: Tensor, norm: Tensor) -> None:
        """Tell of a step that was skipped, and give up if that happens too often."""
        self._skipped_in_a_row += 1
        step = self.position.global_step + 1
        what = f"loss {loss.item():.4g}, gradient norm {norm.item():.4g}"
        LOGGER.warning("step %d is skipped: %s (%d in a row)", step, what, self._skipped_in_a_row)
        spoilt = self.ranks.any(not _are_finite(self.backbone.buffers()))
        if spoilt or self._skipped_in_a_row > self.max_skipped:
            reason = "running statistics of the backbone are not finite" if spoilt else what
            raise self._diverged(f"{reason} in step {step} (epoch {self.position.epoch + 1})")

    def _diverged(self, what: str) -> TrainingDivergedError:
        last = checkpoint_path(self.output)
        found, way = f"the last good checkpoint is {last}", "resume=True"
        if not last.is_file():
            found, way = "no checkpoint was written yet", "overwrite=True"
        return TrainingDivergedError(f"{what}; {found}. Lower lr, or add warmup_epoch, and start with {way}")

    def _set_training(self, training: bool) -> None:
        for module in (self.backbone, self.training_pass, self.classifier, self.quality_head):
            if module is not None:
                module.train(training)

    def first_pass(self) -> None:
        """Start prototypes and v from all images, each as far as it was asked for.

        Raises:
            ValueError: an image cannot be read, or the backbone's embedding of one is not finite.
        """
        self._set_training(False)
        batches = self.log.bar(self.loader.every_image(), self.loader.batches_of_all, "first pass")
        found = class_means(self.backbone, batches, self.num_classes, self.ranks, half=self.half)
        ccs = start_from_means(
            found,
            self.classifier,
            self.quality_head,
            prototypes=self.class_mean_prototypes,
            first_class=self.ranks.classes(self.num_classes).start,
        )
        LOGGER.info("first pass: %d classes with images, mean CCS %.3f", len(ccs), ccs.mean())

    def _parts(self) -> dict[str, object]:
        parts: dict[str, object] = {
            "state_dict_backbone": self.backbone,
            "state_dict_softmax_fc": self.classifier,
            "state_optimizer": self.optimizer,
            "state_lr_scheduler": self.schedule,
            "state_grad_scaler": self.scaler,
        }
        return parts if self.quality_head is None else parts | {"state_dict_quality_head": self.quality_head}

    def save(self, *, weights: bool = True) -> None:
        """Write the weights and the checkpoint, each atomically; every rank calls it.

        In this order: a run that is killed in between writes both again, even if it was at its end.

        Raises:
            TrainingDivergedError: parameters are not finite; what was written before is kept.
            CheckpointError: a rank cannot write.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.ranks.any(not _are_finite(parameters)):
            raise self._diverged(f"parameters are not finite after step {self.position.global_step}")
        if weights:
            self._save_weights()
            self.log.model_saved(self.output / BACKBONE, self.position.epoch)
        save_checkpoint(self.output, self.position, self._parts(), self.ranks)

    def _save_weights(self) -> None:
        modules = {BACKBONE: self.backbone}
        if self.quality_head is not None:
            modules[QUALITY_HEAD] = self.quality_head
        save_weights(modules, self.output, self.num_classes, self.ranks)

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder, by as many ranks as there are now.

        Raises:
            CheckpointError: there is none, or it does not fit.
        """
        found = load_checkpoint(self.output, self._parts(), self.ranks)
        try:
            found.check(num_epoch=self.num_epoch, images=len(self.loader.dataset))
        except ValueError as error:
            raise CheckpointError(f"{checkpoint_path(self.output)}: {error}") from error
        self.position = self._in_own_steps(found)
        go_to(self.schedule, self.position.global_step)
        if self.position.epoch >= self.num_epoch:
            LOGGER.info(
                "all %d epochs are done: results and files are written anew; for more epochs set num_epoch",
                self.num_epoch,
            )
        else:
            LOGGER.info(
                "resumed in epoch %d after step %d", self.position.epoch + 1, self.position.global_step
            )

    def _in_own_steps(self, found: Position) -> Position:
        images = self.position.images_per_step
        if found.images_per_step != images:
            LOGGER.warning(
                "a step drew %d images and now draws %d (processes, batch_size or gradient_acc changed): "
                "going on at the same image, with the recipe's lr as it is",
                found.images_per_step, images,
            )  # fmt: skip
        return found.in_steps_of(images, self.steps_per_epoch)


def _are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all are, after one wait for the device."""
    found = [torch.isfinite(x).all() for x in tensors]
    return not found or bool(torch.stack(found).all())

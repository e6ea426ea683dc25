"""The training loop: one step is the paper's Eq. 11."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from igfiqa_head.quality_head import QualityHead
from igfiqa_head.sub_batches import Batch
from trainer.checkpoint import Position, checkpoint_path, load_checkpoint, save_checkpoint, save_weights
from trainer.first_pass import class_means, mean_similarities
from trainer.loader import Loader
from trainer.log import LOGGER, RunLog
from trainer.stopping import Stopped, StopRequest, catch_stop_signals

# What the optimiser's groups are called in the log.
_LEARNING_RATES = ("learning_rate", "learning_rate_classifier", "learning_rate_quality_head")


class TrainingDivergedError(ArithmeticError):
    """A loss or gradient that is not finite."""


class Trainer:
    """Trains a backbone, its class prototypes and, if there is one, a quality head.

    Args:
        backbone: images [B, 3, H, W] -> embeddings [B, D].
        classifier: (embeddings, labels, step=) -> L_Arc; also gives CCS and NNCCS. Its ``weight`` [C, D] are
            the prototypes.
        quality_head: None trains plain recognition.
        optimizer, schedule: over the parameters of the three, a group for each; stepped together.
        loader: the batches.
        output: folder of the run.
        log: where numbers go.
        num_epoch: epochs in all.
        class_mean_prototypes: the classifier's prototypes start as class means, see :meth:`first_pass`.
        gradient_acc: batches per optimiser step.
        clip_grad_norm: bound on the gradient norm of backbone and quality head together, or None. CR-FIQA's
            regressor is a part of its backbone and is clipped with it.
        fp16: the backbone runs in float16, so gradients are scaled against underflow (CUDA).
        after_steps: called every ``after_steps_every`` steps with the global step, for verification.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        classifier: nn.Module,
        quality_head: QualityHead | None,
        optimizer: Optimizer,
        schedule: LRScheduler,
        loader: Loader,
        output: Path,
        log: RunLog,
        num_epoch: int,
        class_mean_prototypes: bool = False,
        gradient_acc: int = 1,
        clip_grad_norm: float | None = None,
        fp16: bool = False,
        after_steps: Callable[[int], None] = lambda step: None,
        after_steps_every: int = 2000,
    ) -> None:
        self.backbone, self.classifier, self.quality_head = backbone, classifier, quality_head
        self.optimizer, self.schedule, self.loader = optimizer, schedule, loader
        self.output, self.log = output, log
        self.num_epoch, self.gradient_acc, self.clip_grad_norm = num_epoch, gradient_acc, clip_grad_norm
        self.class_mean_prototypes = class_mean_prototypes
        self.after_steps, self.after_steps_every = after_steps, after_steps_every
        self.steps_per_epoch = loader.batches_per_epoch // gradient_acc
        device_type = loader.device.type
        self.scaler = torch.amp.GradScaler(device_type, enabled=fp16 and device_type == "cuda")
        self._clipped = [*backbone.parameters()] + (
            [] if quality_head is None else [*quality_head.parameters()]
        )
        self.position = Position()

    def fit(self) -> None:
        """Train from the current position to the last epoch.

        Raises:
            TrainingDivergedError: a loss or gradient is not finite; names the step and the last checkpoint.
            Stopped: SIGTERM or SIGINT came; the state is saved.
        """
        head = self.quality_head
        needed = self.class_mean_prototypes or (head is not None and head.needs_first_pass)
        if needed and self.position.global_step == 0:
            self.first_pass()
        with catch_stop_signals() as stop:
            while self.position.epoch < self.num_epoch:
                self._train_epoch(stop)
                self.position = Position(self.position.epoch + 1, 0, self.position.global_step)
                self.save()

    def _train_epoch(self, stop: StopRequest) -> None:
        position = self.position
        self._set_training(True)
        batches = self.loader.batches(position.epoch, position.step * self.gradient_acc)
        with self.log.epoch(position.epoch, self.num_epoch, self.steps_per_epoch, position.step):
            while position.step < self.steps_per_epoch:
                started = time.perf_counter()
                statistics, images = self.step(list(islice(batches, self.gradient_acc)))
                position.step += 1
                position.global_step += 1
                self.log.step(position.global_step, statistics, images, time.perf_counter() - started)
                if position.global_step % self.after_steps_every == 0:
                    self.after_steps(position.global_step)
                    self._set_training(True)
                if stop.signal_number is not None:
                    self.save()
                    raise Stopped(stop.signal_number, str(checkpoint_path(self.output)))

    def step(self, batches: list[Batch]) -> tuple[dict[str, Tensor], int]:
        """One optimiser step; returns what to log and how many images passed the backbone."""
        images = 0
        statistics: dict[str, Tensor] = {}
        for batch in batches:
            loss, parts, count = self._losses(batch)
            self._check_finite("loss", loss)
            self.scaler.scale(loss / len(batches)).backward()
            images += count
            for name, value in parts.items():
                statistics[name] = statistics.get(name, 0) + value / len(batches)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._clipped, self.clip_grad_norm or math.inf)
        if not self.scaler.is_enabled():  # the scaler itself skips steps whose scaled gradients overflow
            self._check_finite("gradient norm", norm)
        rates = map(torch.tensor, self.schedule.get_last_lr())
        statistics |= zip(_LEARNING_RATES, rates, strict=False)  # without a quality head there are two
        statistics["gradient_norm"] = norm
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        return statistics, images

    def _losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], int]:
        """L = L_Arc + lambda * L_IG (Eq. 11) of one batch, its parts, and its number of forward passes."""
        step = self.position.global_step
        if self.quality_head is None:
            loss = self.classifier(self.backbone(batch.images), batch.labels, step=step)
            return loss, {"loss": loss.detach()}, len(batch.labels)

        clean, quality = self.quality_head.split(batch)
        embeddings = self.backbone(clean.images)
        recognition = self.classifier(embeddings, clean.labels, step=step)
        count = len(clean.labels)
        if quality is not clean:
            clean_only = self.quality_head.quality_bn == "clean"
            with frozen_running_statistics(self.backbone) if clean_only else nullcontext():
                embeddings = self.backbone(quality.images)
            count += len(quality.labels)
        output = self.quality_head(embeddings, quality.labels, self.classifier, epoch=self._epoch())
        loss = recognition + self.quality_head.loss_weight * output.loss
        parts = {"loss": loss, "loss_recognition": recognition, "loss_quality": output.loss}
        return loss, {name: part.detach() for name, part in parts.items()} | output.statistics, count

    def _epoch(self) -> float:
        return self.position.epoch + self.position.step / self.steps_per_epoch

    def _check_finite(self, name: str, value: Tensor) -> None:
        if torch.isfinite(value):
            return
        last = checkpoint_path(self.output)
        advice = f"the last good checkpoint is {last}" if last.is_file() else "no checkpoint was written yet"
        raise TrainingDivergedError(
            f"{name} is {value.item()} in step {self.position.global_step + 1} "
            f"(epoch {self.position.epoch + 1}); {advice}. "
            "Lower lr, or add warmup_epoch, and start with resume=True"
        )

    def _set_training(self, training: bool) -> None:
        for module in self._parts().values():
            if isinstance(module, nn.Module):
                module.train(training)

    def first_pass(self) -> None:
        """Start prototypes and v from all images, each as far as it was asked for.

        The prototypes become the class means and a head that needs it gets the CCS to them.

        Raises:
            ValueError: an image cannot be read, or the backbone's embedding of one is not finite.
        """
        self._set_training(False)
        classifier, head = self.classifier, self.quality_head
        batches = self.log.bar(self.loader.every_image(), self.loader.batches_of_all, "first pass")
        found = class_means(self.backbone, batches, classifier.weight)  # type: ignore[arg-type]
        if self.class_mean_prototypes:
            classifier.start_from(found.classes, found.means)  # type: ignore[operator]
        ccs = mean_similarities(found, classifier)  # type: ignore[arg-type]
        if head is not None and head.needs_first_pass:
            head.start_from(found.classes, ccs)
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

    def save(self) -> None:
        """Write the checkpoint and the weights, each atomically."""
        save_checkpoint(checkpoint_path(self.output), self.position, self._parts())
        save_weights(self.backbone, self.output / "model.pt")
        self.log.model_saved(self.output / "model.pt", self.position.epoch)
        if self.quality_head is not None:
            save_weights(self.quality_head, self.output / "quality_head.pt")

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder.

        Raises:
            CheckpointError: there is none, or it does not fit.
        """
        self.position = load_checkpoint(checkpoint_path(self.output), self._parts())
        LOGGER.info("resumed in epoch %d after step %d", self.position.epoch + 1, self.position.global_step)


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Within the block, batch normalisations use the batch's statistics and leave the running ones alone."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True

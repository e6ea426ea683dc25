"""How far a run has come, and whether a run can have come there."""

from __future__ import annotations

from dataclasses import dataclass

_CHANGED = 0.1  # images may have been added or taken out since, so that epochs have more or fewer steps


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        epoch: 0-based.
        step: optimiser steps into it.
        global_step: optimiser steps in all.
        images_per_step: images that all ranks together draw for an optimiser step.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    images_per_step: int = 1

    def check(self, *, num_epoch: int, images: int) -> None:
        """Refuse a position that a run of ``num_epoch`` epochs of ``images`` images does not come to.

        Raises:
            ValueError: it lies beyond the end, or its numbers contradict each other.
        """
        steps = images // self.images_per_step
        if self.epoch > num_epoch:
            raise ValueError(f"epoch={self.epoch} lies beyond the recipe's num_epoch={num_epoch}: raise it")
        expected = self.epoch * steps + self.step
        if self.step > steps + 1 or abs(self.global_step - expected) > _CHANGED * self.global_step:
            raise ValueError(
                f"epoch={self.epoch}, step={self.step} and global_step={self.global_step} contradict each "
                f"other, as {images} images make {steps} steps of images_per_step={self.images_per_step}: it "
                "is damaged, or rec has changed too much to go on"
            )

    def in_steps_of(self, images: int, steps_per_epoch: int) -> Position:
        """The same place in the epoch, counted in steps that draw ``images`` images."""
        step = self.step * self.images_per_step // images
        return Position(self.epoch, step, self.epoch * steps_per_epoch + step, images)

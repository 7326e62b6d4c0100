"""The interface between the trainer and an objective.

A new objective is one file in this folder, or in a package with an entry point: see `reelwright.training.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from reelwright.training.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from reelwright.model.config import AttentionConfig

B_contra = TypeVar("B_contra", bound=Batch, contravariant=True)


@dataclass(frozen=True)
class Loss:
    """The loss of a micro-batch.

    total: the sum over its samples, weighted and divided by the samples of the step; backward starts here.
    per_sample [B]: what validation averages, without weights. t [B]: noise levels of the noisy frames, 0..1.
    """

    total: Tensor
    per_sample: Tensor
    t: Tensor


class Objective(Protocol[B_contra]):
    """A step's target and its loss. The trainer owns the optimizer, autocast, and the strips of context parallelism."""

    def loss(self, batch: B_contra, *, t: Tensor | None = None) -> Loss:
        """Compute the loss of a batch, on `batch.strip`, a part of each frame, where it has one.

        Args:
            batch: a micro-batch on the device of the model.
            t: noise levels [B] in 0..1 in place of drawn ones, for validation.
        """

    def after_step(self, step: int) -> None:
        """Follow the weights after optimizer step `step` (from 1) has changed them: averages, teachers, critics.

        Their gradients are gone by then.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Return the state that a checkpoint must hold, by name; a resumed run fills these tensors in place."""

    def metrics(self) -> dict[str, float]:
        """Return its figures since the last call, of all ranks, for the log; all ranks call it together.

        Names without a slash, and means of rewards, are shown in the line of the step, too.
        """

    def flops(self, batch: B_contra, attention: AttentionConfig) -> int:
        """Count the operations of a batch, forward and backward, a teacher's passes included.

        Args:
            batch: the micro-batch.
            attention: the attention that computed it; dense in the first steps of a sparse run.
        """


class Stateless:
    """The part of an objective that nothing follows: no state beside the trained weights."""

    def after_step(self, step: int) -> None:
        """Nothing follows the weights."""

    def tensors(self) -> dict[str, Tensor]:
        """Return no tensors: there is no state."""
        return {}

    def metrics(self) -> dict[str, float]:
        """Return no figures beside the loss."""
        return {}


def reduced(error: Tensor, batch: Batch, t: Tensor, weight: Tensor | None = None) -> Loss:
    """Average an error over the noisy frames of whole samples; the losses of all strips add up to the whole's.

    Args:
        error: [B, C, T, H, W] of the batch's strip; clean frames do not count.
        batch: whose samples it is of.
        t: noise levels [B].
        weight: of each sample in the total, [B]; None: 1.
    """
    whole = batch.latents[0, :, batch.cond_frames :].numel()
    per_sample = error[:, :, batch.cond_frames :].flatten(1).sum(1) / whole
    weighted = per_sample if weight is None else per_sample * weight
    return Loss(weighted.sum() / batch.samples_in_step, per_sample.detach(), t)

"""Roles on one base: student, teacher, critic and reference are adapters of one frozen network, never copies of it.

A role wears one adapter, or none: the bare base. The network rests in the student's role, in which validation, samples
and the trainer's backward pass find it. A pass in another role happens inside `playing`, and so does its backward pass:
activation checkpointing computes blocks again there, and would do so with the adapters of whichever role is on. `Roles`
refuses a backward pass in another role than its forward pass had.

A switch sets a number per adapted layer. Compiled blocks depend on it: they have one graph per role and shape, made
when a role first plays; later switches make none again. FSDP2 gathers a block's adapters of all roles with it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from reelwright.model.lora.adapters import lora_layers, set_lora_weights
from reelwright.model.sampling.solvers import TIMESTEPS
from reelwright.model.text import PackedText
from reelwright.training.batch import Batch
from reelwright.training.errors import TrainError
from reelwright.training.registry import STUDENT

BASE = "base"
"""The role without an adapter."""


class Roles:
    """The roles of a network, one of which is on."""

    def __init__(self, model: nn.Module, worn: Mapping[str, str | None] | None = None) -> None:
        """Put the network into the student's role.

        Args:
            model: with its adapters, whole or sharded.
            worn: adapter of each role beside the student's and the base's; None: the bare base.

        Raises:
            TrainError: the network has no adapters, so that no role but one could play on it.
            ModelError: an adapter is not there.
        """
        self.model = model
        self.worn: dict[str, str | None] = {STUDENT: STUDENT, BASE: None, **(worn or {})}
        self._adapters = {name for _, layer in lora_layers(model) for name in layer.lora}
        if not self._adapters:
            raise TrainError(
                "this objective needs lora: teacher and student share one frozen network; add lora: {rank: 128, "
                "alpha: 64} to the recipe"
            )
        self.role = STUDENT
        self._wear(STUDENT)

    @contextmanager
    def playing(self, role: str) -> Iterator[None]:
        """Within it, passes of the network have this role; afterwards the role before."""
        before = self.role
        self._wear(role)
        try:
            yield
        finally:
            self._wear(before)

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        """Run the network in the role that is on."""
        out = self.model(*inputs, **named)
        if out.requires_grad:
            out.register_hook(partial(self._check, self.role))
        return out

    def velocity(self, x: Tensor, t: Tensor, batch: Batch, *, text: PackedText | None = None) -> Tensor:
        """Predict x0 - noise by the role that is on, fp32, like x.

        Args:
            x: latents [B, C, T, H, W] of the batch's strip, where it has one.
            t: noise levels [B, T] in 0..1.
            batch: whose captions and place are the pass's.
            text: in place of the captions.
        """
        origin = batch.strip.origin if batch.strip is not None else (0, 0, 0)
        text = batch.text if text is None else text
        return self(x, t * TIMESTEPS, text, cond_frames=batch.cond_frames, origin=origin).float()

    def _wear(self, role: str) -> None:
        on = self.worn[role]
        set_lora_weights(self.model, dict.fromkeys(self._adapters, 0.0) | ({on: 1.0} if on else {}))
        self.role = role

    def _check(self, role: str, gradient: Tensor) -> None:
        if self.role != role:
            raise RuntimeError(
                f"the backward pass of role {role!r} began in role {self.role!r}, whose adapters it would recompute "
                "with; run it inside the same `playing`"
            )

"""The teacher of a distillation: the frozen base with guidance, or an adapter that has learned it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from reelwright.model.sampling.guidance import Guidance
from reelwright.model.text import PackedText
from reelwright.training.batch import Batch
from reelwright.training.distributed.guidance import guided
from reelwright.training.distributed.world import World
from reelwright.training.objectives.distilling.distillation import DistillationConfig
from reelwright.training.recipe import TrainRecipe
from reelwright.training.roles import BASE, Roles
from reelwright.training.texts import encode_texts, repeated


class Teacher:
    """The velocity that a student learns, without gradients."""

    def __init__(
        self,
        roles: Roles,
        guidance: Guidance,
        negative: PackedText | None,
        *,
        role: str = BASE,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Take the parts.

        Args:
            roles: of the network.
            guidance: how it is guided; off: one pass.
            negative: states of the negative prompt, on the network's device; None where guidance is off.
            role: that teaches.
            group: the ranks that share a sample's tokens.
        """
        self.roles, self.guidance, self.negative, self.role, self.group = roles, guidance, negative, role, group

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Tensor, batch: Batch) -> Tensor:
        """Return the teacher's velocity, like x; see `Roles.velocity` for the arguments."""
        with self.roles.playing(self.role):
            with_prompt = self.roles.velocity(x, t, batch)
            if self.guidance.is_off or self.negative is None:
                return with_prompt
            without = self.roles.velocity(x, t, batch, text=repeated(self.negative, len(x)))
        return guided(with_prompt, without, self.guidance, clean=batch.cond_frames, group=self.group)


def make_teacher(config: DistillationConfig, roles: Roles, recipe: TrainRecipe, world: World) -> Teacher:
    """Make the teacher of a recipe's distillation; the negative prompt is encoded here, once."""
    negative = None
    if not config.teaching.is_off:
        states = encode_texts([config.negative], recipe, world)
        negative = states.to(next(roles.model.parameters()).device)
    role = "teacher" if config.teacher else BASE
    return Teacher(roles, config.teaching, negative, role=role, group=world.context_group)
